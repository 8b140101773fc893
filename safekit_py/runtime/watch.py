"""Runs a module's checkers, each in a task or a thread of its own, so that a broken one disturbs nothing else.

Flows through it: checkers in, values of their resources out. A checker that raises, ends, or is silent for longer than
its own limit sets its resource to ``unknown`` with the reason, and is started again after a pause.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from safekit_py.model.plugin import Checker
from safekit_py.model.state import Status
from safekit_py.runtime.board import Board

BACKOFF = (1.0, 5.0, 30.0)  # seconds before a checker that broke is started again
SOUND = 60.0  # seconds that a checker must have run well for the next pause to be the shortest again
THREAD_END = 2.0  # seconds that a thread gets to end
TASK_END = 3.0  # seconds that a task gets, in which it may wait for its thread
CUSTOM = "custom"  # checkers of this ``when`` run only once somebody has enabled them

Guarded = Callable[[str, Awaitable[None]], Awaitable[None]]


async def _plain(_name: str, run: Awaitable[None]) -> None:
    await run


@dataclass(slots=True)
class Watched:
    """One checker: ``state`` is running, suspended (switched off), or waiting (to be enabled)."""

    checker: Checker
    phase: str
    state: str = "waiting"
    heard: float = 0.0  # when it last reported or was started, seconds of the monotonic clock
    task: asyncio.Task[None] | None = None
    thread: threading.Thread | None = None
    stop: threading.Event = field(default_factory=threading.Event)


class Watch:
    """The checkers of one module, by the phase of its life in which they run.

    :param guarded: wraps each checker's run: one that blocks the event loop is ended, and faults are counted.
    """

    def __init__(self, board: Board, guarded: Guarded = _plain) -> None:
        self._board, self._guarded = board, guarded
        self._all: dict[str, Watched] = {}
        self._phases: set[str] = set()  # those that run
        self._off: set[str] = set()
        self._enabled: set[str] = set()

    def start(self, phase: str, checkers: Iterable[Checker]) -> None:
        """Run these checkers; each resource begins as ``init``. Those that a person switched off wait."""
        self._phases.add(phase)
        for checker in checkers:
            entry = Watched(checker, phase)
            self._all[checker.resource] = entry
            self._settle(entry)

    async def stop(self, phase: str) -> None:
        """End all of a phase; their resources are forgotten."""
        self._phases.discard(phase)
        await self._remove([entry for entry in self._all.values() if entry.phase == phase])

    async def close(self) -> None:
        """End all."""
        self._phases.clear()
        await self._remove(list(self._all.values()))

    async def _remove(self, gone: list[Watched]) -> None:
        for entry in gone:
            del self._all[entry.checker.resource]
        await asyncio.gather(*(self._end(entry) for entry in gone))

    async def replace(self, phases: Mapping[str, Iterable[Checker]]) -> list[str]:
        """Change the checkers of running phases; one whose configuration is the same goes on undisturbed.

        :return: the resources whose checkers were started, changed or ended.
        """
        wanted = {each.resource: (phase, each) for phase, checkers in phases.items() for each in checkers}
        old = [entry for entry in self._all.values() if entry.phase in phases]
        gone = [
            e for e in old if e.checker.resource not in wanted or not same(e.checker, wanted[e.checker.resource][1])
        ]
        await self._remove(gone)
        new = []
        for name, (phase, checker) in wanted.items():
            if phase in self._phases and name not in self._all:  # the phase may have ended meanwhile, or begun anew
                self.start(phase, (checker,))
                new.append(name)
        return sorted({entry.checker.resource for entry in gone} | set(new))

    def entries(self) -> list[Watched]:
        """Every checker, by resource."""
        return [self._all[name] for name in sorted(self._all)]

    @property
    def off(self) -> tuple[str, ...]:
        """The patterns that are switched off."""
        return tuple(sorted(self._off))

    async def switch(self, pattern: str, *, on: bool) -> list[str]:
        """Switch checkers off, or on again, by a pattern such as ``proc.*``; it holds until it is switched back.

        :return: the resources of those that changed.
        """
        if on:
            self._off = {each for each in self._off if not fnmatchcase(each, pattern)}
        else:
            self._off.add(pattern)
        return await self._apply()

    async def enable(self, resources: Iterable[str], *, on: bool) -> list[str]:
        """Enable or disable single checkers of when="custom"."""
        self._enabled = self._enabled | set(resources) if on else self._enabled - set(resources)
        return await self._apply()

    @property
    def enabled(self) -> tuple[str, ...]:
        """The resources of single checkers of when="custom" that are enabled."""
        return tuple(sorted(self._enabled))

    def forget_enabled(self) -> None:
        """Every checker of when="custom" waits again; for a module that has stopped."""
        self._enabled = set()

    async def _apply(self) -> list[str]:
        changed: list[str] = []
        for entry in self.entries():
            if entry.state != self._wanted(entry):
                changed.append(entry.checker.resource)
                await self._end(entry)
                if self._all.get(entry.checker.resource) is entry and entry.task is None:  # it may be over meanwhile
                    self._settle(entry)
        return changed

    def _wanted(self, entry: Watched) -> str:
        name = entry.checker.resource
        if any(fnmatchcase(name, pattern) for pattern in self._off):
            return "suspended"
        return "waiting" if entry.checker.when == CUSTOM and name not in self._enabled else "running"

    def _settle(self, entry: Watched) -> None:
        entry.state = self._wanted(entry)
        if entry.state == "running":
            self._board.set(entry.checker.resource, Status.INIT.value, "checker started")
            entry.task = asyncio.create_task(self._run(entry), name=entry.checker.resource)

    async def _end(self, entry: Watched) -> None:
        task, entry.task = entry.task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        if self._all.get(entry.checker.resource) in (entry, None):
            self._board.drop(entry.checker.resource)

    # --- one checker ----------------------------------------------------------------------------

    async def _run(self, entry: Watched) -> None:
        attempt = 0
        while True:
            began = entry.heard = time.monotonic()
            try:
                cause = await self._once(entry)
            except Exception as error:  # a checker's fault shows as its own resource's
                cause = f"the checker failed: {_words(error)}"
            self._board.set(entry.checker.resource, Status.UNKNOWN.value, cause)
            attempt = 0 if time.monotonic() - began > SOUND else attempt
            await asyncio.sleep(BACKOFF[min(attempt, len(BACKOFF) - 1)])
            attempt += 1

    async def _once(self, entry: Watched) -> str:
        """Run it until it ends, or is silent for too long; why, in words."""
        limit: float | None = getattr(entry.checker, "limit", None)
        log = False if getattr(entry.checker, "quiet", False) else None
        run: Any = entry.checker.run

        over = False

        def report(status: str, cause: str) -> None:
            if not over and entry.task is not None:
                entry.heard = time.monotonic()
                self._board.set(entry.checker.resource, str(status), cause, log=log)

        async def look() -> None:
            looking = run(report) if inspect.iscoroutinefunction(run) else self._in_thread(entry, report)
            try:
                await self._guarded(entry.checker.resource, looking)
            except SystemExit as error:  # asyncio would hand it on to the whole agent
                raise RuntimeError(f"SystemExit: {error}") from error

        running = asyncio.create_task(look())
        try:
            while True:
                left = None if limit is None else entry.heard + limit - time.monotonic()
                if left is not None and left <= 0:
                    return f"the checker has said nothing for {limit:g} s"
                await asyncio.wait((running,), timeout=left)
                if running.cancelled():
                    return "the checker was cancelled, and not by the agent"
                if running.done():
                    running.result()
                    return "the checker ended"
        finally:
            over = True
            running.cancel()
            # One that refuses to end is left alone: it may report no more, and the module goes on.
            await asyncio.wait((running,), timeout=TASK_END)
            running.add_done_callback(lambda task: task.cancelled() or task.exception())

    async def _in_thread(self, entry: Watched, report: Callable[[str, str], None]) -> None:
        """A plain function in a daemon thread: one that never ends costs a thread, and nothing else."""
        if entry.thread is not None and entry.thread.is_alive():
            raise RuntimeError("its thread has not ended since it was told to")
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        stop = entry.stop = threading.Event()
        run: Any = entry.checker.run

        def finish(error: BaseException | None) -> None:
            if not done.done():
                done.set_exception(error) if error else done.set_result(None)

        def hop(call: Callable[..., None], *values: Any) -> None:
            if not stop.is_set() and not loop.is_closed():
                loop.call_soon_threadsafe(call, *values)

        def body() -> None:
            try:
                run(lambda status, cause: hop(report, status, cause), stop)
            except Exception as error:
                hop(finish, error)
            except SystemExit as error:
                exiting = RuntimeError(f"SystemExit: {error}")
                exiting.__cause__ = error
                hop(finish, exiting)
            else:
                hop(finish, None)

        entry.thread = threading.Thread(target=body, name=entry.checker.resource, daemon=True)
        entry.thread.start()
        try:
            await done
        finally:
            stop.set()
            await asyncio.to_thread(entry.thread.join, THREAD_END)


def _words(error: Exception) -> str:
    """A fault in words; a SystemExit came as another error's text."""
    return str(error) if isinstance(error.__cause__, SystemExit) else f"{type(error).__name__}: {error}"


def same(one: Checker, other: Checker) -> bool:
    """Whether two checkers of one resource do the same: both tell what they were made of, and it is equal."""
    made = getattr(one, "config", None)
    mine = (type(one), made, one.when, one.action)
    return made is not None and mine == (type(other), getattr(other, "config", None), other.when, other.action)
