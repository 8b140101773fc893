"""What monitoring counts of one module since the agent began: states, actions, runs of scripts.

Flows through it: one call at each change of a state, each action, each end of a script; plain numbers out. Nothing is
decided by it, and nothing of it outlives the agent: whoever collects counters knows that they begin anew.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class Runs:
    """Runs of one script.

    :param failed: those of them that ended with another status than 0, or at their time limit.
    :param seconds: that they took together.
    :param last: seconds that the last one took.
    """

    count: int = 0
    failed: int = 0
    seconds: float = 0.0
    last: float = 0.0


@dataclass(slots=True)
class Tally:
    """Of one module.

    :param states: how often each was entered; a change of readiness alone does not count.
    :param actions: how often each was carried out, by verb and whether a person asked for it.
    :param scripts: by name; only those that the module has.
    """

    states: Counter[str] = field(default_factory=Counter)
    actions: Counter[tuple[str, bool]] = field(default_factory=Counter)
    scripts: dict[str, Runs] = field(default_factory=dict)

    def ran(self, script: str, seconds: float, *, failed: bool) -> None:
        """A script has ended."""
        runs = self.scripts.setdefault(script, Runs())
        runs.count += 1
        runs.failed += failed
        runs.seconds += seconds
        runs.last = seconds
