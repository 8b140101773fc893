"""One module at work: takes commands and failures in, carries out the automaton's plans step by step.

What is decided stands in ``safekit_py.core``; this shell runs scripts, checkers and the module type in the order
that a plan says. One request is carried out at a time. A stop interrupts a plan between two steps, a forced stop also
ends the script that runs; other requests wait for the running one.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum
from functools import partial
from typing import Any

from safekit_py.core import automaton
from safekit_py.core.automaton import Effect, Enter, Script, Step
from safekit_py.core.loop import LoopCounter
from safekit_py.errors import Problem, SafekitError, StateError
from safekit_py.model.config import Cluster, ModuleConfig
from safekit_py.model.event import Event
from safekit_py.model.paths import Paths
from safekit_py.model.plugin import Checker, ModuleContext, ModuleRuntime, ModuleType
from safekit_py.model.state import Readiness, Resource, Severity, State
from safekit_py.runtime.board import Board
from safekit_py.runtime.clock import wall
from safekit_py.runtime.plugins import Manager
from safekit_py.runtime.scripts import ScriptFailed, ScriptRunner
from safekit_py.runtime.store import EventLog, Wish
from safekit_py.runtime.watch import NO_ACTION, Watch

PAUSE = 1.0  # seconds before an automatic action, so that a failure at once cannot spin


class Verb(IntEnum):
    """What a module may be asked to do; a higher one takes the place of a lower one that waits."""

    START = 1
    RESTART = 2
    WAIT = 3
    STOPSTART = 4
    STOP = 5
    FORCESTOP = 6


class _Interrupted(Exception):
    """A request of higher rank ends the present plan."""


@dataclass(slots=True)
class _Request:
    verb: Verb
    cause: str
    person: bool
    run: Callable[[str], Awaitable[None]] = field(repr=False)
    done: asyncio.Future[None] = field(repr=False)


class ModuleRunner:
    """One module on this server.

    :param publish: is told every event.
    """

    def __init__(
        self,
        name: str,
        config: ModuleConfig,
        *,
        paths: Paths,
        manager: Manager,
        cluster: Cluster,
        node: str,
        cluster_key: bytes,
        module_id: int,
        publish: Callable[[Event], None],
    ) -> None:
        self.name = name
        self.config = config
        self.manager = manager
        self._publish = publish
        self.store = EventLog(paths.module_var(name) / "log.db")
        self.wish = Wish(paths.module_var(name) / "state.json")
        self._mark = paths.module_var(name) / "running"  # there as long as the module is not in STOP
        self.board = Board(self._resource_changed)
        self.scripts = ScriptRunner(name, paths, config.user)
        self.loop = LoopCounter(config.service.maxloop, config.service.loop_interval)
        self.state, self.readiness = State.STOP, Readiness.NOT_READY
        self.since = time.monotonic()
        self.reason = self.wish.read()[1]
        self.context = ModuleContext(
            name, config, cluster, node, paths, cluster_key, module_id, self._type_log, self.board.set
        )
        self.type: ModuleType = manager.module_types()[config.service.mode]
        self.runtime: ModuleRuntime = self.type.runtime(self.context)
        self._watch = Watch(self.board, self._fallen)
        self._prewatch = Watch(self.board, self._fallen)
        self._queue: _Request | None = None
        self._current: _Request | None = None
        self._arrived = asyncio.Event()
        self._worker: asyncio.Task[None] | None = None
        self._background: set[asyncio.Task[None]] = set()

    # --- what others may call -------------------------------------------------------------------

    async def recover(self) -> None:
        """Remove what an earlier run left, then take requests."""
        await self.runtime.recover()
        self._worker = asyncio.create_task(self._work(), name=f"module {self.name}")

    async def shutdown(self) -> None:
        """End the runner; the module must be stopped before."""
        if self._worker:
            self._worker.cancel()
            await asyncio.gather(self._worker, return_exceptions=True)
        self.store.close()

    def submit(
        self, verb: Verb, cause: str, *, person: bool, run: Callable[[str], Awaitable[None]] | None = None
    ) -> asyncio.Future[None]:
        """Ask for something; the future is done when it is.

        :param person: asked by a person; that resets the loop counter, and is remembered over a boot.
        :param run: what to do, when it is a plugin's action; ``verb`` then only gives its rank.
        :raises StateError: it does not fit the present state, or something of higher rank is waiting.
        """
        self._refuse_if_unfit(verb)
        if self._queue is not None:
            if self._queue.verb > verb:
                raise StateError(Problem("module.busy", f"{self.name} is about to {self._queue.verb.name.lower()}"))
            self._settle(self._queue, StateError(Problem("module.superseded", f"{verb.name.lower()} came first")))
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # Nobody may be waiting for it: then its failure is in the log and nowhere else.
        future.add_done_callback(lambda f: f.cancelled() or f.exception())
        self._queue = _Request(verb, cause, person, run or self._verbs()[verb], future)
        if person:
            self.loop = self.loop.reset()
            self.wish.write(verb not in (Verb.STOP, Verb.FORCESTOP), "")
        if verb is Verb.FORCESTOP:
            self.scripts.kill()
        self._arrived.set()
        return future

    def automatic(self, verb: Verb, identity: str) -> asyncio.Future[None]:
        """A request with an identity: as if a checker of that name had asked, counted against ``maxloop``."""
        self._refuse_if_unfit(verb)
        self.loop, granted = self.loop.record(time.monotonic())
        if granted:
            return self.submit(verb, f"asked by {identity}", person=False)
        return self.submit(Verb.STOP, self._by_maxloop(f"asked by {identity}"), person=False)

    def _by_maxloop(self, cause: str) -> str:
        hours = self.loop.interval / 3600
        times = f"{self.loop.maxloop} automatic actions in {hours:g} h did not help"
        return f"stopped by maxloop: {times}; last cause: {cause}"

    def log(self, severity: Severity, source: str, message: str, kind: str = "log") -> None:
        """Write a line to the module's log and tell the plugins."""
        event = Event(wall(), self.name, severity, source, message, kind)
        self.store.append(event)
        self._publish(event)

    @property
    def busy(self) -> str:
        """What it is doing, or empty."""
        return self._current.verb.name.lower() if self._current else ""

    def report(self) -> Mapping[str, Any]:
        """What the module type has to show."""
        return self.runtime.report()

    # --- for ModuleControl: what an action does -------------------------------------------------

    async def restart(self, cause: str) -> None:
        """Run the stop and start scripts."""
        await self._plan(automaton.restart(self.state))

    async def stopstart(self, cause: str) -> None:
        """Stop and start again."""
        await self._plan(automaton.stop(self.state, "stopstart"))
        await self._plan(automaton.start(self.type.goal))

    async def stop(self, cause: str) -> None:
        """Stop here."""
        self.reason = cause
        await self._plan(automaton.stop(self.state))
        self.wish.write(False, cause)

    async def wait(self, cause: str) -> None:
        """Stay in WAIT until the checkers of when="pre" are content."""
        self.reason = cause
        await self._plan(automaton.wait(self.state))
        await self._plan(automaton.rise(self.type.goal))

    # --- the worker -----------------------------------------------------------------------------

    def _refuse_if_unfit(self, verb: Verb) -> None:
        running = self.state is not State.STOP or self._current is not None
        if verb in (Verb.RESTART, Verb.STOPSTART, Verb.WAIT) and not running:
            raise StateError(
                Problem("module.stopped", f"{self.name} is stopped", f"start it first: safekit-py start {self.name}")
            )

    async def _work(self) -> None:
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            request, self._queue = self._queue, None
            if request is None:
                continue
            self._current = request
            try:
                await self._carry_out(request)
                self._settle(request)
            except _Interrupted:
                self._settle(request, StateError(Problem("module.interrupted", "another command ended this one")))
            except SafekitError as error:
                self._settle(request, error)
            except Exception as error:  # a fault of ours or of a plugin must not end the runner
                self.log(Severity.CRITICAL, "heart", f"internal error: {type(error).__name__}: {error}")
                self._settle(request, SafekitError(Problem("agent.internal", f"{type(error).__name__}: {error}")))
            finally:
                self._current = None

    @staticmethod
    def _settle(request: _Request, error: Exception | None = None) -> None:
        if not request.done.done():
            request.done.set_exception(error) if error else request.done.set_result(None)

    async def _carry_out(self, request: _Request) -> None:
        self.log(Severity.INFO, "heart", f"{request.verb.name.lower()}: {request.cause}")
        try:
            await request.run(request.cause)
        except ScriptFailed as error:
            if self.state is State.STOP:
                raise
            self._after_failed_script(error)
            raise
        except _Interrupted:
            raise
        except SafekitError as error:
            await self._give_up(str(error.problems[0].message))
            raise
        except Exception as error:
            await self._give_up(f"internal error: {type(error).__name__}: {error}")
            raise

    def _verbs(self) -> dict[Verb, Callable[[str], Awaitable[None]]]:
        return {
            Verb.START: self._start,
            Verb.STOP: self.stop,
            Verb.FORCESTOP: self._forcestop,
            Verb.RESTART: self.restart,
            Verb.STOPSTART: self.stopstart,
            Verb.WAIT: self.wait,
        }

    async def resume(self, cause: str) -> None:
        """Start after the agent was killed: what the earlier run may have left of the application is removed first."""
        if self._mark.exists():
            self.log(Severity.WARNING, "heart", "the earlier run did not end: the forced stop scripts come first")
            await self._plan(automaton.stop(State.WAIT))
        await self._start(cause)

    async def _start(self, cause: str) -> None:
        if self.state is not State.STOP:
            self.log(Severity.INFO, "heart", "it is started already")
            return
        self.reason = ""
        problems = tuple(self.type.requirements(self.config))
        if any(p.severity == "error" for p in problems):
            for problem in problems:
                self.log(Severity.ERROR, "heart", str(problem))
            self.reason = problems[0].message
            raise SafekitError(problems)
        await self._plan(automaton.start(self.type.goal))

    async def _forcestop(self, cause: str) -> None:
        self.reason = cause
        await self._plan(automaton.stop(self.state, force=True))
        self.wish.write(False, cause)

    async def _give_up(self, reason: str) -> None:
        """Something that cannot be repaired here: stop, and say why."""
        self.log(Severity.ERROR, "heart", reason)
        self.reason = reason
        await self._plan(automaton.stop(self.state))

    def _after_failed_script(self, error: ScriptFailed) -> None:
        verb = Verb.RESTART if self.state in automaton.RESTART else Verb.STOPSTART
        self._automatic(verb, str(error.problems[0].message))

    def _fallen(self, checker: Checker, cause: str) -> None:
        """A checker's resource went down: take its action."""
        text = f"{checker.resource} is down ({cause})"
        action = self.manager.actions().get(checker.action)
        if checker.action == NO_ACTION or action is None:
            self.log(Severity.WARNING, "failover", f"{text}; no action")
            return
        if checker.when == "pre" and self.state is State.WAIT:
            return  # it is waiting already
        rank = Verb[checker.action.upper()] if checker.action.upper() in Verb.__members__ else Verb.RESTART
        self._automatic(rank, text, partial(action.run, self), counted=action.counted)

    def _automatic(
        self, verb: Verb, cause: str, run: Callable[[str], Awaitable[None]] | None = None, *, counted: bool = True
    ) -> None:
        """Ask for an action in a moment, unless one is on its way or the loop counter refuses it."""
        if self._background or self._queue is not None:
            return
        if counted:
            self.loop, granted = self.loop.record(time.monotonic())
            if not granted:
                verb, run, cause = Verb.STOP, None, self._by_maxloop(cause)
        count = f" ({self.loop.count} of {self.loop.maxloop})" if counted and verb is not Verb.STOP else ""
        self.log(Severity.ERROR, "failover", f"{cause}: {verb.name.lower()}{count}")

        async def later() -> None:
            await asyncio.sleep(PAUSE)
            try:
                self.submit(verb, cause, person=False, run=run)
            except StateError as error:
                self.log(Severity.INFO, "failover", error.problems[0].message)

        task = asyncio.create_task(later())
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    # --- steps ----------------------------------------------------------------------------------

    def _must_end(self) -> bool:
        """Whether a waiting request ends the plan that runs now."""
        waiting, current = self._queue, self._current
        return waiting is not None and current is not None and waiting.verb >= Verb.STOP and waiting.verb > current.verb

    async def _plan(self, steps: tuple[Step, ...]) -> None:
        for step in steps:
            if self._must_end():
                raise _Interrupted
            await self._step(step)

    async def _step(self, step: Step) -> None:
        if isinstance(step, Enter):
            self._enter(step.state, step.readiness)
        elif isinstance(step, Script):
            await self._script(step)
        elif step in (Effect.AWAIT, Effect.WATCH):
            await self._interruptible(self._await() if step is Effect.AWAIT else self._watch_all())
        elif step is Effect.PREPARE:
            await self.runtime.prepare()
        elif step is Effect.OPEN:
            await self.runtime.open()
        elif step is Effect.CLOSE:
            await self.runtime.close()
        elif step is Effect.UNWATCH:
            await self._watch.stop()
        elif step is Effect.REST:
            await self._prewatch.stop()
        else:
            await self.runtime.release()

    async def _script(self, step: Script) -> None:
        try:
            if await self.scripts.run(step):
                self.log(Severity.INFO, step.name, f"{' '.join(step.arguments)}: done")
        except ScriptFailed as error:
            # A stop script's status decides nothing: the forced stop follows anyway.
            mild = not step.starts and error.code == "script.failed"
            problem = replace(error.problems[0], severity="warning") if mild else error.problems[0]
            self.log(Severity.WARNING if mild else Severity.ERROR, step.name, str(problem))
            if self._must_end():
                raise _Interrupted from error
            if step.starts:
                raise

    def _enter(self, state: State, readiness: Readiness) -> None:
        if (state, readiness) == (self.state, self.readiness):
            return
        self.state, self.readiness, self.since = state, readiness, time.monotonic()
        with contextlib.suppress(OSError):  # a full disk: then a crash is not noticed, and nothing else
            self._mark.unlink(missing_ok=True) if state is State.STOP else self._mark.touch()
        if readiness is Readiness.READY:
            self.reason = ""
        self.log(Severity.INFO, "heart", f"{state} {readiness}", "state")

    def _make(self, *when: str) -> list[Checker]:
        made: list[Checker] = []
        for name, kind in self.manager.checkers().items():
            try:
                made += [c for c in kind.create(self.context) if c.when in when]
            except Exception as error:  # a plugin's fault
                self.log(Severity.ERROR, "heart", f"checker {name} failed: {type(error).__name__}: {error}")
        return made

    async def _await(self) -> None:
        await self._prewatch.stop()
        self._prewatch.start(self._make("pre"))
        everything = asyncio.ensure_future(self._prewatch.all_up())
        try:
            await asyncio.wait((everything,), timeout=PAUSE)
            while not everything.done():
                if down := self._prewatch.down():
                    self._enter(State.WAIT, Readiness.NOT_READY)
                    self.reason = f"waits for {', '.join(down)}"
                await asyncio.wait((everything,), timeout=PAUSE)
        finally:
            everything.cancel()
        self._enter(State.WAIT, Readiness.TRANSIENT)

    async def _watch_all(self) -> None:
        await self._watch.stop()
        self._watch.start(self._make("both", "prim"))
        await self._watch.all_up()

    async def _interruptible(self, what: Awaitable[None]) -> None:
        """Wait for something that may take for ever, unless another request comes."""
        task = asyncio.ensure_future(what)
        try:
            while not task.done():
                if self._queue is not None:
                    raise _Interrupted
                arrival = asyncio.ensure_future(self._arrived.wait())
                await asyncio.wait((task, arrival), return_when=asyncio.FIRST_COMPLETED)
                arrival.cancel()
            task.result()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    # --- reports --------------------------------------------------------------------------------

    def _type_log(self, severity: Severity, message: str) -> None:
        self.log(severity, self.config.service.mode, message)

    def _resource_changed(self, resource: Resource, before: str) -> None:
        text = f"{resource.name} {before} -> {resource.value}"
        self.log(Severity.INFO, "resource", f"{text} ({resource.cause})" if resource.cause else text, "resource")
