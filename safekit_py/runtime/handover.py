"""Replaces the agent's process by one of the installed version while modules go on: nothing is stopped, nobody is lost.

Flows through it: one JSON document a line between both processes, over a pair of sockets that the next one inherits
with the agent's lock. What is said:

    next   {"pid", "version", "lasts": {mode: text}, "unfit": {module: why}}     it could take over
    before {"modules": {name: values}}         its checkers, API and files are closed; heartbeats and leases go on
    next   {}                                  it has made its runners
    before {"remains": {name: bytes in hex}}   it has sent its last heartbeat, and ends

Invariants: at any time at most one of them sends heartbeats, renews leases or runs scripts; until the second word a
refusal or a death of the next process changes nothing. After it, a death of either is as a crash of the agent: leases
end, other servers take over, and systemd starts the agent again.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import socket
import sys
import time
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn, cast

from safekit_py import __version__
from safekit_py.errors import Problem, StateError, SystemProblem
from safekit_py.model.plugin import Lasting
from safekit_py.model.state import State
from safekit_py.runtime.notify import notify

if TYPE_CHECKING:
    from safekit_py.runtime.agent import Agent
    from safekit_py.runtime.runner import ModuleRunner

VARIABLE = "SAFEKIT_SUCCEEDS"  # environment of the next process: its ends of the line and of the lock, two descriptors
COMING = 60.0  # seconds that the next process has to be able to take over
QUIET = 60.0  # seconds that modules have to come to rest, should one have begun something meanwhile
TAKING = 30.0  # seconds that the next process has to make its runners
ANSWERED = 0.2  # seconds in which whoever asked gets the answer
LONGEST = 64 << 20  # bytes of one word
log = logging.getLogger("safekit.handover")


def _hurry(*, on: bool) -> None:
    """Come before other programs while no heartbeat is sent, also on a busy server; threads that begin do not."""
    with contextlib.suppress(OSError):  # not permitted everywhere
        policy = os.SCHED_FIFO | os.SCHED_RESET_ON_FORK if on else os.SCHED_OTHER
        os.sched_setscheduler(0, policy, os.sched_param(1 if on else 0))


class Line:
    """One side of the conversation."""

    def __init__(self, own: socket.socket) -> None:
        self._socket = own
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def say(self, **values: Any) -> None:
        """Say one word."""
        _, writer = await self._open()
        writer.write(json.dumps(values).encode() + b"\n")
        await writer.drain()

    async def hear(self, limit: float | None = None) -> dict[str, Any]:
        """The other side's next word.

        :raises EOFError: it has ended, or said nothing in ``limit`` seconds.
        """
        reader, _ = await self._open()
        try:
            async with asyncio.timeout(limit):
                found = await reader.readline()
        except (TimeoutError, ConnectionError) as error:
            raise EOFError("it says nothing") from error
        if not found:
            raise EOFError("it has ended")
        word: dict[str, Any] = json.loads(found)
        return word

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._streams is None:
            self._streams = await asyncio.open_unix_connection(sock=self._socket, limit=LONGEST)
        return self._streams

    def close(self) -> None:
        """The other side learns that there is nothing more."""
        self._streams[1].close() if self._streams else self._socket.close()


class Predecessor:
    """In the next process: the one before."""

    def __init__(self, line: Line) -> None:
        self._line = line

    @staticmethod
    def inherited() -> tuple[Predecessor, int] | None:
        """The process that has started this one in order to be replaced, and its lock; None: nobody is."""
        told = os.environ.pop(VARIABLE, "")
        if not told:
            return None
        line, lock = (int(each) for each in told.split(","))
        for each in (line, lock):
            os.set_inheritable(each, False)
        return Predecessor(Line(socket.socket(fileno=line))), lock

    async def modules(self, agent: Agent) -> Mapping[str, Mapping[str, Any]]:
        """Say what this process could take over; the modules to go on with, once the other one has come to rest."""
        lasts = {mode: str(getattr(kind, "lasts", "")) for mode, kind in agent.manager.module_types().items()}
        await agent.load_cluster()
        checked = await agent.configurations.activation.load(await agent.configurations.known())
        unfit = {name: str(problems[0]) for name, each in checked if (problems := agent.unfit(each))}
        await self._line.say(pid=os.getpid(), version=__version__, lasts=lasts, unfit=unfit)
        try:
            found: Mapping[str, Mapping[str, Any]] = (await self._line.hear())["modules"]
        except EOFError:
            log.info("the agent before goes on: this process is not needed")
            sys.exit(0)
        return found

    async def remains(self) -> dict[str, bytes]:
        """Have the other process let go; what its modules leave. From now on it sends nothing."""
        _hurry(on=True)
        await self._line.say()
        found = (await self._line.hear(TAKING))["remains"]
        self._line.close()
        return {name: bytes.fromhex(text) for name, text in found.items()}

    def done(self) -> None:
        """This process has taken over."""
        _hurry(on=False)


def _free(runner: ModuleRunner) -> bool:
    return not runner.obstacle


class Handover:
    """In the process that is replaced.

    :param lock: descriptor of the agent's lock; the next process inherits it.
    """

    def __init__(self, agent: Agent, lock: int) -> None:
        self._agent, self._lock = agent, lock
        self._line: Line | None = None
        self._next = 0
        self.due = asyncio.Event()  # it is agreed: the API is to end, and then :meth:`carry_out`

    async def begin(self) -> int:
        """Start the next process, and agree with it.

        :return: its id.
        :raises StateError: a module is against it, or the next process would lose one; nothing has changed.
        :raises SystemProblem: the next process does not start; nothing has changed.
        """
        if self._line is not None:
            raise StateError(Problem("agent.renewing", "the agent is being replaced already", "wait until it is done"))
        self._refuse([each for runner in self._agent.runners.values() if (each := runner.obstacle)])
        notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
        self._line = await self._spawn()
        try:
            await self._agree(self._line)
        except BaseException:
            self._line.close()
            self._line = None
            notify("READY=1")
            raise
        asyncio.get_running_loop().call_later(ANSWERED, self.due.set)
        return self._next

    async def _spawn(self) -> Line:
        ours, theirs = socket.socketpair()
        told = f"{theirs.fileno()},{self._lock}"
        command = (sys.executable, "-m", "safekit_py", "agent")
        environment = {**os.environ, VARIABLE: told, "SAFEKIT_ROOT": str(self._agent.paths.root)}
        with theirs:
            try:
                process = await asyncio.create_subprocess_exec(
                    *command, env=environment, pass_fds=(theirs.fileno(), self._lock), start_new_session=True
                )
            except OSError as error:
                ours.close()
                text = f"the next agent cannot be started: {error.strerror or error}"
                raise SystemProblem(Problem("agent.no-next", text, "look at the installation")) from error
        self._next = process.pid
        return Line(ours)

    async def _agree(self, line: Line) -> None:
        try:
            told = await line.hear(COMING)
        except EOFError as error:
            text = f"the next agent (process {self._next}) is not ready: {error}"
            raise SystemProblem(Problem("agent.no-next", text, "the agent's log says more")) from error
        log.info("process %d of version %s could take over", told["pid"], told["version"])
        against = []
        for name, runner in self._agent.runners.items():
            mode = runner.config.service.mode
            if runner.stopped or runner.state is State.WAIT:
                continue
            if name in told["unfit"]:
                against.append(f"{name} could not go on: {told['unfit'][name]}")
            elif told["lasts"].get(mode, "") != getattr(runner.type, "lasts", ""):
                against.append(f"version {told['version']} cannot go on with a module of mode {mode} from this one")
        self._refuse(against)

    @staticmethod
    def _refuse(against: list[str]) -> None:
        if against:
            remedy = "stop these here first, or give their role to another server; see docs/install.md, Upgrade"
            raise StateError([Problem("agent.not-now", text, remedy) for text in against])

    async def carry_out(self) -> NoReturn:
        """Come to rest, let go, and end. Whatever fails now is as a crash of the agent."""
        assert self._line is not None, "it has begun"
        try:
            await self._let_go(self._line)
        except Exception:
            log.exception("the next agent did not take over; this one ends as if it had crashed")
            os._exit(1)
        os._exit(0)  # not by the interpreter: applications are descendants of this process, and nothing is to be ended

    async def _let_go(self, line: Line) -> None:
        agent = self._agent
        await agent.keys.stop()
        await agent.configurations.reload.stop()
        runners = dict(agent.runners)
        try:
            async with asyncio.timeout(QUIET):
                await asyncio.gather(*(each.until(partial(_free, each)) for each in runners.values()))
        except TimeoutError:
            log.warning("%s", "; ".join(each.obstacle for each in runners.values() if each.obstacle))
        going = {n: r for n, r in runners.items() if not (r.stopped or r.obstacle or r.state is State.WAIT)}
        values = {name: runner.going() for name, runner in going.items()}
        await asyncio.gather(*(runner.shutdown() for runner in runners.values()))
        await asyncio.gather(*(runner.rest() for runner in runners.values() if runner.state is State.WAIT))
        await line.say(modules=values)
        await line.hear(TAKING)
        _hurry(on=True)
        lasting = {name: cast("Lasting", runner.runtime) for name, runner in going.items()}
        remains = dict(
            zip(lasting, await asyncio.gather(*(each.hand_over() for each in lasting.values())), strict=True)
        )
        await line.say(remains={name: data.hex() for name, data in remains.items()})
        notify(f"MAINPID={self._next}")
