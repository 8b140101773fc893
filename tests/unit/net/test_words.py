"""The words of two servers on the wire: vectors, round trips in any order, and every kind of damage."""

import base64
import hashlib
import json
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safekit_py.model.keys import first
from safekit_py.net import wire, words
from safekit_py.net.words import Assembler, Saying


def noise(size):
    """Text that cannot be made much shorter."""
    return base64.b85encode(hashlib.shake_256(b"words").digest(size)).decode()[:size]


U64 = st.integers(0, 2**64 - 1)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=30,
)  # fmt: skip
WORDS = st.dictionaries(st.text(max_size=8), JSON, max_size=6)


def sayings_of(data, version=1):
    pieces = words.pieces_of(data)
    return [Saying(1, 2, 3, version, 4, part, len(pieces), piece) for part, piece in enumerate(pieces)]


def value_or_malformed(decode, data):
    """What it makes of the bytes; any error but one that says malformed goes on."""
    try:
        return decode(data)
    except wire.Rejected as rejected:
        if rejected.reason != "malformed":
            raise
        return None


def test_the_wire_is_this_one():
    """A change of these bytes is a change of the wire: servers of two versions would not hear each other."""
    bare = words.encode(Saying(sent=1, boot=2, echo=3, version=4, have=5))
    assert bare.hex() == "".join(f"{n:016x}" for n in (1, 2, 3, 4, 5)) + "00000000"
    whole = words.encode(Saying(2**64 - 1, 0, 0, 1, 0, 0, 1, b"{}"))
    assert whole.hex() == "ff" * 8 + "00" * 16 + "0000000000000001" + "00" * 8 + "0000" + "0001" + "7b7d"
    sealed = wire.seal(first(bytes(range(32))), bytes(8), wire.Datagram(words.BEAT, 1, 0, 7, 9, whole))
    assert sealed[:34].hex() == "534b505903060000000000000000010000000000000000070000000000000009002e"
    assert sealed[34:39].hex() == "4897a24c00"
    assert sealed[-32:].hex() == "bd9f541408c267a7e03bb68fee596d30828b648dcaccd8215ef4987e561694fb"


@given(U64, U64, U64, st.integers(1, 2**64 - 1), U64)
def test_a_heartbeat_comes_back_as_it_was(sent, boot, echo, version, have):
    saying = Saying(sent, boot, echo, version, have)
    assert words.decode(words.encode(saying)) == saying


@given(WORDS, st.data())
def test_words_come_back_whole_in_whatever_order_and_however_often_the_pieces_come(said, data):
    packed = words.pack({**said, "filler": noise(data.draw(st.integers(0, 6000)))})
    sayings = [words.decode(words.encode(each)) for each in sayings_of(packed)]
    order = data.draw(st.permutations(sayings * 2))
    assembler, found = Assembler(), []
    for each in order:
        if (whole := assembler.add(each)) is not None:
            found.append(whole)
    assert found == [json.loads(zlib.decompress(packed))]
    assert assembler.have == 1


@given(st.binary(max_size=1300))
def test_whatever_bytes_come_decoding_ends(data):
    saying = value_or_malformed(words.decode, data)
    assert saying is None or words.encode(saying) == data


@given(st.binary(max_size=300) | st.text(max_size=100).map(str.encode))
def test_whatever_words_come_they_are_an_object_or_malformed(data):
    for each in (data, zlib.compress(data)):
        found = value_or_malformed(words.unpack, each)
        assert found is None or isinstance(found, dict)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"1",
        b'{"a":NaN}',
        b'{"a":-Infinity}',
        b'{"a":1',
        b"\xff",
        b'{"a":' + b"[" * 17 + b"]" * 17 + b"}",
        b"[" * 30_000,
        b'{"a":' + b"9" * 29_000 + b"}",
    ],
)
def test_words_that_are_none_are_malformed(data):
    with pytest.raises(wire.Rejected, match="malformed"):
        words.unpack(zlib.compress(data))


def test_compressed_words_are_read_within_bounds():
    good = words.pack({"a": 1})
    assert words.unpack(good) == {"a": 1}
    bomb = zlib.compress(b'{"a":"' + b"x" * 100_000_000 + b'"}', 9)
    for bad in (bomb, good[:-1], good + b"x", b"", b'{"a":1}', zlib.compress(b" " * 30_001)):
        with pytest.raises(wire.Rejected, match="malformed"):
            words.unpack(bad)


@pytest.mark.parametrize(
    "bad",
    [
        Saying(1, 2, 3, 0, 4),  # version 0
        Saying(1, 2, 3, 1, 4, 1, 0),  # a part of none
        Saying(1, 2, 3, 1, 4, 0, 0, b"x"),
        Saying(1, 2, 3, 1, 4, 1, 1, b"x"),
        Saying(1, 2, 3, 1, 4, 0, 1, b""),
        Saying(1, 2, 3, 1, 4, 0, 2, b"short"),  # not the last, and not full
        Saying(1, 2, 3, 1, 4, 0, words.MAX_PARTS + 1, b"x" * words.PIECE),
        Saying(1, 2, 3, 1, 4, 0, 1, b"x" * (words.PIECE + 1)),
    ],
)
def test_a_heartbeat_that_lies_about_its_pieces_is_malformed(bad):
    with pytest.raises(wire.Rejected, match="malformed"):
        words.decode(words.encode(bad))


def test_newer_words_replace_unfinished_ones_and_older_ones_are_left_alone():
    old, new = (words.pack({"n": n, "x": noise(4000)}) for n in (1, 2))
    assembler = Assembler()
    first, *rest = sayings_of(old, 1)
    assert assembler.add(first) is None
    for each in sayings_of(new, 2)[:-1]:
        assert assembler.add(each) is None
    for each in rest:
        assert assembler.add(each) is None, "older words that come late"
    assert assembler.add(sayings_of(new, 2)[-1])["n"] == 2
    assert assembler.add(sayings_of(old, 1)[0]) is None
    assert assembler.have == 2


def test_words_that_cannot_be_read_are_not_confirmed():
    assembler = Assembler()
    with pytest.raises(wire.Rejected):
        assembler.add(Saying(1, 2, 3, 7, 0, 0, 1, zlib.compress(b"[]")))
    assert assembler.have == 0
    assert assembler.add(Saying(1, 2, 3, 8, 0, 0, 1, words.pack({}))) == {}


def test_the_largest_words_fit_and_no_larger_ones():
    size = words.MAX_WORDS - len('{"x":""}')
    for most in ({"x": "y" * size}, {"x": noise(size).replace('"', "'").replace("\\", "/")}):
        data = words.pack(most)
        sayings = sayings_of(data)
        assert all(len(words.encode(each)) + 66 <= wire.MAX_DATAGRAM for each in sayings)
        assembler = Assembler()
        found = [assembler.add(words.decode(words.encode(each))) for each in sayings]
        assert found[-1] == most
    least = [Saying(1, 2, 3, 1, 4, n, words.MAX_PARTS, b"x" * words.PIECE) for n in range(words.MAX_PARTS)]
    assert len(zlib.compress(hashlib.shake_256(b"").digest(words.MAX_WORDS), words.LEVEL)) <= len(least) * words.PIECE
    with pytest.raises(ValueError, match="30001"):
        words.pack({"x": most["x"] + "y"})
    with pytest.raises(ValueError, match="nested"):
        words.pack({"x": json.loads("[" * 16 + "]" * 16)})
    words.pack({"x": json.loads("[" * 15 + "]" * 15)})
