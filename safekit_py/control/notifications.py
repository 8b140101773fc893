"""Keeps the process running that tells people what happens, once there is a notify.xml.

Flows through it: events of the agent, and which servers its modules hear, in; JSON lines to the child out, and back
what became of them. The agent never waits for the child: what does not fit into the pipe is dropped and counted. The
child is started again when it ends, and when notify.xml has changed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from safekit_py.errors import Problem, SystemProblem
from safekit_py.model.event import Event
from safekit_py.model.state import Severity, State
from safekit_py.runtime.agent import Agent
from safekit_py.runtime.clock import wall
from safekit_py.runtime.runner import ModuleRunner

LOOK = 1.0  # seconds between two looks at the servers and at notify.xml
PAUSE, LONGEST = 1.0, 60.0  # seconds before the child is started again
LONG = 60.0  # seconds after which a child that ran is a good one
GRACE = 6.0  # seconds that it has to end
FULL = 1 << 20  # bytes that may wait for it
LIMIT = 60.0  # seconds that a check or a test may take
COMMAND = (sys.executable, "-m", "safekit_py.notices.child")
log = logging.getLogger("safekit.notify")


def _environment(agent: Agent) -> dict[str, str]:
    environment = {**os.environ, "SAFEKIT_ROOT": str(agent.paths.root), "SAFEKIT_SERVER": agent.name}
    environment.pop("NOTIFY_SOCKET", None)  # systemd listens to the agent alone
    return environment


async def ask(agent: Agent, *words: str, data: bytes = b"") -> dict[str, Any]:
    """What a short-lived child answers to ``check`` or ``test``.

    :raises SystemProblem: it failed.
    """
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *COMMAND, *words, stdin=pipe, stdout=pipe, stderr=pipe, env=_environment(agent)
    )
    try:
        async with asyncio.timeout(LIMIT):
            out, err = await process.communicate(data)
    except TimeoutError:
        out, err = b"", f"it took more than {LIMIT:g} s".encode()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    try:
        found: dict[str, Any] = json.loads(out)
    except ValueError:
        last = err.decode("utf-8", "replace").strip().rpartition("\n")[2]
        text = f"the process that sends notifications failed: {last}"
        raise SystemProblem(Problem("notify.no-process", text, "safekit-py plugins may tell more")) from None
    return found


async def keep(agent: Agent, until: asyncio.Event) -> None:
    """Keep the child running until the event is set."""
    pause = PAUSE
    while not until.is_set():
        if not agent.paths.notify_xml.exists():
            agent.notified.clear()
            await _sleep(LOOK, until)
            continue
        loop = asyncio.get_running_loop()
        began = loop.time()
        ended = await Feed(agent).run(until)
        if until.is_set() or not ended:
            continue
        pause = PAUSE if loop.time() - began > LONG else min(2 * pause, LONGEST)
        log.warning("the process that sends notifications ended: %s; it is started again in %.0f s", ended, pause)
        await _sleep(pause, until)


async def _sleep(seconds: float, until: asyncio.Event) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(until.wait(), seconds)


class Feed:
    """One run of the child."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._pipe: asyncio.StreamWriter | None = None
        self._dropped = 0
        self._names: tuple[str, ...] = ()
        self._heard: dict[str, tuple[dict[str, bool], bool]] = {}
        self._broken: dict[str, str] = {}

    async def run(self, until: asyncio.Event) -> str:
        """Feed it until the event is set, notify.xml changes, or it ends; why it ended, empty when it was told to."""
        agent, before = self._agent, self._signature()
        pipe = asyncio.subprocess.PIPE
        try:
            process = await asyncio.create_subprocess_exec(
                *COMMAND, "serve", stdin=pipe, stdout=pipe, env=_environment(agent)
            )
        except OSError as error:
            return error.strerror or str(error)
        assert process.stdin is not None
        assert process.stdout is not None
        self._pipe = process.stdin
        reading = asyncio.create_task(self._read(process.stdout))
        agent.listeners.add(self._event)
        try:
            self._present()
            while not (reading.done() or until.is_set()) and self._signature() == before:
                self._look()
                await _sleep(LOOK, until)
            return f"status {await process.wait()}" if reading.done() else ""
        finally:
            agent.listeners.discard(self._event)
            with contextlib.suppress(OSError):
                process.stdin.close()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), GRACE)
            if process.returncode is None:
                process.kill()
            await reading

    def _signature(self) -> tuple[int, int, str]:
        """What the child was started with: it has read this file, and knows the server by this name."""
        try:
            found = self._agent.paths.notify_xml.stat()
        except OSError:
            return (0, 0, "")
        return (found.st_mtime_ns, found.st_ino, self._agent.name)

    async def _read(self, stream: asyncio.StreamReader) -> None:
        while line := await stream.readline():
            with contextlib.suppress(ValueError):
                found: dict[str, Mapping[str, Any]] = json.loads(line)
                self._agent.notified.clear()
                self._agent.notified.update(found)

    def _say(self, what: str, **values: Any) -> None:
        pipe = self._pipe
        if pipe is None or pipe.is_closing():
            return
        if pipe.transport.get_write_buffer_size() > FULL:
            self._dropped += 1
            if self._dropped == 1:
                log.warning("the process that sends notifications hangs: events are dropped")
            return
        pipe.write(json.dumps({"what": what, **values}).encode() + b"\n")

    # --- what is said -----------------------------------------------------------------------------

    def _event(self, event: Event) -> None:
        """Each event of a module that may be worth a word."""
        severe = event.severity in (Severity.ERROR, Severity.CRITICAL)
        if not self._agent.ending and (event.kind in ("state", "resource") or severe):
            self._say("event", event=event.as_dict())

    def _present(self) -> None:
        """How things are when the child begins."""
        for runner in self._agent.runners.values():
            if runner.state is not State.STOP:
                self._say("present", event=_state(runner).as_dict())
            for each in runner.board.all():
                data = {"resource": each.name, "value": each.value, "before": "", "cause": each.cause}
                event = Event(wall(), runner.name, Severity.INFO, "resource", each.name, "resource", data)
                self._say("present", event=event.as_dict())

    def _look(self) -> None:
        """What comes without an event: servers that are heard no more, modules that cannot run, or are gone."""
        agent = self._agent
        if agent.ending:
            return
        names = tuple(sorted({*agent.runners, *agent.broken}))
        if names != self._names:
            self._names = names
            self._say("modules", names=names)
        for name, runner in agent.runners.items():
            report = runner.report()
            others = {server: word for server, word in report.get("servers", {}).items() if server != agent.name}
            heard = {server: word == "alive" for server, word in others.items()}
            speaks = report.get("coordinator", "") in ("", agent.name)  # one of those that live tells it
            if self._heard.get(name) != (heard, speaks):
                self._heard[name] = (heard, speaks)
                self._say("servers", module=name, heard=heard, speaks=speaks)
            if self._broken.pop(name, None) is not None:
                self._say("present", event=_state(runner).as_dict())
        for name, problems in agent.broken.items():
            why = str(problems[0]) if problems else ""
            if self._broken.get(name) != why:
                self._broken[name] = why
                data = {"state": "NOT_CONFIGURED", "readiness": "", "before": "", "reason": why, "by": "itself"}
                event = Event(wall(), name, Severity.ERROR, "heart", "NOT_CONFIGURED", "state", data)
                self._say("event", event=event.as_dict())


def _state(runner: ModuleRunner) -> Event:
    """The event that would have led to this state."""
    data = {"state": runner.state.value, "readiness": runner.readiness.value, "before": "", "reason": runner.reason}
    event = Event(wall(), runner.name, Severity.INFO, "heart", f"{runner.state} {runner.readiness}", "state", data)
    return event if runner.state is not State.STOP else replace(event, data={**data, "by": "person"})
