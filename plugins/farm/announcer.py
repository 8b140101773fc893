"""Tells clients which server to send to after a change of owners (``arpreroute="on"``).

When a server has gone, one survivor tells everybody by broadcast, so that no client goes on sending to the dead; then
each survivor tells by unicast the clients it has seen ask for the address and whose bucket it owns, so that they spread
over the servers again. The unicasts are repeated every ``arpinterval`` for ``arpelapse``, for clients that were off.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from safekit_py.api import Severity

from ..checkers.netlink import Network
from ..checkers.network import read
from ..vip.model import Interface, Ip
from . import announce
from .placing import Device

SPREAD_AFTER = 0.05  # seconds between the broadcast and the unicasts that spread the clients again


@dataclass(frozen=True, slots=True)
class Client:
    """Who has asked for the MAC of a virtual address: a client, or the router of clients on other networks."""

    addr: Ip
    mac: bytes


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

    :param mine: the known clients whose ARP bucket this server owns now.
    """

    def __init__(
        self,
        places: Sequence[tuple[Interface, Device]],
        mine: Callable[[], list[Client]],
        log: Callable[[Severity, str], None],
    ) -> None:
        self._all = tuple(places)
        self._places = [(i, d) for i, d in places if i.arpreroute]
        self._mine, self._log = mine, log
        self._task: asyncio.Task[None] | None = None

    def changed(self, change: Change) -> None:
        """A view was installed. Joins need no announcement: whoever gets a frame sends it on to its owner."""
        if change.first and change.speaks:
            # For those who know another MAC from an earlier time.
            self._broadcast([each for each in self._all if each[0].vmac or each[0].arpreroute])
        if not self._places or not change.lost:
            return
        if change.speaks:
            self._broadcast(self._places)
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
            self._spread()
            await asyncio.sleep(max(interval, SPREAD_AFTER))

    def _broadcast(self, places: Sequence[tuple[Interface, Device]]) -> None:
        for interface, device in places:
            for address in interface.addresses:
                self._tell(interface, device, address.addr, [], broadcast=True)

    def _spread(self) -> None:
        clients = self._mine()
        networks = self._networks()
        for interface, device in self._places:
            there = [each for each in clients if is_on(each.addr, networks.get(device.index, ()))]
            for address in interface.addresses:
                macs = dict.fromkeys(each.mac for each in there if each.addr.version == address.addr.version)
                self._tell(interface, device, address.addr, list(macs), broadcast=False)

    def _networks(self) -> dict[int, list[Network]]:
        found: dict[int, list[Network]] = {}
        try:
            for each in read().addresses.values():
                if each.prefix < each.ip.max_prefixlen:
                    found.setdefault(each.index, []).append(each.network)
        except OSError as error:
            self._log(Severity.WARNING, f"no client could be told of the change: {error}")
        return found

    def _tell(self, interface: Interface, device: Device, addr: Ip, macs: list[bytes], *, broadcast: bool) -> None:
        told = announce.Told(device.name, addr, interface.vmac or device.mac, device.mac)
        try:
            announce.announce(told, macs, broadcast=broadcast)
        except OSError as error:
            self._log(Severity.WARNING, f"{addr} could not be announced on {device.name}: {error.strerror}")


def is_on(addr: Ip, networks: Iterable[Network]) -> bool:
    """Whether a client that asked for a MAC can be on a device in these networks; a link-local one can be on any."""
    return addr.is_link_local or any(addr in each for each in networks)
