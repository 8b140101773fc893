"""What connections this server still holds for its virtual addresses, looked at again and again while a farm runs.

Flows through it: the view in force in; the word that nothing is held outside this server's own buckets, the resources
``connections.<address>`` and the number that a drain waits for, out.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from safekit_py.api import ModuleContext, Severity, View

from ..vip.model import Vip
from . import connections
from .connections import Connection
from .hashing import bucket_of
from .layout import Ip, KernelRule

EVERY = 2.0  # seconds
RESOURCES_EVERY = 10.0  # seconds, as SafeKit does


def place_of(connection: Connection, rules: Sequence[KernelRule], seed: int) -> tuple[int, int] | None:
    """Group and bucket of a connection; None when no rule keeps its packets together."""
    for rule in rules:
        if rule.proto == "tcp" and rule.addr in {None, connection.vip} and rule.port in {0, connection.port}:
            if rule.filter == "on_ipid":
                return None
            other = connection.client_port if rule.filter == "on_port" else None
            return rule.group, bucket_of(connection.client, seed, other)
    return None


def foreign(
    held: Iterable[Connection], view: View, me: int, rules: Sequence[KernelRule], seed: int
) -> Iterable[Connection]:
    """Those of the connections whose bucket another server owns."""
    tables = [table.expand() for table in view.tables]
    for each in held:
        place = place_of(each, rules, seed)
        if place is not None and place[0] < len(tables) and tables[place[0]][place[1]] != me:
            yield each


class Holding:
    """Looks at the connections of one module.

    :param view: the view in force, or None.
    :param settled: called with a view's epoch: nothing was held outside this server's buckets after its installation.
    """

    def __init__(
        self,
        context: ModuleContext,
        me: int,
        seed: int,
        rules: Sequence[KernelRule],
        view: Callable[[], View | None],
        settled: Callable[[int], None],
    ) -> None:
        vip: Vip = context.config.one("vip") or Vip()
        self._vips = frozenset(address.addr for i in vip.interfaces for address in i.addresses)
        self._shown = [a.addr for i in vip.interfaces for a in i.addresses if a.connections]
        self._context, self._me, self._seed, self._rules = context, me, seed, rules
        self._view, self._settled = view, settled
        self._task: asyncio.Task[None] | None = None
        self._refused = False

    def start(self) -> None:
        """Look from now on."""
        self._task = asyncio.create_task(self._run())

    def stop(self) -> None:
        """Look no more."""
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def count(self) -> int:
        """How many connections this server holds now."""
        return len(await asyncio.to_thread(connections.held, self._vips))

    async def reset(self) -> int:
        """End all connections with a reset to their clients; how many."""
        return await asyncio.to_thread(lambda: connections.reset(connections.held(self._vips)))

    async def _run(self) -> None:
        clock = asyncio.get_running_loop().time
        shown = 0.0
        while True:
            await asyncio.sleep(EVERY)
            show = bool(self._shown) and clock() - shown >= RESOURCES_EVERY
            view = self._view()
            holds = view is not None and self._me in view.holders()
            if not show and not holds:
                continue
            try:
                held = await asyncio.to_thread(connections.held, self._vips)
            except OSError as error:
                self._refuse(error)
                continue
            if show:
                shown = clock()
                self._show(held)
            current = view is not None and holds and self._view() is view
            if view is not None and current and not await asyncio.to_thread(self._has_foreign, held, view):
                self._settled(view.number.epoch)

    def _has_foreign(self, held: Sequence[Connection], view: View) -> bool:
        return any(True for _ in foreign(held, view, self._me, self._rules, self._seed))

    def _show(self, held: Sequence[Connection]) -> None:
        counts: Counter[Ip] = Counter(each.vip for each in held)
        for address in self._shown:
            self._context.set_resource(f"connections.{address}", str(counts[address]), "established connections")

    def _refuse(self, error: OSError) -> None:
        if not self._refused:
            self._refused = True
            text = f"the kernel does not tell its connections ({error.strerror}): moved buckets stay marked as moved"
            self._context.log(Severity.WARNING, text)
