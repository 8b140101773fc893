"""One module at work: takes commands and failures in, carries out the automaton's plans step by step.

What is decided stands in ``safekit_py.core``; this shell runs scripts, checkers and the module type in the order
that a plan says. One request is carried out at a time (``runtime/requests.py``); the failover rules are evaluated
beside it (``runtime/failover.py``), and what they decide comes back as a request.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, NoReturn, cast

from safekit_py.core import automaton
from safekit_py.core.loop import LoopCounter
from safekit_py.core.rules import Explained
from safekit_py.errors import Problem, SafekitError, StateError
from safekit_py.model.config import Cluster, ModuleConfig
from safekit_py.model.event import Event
from safekit_py.model.keys import Keyring
from safekit_py.model.paths import Paths
from safekit_py.model.plugin import Checker, Lasting, ModuleContext, ModuleRuntime, ModuleType
from safekit_py.model.state import Readiness, Resource, Severity, State
from safekit_py.programs import ScriptFailed
from safekit_py.runtime.automation import Automation
from safekit_py.runtime.board import Board
from safekit_py.runtime.clock import wall
from safekit_py.runtime.deeds import Deeds, no_roles
from safekit_py.runtime.failover import FailoverWatch
from safekit_py.runtime.memory import Mark, Memory
from safekit_py.runtime.plugins import Manager
from safekit_py.runtime.requests import Desk, Interrupted, Request, Verb, being_cancelled
from safekit_py.runtime.scripts import ScriptRunner
from safekit_py.runtime.steps import Steps
from safekit_py.runtime.store import EventLog
from safekit_py.runtime.tally import Tally
from safekit_py.runtime.watch import Watch

NEED_A_START = (Verb.RESTART, Verb.SWAP, Verb.WAIT, Verb.STOPSTART)  # they lead nowhere from STOP

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
        keys: Keyring,
        module_id: int,
        publish: Callable[[Event], None],
        ask: Callable[[str], Mapping[str, Any]] = _not_known,
        reboot: Callable[[], None] = lambda: None,
    ) -> None:
        self.name = name
        self.config = config
        self.manager = manager
        self._publish = publish
        self.store = EventLog(paths.module_var(name) / "log.db")
        self.memory = Memory(paths.module_var(name) / "state.json")
        self.mark = Mark(paths.module_var(name) / "running")
        self.board = Board(self._resource_changed, self.touched)
        self.tally = Tally()
        self.scripts = ScriptRunner(name, paths, config.user, self.tally)
        self._hooks = ScriptRunner(
            name, paths, config.user, self.tally
        )  # scripts beside the automaton: update, state …
        now, self.loop = time.monotonic(), LoopCounter(config.service.maxloop, config.service.loop_interval)
        self.loop = replace(self.loop, count=self.memory.now.count, began=now - self.memory.now.elapsed)
        self.state, self.readiness = State.STOP, Readiness.NOT_READY
        self.since = now
        self.starts = 0  # how often the application was started since the agent began
        self.reason = self.memory.now.reason
        self.pending: tuple[Problem, ...] = ()  # why an edited configuration is not the active one
        self.context = ModuleContext(
            *(name, config, cluster, node, paths, keys, module_id, self._type_log, self.board.set),
            resource=self.board.get,
            request=self._asked,
            ask=ask,
            script=self._script,
            change=self._change,
            set_remote=self._set_remote,
            resources=lambda: {each.name: each.value for each in self.board.all()},
            order=self._order,
            automatic=lambda: self.failover_on,
        )
        self.type: ModuleType = manager.module_types()[config.service.mode]
        self.runtime: ModuleRuntime = self.type.runtime(self.context)
        self.actions = manager.actions()
        self.watch = Watch(self.board, manager.guarded)
        self.checkers: tuple[Checker, ...] = self._make_checkers()
        ranks = {each.name: each.rank for each in self.actions.values()}
        self.automation = Automation(self)
        self.failover = FailoverWatch(self.board, ranks, self.automation.may_act, self.automation.due)
        self.failover.configure(self.checkers, config.failover)
        self.desk = Desk(self._carry_out, self._internal)
        self.desk.idle = self.automation.ended
        self._steps = Steps(self)
        self.deeds = Deeds(self, self._steps, reboot)
        self._worker: asyncio.Task[None] | None = None
        self.left = False  # the runner has ended: nothing is to follow any more
        self._news = asyncio.Event()

    # --- what others may call -------------------------------------------------------------------

    async def recover(self) -> None:
        """Remove what an earlier run left, then take requests."""
        await self.runtime.recover()
        for pattern in self.memory.now.off:
            await self.watch.switch(pattern, on=False)
        self._worker = asyncio.create_task(self.desk.work(), name=f"module {self.name}")

    @property
    def obstacle(self) -> str:
        """Why the agent's process cannot be replaced now, in words; empty when nothing of this module is against it.

        What is in WAIT has no application that could be interrupted: the next process starts it anew.
        """
        if self.stopped or (self.state is State.WAIT and self._steps.waiting):
            return ""
        if self.desk.current is not None or self.desk.waiting is not None:
            return f"{self.name} is busy: {self.busy or 'something waits'}"
        if not getattr(self.type, "lasts", ""):
            return f"{self.name} is {self.state}, and a module of mode {self.config.service.mode} cannot be handed over"
        if engaged := getattr(self.runtime, "engaged", ""):
            return f"{self.name} is busy: {engaged}"
        return ""

    def going(self) -> dict[str, Any]:
        """What the next process must know to go on with the running module, as plain values."""
        return {
            "state": self.state.value,
            "readiness": self.readiness.value,
            "reason": self.reason,
            "since": self.since,
            "starts": self.starts,
            "enabled": self.watch.enabled,
            "phases": self._steps.phases,
            "resources": [[each.name, each.value, each.cause] for each in self.board.all()],
        }

    async def take_over(self, left: Mapping[str, Any], remains: bytes) -> None:
        """Go on with a module that runs, in place of an earlier process; instead of :meth:`recover`.

        :param remains: what its module type's runtime has left.
        """
        self.state, self.readiness = State(left["state"]), Readiness(left["readiness"])
        self.reason, self.since, self.starts = left["reason"], left["since"], left["starts"]
        await cast("Lasting", self.runtime).take_over(remains)  # soon: the other servers wait for its heartbeats
        for name, value, cause in left["resources"]:
            self.board.set(name, value, cause, log=False)
        for pattern in self.memory.now.off:
            await self.watch.switch(pattern, on=False)
        await self.watch.enable(left["enabled"], on=True)
        await self._steps.resume(left["phases"])
        self._worker = asyncio.create_task(self.desk.work(), name=f"module {self.name}")
        self.log(Severity.INFO, "heart", "another process of the agent goes on with the module; nothing was stopped")

    async def rest(self) -> None:
        """In WAIT, after :meth:`shutdown`: what its module type has begun ends, so that another process may begin."""
        if (roles := self._steps.roles) is not None:
            await roles.rest()

    async def shutdown(self) -> None:
        """End the runner; the module must be stopped before, or it is left as a crash of the agent leaves it."""
        self.left = True
        self.failover.close()
        await self.automation.close()
        if self._worker is not None:
            self._worker.cancel()
            await asyncio.gather(self._worker, return_exceptions=True)
        self.desk.close()
        await self.watch.close()
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
        nothing = verb is Verb.START and self._starting and not self.left
        self._refuse_if_unfit(verb)
        if not nothing:
            self.desk.refuse(verb)
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if person:
            self.count_anew()
            self.memory.write(started=not verb.stops, reason="")
        if nothing:
            self.log(Severity.INFO, "heart", "it is started already")
            future.set_result(None)
            return future
        self.automation.overtaken(verb)
        self.desk.put(Request(verb, cause, person, run or self.deeds.verbs()[verb], future, arguments))
        if verb is Verb.FORCESTOP:
            self.scripts.kill()
        return future

    @property
    def _starting(self) -> bool:
        """Whether it runs or is on its way there, so that a start has nothing to do."""
        for request in (self.desk.waiting, self.desk.current):
            if request is not None:
                return not request.verb.stops
        return self.state is not State.STOP

    @property
    def stopping(self) -> bool:
        """Whether a stop is carried out or waits."""
        return any(each is not None and each.verb.stops for each in (self.desk.current, self.desk.waiting))

    def automatic(self, verb: Verb, identity: str) -> asyncio.Future[None]:
        """A request with an identity: as if a checker of that name had asked, counted against ``maxloop``."""
        self._refuse_if_unfit(verb)
        self.desk.refuse(verb)
        if self.automation.record():
            return self.submit(verb, f"asked by {identity}", person=False)
        return self.submit(Verb.STOP, self.automation.by_maxloop(f"asked by {identity}"), person=False)

    def count_one(self, identity: str) -> int:
        """Count an automatic action that somebody else takes; over ``maxloop`` the module is stopped.

        :return: the count.
        """
        if not self.automation.record() and self.state is not State.STOP and not self.stopping:
            self.submit(Verb.STOP, self.automation.by_maxloop(f"counted by {identity}"), person=False)
        return self.loop.count

    def count_anew(self) -> None:
        """A person has acted: the loop counter begins anew."""
        self.automation.anew()

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

    def _asked(self, action: str, identity: str, cause: str, arguments: tuple[str, ...]) -> None:
        self.automation.asked(action, identity, cause, arguments)

    def _change(self, state: State, cause: str) -> None:
        # A secondary that is not complete may wait for ever, when its primary is gone.
        waits = self._steps.waiting and (self.state is State.SECOND or state is State.WAIT)
        busy = self.desk.current is not None and not waits
        if self.state in (state, State.STOP) or busy or self.desk.waiting is not None:
            return  # it is asked for again when that is done
        run = partial(self.deeds.change, state)
        request = Request(Verb.CHANGE, cause, False, run, asyncio.get_running_loop().create_future())
        self.desk.put(request)

    def _set_remote(self, resources: Mapping[str, str]) -> None:
        if self.failover.remote != resources:
            self.failover.remote = resources
            self.touched()

    async def _order(self, verb: str, cause: str) -> None:
        await self.submit(Verb[verb.upper()], cause, person=True)

    async def command(self, verb: str, arguments: tuple[str, ...]) -> Mapping[str, Any]:
        """A command that only modules with roles have.

        :raises StateError: this one has none.
        """
        if self._steps.roles is None:
            raise StateError(no_roles(self, verb))
        try:
            return await self._steps.roles.command(verb, arguments)
        finally:
            self.touched()

    async def _script(self, script: str, arguments: tuple[str, ...]) -> bool:
        # Several checkers may call scripts at a time, and a ScriptRunner runs one.
        return await ScriptRunner(self.name, self.context.paths, self.config.user, self.tally).run_hook(
            script, arguments
        )

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
        changed = await self.watch.replace({p: self.checkers_of(whens) for p, whens in self._steps.phases.items()})
        self.failover.configure(self.checkers, config.failover)
        if self._steps.roles is not None:
            self._steps.roles.reconfigured(config)
        self.touched()
        return changed

    # --- requests -------------------------------------------------------------------------------

    def _refuse_if_unfit(self, verb: Verb) -> None:
        if verb is Verb.START and self._steps.draining:
            remedy = f"wait for its stop, or end the waiting: safekit-py stop {self.name}; then start it"
            raise StateError(Problem("module.draining", f"{self.name} {self.reason}", remedy))
        running = self.state is not State.STOP or self.desk.current is not None
        if verb in NEED_A_START and (not running or self.stopping):
            self._stopped_now("is being stopped" if running else "is stopped")
        if verb in (Verb.RESTART, Verb.SWAP) and self.state is State.WAIT:
            raise StateError(
                Problem(
                    "module.waiting",
                    f"{self.name} is in WAIT: its application does not run",
                    f"safekit-py status {self.name} -v says what it waits for",
                )
            )

    def _stopped_now(self, what: str) -> NoReturn:
        remedy = f"start it first: safekit-py start {self.name}"
        raise StateError(Problem("module.stopped", f"{self.name} {what}", remedy))

    async def _carry_out(self, request: Request) -> None:
        if request.verb in NEED_A_START and self.state is State.STOP:
            self._stopped_now("is stopped")  # what was carried out before this came to a stop
        self.tally.actions[request.verb.name.lower(), request.person] += 1
        data = {"command": request.verb.name.lower(), "who": request.cause}
        self.log(Severity.INFO, "heart", f"{request.verb.name.lower()}: {request.cause}", "command", data)
        try:
            await request.run(request.cause)
        except ScriptFailed as error:
            if self.state is State.STOP:
                raise
            verb = Verb.RESTART if self.state in automaton.RESTART else Verb.STOPSTART
            self.automation.wish(verb, str(error.problems[0].message))
            raise
        except Interrupted:
            raise
        except SafekitError as error:
            await self.deeds.give_up(str(error.problems[0].message))
            raise
        except Exception as error:
            await self.deeds.give_up(f"internal error: {type(error).__name__}: {error}")
            raise
        except asyncio.CancelledError as error:
            if being_cancelled():
                raise
            await self.deeds.give_up("internal error: it was cancelled, and not by the agent")
            raise RuntimeError("it was cancelled, and not by the agent") from error

    def _internal(self, error: Exception) -> None:
        self.log(Severity.CRITICAL, "heart", f"internal error: {type(error).__name__}: {error}")

    # --- checkers and reports -------------------------------------------------------------------

    def _make_checkers(self) -> tuple[Checker, ...]:
        made: list[Checker] = []
        for name, kind in self.manager.checkers().items():
            try:
                made += kind.create(self.context)
            except Exception as error:  # a plugin's fault
                self.log(Severity.ERROR, "heart", f"checker {name} failed: {type(error).__name__}: {error}")
        for resource, count in Counter(each.resource for each in made).items():
            if count > 1:
                self.log(Severity.ERROR, "heart", f"{count} checkers report {resource}: the first of them counts")
        return tuple({each.resource: each for each in reversed(made)}.values())[::-1]

    def checkers_of(self, whens: Iterable[str]) -> list[Checker]:
        """The checkers that look in these phases."""
        wanted = tuple(whens)
        return [each for each in self.checkers if each.when in wanted]

    def entered(self, state: State, readiness: Readiness) -> None:
        """The module is in this state from here on."""
        if (state, readiness) == (self.state, self.readiness):
            return
        before = f"{self.state} {self.readiness}"
        self.tally.states[state.value] += state is not self.state
        self.state, self.readiness, self.since = state, readiness, time.monotonic()
        if state is State.STOP:
            self.mark.clear()
            self.watch.forget_enabled()
            self.failover.reset()
            self.automation.drop()  # it was about the run that has ended
        elif not self.mark.there:
            self.mark.set()
        if readiness is Readiness.READY:
            self.reason = ""
        asked = self.desk.current is not None and self.desk.current.person
        data = {"state": state.value, "readiness": readiness.value, "before": before, "reason": self.reason}
        data["by"] = "person" if asked else "itself"
        self.log(Severity.INFO, "heart", f"{state} {readiness}", "state", data)
        self.touched()

    def touched(self) -> None:
        """Something has changed: whoever waits for a state looks again, and the rules are looked at."""
        self._news.set()
        self.failover.touch()
        if (roles := self._steps.roles) is not None:
            roles.look(self.state, self.readiness, self.reason)

    def _type_log(self, severity: Severity, message: str) -> None:
        self.log(severity, self.config.service.mode, message)

    def _resource_changed(self, resource: Resource, before: str) -> None:
        text = f"{resource.name} {before} -> {resource.value}"
        data = {"resource": resource.name, "value": resource.value, "before": before, "cause": resource.cause}
        shown = f"{text} ({resource.cause})" if resource.cause else text
        self.log(Severity.INFO, "resource", shown, "resource", data)
