"""Tells clients which server to send to after a change of owners (``arpreroute="on"``).

When a server has gone, one survivor tells everybody by broadcast, so that no client goes on sending to the dead; then
each survivor tells by unicast the clients it has seen ask for the address and whose bucket it owns, so that they spread
over the servers again. The unicasts are repeated every ``arpinterval`` for ``arpelapse``, for clients that were off.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from safekit_py.api import Severity

from ..vip.model import Interface
from . import announce
from .placing import Device

SPREAD_AFTER = 0.05  # seconds between the broadcast and the unicasts that spread the clients again


@dataclass(frozen=True, slots=True)
class Change:
    """What a new view means for the announcements.

    :param first: nobody had buckets of the ARP group, somebody has now.
    :param lost: a server that had buckets of the ARP group has none now.
    :param speaks: this server is the one that tells everybody.
    """

    first: bool
    lost: bool
    speaks: bool


class Announcer:
    """The announcements of one module.

    :param mine: MAC addresses of the known clients whose ARP bucket this server owns now.
    """

    def __init__(
        self,
        places: Sequence[tuple[Interface, Device]],
        mine: Callable[[], list[bytes]],
        log: Callable[[Severity, str], None],
    ) -> None:
        self._places = [(i, d) for i, d in places if i.arpreroute]
        self._invisible = [(i, d) for i, d in places if i.vmac]
        self._mine, self._log = mine, log
        self._task: asyncio.Task[None] | None = None

    def changed(self, change: Change) -> None:
        """A view was installed. Joins need no announcement: whoever gets a frame sends it on to its owner."""
        if change.first and change.speaks:
            # The virtual MAC stays for good: this is for those who know another one from before.
            self._send(self._invisible, [], broadcast=True)
        if not self._places or not change.lost:
            return
        if change.speaks:
            self._send(self._places, [], broadcast=True)
        self.stop()
        self._task = asyncio.create_task(self._repeat())

    def stop(self) -> None:
        """Say nothing more."""
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _repeat(self) -> None:
        clock = asyncio.get_running_loop().time
        interval = min(i.arpinterval for i, _ in self._places)
        end = clock() + max(i.arpelapse for i, _ in self._places)
        await asyncio.sleep(SPREAD_AFTER)
        while clock() < end:
            self._send(self._places, self._mine(), broadcast=False)
            await asyncio.sleep(max(interval, SPREAD_AFTER))

    def _send(self, places: Sequence[tuple[Interface, Device]], clients: list[bytes], *, broadcast: bool) -> None:
        for interface, device in places:
            for address in interface.addresses:
                told = announce.Told(device.name, address.addr, interface.vmac or device.mac, device.mac)
                try:
                    announce.announce(told, clients, broadcast=broadcast)
                except OSError as error:
                    text = f"{address.addr} could not be announced on {device.name}: {error.strerror}"
                    self._log(Severity.WARNING, text)
