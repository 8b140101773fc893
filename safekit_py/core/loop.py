"""The loop counter: how many automatic actions a module may take before it stops by itself.

Invariant: between two resets by a person, at most ``maxloop`` automatic actions are granted in any window that
begins with a counted action and lasts ``interval``; the next one in the window is refused.
"""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class LoopCounter:
    """Counts automatic restarts, stopstarts and waits.

    :param maxloop: actions granted in one window.
    :param interval: seconds that a window lasts; 0 disables the counter.
    :param count: actions counted in the present window.
    :param began: when the present window began, seconds of a monotonic clock.
    """

    maxloop: int = 3
    interval: float = 24 * 3600.0
    count: int = 0
    began: float = 0.0

    def record(self, now: float) -> tuple[LoopCounter, bool]:
        """Count one automatic action at ``now``; the second value says whether it may be taken."""
        if self.interval <= 0:
            return self, True
        counter = self if self.count and now - self.began < self.interval else replace(self, count=0, began=now)
        counter = replace(counter, count=counter.count + 1)
        return counter, counter.count <= self.maxloop

    def allows(self, now: float) -> bool:
        """Whether the next automatic action at ``now`` would be granted."""
        return self.record(now)[1]

    def elapsed(self, now: float) -> float:
        """Seconds of the present window that have passed at ``now``; 0 when nothing is counted."""
        return max(0.0, now - self.began) if self.count else 0.0

    def reset(self) -> LoopCounter:
        """A person has acted: start anew."""
        return replace(self, count=0)
