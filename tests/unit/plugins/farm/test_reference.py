"""The program in the kernel and the model in Python judge the same frames alike."""

from __future__ import annotations

import os
import struct
import time
from collections import Counter
from ipaddress import IPv4Address
from random import Random  # seeded: the same frames in every run

import pytest
from safekit_py.plugins.farm.layout import ACT_DROP, ACT_REDIRECT, ACT_UNSPEC, BUCKETS, NOBODY, KernelRule
from safekit_py.plugins.farm.reference import FilterState, bucket_of, decide, jhash_1word, jhash_2words

VIP, OTHER_VIP, STRANGER = IPv4Address("10.0.0.100"), IPv4Address("10.0.0.101"), IPv4Address("10.0.0.1")
SERVERS = 4
CODES = {"passed": ACT_UNSPEC, "accepted": ACT_UNSPEC, "forwarded": ACT_REDIRECT}
RULES = (
    KernelRule("tcp", "on_port", 0, 80),
    KernelRule("tcp", "on_addr", 1, 443, VIP),
    KernelRule("udp", "on_ipid", 2, 53),
    KernelRule("udp", "on_port", 2, 0, OTHER_VIP),
)


def mac(server: int, slot: int = 0) -> bytes:
    return bytes([2, 0, 0, 0, slot, server + 1])


def state_of(me: int, random: Random, **changes) -> FilterState:
    owners = bytes([*range(SERVERS)] * 5 + [NOBODY])
    tables = [bytes(random.choices(owners, k=BUCKETS)) for _ in range(3)]
    macs = {(slot, server): mac(server, slot) for slot in range(2) for server in range(SERVERS)}
    del macs[1, SERVERS - 1]  # one that is not known
    values = {
        "me": me,
        "seed": random.getrandbits(32),
        "vips": {VIP: 0, OTHER_VIP: 1},
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
    destination = random.choices([bytes(6), b"\xff" * 6, mac(7), b"\1\0\x5e\0\0\1"], [16, 2, 1, 1])[0]
    source = random.choices([b"\2\xaa\0\0\0\1", mac(random.randrange(SERVERS), random.randrange(2))], [8, 1])[0]
    target = random.choices([VIP, OTHER_VIP, STRANGER], [8, 4, 1])[0]
    client = random.choices([random.randbytes(4), bytes(4), target.packed], [20, 1, 1])[0]
    kind = random.choices(["tcp", "udp", "icmp", "other", "arp", "ipv6", "vlan"], [10, 6, 3, 1, 5, 1, 1])[0]
    if kind == "arp":
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
        ip = struct.pack(">BBHHHBBH", version << 4 | words, 0, total, random.getrandbits(16), part, 64, proto, 0)
        body = ip + client + target.packed + options + above
        ethertype = {"ipv6": b"\x86\xdd", "vlan": b"\x81\x00\0\1\x08\0"}.get(kind, b"\x08\0")
        frame = destination + source + ethertype + body + bytes(12 if kind == "ipv6" else random.choice([0, 0, 6]))
    if random.random() < 0.08:
        # The kernel's test run refuses an IP packet without its whole basic header.
        least = {b"\x08\0": 34, b"\x86\xdd": 54}.get(frame[12:14], 15)
        frame = frame[: random.randrange(least, max(least + 1, len(frame)))]
    return frame


# The expected numbers were computed by include/linux/jhash.h of Linux 6.1, compiled with gcc.
@pytest.mark.parametrize(
    ("word", "seed", "expected"),
    [
        (0, 0, 0x049396B8),
        (1, 0, 0x72A82A9B),
        (0x0A000001, 0x5AFE, 0x08B82770),
        (0xFFFFFFFF, 0xFFFFFFFF, 0xEAE46760),
        (0xC0A80117, 0xDEADBEEF, 0x476EF337),
    ],
)
def test_jhash_of_one_word_is_the_kernels(word, seed, expected):
    assert jhash_1word(word, seed) == expected


@pytest.mark.parametrize(
    ("first", "second", "seed", "expected"),
    [
        (0, 0, 0, 0x58C184BF),
        (0x0A000001, 80, 0x5AFE, 0x7AD5E9D8),
        (0x0A000001, 81, 0x5AFE, 0x406D0ECC),
        (0xFFFFFFFF, 0xFFFF, 0xFFFFFFFF, 0xAAA27155),
        (0xC0A80117, 51234, 0xDEADBEEF, 0x9C2CB176),
    ],
)
def test_jhash_of_two_words_is_the_kernels(first, second, seed, expected):
    assert jhash_2words(first, second, seed) == expected


def test_of_all_servers_at_most_one_accepts():
    random = Random(7)
    first = state_of(0, random)
    seen = Counter()
    for _ in range(3000):
        frame = crafted(random)
        states = [FilterState(**{n: getattr(first, n) for n in first.__slots__} | {"me": me}) for me in range(SERVERS)]
        verdicts = [decide(state, frame).verdict for state in states]
        assert verdicts.count("accepted") <= 1
        seen["accepted" in verdicts] += 1
    assert seen[True] > 500


def test_a_forwarded_frame_is_accepted_by_its_owner_and_goes_no_further():
    random = Random(8)
    first = state_of(0, random)
    forwarded = 0
    for _ in range(2000):
        decision = decide(first, crafted(random))
        if decision.verdict == "forwarded":
            forwarded += 1
            for me in range(1, SERVERS):
                values = {n: getattr(first, n) for n in first.__slots__} | {"me": me, "device_mac": decision.frame[:6]}
                expected = "accepted" if first.tables[decision.group][decision.bucket] == me else "looped"
                assert decide(FilterState(**values), decision.frame).verdict == expected
    assert forwarded > 200


def test_fragments_of_a_datagram_stay_together():
    state = state_of(0, Random(9))
    ip = struct.pack(">BBHHHBBH", 0x45, 0, 28, 7, 0x2000, 64, 17, 0) + IPv4Address("10.1.1.1").packed + VIP.packed
    later = ip[:6] + struct.pack(">H", 185) + ip[8:]
    ends = [bytes(12) + b"\x08\0" + head + struct.pack(">HHI", 5000, 53, 0) for head in (ip, later)]
    first, second = (decide(state, frame) for frame in ends)
    assert first.bucket == second.bucket == bucket_of(IPv4Address("10.1.1.1"), state.seed)
    assert first.group == second.group == 2


def test_an_icmp_error_goes_where_its_connection_is():
    state = state_of(0, Random(10))
    client, router = IPv4Address("10.1.1.1"), IPv4Address("172.16.0.1")
    sent = struct.pack(">BBHHHBBH", 0x45, 0, 1500, 9, 0x4000, 64, 6, 0) + VIP.packed + client.packed
    above = bytes([3, 4, 0, 0, 0, 0, 5, 0]) + sent + struct.pack(">HHI", 80, 40000, 1)
    ip = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(above), 1, 0, 64, 1, 0) + router.packed + VIP.packed
    decision = decide(state, bytes(12) + b"\x08\0" + ip + above)
    assert (decision.group, decision.bucket) == (0, bucket_of(client, state.seed, 40000))


@pytest.mark.lab
@pytest.mark.parametrize("seed", range(6))
def test_the_kernel_decides_as_the_model(farm_filter, seed):
    random = Random(seed)
    state = state_of(
        seed % SERVERS, random, opened=seed != 4, leased=seed != 5, arp_group=None if seed == 3 else seed % 3
    )
    farm_filter.set_open(False)
    farm_filter.configure(state.me, state.seed, list(state.vips.items()), state.rules, state.arp_group)
    farm_filter.install(state.tables, state.macs)
    farm_filter.set_open(state.opened)
    farm_filter.renew(time.monotonic_ns() + 10**12 if state.leased else 0)
    counted, clients, verdicts = Counter(farm_filter.counters()), {}, Counter()
    for _ in range(int(os.environ.get("SAFEKIT_FRAMES", "3000"))):
        frame = crafted(random)
        expected = decide(state, frame)
        got = farm_filter.run(frame)
        assert got.code == CODES.get(expected.verdict, ACT_DROP), (expected, frame.hex())
        assert got.packet == expected.frame, expected
        verdicts[expected.verdict] += 1
        if expected.verdict != "passed":
            counted[expected.group, expected.verdict] += 1
        if expected.client:
            clients[expected.client[0]] = expected.client[1]
    assert farm_filter.counters() == counted
    assert clients.items() <= {address: hardware for address, hardware, _ in farm_filter.clients()}.items()
    assert len(verdicts) >= 7, verdicts


@pytest.mark.lab
@pytest.mark.parametrize(("rule", "offset"), [("on_addr", None), ("on_port", 4321), ("on_ipid", 0x1234)])
def test_the_kernel_finds_the_very_bucket(farm_filter, rule, offset):
    """Only the expected bucket is mine: accepted means that the kernel computed the same."""
    random = Random(3)
    farm_filter.set_open(False)
    farm_filter.configure(5, 0xC0FFEE, [(VIP, 0)], [KernelRule("udp", rule, 0)], 0)
    farm_filter.set_open(True)
    farm_filter.renew(2**63)
    for _ in range(40):
        client = IPv4Address(random.getrandbits(32))
        table = bytearray([NOBODY]) * BUCKETS
        table[bucket_of(client, 0xC0FFEE, offset)] = 5
        farm_filter.install([bytes(table)], {})
        ip = struct.pack(">BBHHHBBH", 0x45, 0, 28, 0x1234, 0, 64, 17, 0) + client.packed + VIP.packed
        frame = bytes(12) + b"\x08\0" + ip + struct.pack(">HHI", 4321, 9, 0)
        assert farm_filter.run(frame).code == ACT_UNSPEC
