"""TCP connections of this server, as its kernel tells them: SOCK_DIAG messages (sock_diag(7)) out and in.

The farm asks which connections of its virtual addresses this server still holds: to know when nothing is left of a
bucket that has moved, how far a drain is, and whom to tell that the address goes.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

from .layout import Ip

SOCK_DIAG_BY_FAMILY, SOCK_DESTROY = 20, 21
NETLINK_SOCK_DIAG = 4
REQUEST, ACK, DUMP = 0x1, 0x4, 0x300  # flags of a message
ERROR, DONE = 2, 3
TCP = 6
LISTEN, CLOSE, TIME_WAIT = 10, 7, 6  # states of TCP
HELD = 0xFFF & ~(1 << LISTEN | 1 << CLOSE | 1 << TIME_WAIT) | 1 << 12  # 12: a half-open one
_HEADER = struct.Struct("=IHHII")
_REQUEST = struct.Struct("=BBBxI")  # family, protocol, what more is told, states
_SOCKET = struct.Struct("!HH16s16s4s8s")  # ports, addresses, device, cookie: inet_diag_sockid
_ANSWER = struct.Struct("=BBBB")  # family, state, timer, retransmissions
BUFFER = 1 << 17  # bytes of an answer


@dataclass(frozen=True, slots=True)
class Connection:
    """One connection: the client's end, this server's end, and the kernel's name for it."""

    client: Ip
    client_port: int
    vip: Ip
    port: int
    identity: bytes = b""


def parse(data: bytes) -> Iterator[Connection | OSError | None]:
    """The messages of one datagram: a connection, an error of the kernel, or None for the end of a dump."""
    at = 0
    while at + _HEADER.size <= len(data):
        length, kind, _, _, _ = _HEADER.unpack_from(data, at)
        if length < _HEADER.size or at + length > len(data):
            return
        body = data[at + _HEADER.size : at + length]
        at += (length + 3) & ~3
        if kind == DONE:
            yield None
        elif kind == ERROR and len(body) >= 4:
            (number,) = struct.unpack_from("=i", body)
            yield OSError(-number, os.strerror(-number)) if number else None
        elif kind == SOCK_DIAG_BY_FAMILY and len(body) >= _ANSWER.size + _SOCKET.size:
            family, *_ = _ANSWER.unpack_from(body)
            identity = body[_ANSWER.size : _ANSWER.size + _SOCKET.size]
            port, client_port, own, other, _, _ = _SOCKET.unpack(identity)
            if family == socket.AF_INET:
                yield Connection(IPv4Address(other[:4]), client_port, IPv4Address(own[:4]), port, identity)
            elif family == socket.AF_INET6:
                yield Connection(_plain(other), client_port, _plain(own), port, identity)


def _plain(packed: bytes) -> Ip:
    """An address of IPv4 is mapped into IPv6 where the socket is one of IPv6."""
    address = IPv6Address(packed)
    return address.ipv4_mapped or ip_address(address)


def held(vips: Collection[Ip]) -> list[Connection]:
    """The connections of these addresses in this network namespace, half-open ones too, those in TIME_WAIT not.

    :raises OSError: the kernel does not tell.
    """
    wanted = frozenset(vips)
    found = []
    with _open() as link:
        for family in (socket.AF_INET, socket.AF_INET6):
            body = _REQUEST.pack(family, TCP, 0, HELD) + bytes(_SOCKET.size)
            link.send(_HEADER.pack(_HEADER.size + len(body), SOCK_DIAG_BY_FAMILY, REQUEST | DUMP, 1, 0) + body)
            ended = False
            while not ended:
                for each in parse(link.recv(BUFFER)):
                    if isinstance(each, OSError):
                        raise each
                    if each is None:
                        ended = True
                    elif each.vip in wanted:
                        found.append(each)
    return found


def reset(connections: Collection[Connection]) -> int:
    """End connections with a reset to the client.

    :returns: how many were ended; those that have ended by themselves meanwhile do not count.
    :raises OSError: the kernel cannot or may not (CONFIG_INET_DIAG_DESTROY, CAP_NET_ADMIN).
    """
    ended = 0
    with _open() as link:
        for each in connections:
            # A socket of IPv6 may hold a connection of IPv4.
            mapped = len(each.identity) and any(each.identity[8:20])
            family = socket.AF_INET6 if each.vip.version == 6 or mapped else socket.AF_INET
            body = _REQUEST.pack(family, TCP, 0, HELD) + each.identity
            link.send(_HEADER.pack(_HEADER.size + len(body), SOCK_DESTROY, REQUEST | ACK, 1, 0) + body)
            for answer in parse(link.recv(BUFFER)):
                if answer is None:
                    ended += 1
                elif isinstance(answer, OSError) and answer.errno != errno.ENOENT:
                    raise answer
    return ended


def _open() -> socket.socket:
    link = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_SOCK_DIAG)
    link.settimeout(10)
    link.bind((0, 0))
    return link
