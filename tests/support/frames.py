"""Frames for the farm's filter: mostly right, and often wrong in one or two places; and a farm that judges them."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address
from random import Random  # seeded: the same frames in every run

from safekit_py.plugins.farm.layout import BUCKETS, NOBODY, KernelRule
from safekit_py.plugins.farm.reference import FilterState

VIP, OTHER_VIP, STRANGER = IPv4Address("10.0.0.100"), IPv4Address("10.0.0.101"), IPv4Address("10.0.0.1")
VIP6, STRANGER6 = IPv6Address("fd00::100"), IPv6Address("fd00::1")
VMAC = bytes.fromhex("5afe0a000065")  # of the second slot
SERVERS = 4
RULES = (
    KernelRule("tcp", "on_port", 0, 80),
    KernelRule("tcp", "on_addr", 1, 443, VIP),
    KernelRule("udp", "on_ipid", 2, 53),
    KernelRule("udp", "on_port", 2, 0, OTHER_VIP),
    KernelRule("tcp", "on_port", 1, 8080, VIP6),
)


def mac(server: int, slot: int = 0) -> bytes:
    return bytes([2, 0, 0, 0, slot, server + 1])


def state_of(me: int, random: Random, **changes) -> FilterState:
    rows = [bytes([owner]).ljust(4, b"\xff") for owner in [*range(SERVERS)] * 5 + [NOBODY]]
    rows += [bytes(random.sample(range(SERVERS), count)).ljust(4, b"\xff") for count in (2, 2, 2, 3, 4)]
    tables = [b"".join(random.choices(rows, k=BUCKETS)) for _ in range(3)]
    macs = {(slot, server): mac(server, slot) for slot in range(2) for server in range(SERVERS)}
    del macs[1, SERVERS - 1]  # one that is not known
    values = {
        "me": me,
        "seed": random.getrandbits(32),
        "vips": {VIP: 0, OTHER_VIP: 1, VIP6: 1},
        "vmacs": {1: VMAC},
        "rules": RULES,
        "tables": tables,
        "macs": macs,
    }
    return FilterState(**(values | changes))


def error(random: Random, vip: IPv4Address) -> bytes:
    """An ICMP message, most often an error that quotes a packet of the VIP."""
    words = random.choices([5, 6, 15, 4], [8, 1, 1, 1])[0]
    proto, part = random.choices([6, 17, 1], [5, 5, 1])[0], random.choices([0x4000, 0x2000, 0x10], [8, 1, 1])[0]
    head = struct.pack(">BBHHHBBH", random.choices([4, 6], [15, 1])[0] << 4 | words, 0, 1500, 9, part, 64, proto, 0)
    addresses = random.choices([vip, STRANGER], [8, 1])[0].packed + random.randbytes(4)
    ports = struct.pack(">HH", random.choice([80, 443, 53, 99]), random.getrandbits(16))
    quoted = head + addresses + bytes(max(0, words - 5) * 4) + ports + bytes(4)
    kind = random.choices([3, 11, 12, 0, 8, 5], [6, 3, 2, 1, 1, 1])[0]
    return bytes([kind, 4]) + bytes(6) + quoted[: random.choices([99, 19, 23], [10, 1, 1])[0]]


def crafted(random: Random) -> bytes:
    """A frame that is often right, and often wrong in one or two places."""
    destination = random.choices([bytes(6), b"\xff" * 6, mac(7), b"\1\0\x5e\0\0\1", VMAC], [16, 2, 1, 1, 6])[0]
    source = random.choices([b"\2\xaa\0\0\0\1", mac(random.randrange(SERVERS), random.randrange(2))], [8, 1])[0]
    target = random.choices([VIP, OTHER_VIP, STRANGER], [8, 4, 1])[0]
    client = random.choices([random.randbytes(4), bytes(4), target.packed], [20, 1, 1])[0]
    kind = random.choices(["tcp", "udp", "icmp", "other", "arp", "ipv6", "vlan"], [10, 6, 3, 1, 5, 12, 1])[0]
    if kind == "ipv6":
        frame = destination + source + b"\x86\xdd" + crafted6(random)
    elif kind == "arp":
        head = random.choices(["0001080006040001", "0001080006040002", "0006080006040001"], [10, 1, 1])[0]
        hardware = random.randbytes(6)
        body = bytes.fromhex(head) + hardware + client + bytes(6) + target.packed + bytes(random.choice([0, 18]))
        frame = destination + source + b"\x08\x06" + body
    else:
        ports = struct.pack(">HH", random.getrandbits(16), random.choices([80, 443, 53, 99], [6, 4, 4, 1])[0])
        above = {
            "tcp": ports + random.randbytes(8) + bytes([0x50, random.getrandbits(8)]) + bytes(6),
            "udp": ports + bytes(4),
        }.get(kind, random.randbytes(8))
        if kind == "icmp" and random.random() < 0.8:
            above = error(random, target)
        above += bytes(random.choice([0, 0, 1, 30, 1400]))
        words = random.choices([5, 6, 15, 4, 0, random.randrange(16)], [12, 2, 2, 1, 1, 1])[0]
        options = bytes(max(0, words - 5) * 4)
        part = random.choices([0, 0x4000, 0x2000, 0x0010, 0x2010, 0x8000], [12, 6, 2, 2, 1, 1])[0]
        proto = {"tcp": 6, "udp": 17, "icmp": 1}.get(kind, random.getrandbits(8))
        total = 20 + len(options) + len(above) + random.choices([0, 1, -1, -15, 4000], [20, 1, 1, 1, 1])[0]
        version = random.choices([4, 6], [40, 1])[0]
        number = random.choice([random.getrandbits(16), random.randrange(3)])
        if number < 3:  # parts of the same few datagrams
            client = bytes([10, 1, 1, number])
        ip = struct.pack(">BBHHHBBH", version << 4 | words, 0, total, number, part, 64, proto, 0)
        body = ip + client + target.packed + options + above
        ethertype = b"\x81\x00\0\1\x08\0" if kind == "vlan" else b"\x08\0"
        frame = destination + source + ethertype + body + bytes(random.choice([0, 0, 6]))
    if random.random() < 0.08:
        # The kernel's test run refuses an IP packet without its whole basic header.
        least = {b"\x08\0": 34, b"\x86\xdd": 54}.get(frame[12:14], 15)
        frame = frame[: random.randrange(least, max(least + 1, len(frame)))]
    return frame


def crafted6(random: Random) -> bytes:
    """An IPv6 packet: TCP, UDP, ICMPv6 or neighbour discovery, often behind extension headers."""
    target = random.choices([VIP6, STRANGER6], [8, 1])[0].packed
    number = random.randrange(6)
    client = bytes(16) if not random.randrange(20) else IPv6Address("fd00::1:0").packed[:15] + bytes([number])
    ports = struct.pack(">HH", 40000 + number, random.choices([80, 443, 53, 8080], [6, 3, 4, 3])[0])
    kind = random.choices([6, 17, 58, 135, 136, 99], [8, 5, 4, 6, 2, 1])[0]
    if kind == 6:
        above = ports + random.randbytes(8) + bytes([0x50, random.getrandbits(8)]) + bytes(6)
    elif kind == 17:
        above = ports + bytes(4)
    elif kind in {135, 136}:
        asked = random.choices([VIP6, STRANGER6], [8, 1])[0].packed
        option = random.choice([b"", b"\1\1" + random.randbytes(6), b"\2\1" + bytes(6)])
        above = bytes([kind]) + bytes(7) + asked + option
        if random.random() < 0.6:
            target = IPv6Address("ff02::1:ff00:0").packed[:13] + asked[13:]
        kind = 58
    else:
        inner = struct.pack(">IHBB", 6 << 28, 1200, random.choice([6, 17, 58]), 64) + target + client
        inner += ports[2:] + ports[:2] + bytes(4)
        above = bytes([random.choice([1, 2, 3, 4, 128])]) + bytes(7) + inner[: random.choices([99, 43], [8, 1])[0]]
    above += bytes(random.choice([0, 0, 2, 40]))
    for _ in range(random.choices([0, 1, 2, 7], [8, 4, 2, 1])[0]):
        header = random.choice([0, 43, 60, 51, 44, 44])
        if header == 44:
            piece = random.choice([0, 1, 8, 9])
            above = bytes([kind, 0]) + struct.pack(">HI", piece, random.randrange(3)) + above
        else:
            above = bytes([kind, 0]) + bytes(6) + above
        kind = header
    length = len(above) + random.choices([0, 1, -1, -9], [20, 1, 1, 1])[0]
    head = random.choices([6, 4], [40, 1])[0] << 28
    return struct.pack(">IHBB", head, max(length, 0), kind, 64) + client + target + above
