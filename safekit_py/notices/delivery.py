"""Notices to one target, from a queue and a thread of its own: a target that is slow or dead disturbs no other.

Flows through it: notices in, which never wait; calls of the notifier out, tried again after a pause that doubles. What
comes too often is held and counted in the next notice, what cannot be sent is written down.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from safekit_py.errors import SafekitError
from safekit_py.model.notice import LEVELS, Notice, Notifications, Notifier, Target

FULL = 256  # notices that may wait for a target
PAUSE, LONGEST = 2.0, 60.0  # seconds before a notice is tried again


@dataclass(slots=True)
class Counts:
    """What became of the notices of a target.

    :param held: not sent, because there were too many.
    :param failed: not sent after all attempts; they stand in the log of these.
    :param last: why the last attempt failed; empty when it did not.
    """

    sent: int = 0
    held: int = 0
    failed: int = 0
    last: str = ""


def wants(target: Target, notice: Notice) -> bool:
    """Whether a target is told this; a test always is."""
    if notice.kind == "test":
        return True
    enough = LEVELS.index(notice.level) >= LEVELS.index(target.least)
    return enough and (not notice.module or any(fnmatchcase(notice.module, each) for each in target.modules))


class Delivery:
    """The queue of one target and its thread.

    :param unsent: is told what is given up, and why.
    :param pause: seconds before the second attempt; it doubles each time.
    """

    def __init__(
        self,
        target: Target,
        notifier: Notifier,
        settings: Notifications,
        unsent: Callable[[Notice, str], None],
        pause: float = PAUSE,
    ) -> None:
        self.target, self.counts = target, Counts()
        self._notifier, self._settings, self._unsent, self._pause = notifier, settings, unsent, pause
        self._waiting: deque[tuple[Notice, float]] = deque()  # with the instant from which on they wait
        self._taken: deque[float] = deque()  # instants of the present window
        self._held = 0  # since the last one that was taken
        self._news, self._ended = threading.Condition(), False
        self._busy: Notice | None = None
        self._thread = threading.Thread(target=self._work, name=f"notify {target.name}", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Notices on their way."""
        return len(self._waiting) + (self._busy is not None)

    def put(self, notice: Notice) -> None:
        """Take a notice, unless the target does not want it, or has had too many; returns at once."""
        if not wants(self.target, notice):
            return
        now = time.monotonic()
        with self._news:
            while self._taken and now - self._taken[0] >= self._settings.window:
                self._taken.popleft()
            if len(self._taken) >= self._settings.limit or len(self._waiting) >= FULL:
                self._held += 1
                self.counts.held += 1
                return
            self._taken.append(now)
            self._waiting.append((replace(notice, held=self._held), now))
            self._held = 0
            self._news.notify()

    def close(self, limit: float) -> None:
        """Give what waits a last chance of so many seconds; what is left is written down."""
        with self._news:
            self._news.wait_for(lambda: not self.waiting, limit)
            self._ended = True
            left = [notice for notice, _ in self._waiting]
            self._waiting.clear()
            self._news.notify_all()
        self._thread.join(limit)
        if self._thread.is_alive() and self._busy is not None:
            left.insert(0, self._busy)  # the target does not answer: its thread ends with the process
        for notice in left:
            self.counts.failed += 1
            self._unsent(notice, self.counts.last or "the agent ends")

    def _work(self) -> None:
        while True:
            with self._news:
                self._busy = None
                self._news.notify_all()
                self._news.wait_for(lambda: self._waiting or self._ended)
                if self._ended:
                    return
                notice, since = self._waiting.popleft()
                self._busy = notice
            self._deliver(notice, since)

    def _deliver(self, notice: Notice, since: float) -> None:
        pause = self._pause
        while True:
            try:
                self._notifier.send(self.target.value, notice)
            except OSError as error:
                again, why = True, str(error) or type(error).__name__
            except SafekitError as error:
                again, why = False, error.problems[0].message
            except Exception as error:  # a plugin's fault
                again, why = False, f"{type(error).__name__}: {error}"
            else:
                self.counts.sent += 1
                self.counts.last = ""
                return
            self.counts.last = why
            late = time.monotonic() + pause - since > self._settings.give_up
            if not again or late or self._sleep(pause):
                self.counts.failed += 1
                self._unsent(notice, why)
                return
            pause = min(2 * pause, LONGEST)

    def _sleep(self, seconds: float) -> bool:
        """Wait; True when it all ends meanwhile."""
        with self._news:
            return self._news.wait_for(lambda: self._ended, seconds)
