"""How often a login may fail. Pure: the time is an argument.

Invariant: from one key no more than ``most`` failures pass in any window, and the table never grows past its size.
"""

from __future__ import annotations

from collections import deque

SIZE = 10_000  # keys that are remembered; past it the oldest is forgotten


class Failures:
    """Failed logins by key: an address, or a user's name.

    :param most: failures that a key may have in a window.
    :param window: seconds.
    """

    def __init__(self, most: int, window: float) -> None:
        self._most, self._window = most, window
        self._failed: dict[str, deque[float]] = {}

    def wait(self, key: str, now: float) -> float:
        """Seconds until this key may try again; 0 when it may now."""
        failed = self._failed.get(key)
        if failed is None or len(failed) < self._most:
            return 0.0
        return max(0.0, failed[0] + self._window - now)

    def failed(self, key: str, now: float) -> None:
        """Note a failure."""
        while len(self._failed) >= SIZE and key not in self._failed:
            del self._failed[next(iter(self._failed))]
        # The last ones suffice: whether a key waits depends on the oldest of as many as it may have.
        self._failed.setdefault(key, deque(maxlen=self._most)).append(now)

    def good(self, key: str) -> None:
        """Forget the failures of a key that has succeeded."""
        self._failed.pop(key, None)
