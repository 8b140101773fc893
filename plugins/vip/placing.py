"""Virtual addresses of one server at a time, on devices: what is to stand where, put there and taken away again.

By rtnetlink from this process: a failover must not wait for the start of another one. What is put on a device is
written down first, in ``placed.json`` of the module, so that any crash's leftovers are found and removed. Everything
may be done twice.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from safekit_py.api import Problem, SystemProblem

from ..checkers.netlink import Ip, Link, Table
from ..checkers.network import read
from .model import ONE_SIDE, Interface
from .netlink_drop import NEW_ADDR, ask, attribute, drop, message

CREATE, REPLACE = 0x400, 0x100  # flags of a message
IFA_CACHEINFO, IFA_FLAGS = 6, 8
NODAD, NOPREFIXROUTE = 0x02, 0x200
FOREVER = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Placed:
    """One virtual address and where it is to stand.

    :param source: the server's own connections may come from it.
    :param routed: the device's own address makes the route to its network: this one must not add another, nor take
        it along later.
    """

    interface: Interface
    link: Link
    addr: Ip
    prefix: int
    source: bool
    routed: bool

    @property
    def text(self) -> str:
        """With its prefix length."""
        return f"{self.addr}/{self.prefix}"


def plan(interfaces: Iterable[Interface], table: Table | None = None) -> tuple[Placed, ...]:
    """Where the addresses are to stand.

    :raises SystemProblem: ``vip.no-device``: this server has none for them.
    """
    table = table or read()
    held = [each for each in interfaces if each.addresses]
    virtual = {address.addr for each in held for address in each.addresses}
    own = Table(table.links, {key: each for key, each in table.addresses.items() if each.ip not in virtual})
    found = []
    for interface in held:
        link = _device(own, interface)
        for address in interface.addresses:
            around = [
                each.prefix
                for each in own.addresses.values()
                if each.index == link.index and each.prefix < each.ip.max_prefixlen and address.addr in each.network
            ]
            prefix = address.netmask or max(around, default=address.addr.max_prefixlen)
            found.append(Placed(interface, link, address.addr, prefix, address.where == ONE_SIDE, prefix in around))
    return tuple(found)


def _device(own: Table, interface: Interface) -> Link:
    first = interface.addresses[0].addr
    remedy = 'give <interface name="…"> or a virtual address of one of its networks'
    if interface.name is not None:
        link = own.named(interface.name)
        if link is None:
            known = ", ".join(sorted(each.name for each in own.links.values()))
            text = f"this server has no network device {interface.name}; it has {known}"
            raise SystemProblem(Problem("vip.no-device", text, remedy))
        return link
    around = own.around(first)
    link = own.links.get(around.index) if around is not None else None
    if link is None:
        raise SystemProblem(Problem("vip.no-device", f"no network device is in the network of {first}", remedy))
    return link


def up(note: Path, places: Iterable[Placed]) -> None:
    """Put the addresses on their devices.

    :param note: the file that says what was put in place.
    :raises SystemProblem: ``vip.refused``: the kernel refused; :func:`down` removes what was put there before.
    """
    places = tuple(places)
    if not places:
        return
    _remember(note, [*_remembered(note), *((each.link.name, each.text) for each in places)])
    for each in places:
        try:
            _add(each)
        except OSError as error:
            text = f"{each.text} could not be put on {each.link.name}: {error.strerror or error}"
            remedy = "the agent needs CAP_NET_ADMIN; for IPv6, net.ipv6.conf.*.disable_ipv6 must be 0 there"
            raise SystemProblem(Problem("vip.refused", text, remedy)) from None


def _add(place: Placed) -> None:
    # No duplicate-address detection by the kernel: it would keep the address from being used for a second or more.
    flags = NODAD if place.addr.version == 6 else 0
    flags |= NOPREFIXROUTE if place.routed else 0
    more = attribute(IFA_FLAGS, struct.pack("=I", flags))
    if place.addr.version == 6 and not place.source:
        # Deprecated: connections are accepted, and none of this server's own chooses it as its source.
        more += attribute(IFA_CACHEINFO, struct.pack("=4I", 0, FOREVER, 0, 0))
    ask(NEW_ADDR, CREATE | REPLACE, message(place.link.index, place.text, flags & 0xFF, more))


def down(note: Path) -> bool:
    """Remove everything that :func:`up` put in place, now or in an earlier life; whether there was a note of it.

    :raises OSError: the kernel refuses; the note stays.
    """
    placed = _remembered(note)
    for device, address in placed:
        drop(device, address)
    note.unlink(missing_ok=True)
    return bool(placed)


def missing(places: Iterable[Placed]) -> tuple[str, ...]:
    """The addresses that are not on their devices now."""
    table = read()
    return tuple(str(each.addr) for each in places if (each.link.index, each.addr, each.prefix) not in table.addresses)


def _remembered(note: Path) -> list[tuple[str, str]]:
    try:
        return [(str(device), str(address)) for device, address in json.loads(note.read_text(encoding="utf-8"))]
    except (FileNotFoundError, ValueError, TypeError):
        return []


def _remember(note: Path, placed: list[tuple[str, str]]) -> None:
    note.parent.mkdir(parents=True, exist_ok=True)
    staged = note.with_name(f"{note.name}.{os.getpid()}")
    staged.write_text(json.dumps(list(dict.fromkeys(placed))), encoding="utf-8")
    staged.replace(note)
