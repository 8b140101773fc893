"""Frames that tell everybody on a network that an address is at this MAC now. Pure.

IPv4: the ARP announcement of RFC 5227. IPv6: the unsolicited neighbour advertisement of RFC 4861, with the flag that
overrides what a neighbour believes.
"""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address

from ..checkers.dad import ADVERTISEMENT, ARP, EVERYBODY, FARTHEST, ICMPV6, IPV6, SHORTEST, Ip, checksum

REQUEST = bytes.fromhex("0001080006040001")  # Ethernet, IPv4, their lengths, request
REPLY = REQUEST[:7] + b"\2"
OVERRIDE = 0x20000000
TARGET_MAC = b"\x02\x01"  # an option of eight bytes that holds a MAC
ALL_NODES = IPv6Address("ff02::1").packed


def announcement(ip: Ip, mac: bytes, source: bytes | None = None, to: bytes = EVERYBODY) -> bytes:
    """The frame that says that ``ip`` is at ``mac``.

    :param source: the Ethernet source, if it is another one.
    :param to: the MAC of the one who shall hear it. An answer then, but a gratuitous one: for a second after an
        announcement Linux believes no ordinary answer that contradicts it.
    """
    source = source or mac
    if isinstance(ip, IPv4Address):
        question = to == EVERYBODY
        arp = (REQUEST if question else REPLY) + mac + ip.packed + (bytes(6) if question else mac) + ip.packed
        return (to + source + struct.pack("!H", ARP) + arp).ljust(SHORTEST, b"\0")
    body = struct.pack("!BBHI", ADVERTISEMENT, 0, 0, OVERRIDE) + ip.packed + TARGET_MAC + mac
    ends = ip.packed + ALL_NODES
    body = body[:2] + struct.pack("!H", checksum(ends + struct.pack("!II", len(body), ICMPV6) + body)) + body[4:]
    head = struct.pack("!IHBB", 6 << 28, len(body), ICMPV6, FARTHEST) + ends
    destination = b"\x33\x33" + ALL_NODES[12:] if to == EVERYBODY else to
    return destination + source + struct.pack("!H", IPV6) + head + body
