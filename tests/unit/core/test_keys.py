"""Rotations of the cluster's key in any order, over a network that loses and delays: who understands whom."""

import itertools

import pytest
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from safekit_py.core.keys import Heard, awaited, choose, dropped, merged, rotated
from safekit_py.model.keys import MAX_KEYS, Key, Ring, first

QUIET, LATE = 10, 5  # of the model's clock; nothing is under way for longer than LATE


class Server:
    """One with its file, which survives, and what it knows of the others, which does not."""

    def __init__(self, ring):
        self.ring, self.boot = ring, 0
        self.restart()

    def restart(self):
        self.boot += 1
        self.holds, self.signed, self.attempts = {}, {}, {}

    def known(self):
        return {
            who: Heard(holds, {n: w for (whose, n), w in self.signed.items() if whose == who})
            for who, holds in self.holds.items()
        }


class Cluster:
    def __init__(self, size):
        self.now, self.made = 0, itertools.count(2)
        self.servers = [Server(first(bytes(32))) for _ in range(size)]
        self.under_way, self.files = [], []
        self.missed = []

    def send(self, a, b):
        mine = self.servers[a]
        attempt = mine.attempts[b] = mine.attempts.get(b, -1) + 1
        key = choose(mine.ring, mine.holds.get(b, ()), attempt)
        names = (key.name, *(each.name for each in mine.ring.keys if each != key))
        self.under_way.append((self.now, a, b, mine.boot, names, b in mine.holds))

    def deliver(self, index):
        """Whether it was understood."""
        _, a, b, boot, names, told = self.under_way.pop(index)
        to = self.servers[b]
        understood = names[0] in to.ring.named
        if told and not understood:
            self.missed.append((self.now, a, b))
        if understood and boot == self.servers[a].boot:  # of an earlier boot it is stale, and counts for nothing
            to.holds[a] = names
            begun = to.signed.get((a, names[0]), (self.now, 0))[0]
            to.signed[a, names[0]] = (begun, self.now)
        return understood

    def copy(self, ring, b):
        found = merged(self.servers[b].ring, ring)
        if len(found.keys) <= MAX_KEYS:
            self.servers[b].ring = found

    def rotate(self, a):
        if len(self.servers[a].ring.keys) < MAX_KEYS:
            self.servers[a].ring = rotated(self.servers[a].ring, next(self.made).to_bytes(32, "big"))

    def drop(self, a):
        known = self.servers[a].known()
        others = {n: known.get(n, Heard()) for n in range(len(self.servers)) if n != a}
        if not awaited(self.servers[a].ring, others, self.now, QUIET):
            self.servers[a].ring = dropped(self.servers[a].ring)

    def wait(self, time):
        for _ in range(time):
            self.now += 1
            for index in [i for i, m in enumerate(self.under_way) if self.now - m[0] >= LATE][::-1]:
                self.deliver(index)

    def pulse(self):
        for a, b in itertools.permutations(range(len(self.servers)), 2):
            self.send(a, b)
            self.deliver(-1)

    # --- what may happen: each takes two numbers ------------------------------------------------

    def step_send(self, a, b):
        if a % len(self.servers) != b % len(self.servers):
            self.send(a % len(self.servers), b % len(self.servers))

    def step_deliver(self, a, _):
        if self.under_way:
            self.deliver(a % len(self.under_way))

    def step_lose(self, a, _):
        if self.under_way:
            self.under_way.pop(a % len(self.under_way))

    def step_pulse(self, *_):
        self.pulse()

    def step_wait(self, a, _):
        self.wait(1 + a % (QUIET + 2))

    def step_settle(self, *_):
        for _ in range(QUIET + 1):
            self.pulse()
            self.wait(1)

    def step_rotate(self, a, _):
        self.rotate(a % len(self.servers))

    def step_copy(self, a, b):
        self.copy(self.servers[a % len(self.servers)].ring, b % len(self.servers))

    def step_spread(self, a, _):
        for b in range(len(self.servers)):
            self.step_copy(a, b)

    def step_keep(self, a, _):
        self.files.append(self.servers[a % len(self.servers)].ring)

    def step_stale(self, a, b):
        if self.files:
            self.copy(self.files[a % len(self.files)], b % len(self.servers))

    def step_drop(self, a, _):
        self.drop(a % len(self.servers))

    def step_restart(self, a, _):
        self.servers[a % len(self.servers)].restart()


STEPS = st.sampled_from([name for name in dir(Cluster) if name.startswith("step_")])


@settings(max_examples=examples(300), deadline=None)
@given(st.integers(2, 3), st.lists(st.tuples(STEPS, st.integers(0, 11), st.integers(0, 11)), min_size=10, max_size=60))
def test_who_has_said_what_it_holds_misses_nothing_and_who_shares_a_key_is_understood(size, steps):
    cluster = Cluster(size)
    origin = cluster.servers[0].ring.origin
    for what, one, two in steps:
        getattr(cluster, what)(one, two)
        assert cluster.missed == []
        assert {each.ring.origin for each in cluster.servers} == {origin}
        assert all(1 <= len(each.ring.keys) <= MAX_KEYS for each in cluster.servers)
    cluster.under_way.clear()
    for _ in range(MAX_KEYS):
        cluster.pulse()
    for a, b in itertools.permutations(range(size), 2):
        if set(cluster.servers[a].ring.keys) & set(cluster.servers[b].ring.keys):
            cluster.send(a, b)
            assert cluster.deliver(-1)


@given(st.permutations(range(4)), st.integers(0, 3))
def test_a_rotation_ends_on_every_server_in_whatever_order_the_file_is_copied(order, maker):
    cluster = Cluster(4)
    cluster.pulse()
    cluster.rotate(maker)
    new = cluster.servers[maker].ring.newest
    for b in order:
        cluster.pulse()
        cluster.drop(b)  # too early: somebody has only the old one
        cluster.copy(cluster.servers[maker].ring, b)
    for _ in range(2):  # who copied last is told of only after its first beat
        cluster.pulse()
        cluster.wait(1)
    for server in cluster.servers:
        assert len(server.ring.keys) == 2
    cluster.wait(QUIET)
    for a in order:
        cluster.drop(a)
        cluster.pulse()
    assert {server.ring.keys for server in cluster.servers} == {(new,)}
    assert cluster.missed == []


def test_an_old_key_stays_while_somebody_has_signed_with_it_or_not_at_all():
    ring = rotated(first(bytes(32)), bytes([1] * 32))
    old, new = ring.oldest.name, ring.newest.name
    cases = {
        "never heard": Heard(),
        "does not hold it": Heard((old,), {old: (0, 100)}),
        "signs with it not yet": Heard((old, new), {old: (0, 100)}),
        "signs with it since just now": Heard((new, old), {new: (95, 100)}),
        "has just signed with the old": Heard((new, old), {new: (0, 100), old: (0, 95)}),
        "has lost it": Heard((old,), {new: (0, 80), old: (0, 80)}),
    }
    assert awaited(ring, cases, 100, QUIET) == set(cases)
    assert awaited(ring, {"long since": Heard((new, old), {new: (80, 100), old: (0, 80)})}, 100, QUIET) == set()


SECRETS = st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=4, unique=True)


@given(SECRETS, SECRETS)
def test_rings_that_take_each_others_keys_are_equal_though_both_made_some_at_the_same_time(mine, theirs):
    one = two = first(bytes(32))
    for secret in mine:
        one = rotated(one, secret)
    for secret in theirs:
        two = rotated(two, secret)
    both = merged(one, two)
    assert both == merged(two, one)
    assert both == merged(both, one)
    assert set(both.keys) == set(one.keys) | set(two.keys)
    assert both.newest in (one.newest, two.newest)


def test_what_was_dropped_stays_dropped_and_another_clusters_keys_are_refused():
    old = first(bytes(32))
    ring = dropped(rotated(old, bytes([1] * 32)))
    assert ring.keys == (Key(2, bytes([1] * 32)),)
    assert merged(ring, old) == ring
    with pytest.raises(ValueError, match="another origin"):
        merged(ring, first(bytes([9] * 32)))


def test_what_is_chosen():
    ring = Ring(b"", (Key(1, b"1"), Key(2, b"2"), Key(3, b"3")))
    names = [key.name for key in ring.keys]
    assert choose(ring, names).number == 3
    assert choose(ring, names[:2]).number == 2
    assert choose(ring, [names[0], b"????"]).number == 1
    assert [choose(ring, (), n).number for n in range(4)] == [1, 2, 3, 1]
