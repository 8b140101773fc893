"""Long commands, so that whoever gave one can follow it afterwards.

Flows through it: the future of a command, or what carries one out, in; an operation with an id, and how it ended, out.
Invariant: what was begun goes on whether or not its caller still waits. The last ones are kept in
memory: who asks after a restart of the agent is told that it is not known, and the command log has the rest.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from safekit_py.errors import NotFoundError, Problem, SafekitError, StateError
from safekit_py.runtime.clock import wall

MOST = 64  # at a time, of those that are carried out here
KEPT = 200  # operations; of those that are over the oldest go first
RUNNING, DONE, FAILED, GIVEN_UP = "running", "done", "failed", "given up"


@dataclass(slots=True)
class Operation:
    """A command and what became of it.

    :param ident: unlike that of any other, also of an agent before or after.
    :param began: seconds since the epoch.
    :param ended: the same; None while it goes on.
    :param problems: why it failed.
    :param text: what came of it, one line; empty where there is nothing to say.
    """

    ident: str
    module: str
    command: str
    user: str
    began: float
    future: asyncio.Future[Any]
    state: str = RUNNING
    ended: float | None = None
    problems: tuple[Problem, ...] = ()
    text: str = ""
    over: asyncio.Event = field(default_factory=asyncio.Event)

    async def result(self) -> Any:
        """What it gave; it goes on where whoever waits here is cancelled.

        :raises SafekitError: what ended it.
        """
        return await asyncio.shield(self.future)


class Operations:
    """Those of one agent."""

    def __init__(self) -> None:
        self._mark, self._numbers = secrets.token_hex(3), itertools.count(1)
        self._all: OrderedDict[str, Operation] = OrderedDict()

    def begin(self, module: str, command: str, user: str, future: asyncio.Future[Any]) -> Operation:
        """Keep one from now on."""
        ident = f"{self._mark}-{next(self._numbers)}"
        made = Operation(ident, module, command, user, wall(), future)
        self._all[ident] = made
        future.add_done_callback(lambda ended: _end(made, ended))
        over = [each.ident for each in self._all.values() if each.ended is not None]
        for old in over[: max(0, len(self._all) - KEPT)]:
            del self._all[old]
        return made

    def carry_out(
        self, module: str, command: str, user: str, work: Callable[[], Coroutine[Any, Any, Any]]
    ) -> Operation:
        """Begin something in a task of its own, and keep it.

        :raises StateError: too much goes on already; nothing was begun.
        """
        if sum(each.ended is None for each in self._all.values()) >= MOST:
            raise StateError(Problem("operation.too-many", f"{MOST} commands go on already", "ask again later"))
        return self.begin(module, command, user, asyncio.create_task(work()))

    def find(self, ident: str) -> Operation:
        """The one of this id.

        :raises NotFoundError: it is not known, or not any more.
        """
        if ident not in self._all:
            text = f"there is no operation {ident[:64]}, or it is too long ago"
            raise NotFoundError(Problem("operation.unknown", text, "safekit-py cmdlog has older commands"))
        return self._all[ident]

    def last(self) -> list[Operation]:
        """All that are kept, the oldest first."""
        return list(self._all.values())


def _end(made: Operation, ended: asyncio.Future[Any]) -> None:
    made.ended = wall()
    if ended.cancelled():
        made.state = GIVEN_UP
    elif (error := ended.exception()) is None:
        made.state = DONE
        result = ended.result()
        made.text = str(result.get("text", "") if isinstance(result, dict) else getattr(result, "text", ""))
    else:
        made.state = FAILED
        known = error.problems if isinstance(error, SafekitError) else ()
        made.problems = known or (Problem("operation.failed", f"the command failed: {error}", "see the module's log"),)
    made.over.set()
