"""What the kernel is owed: an answer to each request that was done here, once, and not before the promise holds.

A write waits for the secondary, a flush for both disks; past the lease nothing is answered but errors. The memory of a
request's data is used again as soon as it is answered, so whatever is to be sent of it is sent before.
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from .request import Request, Session


class Flush:
    """A flush that is under way: ``here`` and ``there`` say which disk has it."""

    __slots__ = ("here", "number", "request", "there")

    def __init__(self, request: Request | None, number: int, *, there: bool) -> None:
        self.request, self.number = request, number
        self.here, self.there = False, there


class Owed:
    """Of one primary.

    :param own: is called with the number of a flush that nobody asked for, when both disks have it.
    :ivar fenced: the lease has ended.
    :ivar pending: by number, what is done here and not yet acknowledged there.
    """

    def __init__(self, session: Session, own: Callable[[int], None]) -> None:
        self._session, self._own = session, own
        self.fenced = False
        self.pending: deque[tuple[int, Request]] = deque()
        self._errors: dict[int, int] = {}  # by number, of those that failed here
        self._flushes: list[Flush] = []
        self._unanswered: list[Request] = []  # done, and held back by the fence

    def __len__(self) -> int:
        return len(self.pending) + len(self._flushes) + len(self._unanswered)

    def answer(self, request: Request, error: int = 0) -> None:
        """The promise holds, or it failed."""
        if self.fenced and not error:
            self._unanswered.append(request)
        else:
            self._session.answer(request, error)

    def wait(self, number: int, request: Request, error: int) -> None:
        """It is done here, with this outcome, and waits for the secondary."""
        if error:
            self._errors[number] = error
        self.pending.append((number, request))

    def release(self, upto: int | None) -> None:
        """The secondary has everything up to this number; None: it is not waited for any more."""
        while self.pending and (upto is None or self.pending[0][0] <= upto):
            number, request = self.pending.popleft()
            self.answer(request, self._errors.pop(number, 0))

    def flush(self, request: Request | None, number: int, *, there: bool) -> Flush:
        """A flush begins.

        :param request: None for one of this side's own.
        :param there: the other disk is not waited for.
        """
        made = Flush(request, number, there=there)
        self._flushes.append(made)
        return made

    def flushed(self, flushes: Iterable[Flush]) -> None:
        """This disk has them."""
        for flush in flushes:
            flush.here = True
        self._settle()

    def flushed_there(self, upto: int | None) -> None:
        """The other disk has all up to this number; None: it is not waited for any more."""
        for flush in self._flushes:
            if upto is None or flush.number <= upto:
                flush.there = True
        self._settle()

    @property
    def flushes_own(self) -> bool:
        """Whether a flush that nobody asked for is under way."""
        return any(each.request is None for each in self._flushes)

    def refuse(self, flushes: Iterable[Flush], error: int) -> None:
        """They failed."""
        for flush in flushes:
            self._finish(flush, error)

    def _settle(self) -> None:
        for flush in [each for each in self._flushes if each.here and each.there]:
            self._finish(flush, 0)

    def _finish(self, flush: Flush, error: int) -> None:
        if flush in self._flushes:
            self._flushes.remove(flush)
            if flush.request is not None:
                self.answer(flush.request, error)
            elif not error:
                self._own(flush.number)

    def lift(self) -> None:
        """A new lease: what was held back is answered."""
        self.fenced = False
        waiting, self._unanswered = self._unanswered, []
        for request in waiting:
            self._session.answer(request, 0)

    def fail(self, held: Sequence[Request]) -> None:
        """All fails, and these too."""
        self.fenced = False
        for request in [*(each for _, each in self.pending), *held, *self._unanswered]:
            self._session.answer(request, errno.EIO)
        self.pending.clear()
        self._unanswered = []
        self.refuse(list(self._flushes), errno.EIO)
