"""Takes one address off a device by rtnetlink, with nothing but the standard library's smallest parts.

The volume's worker uses it when its lease has ended: it must stay small, and must not wait for another process.
"""

from __future__ import annotations

import errno
import os
import socket
import struct

HEADER = struct.Struct("=IHHII")
ADDRESS = struct.Struct("=BBBBI")  # family, prefix length, flags, scope, index
ATTRIBUTE = struct.Struct("=HH")
ERROR, NEW_ADDR, DEL_ADDR = 2, 20, 21
REQUEST, ACK = 0x1, 0x4  # flags of a message
IFA_ADDRESS, IFA_LOCAL = 1, 2
ROUTE = 0  # NETLINK_ROUTE
LIMIT = 2.0  # seconds; the kernel answers at once
GONE = (errno.EADDRNOTAVAIL, errno.ENODEV, errno.ENXIO)


def drop(device: str, address: str) -> None:
    """Take an address off a device; an address or a device that is not there is fine.

    :param address: with its prefix length, ``10.0.0.50/24`` or ``fd00::50/64``.
    :raises OSError: the kernel refuses, as without CAP_NET_ADMIN.
    :raises ValueError: it is no address with its prefix length.
    """
    try:
        index = socket.if_nametoindex(device)
    except OSError:  # it carries no error number; there is no such device
        index = 0
    body = message(index, address)
    if not index:
        return
    try:
        ask(DEL_ADDR, 0, body)
    except OSError as error:
        if error.errno not in GONE:
            raise


def message(index: int, address: str, flags: int = 0, more: bytes = b"") -> bytes:
    """The part of a request that says which address on which device.

    :param flags: the lower eight of the address's own.
    :param more: further attributes.
    """
    text, slash, length = address.partition("/")
    if not slash:
        raise ValueError(f"{address} has no prefix length")
    family = socket.AF_INET6 if ":" in text else socket.AF_INET
    try:
        packed = socket.inet_pton(family, text)
    except OSError:
        raise ValueError(f"{address} is no address") from None
    head = ADDRESS.pack(family, int(length), flags, 0, index)
    return head + attribute(IFA_LOCAL, packed) + attribute(IFA_ADDRESS, packed) + more


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute, with its padding."""
    return ATTRIBUTE.pack(ATTRIBUTE.size + len(value), kind) + value + bytes(-len(value) % 4)


def ask(kind: int, flags: int, body: bytes) -> None:
    """Have the kernel do one thing.

    :raises OSError: it refuses, or does not answer.
    """
    asking = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, ROUTE)
    try:
        asking.settimeout(LIMIT)
        asking.bind((0, 0))
        asking.send(HEADER.pack(HEADER.size + len(body), kind, REQUEST | ACK | flags, 1, 0) + body)
        answer = asking.recv(1 << 16)
    finally:
        asking.close()
    if HEADER.unpack_from(answer)[1] != ERROR:
        raise OSError(errno.EPROTO, "netlink: an unexpected answer")
    code = -struct.unpack_from("=i", answer, HEADER.size)[0]
    if code:
        raise OSError(code, os.strerror(code))
