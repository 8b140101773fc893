"""The wire format: round trips, every kind of damage, payloads that lie, and vectors that show a change of the wire."""

import hmac
import itertools
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safekit_py.core.buckets import BUCKETS, NOBODY, Table
from safekit_py.core.group import MAX_GROUPS, MAX_INFO, MAX_SERVERS, Heartbeat, Known, Member, Number, View
from safekit_py.core.trail import HOLDERS, Trail
from safekit_py.model.keys import MAX_KEYS, Ring, first
from safekit_py.net import wire

KEY, OTHER_KEY = first(bytes(range(32))), first(bytes(range(1, 33)))
GROUP = wire.group_id("one,two,three", "web")
OTHER_GROUP = wire.group_id("one,two,three", "db")
HEADER = 39

U64, U16, U8 = st.integers(0, 2**64 - 1), st.integers(0, 65535), st.integers(0, 255)
INFOS = st.binary(max_size=MAX_INFO)
NUMBERS = st.builds(Number, U64, U8, U64)
FLAG = st.booleans()
KNOWN = st.builds(Known, st.integers(0, MAX_SERVERS - 1), U64, U64, FLAG, FLAG, FLAG, FLAG, FLAG)
HEARTBEATS = st.builds(
    Heartbeat,
    beat=U64,
    number=NUMBERS,
    leaving=st.booleans(),
    powers=st.lists(U16, max_size=MAX_GROUPS).map(tuple),
    info=INFOS,
    hears=st.integers(0, 2**MAX_SERVERS - 1),
    known=st.lists(KNOWN, max_size=wire.MAX_KNOWN).map(tuple),
    history=st.booleans(),
    settled=U64,
)
DATAGRAMS = st.builds(wire.Datagram, U8, U8, U8, U64, U64, st.binary(max_size=wire.PART + 21))


@st.composite
def tables(draw):
    cuts = sorted(draw(st.sets(st.integers(1, BUCKETS - 1), max_size=12)))
    owner, runs = draw(U8), []
    for start, end in itertools.pairwise([0, *cuts, BUCKETS]):
        runs.append((end - start, owner))
        owner = (owner + draw(st.integers(1, 255))) % 256  # never the one before
    return Table(tuple(runs))


@st.composite
def trails(draw):
    cuts = sorted(draw(st.sets(st.integers(1, BUCKETS - 1), max_size=6)))
    runs, last = [], None
    for start, end in itertools.pairwise([0, *cuts, BUCKETS]):
        holders = draw(
            st.lists(st.integers(0, 254), max_size=HOLDERS, unique=True)
            .map(tuple)
            .filter(lambda h, last=last: h != last)
        )
        runs.append((end - start, holders))
        last = holders
    return Trail(tuple(runs))


@st.composite
def views(draw, number=NUMBERS):
    groups = draw(st.integers(0, MAX_GROUPS))
    powers = st.lists(U16, min_size=groups, max_size=groups).map(tuple)
    members = draw(st.lists(st.builds(Member, st.integers(0, MAX_SERVERS - 1), powers, INFOS), max_size=MAX_SERVERS))
    each = tuple(draw(tables()) for _ in range(groups))
    cause = draw(st.text(st.characters(codec="utf-8"), max_size=40))
    return View(draw(number), tuple(members), each, cause, tuple(draw(trails()) for _ in range(groups)))


def big_view(number, size):
    """One whose table has many runs."""
    runs = [(1, n % 3) for n in range(size)]
    return View(number, (Member(0, (1,)),), (Table((*runs, (BUCKETS - size, NOBODY))),), "join 0", (Trail(),))


def reason(call, *args):
    with pytest.raises(wire.Rejected) as caught:
        call(*args)
    assert caught.value.reason in wire.REASONS
    return caught.value.reason


def malformed_or_fine(decode, data):
    """Whatever the bytes: a value, or Rejected('malformed')."""
    try:
        return decode(data)
    except wire.Rejected as rejected:
        if rejected.reason != "malformed":
            raise
        return None


# --- the envelope -----------------------------------------------------------------------------------


@given(DATAGRAMS)
def test_what_is_sealed_is_unsealed(datagram):
    assert wire.unseal(KEY, GROUP, wire.seal(KEY, GROUP, datagram)) == datagram


SAMPLE = wire.Datagram(wire.HEARTBEAT, 1, 0, 99, 12, b"payload of some bytes")


def test_each_byte_flipped_in_every_way():
    good = wire.seal(KEY, GROUP, SAMPLE)
    expected = ["magic"] * 4 + ["version"] + ["auth"] + ["group"] * 8 + ["auth"] * 20 + ["key"] * 4
    expected += ["auth"] * (len(good) - len(expected))
    for at, bits in itertools.product(range(len(good)), range(1, 256)):
        bad = bytearray(good)
        bad[at] ^= bits
        assert reason(wire.unseal, KEY, GROUP, bytes(bad)) == expected[at]


def test_every_truncation_and_what_is_added():
    good = wire.seal(KEY, GROUP, SAMPLE)
    for length in range(len(good)):
        short = length < HEADER + wire.HMAC_BYTES
        assert reason(wire.unseal, KEY, GROUP, good[:length]) == ("short" if short else "auth")
    assert reason(wire.unseal, KEY, GROUP, good + b"\0") == "auth"
    assert reason(wire.unseal, KEY, GROUP, b"\0" + good) == "magic"


def test_oversize():
    most = wire.MAX_DATAGRAM - HEADER - wire.HMAC_BYTES
    fits = wire.Datagram(wire.HEARTBEAT, 1, 0, 99, 12, bytes(most))
    assert wire.unseal(KEY, GROUP, wire.seal(KEY, GROUP, fits)) == fits
    over = wire.Datagram(wire.HEARTBEAT, 1, 0, 99, 12, bytes(most + 1))
    assert reason(wire.unseal, KEY, GROUP, wire.seal(KEY, GROUP, over)) == "long"


@given(DATAGRAMS)
def test_another_key_and_another_group(datagram):
    assert reason(wire.unseal, KEY, GROUP, wire.seal(OTHER_KEY, GROUP, datagram)) == "key"
    assert reason(wire.unseal, KEY, GROUP, wire.seal(KEY, OTHER_GROUP, datagram)) == "group"


def test_groups_differ_by_cluster_and_by_module():
    names = [("a", "b"), ("a", "c"), ("d", "b"), ("ab", ""), ("", "ab"), ("b", "a")]
    assert len({wire.group_id(*each) for each in names}) == len(names)


@given(st.integers(0, 65535))
def test_a_length_that_lies_though_it_is_signed(length):
    payload = b"twelve bytes"
    head = struct.pack("!4sBB8sBBQQH4sB", wire.MAGIC, wire.VERSION, 1, GROUP, 1, 0, 99, 12, length, KEY.newest.name, 0)
    data = head + payload + hmac.digest(KEY.newest.secret, head + payload, "sha256")
    if length == len(payload):
        assert wire.unseal(KEY, GROUP, data).payload == payload
    else:
        assert reason(wire.unseal, KEY, GROUP, data) == "malformed"


@given(st.binary(max_size=wire.MAX_DATAGRAM + 8))
def test_noise_is_rejected(data):
    reason(wire.unseal, KEY, GROUP, data)


# --- payloads ---------------------------------------------------------------------------------------


@given(HEARTBEATS)
def test_heartbeats_round_trip(beat):
    assert wire.decode_heartbeat(wire.encode_heartbeat(beat)) == beat


def test_the_largest_heartbeat_of_a_full_group_fits_a_datagram():
    known = tuple(Known(n, 2**64 - 1, 2**64 - 1, True, True, True) for n in range(wire.MAX_KNOWN))
    every = 2**MAX_SERVERS - 1
    most = Heartbeat(1, Number(1, 1, 1), True, (65535,) * MAX_GROUPS, bytes(MAX_INFO), every, known)
    keys = Ring(b"", tuple(first(bytes([n]) * 32).newest for n in range(MAX_KEYS)))
    data = wire.seal(keys, GROUP, wire.Datagram(wire.HEARTBEAT, 1, 0, 1, 1, wire.encode_heartbeat(most)))
    assert len(data) <= wire.MAX_DATAGRAM


@given(views())
@settings(max_examples=50)
def test_views_round_trip_whole_and_in_parts(view):
    assert wire.decode_view(wire.encode_view(view)) == view
    assembler, parts = wire.Assembler(), wire.parts_of(view)
    assert [assembler.add(part) for part in parts] == [None] * (len(parts) - 1) + [view]


@given(U8, U64)
def test_hellos_round_trip(to, boot):
    assert wire.decode_hello(wire.encode_hello(to, boot)) == (to, boot)


def test_a_long_cause_is_cut_and_still_readable():
    view = View(Number(1, 2, 3), (), (), "é" * 150)  # 300 bytes; the cut may fall inside a character
    assert wire.decode_view(wire.encode_view(view)).cause == "é" * 100
    odd = View(Number(1, 2, 3), (), (), "a" + "é" * 150)
    assert wire.decode_view(wire.encode_view(odd)).cause.startswith("a" + "é" * 99)


@given(HEARTBEATS, st.data())
def test_heartbeats_cut_or_lengthened_are_malformed(beat, data):
    payload = wire.encode_heartbeat(beat)
    cut = data.draw(st.integers(0, len(payload) - 1))
    assert reason(wire.decode_heartbeat, payload[:cut]) == "malformed"
    assert reason(wire.decode_heartbeat, payload + b"\0") == "malformed"


@given(views(), st.data())
@settings(max_examples=50)
def test_views_cut_or_lengthened_are_malformed(view, data):
    whole = wire.encode_view(view)
    cut = data.draw(st.integers(0, len(whole) - 1))
    assert reason(wire.decode_view, whole[:cut]) == "malformed"
    assert reason(wire.decode_view, whole + b"\0") == "malformed"


def test_hellos_cut_or_lengthened_are_malformed():
    payload = wire.encode_hello(3, 77)
    for length in range(len(payload)):
        assert reason(wire.decode_hello, payload[:length]) == "malformed"
    assert reason(wire.decode_hello, payload + b"\0") == "malformed"


BEAT = struct.pack("!QQBQBQB", 5, 1, 0, 9, 0, 0, 0)  # then: powers, info, known
NUMBER = struct.pack("!QBQ", 1, 0, 9)  # then: cause, groups, members
WHOLE = struct.pack("!I", 3) + b"\xff\xff\x00"  # a table of one run


@pytest.mark.parametrize(
    "rest",
    [
        b"",
        bytes((17,)) + bytes(34) + b"\0\0",  # more groups than there can be, all of them there
        bytes((16,)) + bytes(31),
        bytes((255,)),
        b"\0" + bytes((65,)) + bytes(65) + b"\0",  # more info than there can be
        b"\0" + bytes((64,)) + bytes(10),
        b"\0\0" + bytes((wire.MAX_KNOWN + 1,)) + bytes(18 * (wire.MAX_KNOWN + 1)),  # more servers than there can be
        b"\0\0" + bytes((2,)) + bytes(18),
        b"\0\0" + bytes((1, MAX_SERVERS)) + bytes(17),  # a server that cannot be
        b"\0\0\0\0",
    ],
)
def test_heartbeats_whose_counts_lie(rest):
    assert reason(wire.decode_heartbeat, BEAT + rest) == "malformed"


@pytest.mark.parametrize(
    "rest",
    [
        b"",
        bytes((255,)) + b"short",
        b"\0\0",
        bytes((0, 17, 0)) + WHOLE * 17,
        bytes((0, 0, MAX_SERVERS + 1)) + bytes(2 * (MAX_SERVERS + 1)),
        bytes((0, 0, 1, MAX_SERVERS, 0)),
        bytes((0, 0, 1, 3, 65)) + bytes(65),
        bytes((0, 16, 1, 3)) + bytes(8),
        bytes((0, 2, 0)) + WHOLE,
        bytes((0, 1, 0)) + struct.pack("!I", 0xFFFFFFFF) + WHOLE[4:],
        bytes((0, 1, 0)) + struct.pack("!I", 0),  # no runs
        bytes((0, 1, 0)) + struct.pack("!I", 2) + b"\xff\xff",
        bytes((0, 1, 0)) + struct.pack("!I", 3) + b"\xff\xfe\x00",  # a bucket missing
        bytes((0, 1, 0)) + struct.pack("!I", 6) + b"\xff\xff\x00\x00\x00\x01",  # a bucket too many
        bytes((0, 1, 0)) + struct.pack("!I", 6) + b"\xff\xfe\x00\x00\x00\x00",  # two runs of one owner
        bytes((0, 1, 0)) + WHOLE + b"\0",
    ],
)
def test_views_whose_counts_lie(rest):
    assert reason(wire.decode_view, NUMBER + rest) == "malformed"


@given(st.binary(max_size=200), st.binary(max_size=200))
@settings(max_examples=300)
def test_noise_in_signed_payloads_is_malformed_and_nothing_else(data, more):
    for decode in (wire.decode_heartbeat, wire.decode_view, wire.decode_hello, wire.Assembler().add):
        malformed_or_fine(decode, data)
    malformed_or_fine(wire.decode_heartbeat, BEAT + data)
    malformed_or_fine(wire.decode_view, NUMBER + data)
    assembler = wire.Assembler()
    malformed_or_fine(assembler.add, NUMBER + struct.pack("!HH", 0, 2) + data)
    malformed_or_fine(assembler.add, NUMBER + struct.pack("!HH", 1, 2) + more)


@given(st.one_of(HEARTBEATS.map(wire.encode_heartbeat), views().map(wire.encode_view)), st.data())
def test_any_byte_of_a_good_payload_changed(payload, data):
    bad = bytearray(payload)
    for _ in range(data.draw(st.integers(1, 3))):
        bad[data.draw(st.integers(0, len(bad) - 1))] = data.draw(U8)
    for decode in (wire.decode_heartbeat, wire.decode_view):
        malformed_or_fine(decode, bytes(bad))


# --- parts ------------------------------------------------------------------------------------------


@given(st.data())
@settings(max_examples=30)
def test_parts_in_any_order_and_more_than_once(data):
    view = big_view(Number(4, 0, 9), 1500)
    parts = wire.parts_of(view)
    assert len(parts) == 4
    last = data.draw(st.sampled_from(parts))
    others = [part for part in parts if part != last]
    assembler = wire.Assembler()
    for part in data.draw(st.permutations(others + others)):
        assert assembler.add(part) is None
    assert assembler.add(last) == view


@given(st.data())
@settings(max_examples=30)
def test_two_views_interleaved_only_the_newer_one_comes_out(data):
    old, new = big_view(Number(4, 0, 9), 1500), big_view(Number(5, 0, 9), 900)
    old_parts, new_parts = wire.parts_of(old), wire.parts_of(new)
    assembler, seen = wire.Assembler(), []
    arrivals = data.draw(st.permutations([*old_parts, *new_parts]))
    for part in arrivals:
        seen.append(assembler.add(part))
    begun = min(arrivals.index(part) for part in new_parts)
    whole_before = all(arrivals.index(part) < begun for part in old_parts)
    found = [view for view in seen if view is not None]
    assert found[-1:] == [new] or old in found
    assert new in found
    assert (old in found[: found.index(new)]) == whole_before


def test_a_lost_part_is_made_good_by_the_next_sending():
    parts = wire.parts_of(big_view(Number(4, 0, 9), 1500))
    assembler = wire.Assembler()
    assert [assembler.add(part) for part in parts[1:]] == [None] * 3
    assert assembler.add(parts[0]) == big_view(Number(4, 0, 9), 1500)
    assert assembler.add(parts[0]) is None


def test_every_part_fits_a_datagram_and_the_largest_view_can_travel():
    runs = tuple((1, n % 2) for n in range(BUCKETS))
    members = tuple(Member(n, (1,) * MAX_GROUPS, bytes(MAX_INFO)) for n in range(MAX_SERVERS))
    trail = Trail(tuple((1, (n % 2, 2, 3)) for n in range(BUCKETS)))
    largest = View(Number(1, 1, 1), members, (Table(runs),) * MAX_GROUPS, "x" * 300, (trail,) * MAX_GROUPS)
    parts = wire.parts_of(largest)
    assert len(parts) <= wire.MAX_PARTS
    assert max(map(len, parts)) + HEADER + wire.HMAC_BYTES <= wire.MAX_DATAGRAM


@pytest.mark.parametrize(
    ("part", "parts", "size"),
    [(0, 0, 5), (1, 1, 5), (9, 3, 5), (0, wire.MAX_PARTS + 1, 5), (0, 2, 0), (0, 2, wire.PART + 1), (65535, 65535, 5)],
)
def test_parts_whose_numbers_lie(part, parts, size):
    assert reason(wire.Assembler().add, NUMBER + struct.pack("!HH", part, parts) + bytes(size)) == "malformed"


def test_a_view_that_is_not_the_one_announced():
    whole = wire.encode_view(View(Number(1, 0, 9), (), ()))
    other = struct.pack("!QBQHH", 2, 0, 9, 0, 1)
    assembler = wire.Assembler()
    assert reason(assembler.add, other + whole) == "malformed"
    assert assembler.add(NUMBER + struct.pack("!HH", 0, 1) + whole) == View(Number(1, 0, 9), (), ())


def test_parts_that_disagree_on_how_many_they_are():
    whole = wire.encode_view(View(Number(1, 0, 9), (), ()))
    assembler = wire.Assembler()
    assert assembler.add(NUMBER + struct.pack("!HH", 5, 6) + b"x") is None
    assert reason(assembler.add, NUMBER + struct.pack("!HH", 0, 2) + whole[:9]) == "malformed"
    assert assembler.add(NUMBER + struct.pack("!HH", 0, 1) + whole) == View(Number(1, 0, 9), (), ())


# --- fixed vectors: composed by hand, field by field; if one of them must change, so must VERSION ----

BOOT, COORDINATOR = 0x0123456789ABCDEF, 0x1111222233334444

VECTORS = {
    "heartbeat": (
        "534b5059 03 01 92c1f2453636a7b6 02 01 0123456789abcdef 0000000000000a0b 0055 4897a24c 00"
        "0000000000000102 0000000000000007 00 1111222233334444 03 0000000000000006 01 05"
        "02 0001 ffff 06 02005e000001"
        "02 00 1111222233334444 0000000000000200 02 3f aaaabbbbccccdddd 00000000000003ff 35"
        "3e0cbb0e2e077521f06ffe1d3cf65832408e9b57902624a9133344d7d274db8d",
        (wire.HEARTBEAT, 2, 1, BOOT, 0x0A0B),
        Heartbeat(
            beat=0x102,
            number=Number(7, 0, COORDINATOR),
            leaving=True,
            powers=(1, 65535),
            info=bytes.fromhex("02005e000001"),
            hears=0b101,
            known=(
                Known(0, COORDINATOR, 0x200, history=True, leaving=False, ready=False),
                Known(63, 0xAAAABBBBCCCCDDDD, 0x3FF, False, True, True, True, True),
            ),
            history=True,
            settled=6,
        ),
    ),
    "hello": (
        "534b5059 03 03 92c1f2453636a7b6 02 00 0123456789abcdef 0000000000000001 0009 4897a24c 00"
        "00 1111222233334444"
        "f92e5deec76df2b124d7cb7ac82cb21decd35af53526813f01f669c52481baff",
        (wire.HELLO, 2, 0, BOOT, 1),
        (0, COORDINATOR),
    ),
    "view": (
        "534b5059 03 02 92c1f2453636a7b6 00 00 1111222233334444 0000000000000010 0055 4897a24c 00"
        "0000000000000007 00 1111222233334444 0000 0001"
        "0000000000000007 00 1111222233334444 06 6a6f696e2032 01 02"
        "00 0001 00 02 0003 02 beef"
        "00000009 3fff00 7fff02 3fff00"
        "0000000b 3fff00 bffe 02 0201 0000 00"
        "2a1e90232af62a32b8d597933cb1b7786a75c8bdf91bd9407eab5fd018044884",
        (wire.VIEW_PART, 0, 0, COORDINATOR, 0x10),
        View(
            Number(7, 0, COORDINATOR),
            (Member(0, (1,)), Member(2, (3,), b"\xbe\xef")),
            (Table(((16384, 0), (32768, 2), (16384, 0))),),
            "join 2",
            (Trail(((16384, ()), (49151, (2, 1)), (1, ()))),),
        ),
    ),
}


@pytest.mark.parametrize("name", VECTORS)
def test_fixed_vectors(name):
    text, (kind, sender, lan, boot, counter), value = VECTORS[name]
    data = bytes.fromhex(text)
    if name == "heartbeat":
        payload = wire.encode_heartbeat(value)
    elif name == "hello":
        payload = wire.encode_hello(*value)
    else:
        (payload,) = wire.parts_of(value)
    assert wire.seal(KEY, GROUP, wire.Datagram(kind, sender, lan, boot, counter, payload)).hex() == data.hex()
    datagram = wire.unseal(KEY, GROUP, data)
    assert datagram == wire.Datagram(kind, sender, lan, boot, counter, payload)
    decode = {"heartbeat": wire.decode_heartbeat, "hello": wire.decode_hello, "view": wire.Assembler().add}[name]
    assert decode(datagram.payload) == value


def test_the_types_have_their_numbers():
    assert (wire.HEARTBEAT, wire.VIEW_PART, wire.HELLO, wire.ASK, wire.ANSWER) == (1, 2, 3, 4, 5)
