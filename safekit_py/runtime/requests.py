"""What a module is asked for: one request is carried out at a time, one waits.

A request of higher rank takes the place of the one that waits. A stop ends the present plan between two steps;
anything ends a plan that only waits. A forced stop also ends what the present step waits for.

Invariant: the future of every request that was taken in is settled, at the latest when the desk is closed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TypeVar

from safekit_py.errors import Problem, SafekitError, StateError

Result = TypeVar("Result")

AGAIN = 0.1  # seconds between two attempts to end what a forced stop must end


class Verb(IntEnum):
    """What a module may be asked to do; a higher one takes the place of a lower one that waits."""

    START = 1
    RESTART = 2
    SWAP = 3
    CHANGE = 4  # of role, as the module type has decided
    WAIT = 5
    STOPSTART = 6
    STOP = 7
    FORCESTOP = 8

    @property
    def stops(self) -> bool:
        """Whether the module is in STOP afterwards."""
        return self >= Verb.STOP


class Interrupted(Exception):
    """A request of higher rank ends the present plan."""


@dataclass(slots=True)
class Request:
    """One thing that was asked for.

    :param person: asked by a person, not by a checker or a script.
    :param arguments: what the scripts get after the contract's arguments.
    :param done: settled when it is carried out, superseded or has failed.
    """

    verb: Verb
    cause: str
    person: bool
    run: Callable[[str], Awaitable[None]] = field(repr=False)
    done: asyncio.Future[None] = field(repr=False)
    arguments: tuple[str, ...] = ()
    _same: list[Request] = field(default_factory=list, repr=False)

    def settle(self, error: Exception | None = None) -> None:
        """Tell whoever waits for it."""
        for request in self._same:
            request.settle(error)
        if not self.done.done():
            self.done.set_exception(error) if error else self.done.set_result(None)

    def give_way(self, other: Request, error: StateError) -> None:
        """Another one is carried out instead. A stop is as good as any other stop: it ends as that one does."""
        if self.verb.stops and other.verb.stops:
            other._same.append(self)
        else:
            self.settle(error)


class Desk:
    """The request that is carried out and the one that waits.

    :param carry_out: does what a request asks for.
    :param fault: is told of an exception that nothing foresees.
    """

    def __init__(self, carry_out: Callable[[Request], Awaitable[None]], fault: Callable[[Exception], None]) -> None:
        self._carry_out, self._fault = carry_out, fault
        self.current: Request | None = None
        self.waiting: Request | None = None
        self._arrived = asyncio.Event()
        self._closed = False
        self._urge: Callable[[], None] | None = None  # hurries the present step
        self.idle: Callable[[], None] = lambda: None  # called whenever a request has ended

    def refuse(self, verb: Verb) -> None:
        """Whether such a request can be put here now.

        :raises StateError: it cannot: one of higher rank is waiting, or the desk is closed.
        """
        if self._closed:
            raise _ended()
        if self.waiting is not None and self.waiting.verb > verb:
            raise StateError(
                Problem("module.busy", f"the module is about to {self.waiting.verb.name.lower()}", "wait for it")
            )

    def put(self, request: Request) -> None:
        """Take a request in.

        :raises StateError: see :meth:`refuse`.
        """
        self.refuse(request.verb)
        if self.waiting is not None:
            name = request.verb.name.lower()
            self.waiting.give_way(request, StateError(Problem("module.superseded", f"{name} came first")))
        # Nobody may be waiting for it: then its failure is in the log and nowhere else.
        request.done.add_done_callback(lambda f: f.cancelled() or f.exception())
        self.waiting = request
        self._arrived.set()
        if self._urge is not None:
            self._urge()

    def close(self) -> None:
        """Take nothing in any more, and tell those who wait. The worker must have been cancelled before."""
        self._closed = True
        waiting, self.waiting = self.waiting, None
        if waiting is not None:
            waiting.settle(_ended())

    def must_end(self) -> bool:
        """Whether the waiting request ends the plan that runs now."""
        waiting, current = self.waiting, self.current
        return waiting is not None and current is not None and waiting.verb.stops and waiting.verb > current.verb

    async def work(self) -> None:
        """Carry out what comes, until cancelled."""
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            request, self.waiting = self.waiting, None
            if request is None:
                continue
            self.current = request
            try:
                await self._carry_out(request)
                request.settle()
            except Interrupted:
                error = StateError(Problem("module.interrupted", "another command ended this one"))
                if self.waiting is not None:
                    request.give_way(self.waiting, error)
                else:
                    request.settle(error)
            except SafekitError as error:
                request.settle(error)
            except Exception as error:  # a fault of ours or of a plugin must not end the worker
                self._fault(error)
                request.settle(SafekitError(Problem("agent.internal", f"{type(error).__name__}: {error}")))
            except asyncio.CancelledError:
                request.settle(_ended())
                raise
            finally:
                self.current = None
                self.idle()

    async def interruptible(self, what: Awaitable[None]) -> None:
        """Wait for something that may take for ever, unless another request comes."""
        task = asyncio.ensure_future(what)
        try:
            while not task.done():
                if self.waiting is not None:
                    raise Interrupted
                arrival = asyncio.create_task(self._arrived.wait())
                try:
                    await asyncio.wait((task, arrival), return_when=asyncio.FIRST_COMPLETED)
                finally:
                    arrival.cancel()
            task.result()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def step(self, what: Awaitable[Result], kill: Callable[[], object] | None = None) -> Result:
        """Wait for one step of a plan, which only a forced stop ends.

        :param kill: ends it from outside; it is then still waited for. Without, it is cancelled.
        :raises Interrupted: it was cancelled for a forced stop, which is carried out next.
        """
        task, loop = asyncio.ensure_future(what), asyncio.get_running_loop()

        def urge() -> None:
            if self._forced and not task.done():
                kill() if kill else task.cancel()
                loop.call_later(AGAIN, urge)  # it may just have been about to begin what is to be ended

        self._urge = urge
        urge()
        try:
            return await task
        except asyncio.CancelledError:
            if being_cancelled():
                raise
            if self.must_end():
                raise Interrupted from None
            raise RuntimeError("it was cancelled, and not by the agent") from None
        finally:
            self._urge = None

    @property
    def _forced(self) -> bool:
        return self.must_end() and self.waiting is not None and self.waiting.verb is Verb.FORCESTOP


def being_cancelled() -> bool:
    """Whether the task that runs is to end; else a CancelledError is an accident in somebody's code."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _ended() -> StateError:
    return StateError(Problem("module.ended", "the agent has let go of the module", "give the command again"))
