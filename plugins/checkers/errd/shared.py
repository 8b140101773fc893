"""A look that several checkers share: whoever asks while one is fresh enough gets its outcome."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

Seen = TypeVar("Seen")


class Shared(Generic[Seen]):
    """Takes a look when somebody needs one.

    :param take: takes it.
    """

    def __init__(self, take: Callable[[], Awaitable[Seen]]) -> None:
        self._take = take
        self._task: asyncio.Future[Seen] | None = None
        self._began = float("-inf")

    async def look(self, since: float) -> Seen:
        """What a look saw that began at ``since`` or later, seconds of the event loop's clock.

        One that began before and is not finished is waited for first, so that there are never two at a time.
        A look that failed is not shared with those who come after it.
        """
        while self._task is None or self._began < since or _failed(self._task):
            if self._task is None or self._task.done():
                self._began = asyncio.get_running_loop().time()
                self._task = asyncio.ensure_future(self._take())
                self._task.add_done_callback(_failed)  # somebody has asked how it ended, even when all have left
                break
            await asyncio.wait((self._task,))
        # A checker that is ended must not end the look of the others.
        return await asyncio.shield(self._task)


def _failed(task: asyncio.Future[Seen]) -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)
