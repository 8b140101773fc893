"""The TCP connections of virtual addresses, as the kernel tells and ends them (netlink, SOCK_DIAG).

Flows through it: addresses and states in; one ``Row`` for each socket out, from both the IPv4 and the IPv6 side (a
dual-stack application holds its IPv4 clients in IPv6 sockets). The kernel itself leaves out what is about other
addresses, so that a look costs only what it finds. All of it blocks: call it in a thread. It sees the network namespace
of the thread that calls it.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from itertools import islice
from typing import NamedTuple

from .model import Ip

SOCK_DIAG, TCP_DIAG, DESTROY = 4, 20, 21  # NETLINK_SOCK_DIAG; kinds of a message
ERROR, DONE = 2, 3
REQUEST, ACK, DUMP = 0x1, 0x4, 0x300  # flags of a message
HEADER = struct.Struct("=IHHII")  # length, kind, flags, sequence, port
ASKED = struct.Struct("=BBBxI")  # family, protocol, extensions, states; an identity follows
IDENTITY = 48  # bytes: ports, addresses, device, cookie
TOLD = struct.Struct("=BB2x48s16xI")  # family, state, identity, (times, queues, user), inode
BYTECODE = 1  # attribute of a question
OP, CONDITION = struct.Struct("=BBH"), struct.Struct("=BBxxi")
JUMP, LOCAL = 1, 7  # operations of that code: go on elsewhere; compare the local address
TIMEOUT = 5.0  # seconds without a word of the kernel
CHUNK = 1 << 17  # bytes read at once
BATCH = 64  # sockets ended with one call of the kernel

ESTABLISHED, FIN_WAIT1, FIN_WAIT2, TIME_WAIT, CLOSE, LAST_ACK, LISTEN, CLOSING = 1, 4, 5, 6, 7, 9, 10, 11
_ALL = (1 << 13) - 2  # the states 1 to 12; 12 is a handshake that is half done
HELD = _ALL & ~(1 << CLOSE | 1 << LISTEN)
"""Every state in which the kernel knows a connection."""
LIVING = HELD & ~(1 << TIME_WAIT)
"""Those in which something may still be said."""
LEAVING = 1 << FIN_WAIT1 | 1 << CLOSING | 1 << LAST_ACK
"""The application is done with it, and its last words are on their way."""


class Row(NamedTuple):
    """One socket.

    :param family: of the socket, which may be IPv6 while its client speaks IPv4.
    :param state: as above; a handshake that is half done shows as 3.
    :param identity: the kernel's name of it.
    :param inode: 0 when no process holds it any more.
    """

    family: int
    state: int
    identity: bytes
    inode: int

    @property
    def local(self) -> Ip:
        """The address of this server."""
        return self._address(4)

    @property
    def port(self) -> int:
        """The port of this server."""
        return int.from_bytes(self.identity[0:2], "big")

    @property
    def client(self) -> Ip:
        """The other side's address."""
        return self._address(20)

    @property
    def client_port(self) -> int:
        """The other side's port."""
        return int.from_bytes(self.identity[2:4], "big")

    @property
    def end(self) -> bytes:
        """This server's end, address and port, as the kernel writes them."""
        return self.identity[0:2] + self.identity[4:20]

    @property
    def peer(self) -> bytes:
        """The other side's address as the kernel writes it, one of ``forms``."""
        return self.identity[20:36]

    @property
    def alive(self) -> bool:
        """Whether its application may still use it: one that nobody holds and that only waits for the client's FIN."""
        return self.state != FIN_WAIT2 or self.inode != 0

    def _address(self, at: int) -> Ip:
        if self.family == socket.AF_INET:
            return IPv4Address(self.identity[at : at + 4])
        found = IPv6Address(self.identity[at : at + 16])
        return found.ipv4_mapped or found


@dataclass(frozen=True, slots=True)
class Ended:
    """What came of an attempt to end sockets.

    :param count: how many were ended.
    :param refused: the kernel's error for the others, 0 when there are none.
    """

    count: int = 0
    refused: int = 0


def forms(address: Ip) -> tuple[bytes, ...]:
    """An address as the kernel writes it in sockets: of IPv4 in those of its own family and in those of IPv6."""
    if address.version == 6:
        return (address.packed,)
    return address.packed.ljust(16, b"\0"), bytes(10) + b"\xff\xff" + address.packed


def condition(addresses: Collection[Ip]) -> bytes:
    """The kernel's code for: the local address is one of these; at least one."""
    parts = []
    for address in addresses:
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        parts.append(CONDITION.pack(family, address.max_prefixlen, -1) + address.packed)
    code = b""
    for part in reversed(parts):
        size = OP.size + len(part)
        # A jump goes to the end, which means yes; four bytes beyond it means no.
        jump = OP.pack(JUMP, OP.size, OP.size + len(code)) if code else b""
        code = OP.pack(LOCAL, size, size + OP.size) + part + jump + code
    return code


def question(family: int, states: int, code: bytes) -> bytes:
    """A request for all sockets of a family in some states, of those for which the code says yes."""
    body = ASKED.pack(family, socket.IPPROTO_TCP, 0, states) + bytes(IDENTITY)
    body += struct.pack("=HH", 4 + len(code), BYTECODE) + code
    return HEADER.pack(HEADER.size + len(body), TCP_DIAG, REQUEST | DUMP, 1, 0) + body


def rows(data: bytes) -> Iterator[Row | None]:
    """The sockets that one answer of the kernel names; None where it says that there are no more.

    :raises OSError: it names an error, or is no such answer.
    """
    at = 0
    while at < len(data):
        if len(data) - at < HEADER.size:
            raise _strange()
        length, kind, *_ = HEADER.unpack_from(data, at)
        if length < HEADER.size or length > len(data) - at:
            raise _strange()
        if kind in (DONE, ERROR):
            code = _code(data, at, length)
            if code:
                raise OSError(code, os.strerror(code))
            yield None
        elif kind == TCP_DIAG:
            if length < HEADER.size + TOLD.size:
                raise _strange()
            yield Row._make(TOLD.unpack_from(data, at + HEADER.size))
        at += length + 3 & ~3


def held(addresses: Collection[Ip], states: int = HELD) -> Iterator[Row]:
    """The sockets of these local addresses; it may be left before its end.

    :raises OSError: the kernel does not tell.
    """
    old = [address for address in addresses if address.version == 4]
    for family, wanted in ((socket.AF_INET, old), (socket.AF_INET6, addresses)):
        if wanted:
            with _asking() as asking:
                asking.send(question(family, states, condition(wanted)))
                yield from _answers(asking)


def end(found: Iterable[Row]) -> Ended:
    """End sockets, so that each client gets a reset. One that has gone by itself is fine.

    :raises OSError: the kernel does not answer.
    """
    count = refused = 0
    remaining = iter(found)
    with _asking() as asking:
        while batch := list(islice(remaining, BATCH)):
            orders = [ASKED.pack(row.family, socket.IPPROTO_TCP, 0, HELD) + row.identity for row in batch]
            head = HEADER.pack(HEADER.size + len(orders[0]), DESTROY, REQUEST | ACK, 1, 0)
            asking.send(b"".join(head + order for order in orders))
            for code in islice(_codes(asking), len(batch)):
                count += not code
                refused = code if code not in (0, errno.ENOENT) else refused
    return Ended(count, refused)


def _asking() -> socket.socket:
    found = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, SOCK_DIAG)
    found.settimeout(TIMEOUT)
    return found


def _answers(asking: socket.socket) -> Iterator[Row]:
    while True:
        for row in rows(asking.recv(CHUNK)):
            if row is None:
                return
            yield row


def _codes(asking: socket.socket) -> Iterator[int]:
    """The kernel's answers to orders, one by one: 0 or an error."""
    while True:
        data, at = asking.recv(CHUNK), 0
        while at < len(data):
            length, kind, *_ = HEADER.unpack_from(data, at)
            if kind != ERROR or length < HEADER.size + 4:
                raise _strange()
            yield _code(data, at, length)
            at += length + 3 & ~3


def _code(data: bytes, at: int, length: int) -> int:
    if length < HEADER.size + 4:
        raise _strange()
    return -int(struct.unpack_from("=i", data, at + HEADER.size)[0])


def _strange() -> OSError:
    return OSError(errno.EPROTO, "netlink: an unexpected answer")
