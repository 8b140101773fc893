"""What the kernel says about network devices and addresses, as values: netlink messages in, a table out. No I/O.

Invariants, held by tests/unit/plugins/checkers/test_netlink.py:

- whatever bytes come in, parsing ends, and a message that cannot be read changes nothing;
- after the same messages the table is the same, however they were cut into datagrams.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Ip = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

HEADER = struct.Struct("=IHHII")
ATTRIBUTE = struct.Struct("=HH")
LINK = struct.Struct("=BxHiII")  # ifinfomsg: family, type, index, flags, change
ADDRESS = struct.Struct("=BBBBI")  # ifaddrmsg: family, prefix length, flags, scope, index
NEIGHBOUR = struct.Struct("=BxxxiHBB")  # ndmsg: family, index, state, flags, type

ERROR, DONE = 2, 3
NEW_LINK, DEL_LINK, GET_LINK = 16, 17, 18
NEW_ADDR, DEL_ADDR, GET_ADDR = 20, 21, 22
NEW_NEIGH, GET_NEIGH = 28, 30
REQUEST, DUMP, INTERRUPTED = 0x1, 0x300, 0x10  # flags of a message
GROUPS = 0x1 | 0x10 | 0x100  # links, IPv4 and IPv6 addresses
IFLA_ADDRESS, IFLA_IFNAME = 1, 3
IFA_ADDRESS, IFA_LOCAL, IFA_FLAGS = 1, 2, 8
NDA_DST, NDA_LLADDR = 1, 2
KIND = 0x3FFF  # of an attribute's type; the other bits say how it is encoded
IFF_UP, IFF_LOOPBACK, IFF_RUNNING, IFF_NOARP = 0x1, 0x8, 0x40, 0x80
DAD_FAILED = 0x08
MAC = 6  # bytes


@dataclass(frozen=True, slots=True)
class Link:
    """A network device.

    :param up: the administrator has not set it down.
    :param running: it has a carrier.
    :param asks: neighbours are found by ARP or neighbour discovery there.
    """

    index: int
    name: str
    up: bool
    running: bool
    asks: bool
    mac: bytes


@dataclass(frozen=True, slots=True)
class Address:
    """An address on a device.

    :param duplicate: the kernel itself found another machine with it (IPv6).
    """

    index: int
    ip: Ip
    prefix: int
    duplicate: bool = False

    @property
    def network(self) -> Network:
        """The network that it is in."""
        return ip_network((self.ip, self.prefix), strict=False)


@dataclass(frozen=True, slots=True)
class Message:
    """One netlink message: its type, flags, and what follows the header."""

    type: int
    flags: int
    body: bytes


def request(kind: int, size: int) -> bytes:
    """Ask for all there is of a kind.

    :param kind: ``GET_LINK``, ``GET_ADDR`` or ``GET_NEIGH``.
    :param size: bytes of the kind's own header, sent as zeros: of every family and device.
    """
    return HEADER.pack(HEADER.size + size, kind, REQUEST | DUMP, 1, 0) + bytes(size)


def messages(data: bytes) -> Iterator[Message]:
    """The messages of one datagram; what is cut off or lies about its length ends them."""
    at = 0
    while at + HEADER.size <= len(data):
        length, kind, flags, _, _ = HEADER.unpack_from(data, at)
        if length < HEADER.size or at + length > len(data):
            return
        yield Message(kind, flags, data[at + HEADER.size : at + length])
        at += (length + 3) & ~3


def attributes(body: bytes, at: int) -> dict[int, bytes]:
    """The attributes that follow a kind's own header."""
    found: dict[int, bytes] = {}
    while at + ATTRIBUTE.size <= len(body):
        length, kind = ATTRIBUTE.unpack_from(body, at)
        if length < ATTRIBUTE.size or at + length > len(body):
            break
        found[kind & KIND] = body[at + ATTRIBUTE.size : at + length]
        at += (length + 3) & ~3
    return found


def link_of(body: bytes) -> Link | None:
    """A device out of a message about it; None when it is about something else, as a port of a bridge."""
    if len(body) < LINK.size:
        return None
    family, _, index, flags, _ = LINK.unpack_from(body)
    if family != socket.AF_UNSPEC:
        return None
    more = attributes(body, LINK.size)
    name = more.get(IFLA_IFNAME, b"").rstrip(b"\0").decode(errors="replace")
    asks = not flags & (IFF_LOOPBACK | IFF_NOARP)
    return Link(index, name, bool(flags & IFF_UP), bool(flags & IFF_RUNNING), asks, more.get(IFLA_ADDRESS, b""))


def address_of(body: bytes) -> Address | None:
    """An address out of a message about it; None when it is of neither family."""
    if len(body) < ADDRESS.size:
        return None
    family, prefix, flags, _, index = ADDRESS.unpack_from(body)
    more = attributes(body, ADDRESS.size)
    raw = more.get(IFA_LOCAL) or more.get(IFA_ADDRESS) or b""
    if (family, len(raw)) not in {(socket.AF_INET, 4), (socket.AF_INET6, 16)} or prefix > len(raw) * 8:
        return None
    if len(more.get(IFA_FLAGS, b"")) == 4:
        flags = struct.unpack("=I", more[IFA_FLAGS])[0]
    return Address(index, ip_address(raw), prefix, bool(flags & DAD_FAILED))


def neighbour_of(body: bytes) -> tuple[Ip, bytes] | None:
    """Address and MAC of a neighbour out of a message about it; None when its MAC is not known."""
    if len(body) < NEIGHBOUR.size:
        return None
    more = attributes(body, NEIGHBOUR.size)
    raw, mac = more.get(NDA_DST, b""), more.get(NDA_LLADDR, b"")
    return (ip_address(raw), mac) if len(raw) in {4, 16} and len(mac) == MAC and any(mac) else None


@dataclass(slots=True)
class Table:
    """Devices by index, and addresses by device and address."""

    links: dict[int, Link] = field(default_factory=dict)
    addresses: dict[tuple[int, Ip, int], Address] = field(default_factory=dict)

    def take(self, message: Message) -> None:
        """Change the table as a message says."""
        if message.type in (NEW_LINK, DEL_LINK) and (link := link_of(message.body)) is not None:
            self.links.pop(link.index, None)
            if message.type == NEW_LINK:
                self.links[link.index] = link
            else:
                self.addresses = {key: each for key, each in self.addresses.items() if key[0] != link.index}
        elif message.type in (NEW_ADDR, DEL_ADDR) and (address := address_of(message.body)) is not None:
            key = (address.index, address.ip, address.prefix)
            self.addresses.pop(key, None)
            if message.type == NEW_ADDR:
                self.addresses[key] = address

    def named(self, name: str) -> Link | None:
        """The device of that name."""
        return next((each for each in self.links.values() if each.name == name), None)

    def holder(self, ip: Ip) -> Address | None:
        """Where an address stands; one that the kernel calls a duplicate comes last."""
        found = [each for each in self.addresses.values() if each.ip == ip]
        return min(found, key=lambda each: each.duplicate, default=None)

    def around(self, ip: Ip) -> Address | None:
        """The address, not ``ip`` itself, whose network is the most particular one that contains it."""
        found = [a for a in self.addresses.values() if a.ip != ip and a.prefix < a.ip.max_prefixlen and ip in a.network]
        return max(found, key=lambda each: each.prefix, default=None)

    def macs(self) -> frozenset[bytes]:
        """The MAC addresses of all devices."""
        return frozenset(each.mac for each in self.links.values() if len(each.mac) == MAC and any(each.mac))
