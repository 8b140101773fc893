"""``connections="on"``: how many connections an address has, as the resource ``connections.<address>``.

Looked at while the application runs. No action follows by itself; a rule of ``<failover>`` may name it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from safekit_py.api import ModuleContext, Status

from . import connections
from .model import Ip, Vip

PERIOD = 10.0  # seconds
SLACK = 30.0  # seconds that a busy machine may add before the checker counts as hanging


class ConnectionCount:
    """Counts the established connections of one address."""

    when, action = "both", "noaction"
    quiet = True
    limit = PERIOD + SLACK

    def __init__(self, address: Ip) -> None:
        self.config = self._address = address
        self.resource = f"connections.{address}"

    async def run(self, report: Callable[[str, str], None]) -> None:
        """Report the number now and then."""
        while True:
            try:
                count = await asyncio.to_thread(self._count)
                report(str(count), f"established connections of {self._address}")
            except OSError as error:
                report(Status.UNKNOWN, f"the kernel does not tell: {error.strerror or error}")
            await asyncio.sleep(PERIOD)

    def _count(self) -> int:
        return sum(
            row.local == self._address for row in connections.held([self._address], 1 << connections.ESTABLISHED)
        )


def counted(context: ModuleContext) -> Iterable[ConnectionCount]:
    """One for each virtual address with ``connections="on"``."""
    vip: Vip = context.config.one("vip") or Vip()
    return [ConnectionCount(a.addr) for i in vip.interfaces for a in i.addresses if a.connections]
