"""What one farm module holds of its clients' connections: counted, waited for, ended.

Flows through it: views that come into force, in; to the group the word that this server holds nothing but what is its
own any more ("settled"), to a drain how many connections are left, to the kernel which sockets are to end.

A server that a view names as a holder counts its sockets until it finds none outside of its own buckets. The word is
about the view that was in force before it counted: since then a SYN of a foreign bucket has not come in, so what it
did not find cannot come back.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Collection, Iterator, Sequence

from safekit_py.api import Severity, View

from ..vip import connections
from ..vip.connections import HELD, LEAVING, LIVING, Ended, Row
from ..vip.model import Ip
from .hashing import bucket_of
from .layout import KernelRule

LOOK = 2.0  # seconds between two counts
SHARE = 20  # times as long as a count took, at least, until the next one
IN_FORCE = 1.0  # seconds that owners are the same before it counts: what they had let in has a socket then
LOOKS = 2  # counts in a row that find nothing: the kernel's list may miss a socket while others come and go
DRAIN_LOOK = 0.5  # seconds between two counts while clients are waited for
LAST_WORDS = 2.0  # seconds that answers which are on their way are given before connections are reset
LAST_LOOKS = 20  # in that time
KNOWN = 4096  # ends of this server whose rule is remembered: there are few, and very many connections

Count = Callable[[int], Iterator[Row]]


class Places:
    """Which bucket a connection is in.

    :param addresses: the virtual ones.
    :param rules: of the module; the first that covers a connection decides.
    """

    def __init__(self, addresses: Collection[Ip], rules: Sequence[KernelRule], seed: int) -> None:
        self._seed = seed
        self._rules = [rule for rule in rules if rule.proto == "tcp"]
        self._own = frozenset(form for address in addresses for form in connections.forms(address))
        self._known: dict[tuple[int, bytes], KernelRule | None] = {}  # of an end of this server

    def rule(self, row: Row) -> KernelRule | None:
        """The rule that lets the connection's packets in; None: no packets of it come from outside."""
        if row.peer in self._own:  # a connection of this server with itself
            return None
        end = row.family, row.end
        if end not in self._known:
            if len(self._known) >= KNOWN:
                self._known.clear()
            local, port = row.local, row.port
            found = (each for each in self._rules if each.addr in (None, local) and each.port in (0, port))
            self._known[end] = next(found, None)
        return self._known[end]

    def is_foreign(self, row: Row, tables: Sequence[bytes], me: int) -> bool:
        """Whether packets of the connection come only because this server holds it.

        :param tables: of each group the owner of each bucket, one byte each.
        """
        rule = self.rule(row)
        if rule is None:
            return False
        if rule.filter == "on_ipid":  # each packet may be in another bucket
            return True
        other = row.client_port if rule.filter == "on_port" else None
        return tables[rule.group][bucket_of(row.client, self._seed, other)] != me


class Holding:
    """Of one module, from its preparation to its release.

    :param settled: tells the group; the epoch of a view.
    :param count: lists the sockets of the virtual addresses that are in some states, as ``connections.held``.
    """

    def __init__(
        self,
        places: Places,
        me: int,
        settled: Callable[[int], None],
        log: Callable[[Severity, str], None],
        count: Count,
    ) -> None:
        self._places, self._me, self._settled, self._log, self._count = places, me, settled, log, count
        self._view: View | None = None
        self._since = 0.0
        self._told = 0
        self._complained = False
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Look from now on."""
        self._task = asyncio.create_task(self._run(), name="holding")

    async def finish(self) -> None:
        """Look no more; harmless when it does not."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def seen(self, view: View, *, owning: bool) -> None:
        """This view is in force; ``owning``: and this server has its part in it."""
        before = self._view
        if before is None or not owning or view.tables != before.tables:
            self._since = time.monotonic()
        self._view = view if owning else None

    async def _run(self) -> None:
        empty, pause = 0, LOOK
        while True:
            await asyncio.sleep(pause)
            view, since = self._view, self._since
            pause = LOOK
            if view is None or self._me not in view.holders() or view.number.epoch == self._told:
                empty = 0
                continue
            if time.monotonic() - since < IN_FORCE:
                continue
            began = time.monotonic()
            foreign = await asyncio.to_thread(self._any_foreign, view)
            empty = 0 if foreign or since != self._since else empty + 1
            if empty >= LOOKS:
                self._told = view.number.epoch
                self._settled(view.number.epoch)
                empty = 0
            pause = max(0.1 if empty else LOOK, SHARE * (time.monotonic() - began))

    def _any_foreign(self, view: View) -> bool:
        """Whether this server holds a connection outside of its buckets; where the kernel does not tell, it may."""
        tables = [table.expand() for table in view.tables]
        try:
            return any(self._places.is_foreign(row, tables, self._me) for row in self._count(HELD))
        except OSError as error:
            self._complain("counted", error)
            return True

    # --- for a stop -----------------------------------------------------------------------------

    async def left(self, tell: Callable[[int], None]) -> None:
        """Return when the last connection has ended.

        :param tell: is told each count.
        """
        empty = 0
        while True:
            began = time.monotonic()
            count = await asyncio.to_thread(self._living)
            empty = 0 if count else empty + 1
            if empty >= LOOKS:
                return
            tell(count)
            await asyncio.sleep(max(DRAIN_LOOK, SHARE * (time.monotonic() - began)))

    def _living(self) -> int:
        """How many connections an application may still use.

        :raises OSError: the kernel does not tell.
        """
        return sum(row.alive and self._places.rule(row) is not None for row in self._count(LIVING))

    async def reset(self) -> None:
        """End what is still there, so that the clients learn it; what an application has said last may arrive first."""
        try:
            for _ in range(LAST_LOOKS):
                if not await asyncio.to_thread(self._any_leaving):
                    break
                await asyncio.sleep(LAST_WORDS / LAST_LOOKS)
            ended = await asyncio.to_thread(self._end)
        except OSError as error:
            self._complain("reset", error)
            return
        if ended.count:
            self._log(Severity.INFO, f"{ended.count} connections that were left are reset")
        if ended.refused:
            self._complain("reset", OSError(ended.refused, os.strerror(ended.refused)))

    def _any_leaving(self) -> bool:
        return next(self._count(LEAVING), None) is not None

    def _end(self) -> Ended:
        return connections.end(list(self._count(LIVING)))

    def _complain(self, what: str, error: OSError) -> None:
        if not self._complained:
            self._complained = True
            self._log(Severity.WARNING, f"connections cannot be {what}: {error.strerror or error}")
