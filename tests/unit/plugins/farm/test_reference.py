"""The program in the kernel and the model in Python judge the same frames alike."""

from __future__ import annotations

import os
import struct
import time
from collections import Counter
from dataclasses import replace
from ipaddress import IPv4Address
from random import Random  # seeded: the same frames in every run

import pytest
from frames import (
    OTHER_VIP,
    RULES,
    SERVERS,
    VIP,
    VMAC,
    crafted,
    state_of,
)
from safekit_py.plugins.farm.layout import (
    ACT_DROP,
    ACT_REDIRECT,
    ACT_UNSPEC,
    BUCKETS,
    NO_ENTRY,
    Configuration,
    KernelRule,
)
from safekit_py.plugins.farm.reference import FilterState, Memory, bucket_of, decide, jhash_1word, jhash_2words


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


def on(state: FilterState, me: int, **changes) -> FilterState:
    return replace(state, me=me, **changes)


def with_socket(random: Random, frame: bytes) -> dict:
    """For a packet of TCP over IPv4, often a socket of its connection on one server."""
    if frame[12:14] != b"\x08\0" or len(frame) < 38 or frame[23] != 6 or random.random() < 0.3:
        return {}
    at = 14 + 4 * (frame[14] & 15)
    if len(frame) < at + 4:
        return {}
    client, port = IPv4Address(frame[26:30]), int.from_bytes(frame[at : at + 2], "big")
    connection = client, port, IPv4Address(frame[30:34]), int.from_bytes(frame[at + 2 : at + 4], "big")
    return {random.randrange(SERVERS): {connection: random.choice(["firm", "fleeting", "cookie"])}}


def test_of_all_servers_at_most_one_accepts():
    random = Random(7)
    first = state_of(0, random)
    seen = Counter()
    for _ in range(6000):
        frame = crafted(random)
        sockets = with_socket(random, frame)
        flooded = VMAC + frame[6:]
        decisions = [decide(on(first, me, sockets=sockets.get(me, {})), flooded) for me in range(SERVERS)]
        verdicts = [decision.verdict for decision in decisions]
        assert verdicts.count("accepted") <= 1, (frame.hex(), sockets)
        assert not any(decision.sent for decision in decisions if decision.verdict != "answered")
        seen["accepted" in verdicts] += 1
    assert seen[True] > 500


def test_a_frame_that_one_server_has_is_accepted_once_wherever_it_goes():
    random = Random(8)
    first = state_of(0, random)
    seen = Counter()
    for _ in range(6000):
        frame = bytes(6) + crafted(random)[6:]
        if frame[6:12] in first.macs.values():
            continue
        sockets = with_socket(random, frame)
        decision = decide(on(first, 0, sockets=sockets.get(0, {})), frame)
        verdicts = [decision.verdict]
        for sent in decision.sent if decision.verdict in {"forwarded", "held", "accepted"} else ():
            ((_, server),) = [where for where, its in first.macs.items() if its == sent[:6]]
            again = decide(on(first, server, sockets=sockets.get(server, {}), device_mac=sent[:6]), sent)
            assert not again.sent, "it goes no further"
            verdicts.append(again.verdict)
        assert verdicts.count("accepted") <= 1, (frame.hex(), sockets)
        seen[verdicts.count("accepted"), len(verdicts) > 1] += 1
    assert seen[1, True] > 200
    assert seen[1, False] > 200


def fragments(ports: bytes = struct.pack(">HHI", 5000, 53, 0)) -> tuple[bytes, bytes]:
    ip = struct.pack(">BBHHHBBH", 0x45, 0, 28, 7, 0x2000, 64, 17, 0) + IPv4Address("10.1.1.1").packed + OTHER_VIP.packed
    later = ip[:6] + struct.pack(">H", 185) + ip[8:]
    first, second = (bytes(12) + b"\x08\0" + head + ports for head in (ip, later))
    return first, second


def test_the_first_fragment_decides_and_later_ones_follow_it():
    memory, state = Memory(), replace(state_of(0, Random(9)), rules=RULES[3:])
    first, second = fragments()
    before = decide(state, second, memory)
    assert before.verdict == "parked"
    assert before.sent[0][:6] == b"\xff" * 6
    decisions = [decide(state, frame, memory) for frame in (first, second)]
    assert {d.bucket for d in decisions} == {bucket_of(IPv4Address("10.1.1.1"), state.seed, 5000)}
    memory.now = 31 * 10**9
    assert decide(state, second, memory).verdict == "parked"


def test_an_icmp_error_goes_where_its_connection_is():
    state = state_of(0, Random(10))
    client, router = IPv4Address("10.1.1.1"), IPv4Address("172.16.0.1")
    sent = struct.pack(">BBHHHBBH", 0x45, 0, 1500, 9, 0x4000, 64, 6, 0) + VIP.packed + client.packed
    above = bytes([3, 4, 0, 0, 0, 0, 5, 0]) + sent + struct.pack(">HHI", 80, 40000, 1)
    ip = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(above), 1, 0, 64, 1, 0) + router.packed + VIP.packed
    decision = decide(state, bytes(12) + b"\x08\0" + ip + above)
    assert (decision.group, decision.bucket) == (0, bucket_of(client, state.seed, 40000))


def put_in_force(farm_filter, state: FilterState) -> None:
    farm_filter.set_open(False)
    vips = list(state.vips.items())
    farm_filter.configure(Configuration(state.me, state.seed, vips, state.rules, state.arp_group, state.vmacs))
    farm_filter.install(state.tables, state.macs)
    farm_filter.set_open(state.opened)
    farm_filter.renew(time.monotonic_ns() + 10**12 if state.leased else 0)


@pytest.mark.lab
@pytest.mark.parametrize("seed", range(6))
def test_the_kernel_decides_as_the_model(three_groups, new_network, seed):
    random, memory = Random(seed), Memory()
    state = state_of(
        seed % SERVERS, random, opened=seed != 4, leased=seed != 5, arp_group=None if seed == 3 else seed % 3
    )
    put_in_force(three_groups, state)
    counted, verdicts = Counter(three_groups.counters()), Counter()
    for _ in range(int(os.environ.get("SAFEKIT_FRAMES", "4000"))):
        frame = crafted(random)
        memory.now = time.monotonic_ns()
        expected = decide(state, frame, memory)
        got = three_groups.run(frame)
        verdicts[expected.verdict] += 1
        if expected.verdict != "passed":
            counted[expected.group, expected.verdict] += 1
        assert three_groups.counters() == counted, (expected, frame.hex())
        # Copies for several servers leave by themselves; then the frame itself is dropped.
        redirected = expected.verdict == "answered" or (expected.verdict == "forwarded" and got.code == ACT_REDIRECT)
        code = ACT_REDIRECT if redirected else ACT_UNSPEC if expected.stack else ACT_DROP
        assert got.code == code, (expected, frame.hex())
        if redirected:
            assert (got.packet,) == expected.sent, expected
        elif expected.stack:
            assert got.packet == frame, expected
    known = {address: hardware for address, hardware, _ in three_groups.clients()}
    assert memory.clients.items() <= known.items()
    assert len(verdicts) >= 9, verdicts


@pytest.mark.lab
@pytest.mark.parametrize(("rule", "offset"), [("on_addr", None), ("on_port", 4321), ("on_ipid", 0x1234)])
def test_the_kernel_finds_the_very_bucket(farm_filter, rule, offset):
    """Only the expected bucket is mine: accepted means that the kernel computed the same."""
    random = Random(3)
    farm_filter.set_open(False)
    farm_filter.configure(Configuration(5, 0xC0FFEE, [(VIP, 0)], [KernelRule("udp", rule, 0)], 0))
    farm_filter.set_open(True)
    farm_filter.renew(time.monotonic_ns() + 10**12)
    for _ in range(40):
        client = IPv4Address(random.getrandbits(32))
        table = bytearray(NO_ENTRY * BUCKETS)
        table[4 * bucket_of(client, 0xC0FFEE, offset)] = 5
        farm_filter.install([bytes(table)], {})
        ip = struct.pack(">BBHHHBBH", 0x45, 0, 28, 0x1234, 0, 64, 17, 0) + client.packed + VIP.packed
        frame = bytes(12) + b"\x08\0" + ip + struct.pack(">HHI", 4321, 9, 0)
        assert farm_filter.run(frame).code == ACT_UNSPEC
