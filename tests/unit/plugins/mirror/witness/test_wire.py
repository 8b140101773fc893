"""The witness's datagrams: a vector, round trips, and every kind of damage."""

import hmac
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from safekit_py.plugins.mirror.witness import wire
from safekit_py.plugins.mirror.witness.protocol import Answer, Request

from safekit_py.core.keys import dropped, rotated
from safekit_py.model.keys import Key, first

KEY = wire.Key(Key(1, bytes(range(32))))
ASKED = Request("one", "acquire", 1, 2, "d1", "d0", 3_000_000_000)
U64 = st.integers(0, 2**64 - 1)
NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=40)


def reason(call, *args):
    with pytest.raises(wire.Rejected) as caught:
        call(*args)
    return caught.value.reason


def test_the_wire_is_this_one():
    data = wire.ask(KEY, "one,two", "db", ASKED)
    assert data[:6] == b"SKPW\x02\x01"
    assert json.loads(data[14:-32]) == {
        "cluster": "one,two", "module": "db", "server": "one", "verb": "acquire", "nonce": 1, "token": 2,
        "data": "d1", "previous": "d0", "lease": 3_000_000_000,
    }  # fmt: skip
    assert data[6:14].hex() == "f75e2d57fece2d77"
    assert data[-32:].hex() == "a1203163f47f15fd97c4a5f7aed1c3e7f319c30efc07059237a826bdb6146d83"


@given(NAMES, NAMES, NAMES, U64, U64, NAMES, NAMES, st.integers(500_000_000, 60_000_000_000))
def test_requests_and_answers_come_back_as_they_were(cluster, module, server, nonce, token, data, previous, lease):
    request = Request(server, "acquire", nonce, token, data, previous, lease)
    sealed = wire.ask(KEY, cluster, module, request)
    assert wire.asked(KEY.open(wire.REQUEST, sealed)) == (cluster, module, request)
    answer, held = Answer(nonce, "refused", token, data), (KEY.shared, b"four")
    assert wire.answered(KEY.open(wire.ANSWER, wire.answer(KEY, answer, held))) == (answer, held)


def test_what_is_damaged_or_anothers_is_rejected():
    good = wire.ask(KEY, "one,two", "db", ASKED)
    for at in range(len(good)):
        damaged = good[:at] + bytes((good[at] ^ 1,)) + good[at + 1 :]
        expected = "magic" if at < 4 else "version" if at == 4 else "key" if 6 <= at < 14 else "auth"
        assert reason(KEY.open, wire.REQUEST, damaged) == expected, at
    for cut in range(len(good)):
        assert reason(KEY.open, wire.REQUEST, good[:cut]) == ("short" if cut < 46 else "auth")
    assert reason(KEY.open, wire.REQUEST, bytes(1401)) == "long"
    assert reason(wire.Key(Key(1, bytes(32))).open, wire.REQUEST, good) == "key"
    assert reason(KEY.open, wire.ANSWER, good) == "kind", "a request that is sent back is no answer"


@pytest.mark.parametrize(
    "change",
    [
        {"lease": 1},
        {"lease": 61_000_000_000},
        {"lease": True},
        {"lease": -1},
        {"nonce": 2**64},
        {"nonce": "1"},
        {"verb": "steal"},
        {"data": ""},
        {"data": "x" * 201},
        {"server": ""},
        {"module": ""},
        {"cluster": None},
        {"more": 1},
    ],
)
def test_a_request_that_says_nonsense_is_malformed(change):
    content = {"cluster": "c", "module": "m", **{k: getattr(ASKED, k) for k in ASKED.__slots__}}
    assert wire.asked(content)[2] == ASKED
    assert reason(wire.asked, {**content, **change}) == "malformed"


@given(st.binary(max_size=200))
def test_whatever_is_sealed_reading_ends(content):
    sealed = KEY.seal(wire.REQUEST, {})[:14] + content
    sealed += hmac.digest(KEY._secret, sealed, "sha256")
    try:
        wire.asked(KEY.open(wire.REQUEST, sealed))
    except wire.Rejected as rejected:
        if rejected.reason != "malformed":
            raise


@pytest.mark.parametrize("held", ["00", [7], ["zz"], [["00"]], {}, None])
def test_an_answer_whose_key_names_are_none_is_malformed(held):
    content = {"nonce": 1, "verdict": "granted", "token": 2, "reason": "", "keys": ["00112233"]}
    assert wire.answered(dict(content)) == (Answer(1, "granted", 2, ""), (bytes.fromhex("00112233"),))
    assert reason(wire.answered, {**content, "keys": held}) == "malformed"


def test_the_owner_of_records_is_the_same_through_a_rotation():
    ring = first(bytes(32))
    other = rotated(ring, bytes([1] * 32))
    assert wire.owner(ring) == wire.owner(other) == wire.owner(dropped(other))
    assert wire.owner(ring) != wire.owner(first(bytes([1] * 32)))
