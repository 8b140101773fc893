"""A replication connection: nobody without the cluster's key is listened to, silence is noticed, order is kept."""

import errno
import os
import socket
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safekit_py.plugins.mirror.volume import link as module
from safekit_py.plugins.mirror.volume.frames import Kind, WireError, head, words
from safekit_py.plugins.mirror.volume.link import MUCH, Link, Names, proof

from safekit_py.core.keys import dropped, rotated
from safekit_py.model.keys import first

OLD = first(b"k" * 32)
BOTH = rotated(OLD, b"n" * 32)
NEW = dropped(BOTH)
HELD = [OLD.newest.name.hex()]


def names(me, peer, ring=OLD, module="m"):
    return Names(module, lambda: ring, me, peer)


A, B = names("A", "B"), names("B", "A")


class Both:
    """Two ends, and what each has read."""

    def __init__(self, left=A, right=B, timeout=5.0):
        self.sockets = socket.socketpair()
        self.links = [Link(each, names, timeout) for each, names in zip(self.sockets, (left, right), strict=True)]
        self.read = [[], []]

    def turn(self, rounds=4):
        for _ in range(rounds):
            for side, link in enumerate(self.links):
                link.flush()
                self.read[side] += [(frame.kind, bytes(frame.payload)) for frame in link.read()]

    def close(self):
        for each in self.links:
            each.close()


@pytest.fixture
def both():
    made = Both()
    yield made
    made.close()


def test_two_with_the_key_prove_it_to_each_other(both):
    assert not any(link.proven for link in both.links)
    both.turn()
    assert all(link.proven for link in both.links)
    both.links[0].say(Kind.HELLO, {"a": 1})
    both.links[1].frame(Kind.ACK, number=3)
    both.turn()
    assert both.read == [[(Kind.ACK, b"")], [(Kind.HELLO, b'{"a": 1}')]]


@pytest.mark.parametrize(("left", "right", "key"), [(OLD, BOTH, 1), (BOTH, OLD, 1), (BOTH, BOTH, 2), (NEW, BOTH, 2)])
def test_the_proof_is_by_the_newest_key_that_both_hold(left, right, key):
    both = Both(names("A", "B", left), names("B", "A", right))
    try:
        both.turn()
        assert all(link.proven and link._key.number == key for link in both.links)
    finally:
        both.close()


def test_keys_that_come_and_go_do_not_touch_a_connection_that_stands():
    ring = OLD
    both = Both(Names("m", lambda: ring, "A", "B"), B)
    try:
        both.turn()
        ring = NEW
        both.links[1].say(Kind.HELLO, {})
        both.turn()
        assert both.read[0] == [(Kind.HELLO, b"{}")]
    finally:
        both.close()


@pytest.mark.parametrize(
    "other",
    [
        names("B", "A", first(b"x" * 32)),
        names("B", "A", NEW),
        names("B", "A", module="another"),
        names("C", "A"),
        names("B", "C"),
        names("A", "B"),
    ],
    ids=["key", "dropped key", "module", "name", "other peer", "itself"],
)
def test_anybody_else_is_refused(other):
    both = Both(right=other)
    both.links[1].frame(Kind.WRITE, size=4, payload=b"evil")
    try:
        with pytest.raises(ConnectionError):
            both.turn()
        assert not both.links[0].proven
        assert both.read[0] == []
    finally:
        both.close()


class Hand:
    """A connection whose other end is made by hand."""

    def __init__(self, names=A, timeout=5.0):
        self.near, self.far = socket.socketpair()
        self.far.settimeout(5)
        self.link = Link(self.near, names, timeout)
        self.link.flush()
        self.nonce = self.hear()["nonce"]

    def hear(self):
        from safekit_py.plugins.mirror.volume.frames import decode

        found, _ = decode(memoryview(self.far.recv(1 << 16)))
        return found.words()

    def say(self, values, kind=Kind.AUTH):
        self.far.sendall(words(kind, values))
        return list(self.link.read())

    def close(self):
        self.near.close()
        self.far.close()


@pytest.fixture
def hand():
    made = Hand()
    yield made
    made.close()


def test_frames_before_the_proof_end_it(hand):
    with pytest.raises(WireError, match="not proved"):
        hand.say({"generation": {}}, Kind.HELLO)


def test_frames_between_nonce_and_proof_end_it(hand):
    hand.say({"nonce": "n", "module": "m", "from": "B", "keys": HELD})
    hand.far.sendall(head(Kind.WRITE, 0, 4, 4, 1, 0) + b"evil")
    with pytest.raises(WireError, match="not proved"):
        list(hand.link.read())


def test_its_own_words_sent_back_prove_nothing(hand):
    hand.say({"nonce": hand.nonce, "module": "m", "from": "B", "keys": HELD})
    hand.link.flush()
    mine = hand.hear()["proof"]
    with pytest.raises(WireError, match="key"):
        hand.say({"proof": mine})
    assert not hand.link.proven


def test_the_proof_of_another_connection_proves_nothing(hand):
    hand.say({"nonce": "theirs", "module": "m", "from": "B", "keys": HELD})
    with pytest.raises(WireError, match="key"):
        hand.say({"proof": proof(OLD.newest, B, "me", "theirs", "0" * 32)})


def test_a_right_proof_by_hand_is_taken(hand):
    """So the refusals above are those of the proof, and of nothing else."""
    hand.say({"nonce": "theirs", "module": "m", "from": "B", "keys": HELD})
    hand.say({"proof": proof(OLD.newest, B, "me", "theirs", hand.nonce)})
    assert hand.link.proven
    frames = hand.say({"hello": 1}, Kind.HELLO)
    assert frames[0].words() == {"hello": 1}


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"nonce": "n"},
        {"module": "m"},
        {"proof": "x"},
        {"module": ["m"], "from": "B"},
        {"nonce": 7, "module": "m", "from": "B", "keys": HELD},
        {"nonce": "n", "module": "m", "from": "B"},
        {"nonce": "n", "module": "m", "from": "B", "keys": HELD[0]},
        {"nonce": "n", "module": "m", "from": "B", "keys": [[], {}, None, 7]},
        {"nonce": "n", "module": "m", "from": "B", "keys": {HELD[0]: 1}},
        {"nonce": "\ud800", "module": "m", "from": "B", "keys": HELD},
    ],
)
def test_a_greeting_that_lacks_something_ends_it(hand, said):
    with pytest.raises(WireError):
        hand.say(said)


@pytest.mark.parametrize("said", [{}, {"proof": None}, {"proof": 7}, {"proof": ["x"]}, {"proof": "é"}])
def test_a_proof_that_is_none_ends_it(hand, said):
    hand.say({"nonce": "n", "module": "m", "from": "B", "keys": HELD})
    with pytest.raises(WireError):
        hand.say(said)


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.binary(min_size=1, max_size=80), max_size=5))
def test_random_bytes_end_it_or_wait_for_more(chunks):
    hand = Hand()
    try:
        for chunk in chunks:
            hand.far.sendall(chunk)
            assert list(hand.link.read()) == []
    except ConnectionError:
        pass
    finally:
        assert not hand.link.proven
        hand.close()


def test_silence_is_noticed_and_life_is_shown(both):
    both.turn()
    now = time.monotonic()
    both.links[0].tick(now + 2)
    both.turn()
    assert both.links[1].heard >= now
    assert both.read[1] == [], "signs of life are no frames for others"
    with pytest.raises(ConnectionError, match="no word"):
        both.links[0].tick(time.monotonic() + 5.1)


def test_one_that_connects_and_says_nothing_is_noticed():
    hand = Hand(timeout=1.0)
    try:
        with pytest.raises(ConnectionError, match="no word"):
            hand.link.tick(time.monotonic() + 1.1)
    finally:
        hand.close()


def test_the_end_of_the_other_side_is_an_error(both):
    both.turn()
    both.sockets[1].close()
    with pytest.raises(ConnectionError):
        list(both.links[0].read())
    both.links[0].frame(Kind.PING)
    with pytest.raises(ConnectionError):
        both.links[0].flush()


def test_a_connection_that_is_just_being_made_is_no_error():
    server = socket.create_server(("127.0.0.1", 0), backlog=0)
    made = [socket.socket() for _ in range(4)]
    try:
        for each in made:  # the last ones find the queue of the listener full
            each.setblocking(False)
            each.connect_ex(server.getsockname())
        link = Link(made[-1], A, 5.0)
        link.flush()
        assert link.waiting > 0
    finally:
        for each in (*made, server):
            each.close()


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.binary(max_size=70_000), min_size=1, max_size=60))
def test_what_the_kernel_takes_in_parts_arrives_in_order(payloads):
    both = Both()
    try:
        both.turn()
        for number, payload in enumerate(payloads):
            both.links[0].frame(Kind.FILL, number=number, size=len(payload), payload=payload)
        assert both.links[0].waiting >= sum(map(len, payloads))
        while both.links[0].waiting:
            both.turn(1)
        both.turn()
        assert [payload for _, payload in both.read[1]] == payloads
    finally:
        both.close()


def test_much_that_waits_is_seen(both):
    both.turn()
    assert not both.links[0].full
    block = bytes(1 << 20)
    while not both.links[0].full:
        both.links[0].frame(Kind.FILL, payload=block)
    assert both.links[0].waiting > MUCH
    while both.links[0].waiting:
        both.turn(1)
    assert not both.links[0].full


def test_the_kernel_gives_up_on_what_is_not_acknowledged_in_time():
    server = socket.create_server(("127.0.0.1", 0))
    made = socket.create_connection(server.getsockname())
    try:
        Link(made, A, 2.5)
        assert made.getsockopt(socket.IPPROTO_TCP, module.TCP_USER_TIMEOUT) == 2500
        assert made.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    finally:
        made.close()
        server.close()


def test_an_error_of_the_kernel_keeps_its_number(both):
    both.turn()
    os.close(os.dup(both.sockets[0].fileno()))
    both.sockets[0].close()
    both.links[0].frame(Kind.PING)
    with pytest.raises(ConnectionError) as caught:
        both.links[0].flush()
    assert caught.value.errno == errno.EBADF
