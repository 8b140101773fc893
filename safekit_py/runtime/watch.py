"""Runs a module's checkers, each in a task of its own, so that one that raises or ends disturbs nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from safekit_py.model.plugin import Checker
from safekit_py.model.state import Status
from safekit_py.runtime.board import Board

NO_ACTION = "noaction"
BACKOFF = (1.0, 5.0, 30.0)  # seconds before a checker that broke is started again


class Watch:
    """A set of checkers that run together.

    :param fallen: called with a checker and the cause when its resource goes down.
    """

    def __init__(self, board: Board, fallen: Callable[[Checker, str], None]) -> None:
        self._board = board
        self._fallen = fallen
        self._tasks: list[asyncio.Task[None]] = []
        self._checkers: list[Checker] = []
        self._changed = asyncio.Event()

    def start(self, checkers: Iterable[Checker]) -> None:
        """Run these checkers; each resource begins as ``init``."""
        for checker in checkers:
            self._checkers.append(checker)
            self._board.set(checker.resource, Status.INIT.value, "checker started")
            self._tasks.append(asyncio.create_task(self._run(checker), name=checker.resource))

    async def stop(self) -> None:
        """End them all; their resources are forgotten."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for checker in self._checkers:
            self._board.drop(checker.resource)
        self._tasks, self._checkers = [], []

    async def all_up(self) -> None:
        """Return when every checker that asks for an action is up."""
        while any(c.action != NO_ACTION and self._board.get(c.resource) != Status.UP for c in self._checkers):
            self._changed.clear()
            await self._changed.wait()

    def down(self) -> list[str]:
        """Names of the resources that are down."""
        return [c.resource for c in self._checkers if self._board.get(c.resource) == Status.DOWN]

    def _report(self, checker: Checker, status: str, cause: str) -> None:
        before = self._board.get(checker.resource)
        self._board.set(checker.resource, status, cause)
        self._changed.set()
        if status == Status.DOWN and before != Status.DOWN:
            self._fallen(checker, cause)

    async def _run(self, checker: Checker) -> None:
        attempt = 0
        while True:
            try:
                await checker.run(lambda status, cause: self._report(checker, status, cause))
                cause = "the checker ended"
            except (Exception, SystemExit) as error:  # a checker's fault shows as its own resource's
                cause = f"the checker failed: {type(error).__name__}: {error}"
            self._report(checker, Status.UNKNOWN.value, cause)
            await asyncio.sleep(BACKOFF[min(attempt, len(BACKOFF) - 1)])
            attempt += 1
