"""One module at work: takes commands and failures in, carries out the automaton's plans step by step.

What is decided stands in ``safekit_py.core``; this shell runs scripts, checkers and the module type in the order
that a plan says. One request is carried out at a time (``runtime/requests.py``); the failover rules are evaluated
beside it (``runtime/failover.py``), and what they decide comes back as a request.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from safekit_py.core import automaton
from safekit_py.core.loop import LoopCounter
from safekit_py.core.rules import Decision, Explained
from safekit_py.errors import Problem, SafekitError, StateError
from safekit_py.model.config import Cluster, ModuleConfig
from safekit_py.model.event import Event
from safekit_py.model.paths import Paths
from safekit_py.model.plugin import Action, Checker, ModuleContext, ModuleRuntime, ModuleType
from safekit_py.model.state import Readiness, Resource, Severity, State
from safekit_py.programs import ScriptFailed
from safekit_py.runtime.board import Board
from safekit_py.runtime.bystander import Bystander
from safekit_py.runtime.clock import wall
from safekit_py.runtime.failover import BESIDE, NO_ACTION, FailoverWatch
from safekit_py.runtime.memory import Mark, Memory
from safekit_py.runtime.plugins import Manager
from safekit_py.runtime.requests import Desk, Interrupted, Request, Verb
from safekit_py.runtime.scripts import ScriptRunner
from safekit_py.runtime.steps import Steps
from safekit_py.runtime.store import EventLog
from safekit_py.runtime.watch import Watch

PAUSE = 1.0  # seconds before an automatic action, so that a failure at once cannot spin
LOOP = "heart.stopstartloop"  # the resource that shows the loop counter

__all__ = ["ModuleRunner", "Verb"]


def _not_known(_module: str) -> Mapping[str, Any]:
    return {}


class ModuleRunner:
    """One module on this server.

    :param publish: is told every event.
    :param ask: what another module of this server does; see ``ModuleContext.ask``.
    :param reboot: reboots the server; see ``automatic_reboot``.
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
        ask: Callable[[str], Mapping[str, Any]] = _not_known,
        reboot: Callable[[], None] = lambda: None,
    ) -> None:
        self.name = name
        self.config = config
        self.manager = manager
        self._publish, self._reboot = publish, reboot
        self.store = EventLog(paths.module_var(name) / "log.db")
        self.memory = Memory(paths.module_var(name) / "state.json")
        self.mark = Mark(paths.module_var(name) / "running")
        self.board = Board(self._resource_changed, self._touched)
        self.scripts = ScriptRunner(name, paths, config.user)
        self._hooks = ScriptRunner(name, paths, config.user)  # scripts beside the automaton: update, state …
        now, self.loop = time.monotonic(), LoopCounter(config.service.maxloop, config.service.loop_interval)
        self.loop = replace(self.loop, count=self.memory.now.count, began=now - self.memory.now.elapsed)
        self.state, self.readiness = State.STOP, Readiness.NOT_READY
        self.since = now
        self.starts = 0  # how often the application was started since the agent began
        self.reason = self.memory.now.reason
        self.pending: tuple[Problem, ...] = ()  # why an edited configuration is not the active one
        self.context = ModuleContext(
            *(name, config, cluster, node, paths, cluster_key, module_id, self._type_log, self.board.set),
            resource=self.board.get,
            request=self._asked,
            ask=ask,
            script=self._script,
        )
        self.type: ModuleType = manager.module_types()[config.service.mode]
        self.runtime: ModuleRuntime = self.type.runtime(self.context)
        self.actions = manager.actions()
        self.watch = Watch(self.board, manager.guarded)
        self.checkers: tuple[Checker, ...] = self._make_checkers()
        ranks = {each.name: each.rank for each in self.actions.values()}
        self.failover = FailoverWatch(self.board, ranks, self._may_act, self._due)
        self.failover.configure(self.checkers, config.failover)
        self.desk = Desk(self._carry_out, self._internal)
        self.desk.idle = self._touched
        self._steps = Steps(self)
        self._worker: asyncio.Task[None] | None = None
        self._background: set[asyncio.Task[None]] = set()
        self._besides: set[asyncio.Task[None]] = set()  # actions that do nothing to the module
        self._news = asyncio.Event()

    # --- what others may call -------------------------------------------------------------------

    async def recover(self) -> None:
        """Remove what an earlier run left, then take requests."""
        await self.runtime.recover()
        for pattern in self.memory.now.off:
            await self.watch.switch(pattern, on=False)
        self._worker = asyncio.create_task(self.desk.work(), name=f"module {self.name}")

    async def shutdown(self) -> None:
        """End the runner; the module must be stopped before."""
        for task in (self._worker, *self._background, *self._besides):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        await asyncio.gather(self.watch.stop("run"), self.watch.stop("pre"))
        self.failover.reset()
        self.store.close()

    def submit(
        self,
        verb: Verb,
        cause: str,
        *,
        person: bool,
        run: Callable[[str], Awaitable[None]] | None = None,
        arguments: tuple[str, ...] = (),
    ) -> asyncio.Future[None]:
        """Ask for something; the future is done when it is.

        :param person: asked by a person; that resets the loop counter, and is remembered over a boot.
        :param run: what to do, when it is a plugin's action; ``verb`` then only gives its rank.
        :param arguments: what the scripts get after the contract's arguments.
        :raises StateError: it does not fit the present state, or something of higher rank is waiting.
        """
        self._refuse_if_unfit(verb)
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if person:
            self.count_anew()
            self.memory.write(started=verb not in (Verb.STOP, Verb.FORCESTOP), reason="")
        if verb is Verb.START and self._starting:
            self.log(Severity.INFO, "heart", "it is started already")
            future.set_result(None)
            return future
        self.desk.put(Request(verb, cause, person, run or self._verbs()[verb], future, arguments))
        if verb is Verb.FORCESTOP:
            self.scripts.kill()
        return future

    @property
    def _starting(self) -> bool:
        """Whether it runs or is on its way there, so that a start has nothing to do."""
        down = (Verb.STOP, Verb.FORCESTOP)
        for request in (self.desk.waiting, self.desk.current):
            if request is not None:
                return request.verb not in down
        return self.state is not State.STOP

    def automatic(self, verb: Verb, identity: str) -> asyncio.Future[None]:
        """A request with an identity: as if a checker of that name had asked, counted against ``maxloop``."""
        self._refuse_if_unfit(verb)
        if self._record():
            return self.submit(verb, f"asked by {identity}", person=False)
        return self.submit(Verb.STOP, self._by_maxloop(f"asked by {identity}"), person=False)

    def count_one(self, identity: str) -> int:
        """Count an automatic action that somebody else takes; over ``maxloop`` the module is stopped.

        :return: the count.
        """
        if not self._record() and self.state is not State.STOP:
            self.submit(Verb.STOP, self._by_maxloop(f"counted by {identity}"), person=False)
        return self.loop.count

    def count_anew(self) -> None:
        """A person has acted: the loop counter begins anew."""
        self.loop = self.loop.reset()
        self._show_loop()

    def log(
        self, severity: Severity, source: str, message: str, kind: str = "log", data: Mapping[str, str] | None = None
    ) -> None:
        """Write a line to the module's log and tell the plugins."""
        event = Event(wall(), self.name, severity, source, message, kind, data or {})
        self.store.append(event)
        self._publish(event)

    @property
    def busy(self) -> str:
        """What it is doing, or empty."""
        return self.desk.current.verb.name.lower() if self.desk.current else ""

    @property
    def stopped(self) -> bool:
        """Whether nothing of it runs and nothing is asked for."""
        return self.state is State.STOP and self.desk.current is None and self.desk.waiting is None

    @property
    def settled(self) -> bool:
        """Whether nothing is being carried out, or what is only waits."""
        return self.desk.current is None or self._steps.waiting

    @property
    def failover_on(self) -> bool:
        """Whether the rules' actions are taken."""
        return (self.memory.now.failover or ("on" if self.config.service.failover else "off")) == "on"

    def report(self) -> Mapping[str, Any]:
        """What the module type has to show."""
        return self.runtime.report()

    def explain(self, simulated: Mapping[str, str] | None = None) -> tuple[Explained, ...]:
        """Each failover rule, whether it holds and what would follow, with some resources as if they were so."""
        return self.failover.explain(simulated)

    async def until(self, look: Callable[[], bool]) -> None:
        """Return when ``look`` is true of the module; it is asked at each change of its state."""
        while not look():
            self._news.clear()
            await self._news.wait()

    async def _script(self, script: str, arguments: tuple[str, ...]) -> bool:
        # Several checkers may call scripts at a time, and a ScriptRunner runs one.
        return await ScriptRunner(self.name, self.context.paths, self.config.user).run_hook(script, arguments)

    async def hook(self, script: str, *arguments: str) -> bool:
        """Run a script that belongs to no change of state (update, config, state …); False when there is none.

        :raises ScriptFailed: it failed.
        """
        ran = await self._hooks.run_hook(script, arguments)
        if ran:
            self.log(Severity.INFO, script, f"{' '.join(arguments)}: done".lstrip(": "))
        return ran

    async def tell(self, script: str) -> str | None:
        """What the script ``state`` or ``level`` prints, called with the state; None when there is none.

        :raises ScriptFailed: it failed.
        """
        return await self._hooks.capture(script, (self.state.value, self.readiness.value))

    async def switch_checkers(self, pattern: str, *, on: bool) -> list[str]:
        """Switch checkers off or on, also for later runs of the agent; the resources of those that changed."""
        changed = await self.watch.switch(pattern, on=on)
        self.memory.write(off=self.watch.off)
        self.log(Severity.WARNING, "checker", f"checkers {pattern} are switched {'on' if on else 'off'}")
        return changed

    async def reconfigure(self, config: ModuleConfig) -> list[str]:
        """Take a configuration whose module type's part is the same, while the application goes on.

        :return: the resources whose checkers were changed.
        """
        self.config = config
        self.context = replace(self.context, config=config)
        self.scripts.user = self._hooks.user = config.user
        self.loop = replace(self.loop, maxloop=config.service.maxloop, interval=config.service.loop_interval)
        self.checkers = self._make_checkers()
        changed: list[str] = []
        for phase, whens in self._steps.phases.items():
            changed += await self.watch.replace(phase, self.checkers_of(whens))
        self.failover.configure(self.checkers, config.failover)
        self._touched()
        return changed

    # --- for ModuleControl: what an action does -------------------------------------------------

    async def restart(self, cause: str) -> None:
        """Run the stop and start scripts."""
        if self.state not in automaton.RESTART:
            raise StateError(Problem("module.waiting", f"{self.name} waits: its application does not run", "stopstart"))
        await self._steps.run(automaton.restart(self.state))

    async def stopstart(self, cause: str) -> None:
        """Stop and start again; with ``automatic_reboot``, an automatic one reboots the server."""
        await self._steps.run(automaton.stop(self.state, "stopstart"))
        if self.config.service.automatic_reboot and self.desk.current is not None and not self.desk.current.person:
            self.log(Severity.CRITICAL, "heart", f"the server is rebooted (automatic_reboot): {cause}")
            self._reboot()
            return
        await self._steps.run(automaton.start(self.type.goal))

    async def halt(self, cause: str) -> None:
        """Stop for a moment: another runner starts the module again."""
        await self._steps.run(automaton.stop(self.state, "stopstart"))

    async def stop(self, cause: str) -> None:
        """Stop here."""
        self.reason = cause
        await self._steps.run(automaton.stop(self.state))
        self.memory.write(started=False, reason=cause)

    async def wait(self, cause: str) -> None:
        """Stay in WAIT until no rule asks to wait."""
        self.reason = cause
        if self.state is not State.WAIT:
            await self._steps.run(automaton.wait(self.state))
        await self._steps.run(automaton.rise(self.type.goal))

    # --- requests -------------------------------------------------------------------------------

    def _refuse_if_unfit(self, verb: Verb) -> None:
        running = self.state is not State.STOP or self.desk.current is not None
        if verb in (Verb.RESTART, Verb.STOPSTART, Verb.WAIT, Verb.SWAP) and not running:
            raise StateError(
                Problem("module.stopped", f"{self.name} is stopped", f"start it first: safekit-py start {self.name}")
            )
        if verb in (Verb.RESTART, Verb.SWAP) and self.state is State.WAIT:
            raise StateError(
                Problem(
                    "module.waiting",
                    f"{self.name} is in WAIT: its application does not run",
                    f"safekit-py status {self.name} -v says what it waits for",
                )
            )

    async def _carry_out(self, request: Request) -> None:
        data = {"command": request.verb.name.lower(), "who": request.cause}
        self.log(Severity.INFO, "heart", f"{request.verb.name.lower()}: {request.cause}", "command", data)
        try:
            await request.run(request.cause)
        except ScriptFailed as error:
            if self.state is State.STOP:
                raise
            verb = Verb.RESTART if self.state in automaton.RESTART else Verb.STOPSTART
            self._automatic(verb, str(error.problems[0].message))
            raise
        except (Interrupted, StateError):
            raise
        except SafekitError as error:
            await self._give_up(str(error.problems[0].message))
            raise
        except Exception as error:
            await self._give_up(f"internal error: {type(error).__name__}: {error}")
            raise

    def _internal(self, error: Exception) -> None:
        self.log(Severity.CRITICAL, "heart", f"internal error: {type(error).__name__}: {error}")

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
        if self.mark.there:
            self.log(Severity.WARNING, "heart", "the earlier run did not end: the forced stop scripts come first")
            await self._steps.run(automaton.stop(State.WAIT))
        await self._start(cause)

    async def _start(self, cause: str) -> None:
        self.reason = ""
        problems = tuple(self.type.requirements(self.config))
        if any(p.severity == "error" for p in problems):
            for problem in problems:
                self.log(Severity.ERROR, "heart", str(problem))
            self.reason = problems[0].message
            raise SafekitError(problems)
        await self._steps.run(automaton.start(self.type.goal))

    async def _forcestop(self, cause: str) -> None:
        self.reason = cause
        await self._steps.run(automaton.stop(self.state, force=True))
        self.memory.write(started=False, reason=cause)

    async def _give_up(self, reason: str) -> None:
        """Something that cannot be repaired here: stop, and say why."""
        self.log(Severity.ERROR, "heart", reason)
        self.reason = reason
        await self._steps.run(automaton.stop(self.state))

    # --- automatic actions ----------------------------------------------------------------------

    def _record(self) -> bool:
        """Count one automatic action; whether it may be taken."""
        self.loop, granted = self.loop.record(time.monotonic())
        self._show_loop()
        return granted

    def _show_loop(self) -> None:
        now = time.monotonic()
        self.memory.write(count=self.loop.count, elapsed=round(self.loop.elapsed(now), 1))
        if self.loop.count or self.board.get(LOOP) != "unknown":
            self.board.set(LOOP, str(self.loop.count), f"of {self.loop.maxloop} automatic actions", log=False)

    def _by_maxloop(self, cause: str) -> str:
        hours = self.loop.interval / 3600
        times = f"{self.loop.maxloop} automatic actions in {hours:g} h did not help"
        return f"stopped by maxloop: {times}; last cause: {cause}"

    def _may_act(self, action: str) -> bool:
        """Whether a rule's action can be taken now: between requests, or while one only waits."""
        if self._background or self.desk.waiting is not None or self.state is State.STOP:
            return False
        if self.desk.current is not None and not self._steps.waiting:
            return False
        if self.state is State.WAIT and _verb(self.actions, action) < Verb.STOPSTART:
            return False  # it waits already, and no application runs
        if not self.failover_on:
            self.log(Severity.WARNING, "failover", f"{action} is due and not taken: failover is off")
            self.failover.reset()
            return False
        return True

    def _due(self, decision: Decision) -> None:
        """A failover rule holds for long enough: take its action."""
        action = self.actions.get(decision.action)
        cause = f"{'; '.join(decision.causes)} (rule {', '.join(decision.labels)})"
        if action is None or action.name == NO_ACTION:
            self.log(Severity.ERROR, "failover", f"{cause}: no plugin brings the action {decision.action}")
            return
        if action.rank < BESIDE:
            self._beside(action, cause)
            return
        verb = _verb(self.actions, action.name)
        self._automatic(verb, cause, partial(action.run, self), counted=action.counted)

    def _beside(self, action: Action, cause: str) -> None:
        """Run an action that does nothing to the module: no request, and nothing waits for it."""
        self.log(Severity.WARNING, "failover", f"{cause}: {action.name}")

        async def run() -> None:
            try:
                await action.run(Bystander(self.name, action.name), cause)
            except Exception as error:
                what = (
                    error.problems[0].message if isinstance(error, SafekitError) else f"{type(error).__name__}: {error}"
                )
                self.log(Severity.ERROR, "failover", f"the action {action.name} failed: {what}")

        task = asyncio.create_task(run())
        self._besides.add(task)
        task.add_done_callback(self._besides.discard)

    def _asked(self, action: str, identity: str, cause: str, arguments: tuple[str, ...]) -> None:
        """What a checker asks for by itself; see ``ModuleContext.request``."""
        found = self.actions.get(action)
        if found is None or action == NO_ACTION:
            self.log(Severity.WARNING, identity, f"{cause}; no action")
        elif not self.failover_on:
            self.log(Severity.WARNING, identity, f"{cause}; {action} is not taken: failover is off")
        elif found.rank < BESIDE:
            self._beside(found, f"{cause} ({identity})")
        elif self.state is not State.STOP:
            self._automatic(
                _verb(self.actions, action),
                f"{cause} ({identity})",
                partial(found.run, self),
                counted=found.counted,
                arguments=arguments,
            )

    def _automatic(
        self,
        verb: Verb,
        cause: str,
        run: Callable[[str], Awaitable[None]] | None = None,
        *,
        counted: bool = True,
        arguments: tuple[str, ...] = (),
    ) -> None:
        """Ask for an action in a moment, unless one is on its way or the loop counter refuses it."""
        if self._background or self.desk.waiting is not None:
            return
        if counted and not self._record():
            verb, run, cause = Verb.STOP, None, self._by_maxloop(cause)
        count = f" ({self.loop.count} of {self.loop.maxloop})" if counted and verb is not Verb.STOP else ""
        self.log(Severity.ERROR, "failover", f"{cause}: {verb.name.lower()}{count}")

        async def later() -> None:
            await asyncio.sleep(PAUSE)
            try:
                self.submit(verb, cause, person=False, run=run, arguments=arguments)
            except StateError as error:
                self.log(Severity.INFO, "failover", error.problems[0].message)

        task = asyncio.create_task(later())
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        task.add_done_callback(lambda _: self._touched())

    # --- checkers and reports -------------------------------------------------------------------

    def _make_checkers(self) -> tuple[Checker, ...]:
        made: list[Checker] = []
        for name, kind in self.manager.checkers().items():
            try:
                made += kind.create(self.context)
            except Exception as error:  # a plugin's fault
                self.log(Severity.ERROR, "heart", f"checker {name} failed: {type(error).__name__}: {error}")
        return tuple(made)

    def checkers_of(self, whens: Iterable[str]) -> list[Checker]:
        """The checkers that look in these phases."""
        wanted = tuple(whens)
        return [each for each in self.checkers if each.when in wanted]

    def entered(self, state: State, readiness: Readiness) -> None:
        """The module is in this state from here on."""
        if (state, readiness) == (self.state, self.readiness):
            return
        before = f"{self.state} {self.readiness}"
        self.state, self.readiness, self.since = state, readiness, time.monotonic()
        if state is State.STOP:
            self.mark.clear()
            self.watch.forget_enabled()
            self.failover.reset()
        elif not self.mark.there:
            self.mark.set()
        if readiness is Readiness.READY:
            self.reason = ""
        data = {"state": state.value, "readiness": readiness.value, "before": before, "reason": self.reason}
        self.log(Severity.INFO, "heart", f"{state} {readiness}", "state", data)
        self._touched()

    def _touched(self) -> None:
        self._news.set()
        self.failover.touch()

    def _type_log(self, severity: Severity, message: str) -> None:
        self.log(severity, self.config.service.mode, message)

    def _resource_changed(self, resource: Resource, before: str) -> None:
        text = f"{resource.name} {before} -> {resource.value}"
        data = {"resource": resource.name, "value": resource.value, "before": before, "cause": resource.cause}
        shown = f"{text} ({resource.cause})" if resource.cause else text
        self.log(Severity.INFO, "resource", shown, "resource", data)


def _verb(actions: Mapping[str, Any], name: str) -> Verb:
    """The verb at whose rank an action stands."""
    if name.upper() in Verb.__members__:
        return Verb[name.upper()]
    rank = actions[name].rank if name in actions else 0
    ladder = ((50, Verb.STOP), (40, Verb.STOPSTART), (30, Verb.WAIT), (20, Verb.SWAP))
    return next((verb for least, verb in ladder if rank >= least), Verb.RESTART)
