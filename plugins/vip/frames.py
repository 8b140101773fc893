"""Frames that tell everybody on a network that an address is at this MAC now. Pure.

IPv4: the ARP announcement of RFC 5227. IPv6: the unsolicited neighbour advertisement of RFC 4861, with the flag that
overrides what a neighbour believes.
"""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address

from ..checkers.dad import ADVERTISEMENT, ARP, EVERYBODY, FARTHEST, ICMPV6, IPV6, SHORTEST, Ip, checksum

REQUEST = bytes.fromhex("0001080006040001")  # Ethernet, IPv4, their lengths, request
OVERRIDE = 0x20000000
TARGET_MAC = b"\x02\x01"  # an option of eight bytes that holds a MAC
ALL_NODES = IPv6Address("ff02::1").packed


def announcement(ip: Ip, mac: bytes) -> bytes:
    """The frame that says that ``ip`` is at ``mac``."""
    if isinstance(ip, IPv4Address):
        arp = REQUEST + mac + ip.packed + bytes(6) + ip.packed
        return (EVERYBODY + mac + struct.pack("!H", ARP) + arp).ljust(SHORTEST, b"\0")
    body = struct.pack("!BBHI", ADVERTISEMENT, 0, 0, OVERRIDE) + ip.packed + TARGET_MAC + mac
    ends = ip.packed + ALL_NODES
    body = body[:2] + struct.pack("!H", checksum(ends + struct.pack("!II", len(body), ICMPV6) + body)) + body[4:]
    head = struct.pack("!IHBB", 6 << 28, len(body), ICMPV6, FARTHEST) + ends
    return b"\x33\x33" + ALL_NODES[12:] + mac + struct.pack("!H", IPV6) + head + body
