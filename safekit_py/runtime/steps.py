"""Carries out the steps of a plan: scripts, checkers and the module type, in the order that the automaton says."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, cast

from safekit_py.core.automaton import WATCHED, Become, Effect, Enter, Script, Step
from safekit_py.core.rules import Gate
from safekit_py.errors import Problem, SafekitError
from safekit_py.model.plugin import Drains, Roles
from safekit_py.model.state import Readiness, Severity, State
from safekit_py.programs import ScriptFailed
from safekit_py.runtime.requests import Interrupted, Verb

if TYPE_CHECKING:
    from safekit_py.runtime.runner import ModuleRunner

FORCED_LIMIT = 30.0  # seconds that a forced stop leaves to each call of the module type
DRAINS = "drains: "  # how the reason begins of a module whose clients are waited for
LOOK = 1.0  # seconds after which a wait says what it waits for


class Steps:
    """The plans of one module.

    :param module: whose plans these are.
    """

    def __init__(self, module: ModuleRunner) -> None:
        self._module = module
        self.waiting = False  # the plan only waits now: anything may end it
        self.draining = False  # clients are waited for before a stop: only another stop may end that
        self._left_over = False  # a stop failed to close or to release
        self.phases: dict[str, tuple[str, ...]] = {}  # phases whose checkers run, and which these are

    async def run(self, plan: tuple[Step, ...], *, firm: bool = False) -> None:
        """Carry out a plan.

        :param firm: it must come to its end, as a stop must: what fails is logged, and the next step follows.
        :raises Interrupted: a request of higher rank came.
        :raises ScriptFailed: a start script failed.
        """
        for step in plan:
            if self._module.desk.must_end():
                raise Interrupted
            try:
                await self._step(step)
            except Interrupted:
                raise
            except Exception as error:
                if not firm:
                    raise
                self._failed(step, error)

    def _failed(self, step: Step, error: Exception) -> None:
        """A step of a stop failed; what it left in the kernel is removed before the next start."""
        what = _words(error)
        name = step.name if isinstance(step, Script) else str(getattr(step, "value", "a step"))
        self._left_over = True
        self._module.log(Severity.ERROR, "heart", f"{name} failed while the module stops, which goes on: {what}")

    async def _step(self, step: Step) -> None:
        if isinstance(step, Enter):
            self._module.entered(step.state, step.readiness)
        elif isinstance(step, Script):
            await self._script(step)
        elif isinstance(step, Become):
            if roles := self.roles:
                await self._hook(partial(roles.become, step.state))
        else:
            await self._effect(step)

    async def _effect(self, effect: Effect) -> None:
        runtime, roles = self._module.runtime, self.roles
        if effect is Effect.PREPARE:
            if self._left_over:
                await self._hook(runtime.recover)
                self._left_over = False
            await self._hook(runtime.prepare)
        elif effect is Effect.WATCH:
            await self._start("run", WATCHED[self._module.state])
            await self._wait(self._until_ready())
        elif effect is Effect.OPEN:
            self._module.starts += 1
            await self._hook(runtime.open)
            if roles is not None:
                await self._wait(roles.settled())
        elif effect is Effect.CLOSE:
            await self._hook(runtime.close)
        elif effect is Effect.UNWATCH:
            await self._stop("run")
        elif effect is Effect.REST:
            await self._stop("pre")
            if roles is not None:
                await self._hook(roles.rest)
        else:
            await self._hook(runtime.release)

    async def _hook(self, run: Callable[[], Awaitable[None]]) -> None:
        """One call of the module type. A forced stop ends one that hangs, and has a limit for its own."""
        desk = self._module.desk
        forced = desk.current is not None and desk.current.verb is Verb.FORCESTOP

        async def limited() -> None:
            async with asyncio.timeout(FORCED_LIMIT if forced else None):
                await run()

        await desk.step(limited())

    async def _script(self, step: Script) -> None:
        module, request = self._module, self._module.desk.current
        run = module.scripts.run(step, request.arguments if request else ())
        try:
            if await module.desk.step(run, module.scripts.kill):
                module.log(Severity.INFO, step.name, f"{' '.join(step.arguments)}: done")
        except (ScriptFailed, OSError) as given:
            error = given if isinstance(given, ScriptFailed) else _not_run(step, given)
            # A stop script's status decides nothing: the forced stop follows anyway.
            mild = not step.starts and error.code == "script.failed"
            problem = replace(error.problems[0], severity="warning") if mild else error.problems[0]
            module.log(Severity.WARNING if mild else Severity.ERROR, step.name, str(problem))
            if module.desk.must_end():
                raise Interrupted from error
            if step.starts:
                raise error from None if error is given else given

    async def resume(self, phases: Mapping[str, Iterable[str]]) -> None:
        """Run the checkers that ran in these phases in an earlier process."""
        for phase, whens in phases.items():
            await self._start(phase, tuple(whens))

    async def _start(self, phase: str, whens: tuple[str, ...]) -> None:
        await self._stop(phase)
        self.phases[phase] = whens
        self._module.watch.start(phase, self._module.checkers_of(whens))

    async def _stop(self, phase: str) -> None:
        self.phases.pop(phase, None)
        await self._module.watch.stop(phase)

    async def _wait(self, what: Awaitable[None]) -> None:
        self.waiting = True
        try:
            self._module.touched()
            await self._module.desk.interruptible(what)
        finally:
            self.waiting = False

    async def drain(self, limit: float) -> None:
        """Before a stop: take no new clients, and wait until those that are there have left, or the time is over.

        :raises Interrupted: another stop came.
        """
        module, ends = self._module, time.monotonic() + limit

        def tell(text: str) -> None:
            module.reason = f"{DRAINS}{text}, {max(ends - time.monotonic(), 0):.0f} s"
            module.touched()

        tell("new clients go elsewhere")
        module.entered(module.state, Readiness.TRANSIENT)
        self.draining = True
        try:
            async with asyncio.timeout(limit):
                await module.desk.interruptible(cast("Drains", module.runtime).drain(tell))
            module.log(Severity.INFO, "heart", "the last client has left")
        except TimeoutError:
            module.log(Severity.WARNING, "heart", f"the time to leave is over: {module.reason.removeprefix(DRAINS)}")
        except Interrupted:
            raise
        except Exception as error:  # the stop follows all the same
            module.log(Severity.ERROR, "heart", f"clients are not waited for: {_words(error)}")
        finally:
            self.draining = False

    @property
    def roles(self) -> Roles | None:
        """The module type at work, when its servers have roles."""
        return cast("Roles", self._module.runtime) if getattr(self._module.type, "roles", False) else None

    async def goal(self) -> State:
        """In WAIT: the state to start in, once no rule asks to wait and, in a module with roles, the role is known."""
        found: list[State] = []

        async def look() -> None:
            while not found:
                await self._await()
                if self.roles is None:
                    found.append(self._module.type.goal)
                else:
                    await self._elect(self.roles, found)

        if self._module.desk.must_end():
            raise Interrupted
        await self._wait(look())
        return found[0]

    async def _elect(self, roles: Roles, found: list[State]) -> None:
        """Ask for the role, as long as no rule asks to wait again meanwhile."""
        module = self._module

        def tell(reason: str) -> None:
            module.reason = reason
            module.entered(State.WAIT, Readiness.TRANSIENT)
            module.touched()

        async def ask() -> None:
            found.append(await roles.elect(tell))

        election = asyncio.ensure_future(ask())
        try:
            while not election.done() and module.failover.gate().open:
                shut = asyncio.ensure_future(module.failover.until(lambda: not module.failover.gate().open, LOOK))
                await asyncio.wait((election, shut), return_when=asyncio.FIRST_COMPLETED)
                shut.cancel()
            if election.done():
                election.result()
        finally:
            election.cancel()
            await asyncio.gather(election, return_exceptions=True)

    async def _await(self) -> None:
        """In WAIT, until no rule asks to wait: the implicit wake-up."""
        module = self._module
        if "pre" not in self.phases:
            await self._start("pre", ("pre",))
        while not await module.failover.until(lambda: module.failover.gate().open, LOOK):
            gate = module.failover.gate()
            if gate.open:
                break
            module.reason = f"waits: {why(gate)}"
            module.entered(State.WAIT, Readiness.TRANSIENT if gate.init and not gate.labels else Readiness.NOT_READY)
        if module.readiness is Readiness.NOT_READY:
            module.log(Severity.INFO, "failover", "no rule asks to wait any more (Implicit_wakeup)")
        module.entered(State.WAIT, Readiness.TRANSIENT)

    async def _until_ready(self) -> None:
        """After the start scripts, until every watched thing has answered."""
        module = self._module
        while not await module.failover.until(lambda: module.failover.ready().open, LOOK):
            module.reason = f"clients are let in when it is ready: {why(module.failover.ready())}"


def _words(error: Exception) -> str:
    return error.problems[0].message if isinstance(error, SafekitError) else f"{type(error).__name__}: {error}"


def _not_run(step: Script, error: OSError) -> ScriptFailed:
    """The system did not let it run: no memory, a full disk, a folder that has just gone."""
    text = f"{step.name} cannot be run: {error.strerror or error}"
    return ScriptFailed(Problem("script.not-executable", text, "see the user log"))


def why(gate: Gate) -> str:
    """What keeps a gate shut, in words."""
    parts = list(gate.causes)
    if gate.labels:
        parts.append(f"rule {', '.join(gate.labels)}")
    if gate.init:
        parts.append(f"no word yet of {', '.join(gate.init)}")
    return "; ".join(parts)
