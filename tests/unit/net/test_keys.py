"""A new key for servers that hear each other on loopback: nothing is refused on the way, the old one afterwards."""

import contextlib
import hmac
import secrets
import socket
import struct
import time
from dataclasses import replace

import pytest

from safekit_py.core import keys as core
from safekit_py.core.group import Settings
from safekit_py.model.keys import MAX_KEYS, NAME, first
from safekit_py.net import wire, words
from safekit_py.net.keys import Keys, Signer
from safekit_py.net.transport import Callbacks, GroupTransport, LanAddresses, PulseThread

OLD = first(bytes(range(32)))
BOTH = core.rotated(OLD, bytes(range(1, 33)))
NEW = core.dropped(BOTH)
GROUP = wire.group_id("cluster", "keys")
PULSE = 25_000_000
HOSTS = {n: f"127.0.4.{n + 1}" for n in range(4)}
TAP = 3  # a server that never speaks; its address is a socket of the test


def until(holds, limit=6.0):
    end = time.monotonic() + limit
    while not holds():
        assert time.monotonic() < end, "not in time"
        time.sleep(0.01)


class Servers:
    """Three servers, each with keys of its own, and the tap, which is sent everything too."""

    def __init__(self, threads):
        self.threads = threads
        self.tap = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.tap.bind((HOSTS[TAP], 0))
        self.tap.settimeout(3)
        self.port = self.tap.getsockname()[1]
        self.keys = [Keys(OLD) for _ in range(3)]
        self.groups, self.views = {}, {n: [] for n in range(3)}

    def start(self, me):
        lan = LanAddresses("lan", HOSTS[me], self.port, {n: h for n, h in HOSTS.items() if n != me})
        installed = self.views[me]
        self.groups[me] = GroupTransport(
            Settings(me, tuple(HOSTS), 1, PULSE, slost=40, mlost=40),
            keys=self.keys[me],
            group=GROUP,
            boot=secrets.randbits(64) | 1,
            lans=(lan,),
            callbacks=Callbacks(
                lambda view, owning, _: installed.append((view.number.epoch, owning)), lambda _: None, lambda _: None
            ),
        )
        self.threads[me].add(self.groups[me])
        self.threads[me].set_powers(self.groups[me], (1,))

    def stop(self, me):
        self.threads[me].remove(self.groups.pop(me))

    def together(self):
        latest = [self.views[me][-1:] for me in range(3)]
        return all(latest[0] == each and each and each[0][1] for each in latest) and all(
            len(group.snapshot()["alive"]) == 2 for group in self.groups.values()
        )

    def refused(self):
        return [dict(group.snapshot()["rejected"]) for group in self.groups.values()]

    def signed_with(self, me, to):
        """The key by which one server has last heard another."""
        return self.keys[to].holds(me)[:1]

    def tapped(self, ring):
        """The next datagram at the tap whose key is in the ring."""
        end = time.monotonic() + 5
        while time.monotonic() < end:
            data = self.tap.recv(2048)
            with contextlib.suppress(wire.Rejected):
                return data, wire.unseal(ring, GROUP, data)
        pytest.fail("nothing is signed with a key of that ring")


@pytest.fixture(scope="module")
def threads():
    return [PulseThread() for _ in range(3)]  # they end with the process


@pytest.fixture
def servers(threads):
    made = Servers(threads)
    try:
        for me in range(3):
            made.start(me)
        until(made.together)
        yield made
    finally:
        for me in list(made.groups):
            made.stop(me)
        made.tap.close()


def test_a_rotation_refuses_nothing_changes_no_view_and_ends_the_old_key(servers):
    views, refused = [len(each) for each in servers.views.values()], servers.refused()
    for me in (2, 0, 1):
        servers.keys[me].ring = BOTH
        until(lambda me=me: all(BOTH.newest.name in servers.keys[n].holds(me) for n in range(3) if n != me))
    pairs = [(a, b) for a in range(3) for b in range(3) if a != b]
    until(lambda: all(servers.signed_with(a, b) == (NEW.newest.name,) for a, b in pairs))
    recorded, it = servers.tapped(OLD)  # the tap has never said what it holds: so it is sent either key in turn
    for me in (1, 0, 2):
        servers.keys[me].ring = NEW
        time.sleep(3 * PULSE / 1e9)
    until(lambda: all(servers.keys[b].holds(a) == (NEW.newest.name,) for a, b in pairs))
    assert servers.refused() == refused, "nothing was refused on the way"
    assert [len(each) for each in servers.views.values()] == views, "no view has changed"
    assert servers.together()
    forged = wire.seal(OLD, GROUP, replace(it, counter=it.counter + 10_000))
    to = 2 if it.sender != 2 else 1
    for data in (recorded, forged):
        before = servers.groups[to].snapshot()["rejected"].get("key", 0)
        servers.tap.sendto(data, (HOSTS[to], servers.port))
        until(lambda before=before: servers.groups[to].snapshot()["rejected"].get("key", 0) == before + 1)


def test_while_both_keys_count_a_recorded_datagram_is_refused_whatever_signed_it(servers):
    for keys in servers.keys:
        keys.ring = BOTH
    until(lambda: servers.signed_with(0, 1) == (BOTH.newest.name,))
    recorded = [servers.tapped(ring)[0] for ring in (OLD, NEW)]
    time.sleep(0.1)
    target = next(n for n in range(3) if n != wire.unseal(BOTH, GROUP, recorded[0]).sender)
    before = servers.groups[target].snapshot()["rejected"].get("replayed", 0)
    own = [data for data in recorded if wire.unseal(BOTH, GROUP, data).sender != target]
    for data in own:
        servers.tap.sendto(data, (HOSTS[target], servers.port))
    until(lambda: servers.groups[target].snapshot()["rejected"].get("replayed", 0) == before + len(own))


@pytest.mark.parametrize(("others", "returns"), [(BOTH, BOTH), (BOTH, OLD), (NEW, BOTH)])
def test_a_server_that_starts_again_in_the_middle_is_understood(servers, others, returns):
    servers.stop(2)
    for me in (0, 1):
        servers.keys[me].ring = others
    servers.keys[2] = Keys(returns)
    servers.views[2].clear()
    servers.start(2)
    until(servers.together)
    common = [key.name for key in others.keys if key in returns.keys]
    until(lambda: all(servers.keys[n].holds(2)[:1] == servers.keys[2].holds(n)[:1] == (common[-1],) for n in (0, 1)))


def test_a_server_that_missed_the_rotation_is_refused_by_name_until_it_gets_the_key(servers):
    servers.stop(2)
    for me in (0, 1):
        servers.keys[me].ring = BOTH
    until(lambda: servers.signed_with(0, 1) == servers.signed_with(1, 0) == (NEW.newest.name,))
    for me in (0, 1):
        servers.keys[me].ring = NEW
    servers.views[2].clear()
    servers.start(2)
    until(lambda: all(each.get("key", 0) > 3 for each in servers.refused()))
    assert servers.groups[2].snapshot()["alive"] == []
    until(lambda: servers.groups[0].snapshot()["alive"] == [1])
    servers.keys[2].ring = BOTH
    until(servers.together)


def test_what_was_heard_is_kept_by_who_said_it():
    keys = Keys(BOTH)
    old, new = OLD.newest.name, NEW.newest.name
    assert keys.known() == {}
    keys.heard(1, (old,))
    keys.heard(1, (new, old))
    keys.heard("witness w", (old,))
    known = keys.known()
    assert set(known) == {1, "witness w"}
    assert known[1].holds == (new, old)
    assert known[1].signed[old][0] <= known[1].signed[new][0] <= known[1].signed[new][1]
    first_time = known[1].signed[new][0]
    keys.heard(1, (new,))
    assert keys.known()[1].signed[new][0] == first_time
    assert keys.known()[1].signed[new][1] > first_time
    keys.forget()
    assert keys.known() == {}


def test_each_group_goes_by_what_it_heard_itself():
    keys = Keys(BOTH)
    one, two = Signer(keys), Signer(keys)
    one.heard(5, (NEW.newest.name, OLD.newest.name))
    assert [one.key(BOTH, 0, 5).number for _ in range(3)] == [2, 2, 2]
    assert [two.key(BOTH, 0, 5).number for _ in range(4)] == [1, 2, 1, 2], "each has its turn, the oldest first"
    assert [two.key(BOTH, 1, 5).number for _ in range(2)] == [1, 2], "on each LAN"


FULL = core.rotated(core.rotated(BOTH, bytes([7] * 32)), bytes([8] * 32))


def test_the_names_of_all_keys_travel_and_the_largest_piece_still_fits():
    assert len(FULL.keys) == MAX_KEYS
    for key in FULL.keys:
        it = wire.Datagram(wire.VIEW_PART, 1, 0, 9, 9, bytes(wire.PART + 21))
        opened = wire.unseal(FULL, GROUP, wire.seal(FULL, GROUP, it, key))
        assert opened == it
        assert opened.keys[0] == key.name
        assert set(opened.keys) == set(FULL.named)
    largest = words.Saying(1, 2, 3, 4, 5, 0, 1, bytes(words.PIECE))
    assert len(wire.seal(FULL, GROUP, replace(it, payload=words.encode(largest)))) <= wire.MAX_DATAGRAM


@pytest.mark.parametrize("others", [1, 2, MAX_KEYS - 1, MAX_KEYS, 255])
def test_a_number_of_names_that_lies_though_it_is_signed(others):
    key = OLD.newest
    head = struct.pack("!4sBB8sBBQQH4sB", wire.MAGIC, wire.VERSION, 1, GROUP, 1, 0, 9, 9, 0, key.name, others)
    for held in range(MAX_KEYS * NAME + 1):
        body = head + bytes(held)
        data = body + hmac.digest(key.secret, body, "sha256")
        if held == others * NAME and others < MAX_KEYS:
            assert len(wire.unseal(OLD, GROUP, data).keys) == others + 1
        else:
            with pytest.raises(wire.Rejected, match="malformed"):
                wire.unseal(OLD, GROUP, data)
