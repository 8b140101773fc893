"""Duplicate-address detection, as bytes: what to ask, and who claims an address. No I/O.

IPv4: the ARP probe of RFC 5227, an ARP request whose sender address is 0.0.0.0, which enters no ARP table. IPv6: the
neighbour solicitation of RFC 4862, from ``::`` to the address's own multicast group. Whoever holds the address answers.

Invariant, held by tests/unit/plugins/checkers/test_dad.py: a frame is a claim of an address only when it is an ARP
message whose sender address it is, or a valid neighbour advertisement whose target it is; no other bytes are.
"""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address

Ip = IPv4Address | IPv6Address

ARP, IPV6 = 0x0806, 0x86DD
EVERYBODY = b"\xff" * 6
ARP_HEAD = bytes.fromhex("0001080006040001")  # Ethernet, IPv4, their lengths, request
ARP_START, SENDER_IP = 14, 28  # bytes into the frame
ICMP6_START, TARGET = 54, 62
NEXT_HEADER, HOP_LIMIT = 20, 21
ICMPV6, SOLICITATION, ADVERTISEMENT = 58, 135, 136
FARTHEST = 255  # hop limit of a packet that no router has passed on
SHORTEST = 60  # bytes of an Ethernet frame without its check sum

# Classic BPF: load a word, half or byte at a place; compare, jumping over that many instructions when equal or not.
LOAD_WORD, LOAD_HALF, LOAD_BYTE, IF_EQUAL, RETURN = 0x20, 0x28, 0x30, 0x15, 0x06
WHOLE = 0xFFFF  # bytes of the frame to be kept


def question(ip: Ip, mac: bytes) -> bytes:
    """The frame that asks whether anybody holds an address.

    :param mac: of the device that sends it.
    """
    if isinstance(ip, IPv4Address):
        arp = ARP_HEAD + mac + bytes(4) + bytes(6) + ip.packed
        return (EVERYBODY + mac + struct.pack("!H", ARP) + arp).ljust(SHORTEST, b"\0")
    group = IPv6Address("ff02::1:ff00:0").packed[:13] + ip.packed[13:]
    body = struct.pack("!BBHI", SOLICITATION, 0, 0, 0) + ip.packed
    ends = bytes(16) + group
    body = body[:2] + struct.pack("!H", checksum(ends + struct.pack("!II", len(body), ICMPV6) + body)) + body[4:]
    head = struct.pack("!IHBB", 6 << 28, len(body), ICMPV6, FARTHEST) + ends
    return b"\x33\x33" + group[12:] + mac + struct.pack("!H", IPV6) + head + body


def checksum(data: bytes) -> int:
    """The Internet checksum."""
    total: int = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + b"\0" * (len(data) & 1)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def claimant(frame: bytes, ip: Ip) -> bytes | None:
    """The MAC of the machine that says in this frame that it holds the address; None when it says no such thing."""
    if len(frame) < ARP_START:
        return None
    source, (kind,) = frame[6:12], struct.unpack_from("!H", frame, 12)
    if isinstance(ip, IPv4Address):
        arp = frame[ARP_START:]
        if kind != ARP or len(arp) < 28 or arp[:6] != ARP_HEAD[:6] or arp[6:8] not in (b"\0\1", b"\0\2"):
            return None
        return arp[8:14] if arp[14:18] == ip.packed else None
    if kind != IPV6 or len(frame) < TARGET + 16 or frame[14] >> 4 != 6:
        return None
    if (frame[NEXT_HEADER], frame[HOP_LIMIT], frame[ICMP6_START]) != (ICMPV6, FARTHEST, ADVERTISEMENT):
        return None
    return source if frame[TARGET : TARGET + 16] == ip.packed else None


def filter_for(ip: Ip) -> bytes:
    """A packet filter (classic BPF) that lets through what can be a claim of the address, and nothing else."""
    tests: list[tuple[int, int, int]] = []
    if isinstance(ip, IPv4Address):
        tests += [(LOAD_HALF, 12, ARP), (LOAD_WORD, SENDER_IP, int(ip))]
    else:
        tests += [(LOAD_HALF, 12, IPV6), (LOAD_BYTE, NEXT_HEADER, ICMPV6), (LOAD_BYTE, ICMP6_START, ADVERTISEMENT)]
        words = struct.unpack("!4I", ip.packed)
        tests += [(LOAD_WORD, TARGET + 4 * place, word) for place, word in enumerate(words)]
    lines = []
    for number, (load, place, value) in enumerate(tests):
        beyond = 2 * (len(tests) - number) - 1  # from the comparison over all that follows, and over "keep it"
        lines += [(load, 0, 0, place), (IF_EQUAL, 0, beyond, value)]
    lines += [(RETURN, 0, 0, WHOLE), (RETURN, 0, 0, 0)]
    return b"".join(struct.pack("=HBBI", *line) for line in lines)
