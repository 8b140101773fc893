"""What a module does by itself: the actions of rules and of checkers, counted, and asked for in a moment.

Flows through it: decisions of the failover rules and wishes of checkers in; requests of the module's desk out. What
has the same rank or a higher one goes before, and over ``maxloop`` a stop takes the place of any other action.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from safekit_py.core.rules import Decision
from safekit_py.errors import SafekitError, StateError
from safekit_py.model.plugin import Action
from safekit_py.model.state import Readiness, Severity, State
from safekit_py.runtime.bystander import Bystander
from safekit_py.runtime.failover import BESIDE, NO_ACTION
from safekit_py.runtime.requests import Verb

if TYPE_CHECKING:
    from safekit_py.runtime.runner import ModuleRunner

PAUSE = 1.0  # seconds before an automatic action, so that a failure at once cannot spin
LOOP = "heart.stopstartloop"  # the resource that shows the loop counter


@dataclass(frozen=True, slots=True)
class Coming:
    """An automatic action that is asked for in a moment."""

    verb: Verb
    counted: bool
    task: asyncio.Task[None]


class Automation:
    """Of one module.

    :param module: whose actions these are.
    """

    def __init__(self, module: ModuleRunner) -> None:
        self._module = module
        self.coming: Coming | None = None  # what is asked for in a moment
        self._besides: set[asyncio.Task[None]] = set()  # actions that do nothing to the module

    async def close(self) -> None:
        """Nothing follows any more."""
        self.drop()
        for task in tuple(self._besides):
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    # --- the loop counter -----------------------------------------------------------------------

    def record(self) -> bool:
        """Count one automatic action; whether it may be taken."""
        self._module.loop, granted = self._module.loop.record(time.monotonic())
        self._show()
        return granted

    def anew(self) -> None:
        """A person has acted."""
        self._module.loop = self._module.loop.reset()
        self._show()

    def _show(self) -> None:
        module, now = self._module, time.monotonic()
        module.memory.write(count=module.loop.count, elapsed=round(module.loop.elapsed(now), 1))
        if module.loop.count or module.board.get(LOOP) != "unknown":
            module.board.set(LOOP, str(module.loop.count), f"of {module.loop.maxloop} automatic actions", log=False)

    def by_maxloop(self, cause: str) -> str:
        """Why the counter stops the module."""
        loop = self._module.loop
        times = f"{loop.maxloop} automatic actions in {loop.interval / 3600:g} h did not help"
        return f"stopped by maxloop: {times}; last cause: {cause}"

    # --- what rules and checkers ask for --------------------------------------------------------

    def may_act(self, action: str) -> bool:
        """Whether a rule's action can be taken now: between requests, or while one only waits."""
        if self._module.state is State.STOP or self._module.stopping:
            return False
        beside = action in self._module.actions and self._module.actions[action].rank < BESIDE
        if not beside and not self._free_for(_verb(self._module.actions, action)):
            return False
        if not self._module.failover_on:
            self._module.log(Severity.WARNING, "failover", f"{action} is due and not taken: failover is off")
            self._module.failover.reset()
            return False
        return True

    def _free_for(self, verb: Verb) -> bool:
        """Whether nothing is under way that comes before such a request."""
        if self._outranked(verb) or not self._module.settled:
            return False
        # In WAIT no application runs: it waits already, and there is nothing to restart.
        return self._module.state is not State.WAIT or verb >= Verb.STOPSTART

    def _outranked(self, verb: Verb) -> bool:
        """Whether something is about to be done that is worth as much."""
        return any(each is not None and each.verb >= verb for each in (self.coming, self._module.desk.waiting))

    def due(self, decision: Decision) -> None:
        """A failover rule holds for long enough: take its action."""
        action = self._module.actions.get(decision.action)
        cause = f"{self._module.failover.told(decision.causes)}; rule {', '.join(decision.labels)}"
        if action is None or action.name == NO_ACTION:
            self._module.log(Severity.ERROR, "failover", f"{cause}: no plugin brings the action {decision.action}")
            return
        if action.rank < BESIDE:
            self._beside(action, cause)
            return
        verb = _verb(self._module.actions, action.name)
        self.wish(verb, cause, partial(action.run, self._module.deeds), counted=action.counted)

    def _beside(self, action: Action, cause: str) -> None:
        """Run an action that does nothing to the module: no request, and nothing waits for it."""
        self._module.log(Severity.WARNING, "failover", f"{cause}: {action.name}")

        async def run() -> None:
            try:
                await action.run(Bystander(self._module.name, action.name), cause)
            except SafekitError as error:
                self._failed(action, error.problems[0].message)
            except Exception as error:  # a plugin's fault
                self._failed(action, f"{type(error).__name__}: {error}")

        task = asyncio.create_task(run())
        self._besides.add(task)
        task.add_done_callback(self._besides.discard)

    def _failed(self, action: Action, why: str) -> None:
        self._module.log(Severity.ERROR, "failover", f"the action {action.name} failed: {why}")

    def asked(self, action: str, identity: str, cause: str, arguments: tuple[str, ...]) -> None:
        """What a checker asks for by itself; see ``ModuleContext.request``."""
        found = self._module.actions.get(action)
        if found is None or action == NO_ACTION:
            self._module.log(Severity.WARNING, identity, f"{cause}; no action")
        elif not self._module.failover_on:
            self._module.log(Severity.WARNING, identity, f"{cause}; {action} is not taken: failover is off")
        elif found.rank < BESIDE:
            self._beside(found, f"{cause} ({identity})")
        elif self._module.state is not State.STOP:
            self.wish(
                _verb(self._module.actions, action),
                f"{cause} ({identity})",
                partial(found.run, self._module.deeds),
                counted=found.counted,
                arguments=arguments,
            )

    def wish(
        self,
        verb: Verb,
        cause: str,
        run: Callable[[str], Awaitable[None]] | None = None,
        *,
        counted: bool = True,
        arguments: tuple[str, ...] = (),
    ) -> None:
        """Ask for an action in a moment, unless as much is on its way or the loop counter refuses it."""
        if self._module.left or self._module.stopping or self._outranked(verb):
            return
        before = self.drop()
        if counted and not (before is not None and before.counted) and not self.record():
            verb, run, cause = Verb.STOP, None, self.by_maxloop(cause)
        loop = self._module.loop
        count = f" ({loop.count} of {loop.maxloop})" if counted and verb is not Verb.STOP else ""
        self._module.log(Severity.ERROR, "failover", f"{cause}: {verb.name.lower()}{count}")

        async def later() -> None:
            await asyncio.sleep(PAUSE)
            self.coming = None
            try:
                self._module.submit(verb, cause, person=False, run=run, arguments=arguments)
            except StateError as error:
                self._module.log(Severity.INFO, "failover", error.problems[0].message)

        self.coming = Coming(verb, counted, asyncio.create_task(later()))

    def overtaken(self, verb: Verb) -> None:
        """A request of this rank comes: what is worth no more is not asked for."""
        if self.coming is not None and self.coming.verb <= verb:
            self.drop()

    def drop(self) -> Coming | None:
        """What is about to be asked for is not asked for; what it was."""
        coming, self.coming = self.coming, None
        if coming is not None:
            coming.task.cancel()
        return coming

    def ended(self) -> None:
        """A request has ended. The module must not stay between two states that nobody leads it out of."""
        self._module.touched()
        idle = not self._module.left and self.coming is None and self._module.desk.waiting is None
        if idle and self._module.state is not State.STOP and self._module.readiness is not Readiness.READY:
            self.wish(Verb.STOPSTART, f"it was left {self._module.state} {self._module.readiness}")


def _verb(actions: Mapping[str, Action], name: str) -> Verb:
    """The verb at whose rank an action stands."""
    if name.upper() in Verb.__members__:
        return Verb[name.upper()]
    rank = actions[name].rank if name in actions else 0
    ladder = ((50, Verb.STOP), (40, Verb.STOPSTART), (30, Verb.WAIT), (20, Verb.SWAP))
    return next((verb for least, verb in ladder if rank >= least), Verb.RESTART)
