"""Real datagrams on loopback: groups that form and shrink, and everything hostile counted and without effect."""

import collections
import pickle
import secrets
import socket
import time
from dataclasses import replace

import pytest

from safekit_py.core.buckets import BUCKETS, NOBODY, Table
from safekit_py.core.group import Heartbeat, Known, Member, Number, Settings, View
from safekit_py.model.keys import first
from safekit_py.net import wire
from safekit_py.net.keys import Keys
from safekit_py.net.transport import Callbacks, GroupTransport, LanAddresses, PulseThread

KEY = first(bytes(range(32)))
GROUP = wire.group_id("cluster", "web")
PULSE = 25_000_000
TAP = 3  # the number of a server that never speaks: its address is a socket of the test, which hears all
HOSTS = {n: f"127.0.0.{n + 1}" for n in range(4)}


def free_port():
    """A UDP port that is free on every loopback address that is used."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("0.0.0.0", 0))
        return probe.getsockname()[1]


def boot_id():
    return secrets.randbits(64) | 1


class Log:
    """What a group told its data plane."""

    def __init__(self):
        self.installed, self.leases, self.notes = [], [], []
        self.callbacks = Callbacks(
            lambda view, owning, waiting: self.installed.append((view, owning)), self.leases.append, self.notes.append
        )


def until(holds, limit=4.0):
    end = time.monotonic() + limit
    while not holds():
        assert time.monotonic() < end, "not in time"
        time.sleep(0.01)


# --- three servers in one process -------------------------------------------------------------------


@pytest.fixture(scope="module")
def threads():
    return [PulseThread() for _ in range(3)]  # they end with the process


class Servers:
    """Some servers, each with its heartbeat thread, and the tap."""

    def __init__(self, threads, hosts=HOSTS, pulse=PULSE):
        self.threads, self.port = threads, free_port()
        self.hosts, self.pulse = hosts, pulse
        self.tap = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.tap.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self.tap.bind((HOSTS[TAP], self.port))
        self.tap.setblocking(False)
        self.groups, self.logs = {}, {}

    def start(self, me, left=None):
        """:param left: by the one before, which ran in another process or thread."""
        log = Log()
        lan = LanAddresses("lan", self.hosts[me], self.port, {n: h for n, h in self.hosts.items() if n != me})
        group = GroupTransport(
            Settings(me, tuple(self.hosts), 1, self.pulse, slost=12, mlost=12),
            keys=Keys(KEY),
            group=GROUP,
            boot=left.state.boot if left else boot_id(),
            lans=(lan,),
            callbacks=log.callbacks,
        )
        self.groups[me], self.logs[me] = group, log
        if left is not None:
            group.resume(left)
        self.threads[me].add(group)
        if left is None:
            self.threads[me].set_powers(group, (1,))

    def stop(self, me):
        self.threads[me].remove(self.groups.pop(me))

    def shared_by(self, *servers):
        """Whether these hold one view, which gives each of them its share, and may use it."""
        latest = [self.logs[n].installed[-1] if self.logs[n].installed else None for n in servers]
        if None in latest or len({each[0].number for each in latest}) != 1 or not all(each[1] for each in latest):
            return False
        counts = latest[0][0].tables[0].counts()
        return set(counts) == set(servers) and max(counts.values()) - min(counts.values()) <= 1

    def heard(self):
        """What the tap has heard since the last call."""
        found = []
        while True:
            try:
                found.append(self.tap.recv(2048))
            except BlockingIOError:
                return found

    def send(self, data, to):
        self.tap.sendto(data, (HOSTS[to], self.port))

    def rejected(self, me):
        return collections.Counter(self.groups[me].snapshot()["rejected"])

    def refuses(self, me, datagrams, reason):
        """The server counts every one of the datagrams under the reason."""
        before = self.rejected(me)
        for data in datagrams:
            self.send(data, me)
        until(lambda: (self.rejected(me) - before)[reason] >= len(datagrams))
        assert self.rejected(me) - before == {reason: len(datagrams)}


@pytest.fixture
def servers(threads):
    made = Servers(threads)
    try:
        for me in range(3):
            made.start(me)
        until(lambda: made.shared_by(0, 1, 2))
        yield made
    finally:
        for me in list(made.groups):
            made.stop(me)
        made.tap.close()


def numbers(servers):
    return [
        (g.snapshot()["epoch"], g.snapshot()["coordinator"], g.snapshot()["owning"]) for g in servers.groups.values()
    ]


def test_a_group_forms_renews_its_leases_and_shares_out_what_a_leaver_owned(servers):
    for me, group in servers.groups.items():
        seen = group.snapshot()
        assert (seen["owning"], seen["doubt"], seen["coordinator"]) == (True, False, 0)
        assert seen["alive"] == [n for n in range(3) if n != me]
        assert set(seen["heard"]["lan"]) == set(seen["alive"])
        assert all(0 <= age < 1 for age in seen["heard"]["lan"].values())
        assert seen["send_errors"] == {"lan": 0}
        count, last = len(servers.logs[me].leases), servers.logs[me].leases[-1]
        until(lambda log=servers.logs[me], count=count: len(log.leases) > count + 3)
        assert servers.logs[me].leases[-1] > last
        assert servers.logs[me].leases[-1] > time.monotonic_ns()
    epoch = servers.groups[0].snapshot()["epoch"]
    left = servers.logs[2]
    began = time.monotonic_ns()
    servers.stop(2)
    assert left.installed[-1][1] is False, "who leaves says at once that it owns nothing"
    told = len(left.installed), len(left.leases)
    until(lambda: servers.shared_by(0, 1))
    assert time.monotonic_ns() - began < 12 * PULSE, "a goodbye is quicker than a loss"
    assert servers.groups[0].snapshot()["epoch"] > epoch
    assert "lost 2" in servers.logs[0].installed[-1][0].cause
    time.sleep(4 * PULSE / 1e9)
    assert (len(left.installed), len(left.leases)) == told, "it was called after it had left"


def test_a_group_in_which_not_everybody_sends_to_everybody(threads):
    """Twenty servers on real sockets: they form a group, one leaves, one is lost, one comes back."""
    size = 20
    several = Servers([threads[n % 3] for n in range(size)], {n: f"127.0.1.{n + 1}" for n in range(size)}, 100_000_000)
    try:
        for me in range(size):
            several.start(me)
        until(lambda: several.shared_by(*range(size)), 20)
        assert all(len(group.snapshot()["alive"]) == size - 1 for group in several.groups.values())
        several.stop(7)
        left = [n for n in range(size) if n != 7]
        until(lambda: several.shared_by(*left), 10)
        several.start(7)
        until(lambda: several.shared_by(*range(size)), 20)
        assert all(set(group.snapshot()["rejected"]) <= {"unproven", "boot"} for group in several.groups.values())
    finally:
        for me in list(several.groups):
            several.stop(me)
        several.tap.close()


def test_forged_replayed_and_foreign_datagrams_are_counted_and_change_nothing(servers):
    servers.heard()
    time.sleep(6 * PULSE / 1e9)
    recorded = servers.heard()
    ours = [wire.unseal(KEY, GROUP, data) for data in recorded]
    from_1 = [data for data, d in zip(recorded, ours, strict=True) if d.sender == 1 and d.kind == wire.HEARTBEAT][:4]
    assert len(from_1) == 4
    good = from_1[0]
    it = wire.unseal(KEY, GROUP, good)
    leaving = wire.encode_heartbeat(replace(wire.decode_heartbeat(it.payload), beat=2**60, leaving=True))
    forged = replace(it, counter=it.counter + 10**6, payload=leaving)
    unproven = replace(it, payload=wire.encode_heartbeat(replace(wire.decode_heartbeat(it.payload), known=())))
    before, epochs = {n: len(servers.logs[n].installed) for n in range(3)}, numbers(servers)

    servers.refuses(0, from_1, "replayed")
    servers.refuses(2, from_1 * 5, "replayed")
    servers.refuses(0, [wire.seal(first(bytes(32)), GROUP, forged)], "key")
    servers.refuses(0, [good[:40] + bytes((good[40] ^ 1,)) + good[41:], good[:-1], good + b"\0"], "auth")
    servers.refuses(0, [wire.seal(KEY, wire.group_id("cluster", "db"), forged)], "group")
    servers.refuses(0, [wire.seal(KEY, GROUP, replace(forged, sender=77))], "sender")
    servers.refuses(0, [wire.seal(KEY, GROUP, replace(forged, sender=0))], "sender")
    servers.refuses(0, [wire.seal(KEY, GROUP, replace(forged, lan=1))], "sender")
    servers.refuses(0, [wire.seal(KEY, GROUP, replace(unproven, boot=12345))], "unproven")
    servers.refuses(0, [wire.seal(KEY, GROUP, replace(forged, kind=9))], "malformed")
    servers.refuses(0, [wire.seal(KEY, GROUP, replace(forged, payload=b"\xff" * 50))], "malformed")
    servers.refuses(0, [b"", b"GET / HTTP/1.0\r\n\r\n", good[:65]], "short")
    servers.refuses(0, [bytes(1401), bytes(9000)], "long")
    servers.refuses(0, [bytes(200)], "magic")
    servers.refuses(0, [good[:4] + b"\x09" + good[5:]], "version")

    time.sleep(15 * PULSE / 1e9)  # longer than it takes to lose a server
    assert numbers(servers) == epochs
    assert {n: len(servers.logs[n].installed) for n in range(3)} == before
    assert servers.shared_by(0, 1, 2)
    assert set(servers.rejected(0)) <= set(wire.REASONS)


def test_a_flood_of_replays_starves_nobody(servers):
    time.sleep(4 * PULSE / 1e9)
    recorded = servers.heard()[-20:]
    epochs, before = numbers(servers), servers.rejected(0)["replayed"]
    end = time.monotonic() + 20 * PULSE / 1e9
    sent = 0
    while time.monotonic() < end:
        for data in recorded[:10]:  # some 400 a pulse and server: several times what is read in one
            for to in (0, 1):
                servers.send(data, to)
                sent += 1
        time.sleep(0.0005)
    assert numbers(servers) == epochs
    assert servers.rejected(0)["replayed"] > before
    until(lambda: servers.shared_by(0, 1, 2))


def test_a_restarted_server_is_taken_in_again_and_its_old_boot_is_refused(servers):
    time.sleep(4 * PULSE / 1e9)
    old = [data for data in servers.heard() if wire.unseal(KEY, GROUP, data).sender == 2][-6:]
    assert len(old) == 6
    servers.stop(2)
    until(lambda: servers.shared_by(0, 1))
    servers.start(2)
    until(lambda: servers.shared_by(0, 1, 2))
    epochs = numbers(servers)
    for me in (0, 1):
        servers.refuses(me, old, "boot")
    it = wire.unseal(KEY, GROUP, old[-1])
    assert wire.decode_heartbeat(it.payload).leaving is False
    # What the others said before the restart is stale for the new boot also: it was never proven there.
    assert numbers(servers) == epochs
    assert servers.shared_by(0, 1, 2)


def test_what_was_recorded_before_this_server_started_is_not_fresh_for_it(servers):
    time.sleep(4 * PULSE / 1e9)
    recorded = [data for data in servers.heard() if wire.unseal(KEY, GROUP, data).sender == 1][-10:]
    servers.stop(2)
    servers.start(2)
    until(lambda: servers.shared_by(0, 1, 2))
    servers.refuses(2, recorded, "replayed")


# --- one server, driven by hand, against a test that has the key --------------------------------------


class Lone:
    """Server 0 on one or two LANs; the test is server 1, and pulses the clock itself."""

    def __init__(self, lans=1, groups=1, slost=5, peers=None):
        self.log, self.boot, self.port = Log(), boot_id(), free_port()
        self.sockets = []
        addresses = []
        for index in range(lans):
            own = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self.sockets.append(own)
            own.bind((f"127.0.{index}.2", self.port))
            own.setblocking(False)
            there = {1: f"127.0.{index}.2"} if peers is None or index in peers else {}
            addresses.append(LanAddresses(f"lan{index}", f"127.0.{index}.1", self.port, there))
        self.group = GroupTransport(
            Settings(0, (0, 1), groups, PULSE, slost, slost),
            keys=Keys(KEY),
            group=GROUP,
            boot=self.boot,
            lans=tuple(addresses),
            callbacks=self.log.callbacks,
        )
        self.counter = 0

    def close(self):
        self.group.close()
        for each in self.sockets:
            each.close()

    def pulse(self):
        self.group.pulse(time.monotonic_ns())

    def say(self, boot, kind, payload, lan=0, counter=None):
        """Send a datagram and let the server read it; the reasons for which it was refused, if it was."""
        self.counter += 1
        datagram = wire.Datagram(kind, 1, lan, boot, self.counter if counter is None else counter, payload)
        before = self.group.rejected.copy()
        self.sockets[lan].sendto(wire.seal(KEY, GROUP, datagram), (f"127.0.{lan}.1", self.port))
        self.group.read(self.group.lans[lan])
        return list((self.group.rejected - before).elements())

    def prove(self, boot, lan=0):
        """Echo the server's boot, and send back the number if it asks for one."""
        if self.say(boot, wire.HELLO, wire.encode_hello(0, self.boot), lan) == ["unproven"]:
            ((_, number),) = asks(self.heard(lan))
            assert self.say(boot, wire.ANSWER, wire.encode_hello(0, number), lan) == []

    def beat(self, boot, number, echo=True, powers=(1,), lan=0, **other):
        known = (Known(0, self.boot, 1, False, False, False),) if echo else ()
        values = {"leaving": False, "info": b"", "hears": 1, **other}
        message = Heartbeat(beat=number, number=Number(0, 0, 0), powers=powers, known=known, **values)
        return self.say(boot, wire.HEARTBEAT, wire.encode_heartbeat(message), lan)

    def heard(self, lan=0):
        found = []
        while True:
            try:
                found.append(wire.unseal(KEY, GROUP, self.sockets[lan].recv(2048)))
            except BlockingIOError:
                return found


@pytest.fixture
def lone():
    made = []

    def make(**options):
        made.append(Lone(**options))
        return made[-1]

    yield make
    for each in made:
        each.close()


def hellos(datagrams, kind=wire.HELLO):
    return [wire.decode_hello(d.payload) for d in datagrams if d.kind == kind]


def asks(datagrams):
    return hellos(datagrams, wire.ASK)


def test_an_unproven_boot_is_greeted_once_a_pulse_and_a_replayed_one_does_not_use_up_the_greeting(lone):
    one = lone()
    for boot in (51, 51, 52, 51):
        assert one.beat(boot, 1, echo=False) == ["unproven"]
    assert hellos(one.heard()) == [(1, 51), (1, 52)]
    one.pulse()
    assert one.beat(52, 2, echo=False) == ["unproven"]
    assert hellos(one.heard()) == [(1, 52)]
    assert one.group.snapshot()["alive"] == []


def test_a_hello_for_another_boot_or_server_proves_nothing(lone):
    one = lone()
    for hello in (wire.encode_hello(0, one.boot ^ 2), wire.encode_hello(1, one.boot)):
        assert one.say(51, wire.HELLO, hello) == ["unproven"]
    one.prove(51)
    assert one.beat(51, 1, echo=False) == []
    assert one.group.snapshot()["alive"] == [1]


def test_a_boot_held_back_on_the_way_cannot_replace_the_present_one(lone):
    one = lone()
    one.prove(51)
    assert one.beat(51, 1) == []
    one.heard()
    assert one.beat(49, 1) == ["unproven"], "it echoes this server's boot, yet it may be older than 51"
    ((to, number),) = asks(one.heard())
    assert to == 1
    for payload in (wire.encode_hello(0, number ^ 1), wire.encode_hello(1, number), wire.encode_hello(0, one.boot)):
        assert one.say(49, wire.ANSWER, payload) == ["unproven"]
    assert one.say(49, wire.HELLO, wire.encode_hello(0, number)) == ["unproven"]
    assert one.beat(51, 2) == [], "the present boot goes on"
    assert one.say(53, wire.ANSWER, wire.encode_hello(0, number)) == []
    assert one.beat(51, 3) == ["boot"]
    assert one.say(49, wire.ANSWER, wire.encode_hello(0, number)) == ["unproven"], "a number serves once"


def test_a_number_asked_by_a_proven_boot_is_sent_back(lone):
    one = lone()
    ask = wire.encode_hello(0, 4242)
    assert one.say(51, wire.ASK, ask) == ["unproven"]
    assert hellos(one.heard(), wire.ANSWER) == []
    one.prove(51)
    assert one.say(51, wire.ASK, wire.encode_hello(1, 4242)) == []
    assert hellos(one.heard(), wire.ANSWER) == []
    assert one.say(51, wire.ASK, ask) == []
    assert hellos(one.heard(), wire.ANSWER) == [(1, 4242)]
    assert one.say(51, wire.ASK, ask[:-1]) == ["malformed"]


def test_a_boot_proven_on_one_lan_must_prove_itself_on_the_other(lone):
    one = lone(lans=2)
    one.prove(51)
    assert one.beat(51, 10, echo=False, lan=1) == ["unproven"]
    assert hellos(one.heard(1)) == [(1, 51)]
    assert one.beat(51, 11, lan=1) == []
    assert one.beat(51, 12, echo=False, lan=1) == []


def test_reordered_heartbeats_are_taken_and_repeated_ones_refused(lone):
    one = lone()
    one.prove(51)
    payload = wire.encode_heartbeat(Heartbeat(1, Number(0, 0, 0), False, (1,), b"", 1, ()))
    assert [one.say(51, wire.HEARTBEAT, payload, counter=c) for c in (40, 20, 39, 21)] == [[]] * 4
    assert [one.say(51, wire.HEARTBEAT, payload, counter=c) for c in (40, 20, 1)] == [["replayed"]] * 3


def test_a_server_that_is_configured_with_other_groups_is_alive_and_owns_nothing(lone):
    one = lone(groups=2)
    one.group.pulse(time.monotonic_ns())
    for powers in ((1,), (1, 1, 1), ()):
        for number in range(1, 4):
            assert one.beat(51, one.counter + number, powers=powers) == []
    end = time.monotonic() + 1
    while not one.log.installed and time.monotonic() < end:
        one.beat(51, one.counter + 10, powers=(7,))
        one.pulse()
        time.sleep(PULSE / 1e9)
    assert one.group.snapshot()["alive"] == [1]
    for view, _ in one.log.installed:
        assert all(1 not in table.counts() for table in view.tables)
    assert one.log.installed


def test_parts_left_by_a_boot_that_died_do_not_hide_the_views_of_the_next(lone):
    one = lone(slost=50)
    table = Table(((BUCKETS, NOBODY),))
    alternating = Table((*((1, n % 2) for n in range(900)), (BUCKETS - 900, NOBODY)))
    died = View(Number(5, 1, 99), (Member(1, (1,)),), (alternating,), "x")
    first, *rest = wire.parts_of(died)
    assert rest
    one.prove(99)
    one.beat(99, 1)
    assert one.say(99, wire.VIEW_PART, first) == []
    one.heard()
    one.prove(51)
    one.beat(51, 1, history=True)
    view = View(Number(5, 1, 51), (Member(1, (1,)),), (table,), "y")  # the lower boot id: the lower number
    for part in wire.parts_of(view):
        assert one.say(51, wire.VIEW_PART, part) == []
    assert [each.number for each, _ in one.log.installed] == [view.number]


def test_a_malformed_view_of_an_authentic_sender_is_counted(lone):
    one = lone()
    one.prove(51)
    assert one.say(51, wire.VIEW_PART, b"") == ["malformed"]
    assert one.say(51, wire.VIEW_PART, bytes(21) + b"\0\1") == ["malformed"]
    assert one.say(51, 200, b"") == ["malformed"]
    assert one.log.installed == []


def test_a_server_that_is_not_on_every_lan_is_reached_where_it_is(lone):
    one = lone(lans=2, peers={1})
    one.pulse()
    assert one.heard(0) == []
    assert [d.kind for d in one.heard(1)] == [wire.HEARTBEAT]
    assert one.group.snapshot()["send_errors"] == {"lan0": 0, "lan1": 0}
    assert one.beat(51, 1, echo=False, lan=0) == ["unproven"], "greeting where it has no address must not raise"


def make(*lans):
    settings = Settings(0, (0, 1), 1)
    return GroupTransport(settings, keys=Keys(KEY), group=GROUP, boot=1, lans=lans, callbacks=Log().callbacks)


def test_lans_have_the_number_that_all_servers_give_them():
    port = free_port()
    group = make(LanAddresses("b", "127.0.0.1", port, {1: "127.0.0.2"}, index=1))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        try:
            other.bind(("127.0.0.2", port))
            other.settimeout(2)
            group.pulse(time.monotonic_ns())
            assert wire.unseal(KEY, GROUP, other.recv(2048)).lan == 1
        finally:
            group.close()


def test_a_port_in_use_is_an_error_and_leaves_nothing_open():
    port = free_port()
    group = make(LanAddresses("a", "127.0.0.1", port, {}))
    try:
        with pytest.raises(OSError, match="in use"):
            make(LanAddresses("b", "127.0.0.2", port, {}), LanAddresses("a", "127.0.0.1", port, {}))
        make(LanAddresses("b", "127.0.0.2", port, {})).close()
    finally:
        group.close()
    make(LanAddresses("a", "127.0.0.1", port, {})).close()


def test_names_and_ipv6_addresses_are_resolved():
    port = free_port()
    for host in ("localhost", "::1"):
        group = make(LanAddresses("a", host, port, {1: host}))
        try:
            group.pulse(time.monotonic_ns())
            assert group.snapshot()["send_errors"] == {"a": 0}
            group.read(group.lans[0])
            assert sum(group.rejected.values()) <= 1  # its own heartbeat came back to it
            assert set(group.rejected) <= {"sender"}
        finally:
            group.close()
    with pytest.raises(OSError, match=r"."):
        make(LanAddresses("a", "no such host.invalid", port, {}))


# --- one that goes on in another's place, as in another process -------------------------------------


@pytest.mark.parametrize("me", [0, 1], ids=["coordinator", "member"])
def test_another_goes_on_in_a_server_s_place_and_the_others_notice_nothing(servers, me):
    others = [n for n in range(3) if n != me]
    views = {n: len(servers.logs[n].installed) for n in others}
    refused = {n: servers.rejected(n) for n in others}
    left = servers.threads[me].hand_over(servers.groups[me])
    servers.start(me, pickle.loads(pickle.dumps(left)))
    until(lambda: len(servers.logs[me].leases) > 20)
    assert {n: len(servers.logs[n].installed) for n in others} == views, "no view is new"
    assert {n: servers.rejected(n) for n in others} == refused, "no counter twice, and no new boot"
    assert servers.rejected(me) == collections.Counter()
    assert servers.groups[me].snapshot()["alive"] == others
    assert servers.groups[me].snapshot()["coordinator"] == 0


def test_what_was_heard_before_is_not_believed_by_the_next_one(servers):
    servers.heard()
    time.sleep(4 * PULSE / 1e9)
    tapped = [(data, wire.unseal(KEY, GROUP, data)) for data in servers.heard()]
    left = servers.threads[1].hand_over(servers.groups[1])
    windows = left.trust.guards[0].windows
    # What the tap was quicker with is new to the next one.
    recorded = [data for data, told in tapped if told.sender == 0 and told.counter <= windows[told.lan][0]]
    assert recorded
    servers.start(1, left)
    servers.refuses(1, recorded, "replayed")


def test_a_thread_that_does_not_answer_hands_nothing_over(monkeypatch):
    thread = PulseThread()
    monkeypatch.setattr("safekit_py.net.transport.STOP_LIMIT", 0.05)
    monkeypatch.setattr(thread, "order", lambda _: None)
    with pytest.raises(RuntimeError, match="does not answer"):
        thread.hand_over(None)
