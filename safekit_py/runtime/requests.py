"""What a module is asked for: one request is carried out at a time, one waits.

A request of higher rank takes the place of the one that waits. A stop ends the present plan between two steps;
anything ends a plan that only waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import IntEnum

from safekit_py.errors import Problem, SafekitError, StateError


class Verb(IntEnum):
    """What a module may be asked to do; a higher one takes the place of a lower one that waits."""

    START = 1
    RESTART = 2
    SWAP = 3
    WAIT = 4
    STOPSTART = 5
    STOP = 6
    FORCESTOP = 7


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

    def settle(self, error: Exception | None = None) -> None:
        """Tell whoever waits for it."""
        if not self.done.done():
            self.done.set_exception(error) if error else self.done.set_result(None)


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
        self.idle: Callable[[], None] = lambda: None  # called whenever a request has ended

    def put(self, request: Request) -> None:
        """Take a request in.

        :raises StateError: one of higher rank is waiting.
        """
        if self.waiting is not None:
            if self.waiting.verb > request.verb:
                raise StateError(
                    Problem("module.busy", f"the module is about to {self.waiting.verb.name.lower()}", "wait for it")
                )
            name = request.verb.name.lower()
            self.waiting.settle(StateError(Problem("module.superseded", f"{name} came first")))
        # Nobody may be waiting for it: then its failure is in the log and nowhere else.
        request.done.add_done_callback(lambda f: f.cancelled() or f.exception())
        self.waiting = request
        self._arrived.set()

    def must_end(self) -> bool:
        """Whether the waiting request ends the plan that runs now."""
        waiting, current = self.waiting, self.current
        return waiting is not None and current is not None and waiting.verb >= Verb.STOP and waiting.verb > current.verb

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
                request.settle(StateError(Problem("module.interrupted", "another command ended this one")))
            except SafekitError as error:
                request.settle(error)
            except Exception as error:  # a fault of ours or of a plugin must not end the worker
                self._fault(error)
                request.settle(SafekitError(Problem("agent.internal", f"{type(error).__name__}: {error}")))
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
                arrival = asyncio.ensure_future(self._arrived.wait())
                await asyncio.wait((task, arrival), return_when=asyncio.FIRST_COMPLETED)
                arrival.cancel()
            task.result()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
