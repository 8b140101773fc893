"""The checkers of ``<errd>``: look, report, and ask for the action at once.

A look comes at ``polltimer``, and at once when a process whose end matters has ended. All processes of a module share
one look at /proc, all its services one question to systemd. After a start, and after a handler, what is missing counts
only after ``SETTLE`` seconds: a script that ends with ``daemon &`` is done before the daemon has its name.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from safekit_py.api import ModuleContext, SafekitError, Severity, Status

from .events import Deaths
from .model import Matcher, Pace, Proc, Process, Unit, Verdict, act, judge, judge_unit, vital
from .processes import scan
from .service import SYSTEMCTL, VARIABLE, ServiceManagerError, show
from .shared import Shared

SLACK = 1.0  # seconds: a look at polltimer may be this old, so that checkers which wake together share it
SETTLE = 2.0  # seconds after a start within which something may be missing
EAGER = 0.1  # seconds between two looks meanwhile
STARTING = 1.0  # seconds between two looks at a service that starts
SPARE = 60.0  # seconds beyond polltimer without a report, after which the engine starts a checker again
IDENTITY = "errd"  # who asks for the action

Report = Callable[[str, str], None]


class Look(NamedTuple):
    """What one look says: the verdict, and the processes whose end is worth the next one."""

    verdict: Verdict
    vital: list[Process]


class ProcChecker:
    """One ``<proc>`` of a module.

    :param take: looks; gets the time of the event loop at which the look may have begun at the earliest.
    """

    def __init__(
        self, context: ModuleContext, proc: Proc, polltimer: float, take: Callable[[float], Awaitable[Look]]
    ) -> None:
        self._context, self._proc, self._polltimer, self._take = context, proc, polltimer, take
        self.config = (proc, polltimer)  # tells the engine whether a new configuration changes anything here
        self.resource = f"proc.{proc.name}"
        self.when = proc.when
        self.action = "noaction"  # no failover rule: what is to follow is asked for here, without handle_time
        user = context.config.user
        handling = user.nicestoptimeout if user is not None and proc.handler else 0.0
        self.limit = max(1, proc.start_after) * polltimer + handling + SPARE

    async def run(self, report: Report) -> None:
        """Look until cancelled."""
        await asyncio.sleep((self._proc.start_after - 1) * self._polltimer)
        ended = asyncio.Event()
        deaths = Deaths(ended.set)
        try:
            await self._watch(report, deaths, ended)
        finally:
            deaths.close()

    async def _watch(self, report: Report, deaths: Deaths, ended: asyncio.Event) -> None:
        clock = asyncio.get_running_loop().time
        pace, since, acted = Pace(), clock(), None
        settled = since + min(SETTLE, self._polltimer)
        while True:
            ended.clear()
            seen = await self._look(since)
            deaths.watch(seen.vital)
            verdict, now = seen.verdict, clock()
            if verdict.status is Status.DOWN and now < settled:
                await asyncio.sleep(EAGER)
                since = clock()
                continue
            report(*verdict)
            if verdict.status is Status.INIT:
                await asyncio.sleep(min(STARTING, self._polltimer))
                since = clock()
                continue
            if verdict.status is not Status.DOWN:
                acted, settled = None, now
            elif act(acted, now, self._polltimer):
                acted = now
                if await self._act(verdict.cause):
                    since = clock()
                    settled = since + min(SETTLE, self._polltimer)
                    continue
            since = await self._pause(ended, pace)

    async def _look(self, since: float) -> Look:
        try:
            return await self._take(since)
        except ServiceManagerError as error:
            return Look(Verdict(Status.UNKNOWN, str(error)), [])

    async def _pause(self, ended: asyncio.Event, pace: Pace) -> float:
        """Wait for the next look; when it may have begun at the earliest."""
        clock = asyncio.get_running_loop().time
        try:
            async with asyncio.timeout(self._polltimer):
                await ended.wait()
        except TimeoutError:
            return clock() - min(SLACK, self._polltimer / 2)
        await asyncio.sleep(pace.delay(clock()))
        return clock()

    async def _act(self, cause: str) -> bool:
        """Ask for the action; True when a handler has done its work instead."""
        proc = self._proc
        if proc.action == "noaction":
            return False
        if not proc.handler:
            self._context.request(proc.action, IDENTITY, cause, proc.arguments)
            return False
        self._context.log(Severity.WARNING, f"{cause}: {proc.handler} is called")
        why = await self._handle()
        if why:
            self._context.request("stopstart", IDENTITY, f"{cause}; {why}", ())
        return not why

    async def _handle(self) -> str:
        """Run the handler; what went wrong, or empty."""
        try:
            found = await self._context.script(self._proc.handler, (self.resource,))
        except SafekitError as error:
            return error.problems[0].message
        return "" if found else f"the module has no script {self._proc.handler} in its bin"


def create(context: ModuleContext, procs: tuple[Proc, ...], polltimer: float) -> list[ProcChecker]:
    """The checkers of one module."""
    commands = any(Matcher(each).commands for each in procs)
    processes: Shared[list[Process]] = Shared(lambda: asyncio.to_thread(scan, commands=commands))
    units = tuple(each.name for each in procs if each.service)
    program = dict(context.config.user.variables if context.config.user else ()).get(VARIABLE) or SYSTEMCTL
    services: Shared[dict[str, Unit]] = Shared(lambda: show(units, program))

    def taking(proc: Proc) -> Callable[[float], Awaitable[Look]]:
        matcher = Matcher(proc)

        async def processes_of(since: float) -> Look:
            found = matcher.find(await processes.look(since))
            return Look(judge(proc, len(found)), vital(proc, found))

        async def service_of(since: float) -> Look:
            unit = (await services.look(since))[proc.name]
            main = [Process(0.0, unit.pid, proc.name)] if unit.pid else []
            return Look(judge_unit(proc, unit), main)

        return service_of if proc.service else processes_of

    return [ProcChecker(context, each, polltimer, taking(each)) for each in procs]
