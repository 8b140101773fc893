"""An asyncio event loop whose time a test turns: nothing sleeps, timers run in their order.

Flows through it: coroutines in, their effects out, at virtual times. When nothing is ready, time jumps to the next
timer. Real work is waited for in real time: threads of ``asyncio.to_thread`` always, sockets and child processes for as
long as ``PATIENCE`` without a sign, so that a virtual time limit does not pass while an answer is on its way.
"""

from __future__ import annotations

import asyncio
import contextlib
import selectors
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Executor
from typing import Any, TypeVar, TypeVarTuple, Unpack

PATIENCE = 0.25  # real seconds without a sign after which time jumps although sockets are open
SETTLE = 20  # turns of the loop after which what was due has had its effects

Result = TypeVar("Result")
Arguments = TypeVarTuple("Arguments")


class FakeClock:
    """The loop and its time, which begins at 1000 s.

    Only what asks the loop for the time sees this clock: ``asyncio.sleep``, ``asyncio.timeout``, ``call_later``,
    ``asyncio.get_running_loop().time()``; ``time.monotonic`` is the machine's.
    """

    def __init__(self) -> None:
        self.now = 1000.0
        self.loop = _Loop(self)

    def run(self, what: Coroutine[Any, Any, Result], limit: float = 3600.0) -> Result:
        """Run a coroutine to its end.

        :param limit: virtual seconds; a TimeoutError when it takes longer.
        """
        return self.loop.run_until_complete(asyncio.wait_for(what, limit))

    def start(self, what: Coroutine[Any, Any, Result]) -> asyncio.Task[Result]:
        """Start a task that goes on while the clock is turned; it is cancelled at the end of the test."""
        task = self.loop.create_task(what)
        self.loop.run_until_complete(_settle())
        return task

    def advance(self, seconds: float) -> None:
        """Turn the clock; all that is due meanwhile happens, each at its time."""
        end = self.now + seconds
        self.loop.run_until_complete(asyncio.sleep(seconds))
        self.loop.run_until_complete(_settle())
        self.now = max(self.now, end)

    def close(self) -> None:
        """Cancel what still runs, and end."""
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self.loop.run_until_complete(_settle())
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        with self.loop.real_work():
            self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()


async def _settle() -> None:
    for _ in range(SETTLE):
        await asyncio.sleep(0)


class _Selector(selectors.DefaultSelector):
    """Tells which files are ready; in place of waiting for a timer, it turns the clock."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__()
        self._clock = clock
        self.threads = 0  # calls under way in threads

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """As a selector does."""
        if timeout is not None and timeout <= 0:
            return super().select(0)
        if self.threads:
            return super().select(PATIENCE)
        open_files = len(self.get_map() or ()) > 1  # one is the loop's own
        ready = super().select(PATIENCE if open_files else 0)
        if ready:
            return ready
        if timeout is not None:
            self._clock.now += timeout
        elif not open_files:
            raise RuntimeError("nothing is left to happen: the test waits for something that nobody will do")
        return []


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self._files = _Selector(clock)
        super().__init__(self._files)

    def time(self) -> float:
        """The virtual time."""
        return self._clock.now

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[Unpack[Arguments]], Result], *args: *Arguments
    ) -> asyncio.Future[Result]:
        """As a loop does; the call is waited for in real time."""
        self._files.threads += 1
        future = super().run_in_executor(executor, func, *args)
        future.add_done_callback(lambda _: self._ended())
        return future

    @contextlib.contextmanager
    def real_work(self) -> Iterator[None]:
        """Meanwhile a thread is at work that the loop did not start."""
        self._files.threads += 1
        try:
            yield
        finally:
            self._files.threads -= 1

    def _ended(self) -> None:
        self._files.threads -= 1
