"""Evaluates a module's failover rules whenever a resource changes, and hands on what is due.

What is decided stands in ``safekit_py.core.rules``; this shell brings it the resources and the time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping

from safekit_py.core.rules import Decision, Explained, Gate, Held, combine, decide, down, explain, gate, ready
from safekit_py.model.config import Failover
from safekit_py.model.plugin import Checker
from safekit_py.model.rules import Rule
from safekit_py.runtime.board import Board

NO_ACTION = "noaction"
LOCAL, REMOTE = "local", "remote"
BESIDE = 10  # rank below which an action does nothing to the module: it runs beside what the module does


def label(checker: Checker) -> str:
    """The label of a checker's rule."""
    return str(getattr(checker, "rule", "") or checker.resource.replace(".", "_", 1))


def default_rules(checkers: Iterable[Checker]) -> tuple[Rule, ...]:
    """One rule for each label: an action follows when any of its checkers' resources is down."""
    found: dict[tuple[str, str], list[str]] = {}
    for checker in checkers:
        if checker.action != NO_ACTION:
            found.setdefault((label(checker), checker.action), []).append(checker.resource)
    return tuple(down(name, resources, action) for (name, action), resources in found.items())


class FailoverWatch:
    """The rules of one module at work.

    :param ranks: rank of each action.
    :param may_act: whether an action may be taken now; what is due meanwhile is taken when ``touch`` is called next.
    :param act: takes the action that is due.
    """

    def __init__(
        self,
        board: Board,
        ranks: Mapping[str, int],
        may_act: Callable[[str], bool],
        act: Callable[[Decision], None],
    ) -> None:
        self._board, self._ranks, self._may_act, self._act = board, ranks, may_act, act
        self.rules: tuple[Rule, ...] = ()
        self.remote: Mapping[str, str] = {}  # the other server's resources
        self._handle_time = 15.0
        self._held = Held()
        self._told: set[tuple[str, str]] = set()  # label and action of rules that hold and whose action was taken
        self._timer: asyncio.TimerHandle | None = None
        self._pending = self._closed = False
        self._changed = asyncio.Event()

    def configure(self, checkers: Iterable[Checker], failover: Failover) -> None:
        """Take the rules of these checkers and of the configuration."""
        self.rules = combine(default_rules(checkers), failover)
        self._handle_time = failover.handle_time
        self.reset()

    def reset(self) -> None:
        """Forget how long actions have been wished; an action has been taken, or the module is stopped."""
        self._held = Held()
        self._told.clear()
        self._cancel()

    def close(self) -> None:
        """Look no more."""
        self.reset()
        self._closed = True

    def resources(self, simulated: Mapping[str, str] | None = None) -> dict[tuple[str, str], str]:
        """What the rules see; simulated values win."""
        seen = {(REMOTE, name): value for name, value in self.remote.items()}
        seen |= {(LOCAL, r.name): r.value for r in self._board.all()}
        for name, value in (simulated or {}).items():
            side, _, rest = name.partition(".")
            seen[(side, rest) if side in (LOCAL, REMOTE) and "." in rest else (LOCAL, name)] = value
        return seen

    def told(self, causes: Iterable[str]) -> str:
        """Causes in words, each with what the checker said: ``tcp.web is down (connection refused …)``."""
        why = {each.name: each.cause for each in self._board.all()}
        found = []
        for cause in causes:
            said = why.get(cause.partition(" is ")[0], "")
            found.append(f"{cause} ({said})" if said else cause)
        return "; ".join(found)

    def gate(self) -> Gate:
        """Whether a module in WAIT may go on."""
        return gate(self.rules, self.resources())

    def ready(self) -> Gate:
        """Whether clients may be let in."""
        return ready([r for r in self.rules if not self._beside(r.action)], self.resources())

    def explain(self, simulated: Mapping[str, str] | None = None) -> tuple[Explained, ...]:
        """Each rule, whether it holds, and what would follow."""
        args = (self.rules, self.resources(simulated), self._held, time.monotonic(), self._handle_time, self._ranks)
        return explain(*args)

    def touch(self) -> None:
        """Something has changed: look soon, once for all that changes in this turn of the event loop."""
        self._changed.set()
        if not self._pending and not self._closed:
            self._pending = True
            asyncio.get_running_loop().call_soon(self._look)

    async def until(self, look: Callable[[], bool], pause: float) -> bool:
        """Wait for a change that makes ``look`` true; False after ``pause`` seconds."""
        try:
            async with asyncio.timeout(pause):
                while not look():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return False
        return True

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _beside(self, action: str) -> bool:
        return self._ranks.get(action, BESIDE) < BESIDE

    def _decide(self, rules: Iterable[Rule], now: float) -> Decision:
        return decide(tuple(rules), self.resources(), self._held, now, self._handle_time, self._ranks)

    def _take(self, decision: Decision) -> None:
        if self._beside(decision.action):
            # It changes nothing of the module, so its rule goes on to hold: once is enough, until it has been false.
            self._told |= {(each, decision.action) for each in decision.labels}
            self.touch()
        else:
            self.reset()
        self._act(decision)

    def _look(self) -> None:
        self._pending = False
        self._cancel()
        if self._closed:
            return
        now = time.monotonic()
        rules, decision = self.rules, self._decide(self.rules, now)
        if self._told:
            self._told &= set(decision.wished)
            rules = tuple(each for each in rules if (each.label, each.action) not in self._told)
            decision = self._decide(rules, now)
        self._held = decision.held
        if decision.action and not self._may_act(decision.action):
            # It holds up no notification; it is looked at again at the next change.
            decision = self._decide((r for r in rules if self._beside(r.action)), now)
            if decision.action and not self._may_act(decision.action):
                return
        if decision.action:
            self._take(decision)
        elif decision.due is not None:
            self._timer = asyncio.get_running_loop().call_later(max(0.0, decision.due - now), self._look)
