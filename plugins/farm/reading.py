"""Frames read as docs/filter.md says: part of the model that the kernel's filter is held against. Pure."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from .layout import PROTOCOLS, Ip

ETHERNET = 14
LARGEST = 65535
NAMES = {number: name for name, number in PROTOCOLS.items()}
EXTENSIONS = 6
_PLAIN, _AUTHENTICATION, _FRAGMENT = {0, 43, 60}, 51, 44
_LEAST = {"tcp": 20, "udp": 8, "icmp": 8}


class Malformed(ValueError):
    """A packet that contradicts itself."""


class Denied(ValueError):
    """A protocol that no rule can cover."""


@dataclass(frozen=True, slots=True)
class Quoted:
    """The packet from the VIP that an ICMP error is about."""

    protocol: str
    client: Ip
    client_port: int
    port: int


@dataclass(frozen=True, slots=True)
class Packet:
    """What the filter reads of an IP packet.

    :param part: ``whole``, ``first`` or ``later``, of a datagram.
    :param above: from the TCP, UDP or ICMP header on.
    """

    source: Ip
    destination: Ip
    protocol: str
    part: str
    identification: int
    above: bytes

    @property
    def ports(self) -> tuple[int, int]:
        """Source and destination port."""
        first, second = struct.unpack_from(">HH", self.above)
        return first, second

    @property
    def kind(self) -> str:
        """``syn``, ``segment`` or ``opens``."""
        if self.protocol != "tcp":
            return "opens"
        synchronise, acknowledge = 0x02, 0x10
        return "syn" if self.above[13] & (synchronise | acknowledge) == synchronise else "segment"

    def quoted(self) -> Quoted | None:
        """The connection that an ICMP error is about, if it is one of the destination's."""
        if self.protocol != "icmp" or self.part != "whole":
            return None
        return _quoted4(self) if self.source.version == 4 else _quoted6(self)


def _whole(total: int, least: int, packet: bytes) -> int:
    """The length that a header says, or that of the frame where it has no room for it."""
    return len(packet) if total == least and len(packet) > LARGEST else total


def addresses4(packet: bytes) -> tuple[Ip, Ip] | None:
    """Source and destination, if it is IPv4."""
    if len(packet) < 20 or packet[0] >> 4 != 4:
        return None
    return IPv4Address(packet[12:16]), IPv4Address(packet[16:20])


def addresses6(packet: bytes) -> tuple[Ip, Ip] | None:
    """Source and destination, if it is IPv6."""
    if len(packet) < 40 or packet[0] >> 4 != 6:
        return None
    return IPv6Address(packet[8:24]), IPv6Address(packet[24:40])


def read4(packet: bytes) -> Packet:
    """Read IPv4.

    :raises Malformed: or ``Denied``.
    """
    source, destination = IPv4Address(packet[12:16]), IPv4Address(packet[16:20])
    header = 4 * (packet[0] & 15)
    total, identification, flags = struct.unpack_from(">HHH", packet, 2)
    total = _whole(total, 0, packet)
    if not 20 <= header <= total <= len(packet):
        raise Malformed
    part = "later" if flags & 0x1FFF else "first" if flags & 0x2000 else "whole"
    protocol = {**NAMES, 1: "icmp"}.get(packet[9])
    return _checked(source, destination, protocol, part, identification, packet[header:total])


def read6(packet: bytes) -> Packet:
    """Read IPv6.

    :raises Malformed: or ``Denied``.
    """
    source, destination = IPv6Address(packet[8:24]), IPv6Address(packet[24:40])
    total = _whole(40 + int.from_bytes(packet[4:6], "big"), 40, packet)
    if total > len(packet):
        raise Malformed
    following, at, part, identification = packet[6], 40, "whole", 0
    for _ in range(EXTENSIONS):
        if following not in {*_PLAIN, _AUTHENTICATION, _FRAGMENT}:
            break
        if at + 8 > total:
            raise Malformed
        kind, length = packet[at], packet[at + 1]
        if following == _FRAGMENT:
            offset, identification = struct.unpack_from(">HI", packet, at + 2)
            part = "later" if offset & 0xFFF8 else "first" if offset & 1 else part
            at += 8
        else:
            at += (length + 2) * 4 if following == _AUTHENTICATION else (length + 1) * 8
        following = kind
        if part == "later":
            break
    if at > total:
        raise Malformed
    protocol = {**NAMES, 58: "icmp"}.get(following)
    return _checked(source, destination, protocol, part, identification, packet[at:total])


def _checked(source: Ip, destination: Ip, protocol: str | None, part: str, identification: int, above: bytes) -> Packet:
    if protocol is None:
        raise Denied
    if part != "later" and len(above) < _LEAST[protocol]:
        raise Malformed
    return Packet(source, destination, protocol, part, identification, above)


def _quoted4(packet: Packet) -> Quoted | None:
    unreachable, time_exceeded, parameter_problem = 3, 11, 12
    inner = packet.above[8:]
    if packet.above[0] not in {unreachable, time_exceeded, parameter_problem}:
        return None
    ends = addresses4(inner)
    if ends is None:
        return None
    header = 4 * (inner[0] & 15)
    protocol = NAMES.get(inner[9])
    later = int.from_bytes(inner[6:8], "big") & 0x1FFF
    if header < 20 or len(inner) < header + 4 or later or protocol is None or ends[0] != packet.destination:
        return None
    port, client_port = struct.unpack_from(">HH", inner, header)
    return Quoted(protocol, ends[1], client_port, port)


def _quoted6(packet: Packet) -> Quoted | None:
    inner = packet.above[8:]
    if not 1 <= packet.above[0] <= 4 or len(inner) < 44:
        return None
    ends, protocol = addresses6(inner), NAMES.get(inner[6])
    if ends is None or protocol is None or ends[0] != packet.destination:
        return None
    port, client_port = struct.unpack_from(">HH", inner, 40)
    return Quoted(protocol, ends[1], client_port, port)


@dataclass(frozen=True, slots=True)
class Discovery:
    """Neighbour discovery: ``advertisement`` or not, about whom, and the sender's MAC if it tells it."""

    advertisement: bool
    target: IPv6Address
    mac: bytes | None


def discovery(packet: bytes) -> Discovery | None:
    """Neighbour discovery right after the IPv6 header, if it is that."""
    length = int.from_bytes(packet[4:6], "big")
    if packet[6] != 58 or length < 24 or 40 + length > len(packet) or packet[40] not in {135, 136}:
        return None
    option = packet[64:72] if length >= 32 else b""
    mac = option[2:8] if option[:2] == b"\x01\x01" else None
    return Discovery(packet[40] == 136, IPv6Address(packet[48:64]), mac)
