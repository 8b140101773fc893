"""One server driven by hand against a test that has the key: what it believes of the other, and what it concludes."""

import base64
import hashlib
import secrets
import socket
import time
import zlib
from dataclasses import replace

import pytest

from safekit_py.model.keys import first
from safekit_py.net import wire, words
from safekit_py.net.keys import Keys
from safekit_py.net.link import Link
from safekit_py.net.pair import Pair, PairListener
from safekit_py.net.pulse import RealtimeThread
from safekit_py.net.words import Saying

KEY = first(bytes(range(32)))
GROUP = wire.group_id("one,two", "heart/db")
PULSE = 25_000_000
NOISE = base64.b85encode(hashlib.shake_256(b"pair").digest(3000)).decode()[:3600]  # it cannot be made much shorter


class Orders(RealtimeThread):
    """Carries orders out at once, in the test's own thread."""

    def order(self, order):
        order()


class Lone:
    """Server 0 on some LANs; the test is server 1."""

    def __init__(self, lans=1):
        self.boot = secrets.randbits(64) | 1
        self.heard, self.sent, self.reached = [], [], []
        listener = PairListener(self.heard.append, self.sent.append, self.reached.append)
        self.pair = Pair(0, 1, keys=Keys(KEY), group=GROUP, boot=self.boot, thread=Orders(), listener=listener)
        self.sockets, self.links, self.counter = [], [], 0
        for index in range(lans):
            own = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self.sockets.append(own)
            own.setblocking(False)
            own.bind((f"127.2.{index}.2", 0))
            port = own.getsockname()[1]
            local, other = (
                (socket.AF_INET, (f"127.2.{index}.1", port)),
                (socket.AF_INET, (f"127.2.{index}.2", port)),
            )
            self.links.append(Link(index, f"lan{index}", local, other, PULSE))
            self.pair.add(self.links[-1])
        self.pulse()

    def close(self):
        self.pair.close()
        for each in self.sockets:
            each.close()

    def pulse(self):
        for link in self.links:
            link.due = 0
        self.pair.pulse(time.monotonic_ns())

    def give(self, *datagrams, lan=0):
        """Let the server read these; the reasons for which it refused some."""
        before = dict(self.pair.snapshot()["rejected"])
        for data in datagrams:
            self.sockets[lan].sendto(data, self.links[lan].socket.getsockname())
        self.pair._readable(self.links[lan])
        after = self.pair.snapshot()["rejected"]
        return [reason for reason in after for _ in range(after[reason] - before.get(reason, 0))]

    def sealed(self, payload, kind=words.BEAT, boot=51, lan=0, counter=None):
        self.counter += 1
        number = self.counter if counter is None else counter
        return wire.seal(KEY, GROUP, wire.Datagram(kind, 1, lan, boot, number, payload))

    def saying(self, said=None, *, sent=None, echo=0, version=1, have=0, to=None):
        data = words.pack(said) if said is not None else b""
        pieces = words.pieces_of(data)
        base = Saying(sent or time.monotonic_ns(), self.boot if to is None else to, echo, version, have, 0, len(pieces))
        return [replace(base, part=n, piece=piece) for n, piece in enumerate(pieces)] or [base]

    def beat(self, said=None, *, boot=51, lan=0, **other):
        return self.give(
            *(self.sealed(words.encode(each), boot=boot, lan=lan) for each in self.saying(said, **other)), lan=lan
        )

    def out(self, lan=0):
        found = []
        while True:
            try:
                found.append(wire.unseal(KEY, GROUP, self.sockets[lan].recv(2048)))
            except BlockingIOError:
                return found

    def sayings(self, lan=0):
        return [words.decode(d.payload) for d in self.out(lan) if d.kind == words.BEAT]


@pytest.fixture
def lone():
    made = []

    def make(**options):
        made.append(Lone(**options))
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_damaged_foreign_and_stale_datagrams_are_counted_by_their_reason_and_change_nothing(lone):
    one = lone()
    assert one.beat({"n": 1}) == []
    good = one.sealed(words.encode(one.saying({"n": 2}, version=2)[0]))
    it = wire.unseal(KEY, GROUP, good)
    last = one.pair.last
    for at in range(len(good)):
        damaged = good[:at] + bytes((good[at] ^ 0x40,)) + good[at + 1 :]
        reason = "magic" if at < 4 else "version" if at == 4 else "group" if 6 <= at < 14 else "auth"
        reason = "key" if 34 <= at < 38 else reason
        assert one.give(damaged) == [reason], at
    for cut in range(1, len(good)):
        assert one.give(good[:cut]) == ["short" if cut < 71 else "auth"], cut
    assert one.give(good + b"\0") == ["auth"]
    assert one.give(bytes(1401), bytes(9000)) == ["long", "long"]
    assert one.give(wire.seal(first(bytes(32)), GROUP, it)) == ["key"]
    assert one.give(wire.seal(KEY, wire.group_id("one,two", "heart/web"), it)) == ["group"]
    assert one.give(wire.seal(KEY, GROUP, replace(it, sender=0))) == ["sender"]
    assert one.give(wire.seal(KEY, GROUP, replace(it, lan=3))) == ["sender"]
    assert one.give(wire.seal(KEY, GROUP, replace(it, kind=wire.HEARTBEAT))) == ["malformed"]
    assert one.give(wire.seal(KEY, GROUP, replace(it, payload=b"x" * 50))) == ["malformed"]
    assert one.give(wire.seal(KEY, GROUP, replace(it, boot=99, payload=it.payload[:8] + bytes(36)))) == ["malformed"]
    assert one.pair.last == last
    assert one.give(good) == []
    assert one.give(good, good) == ["replayed", "replayed"]
    assert [each.says for each in one.heard] == [{"n": 1}, {"n": 2}]


def test_datagrams_that_overtake_each_other_are_taken_and_old_ones_are_not(lone):
    one = lone()
    assert one.beat({"n": 1}) == []
    late = one.sealed(words.encode(one.saying(echo=5)[0]), counter=10)
    early = one.sealed(words.encode(one.saying({"n": 3}, version=3, echo=9)[0]), counter=60)
    assert one.give(early, late) == []
    assert one.pair.last.says == {"n": 3}
    assert one.pair.last.echo == 9, "what came late takes nothing back"
    assert one.give(one.sealed(words.encode(one.saying()[0]), counter=200)) == []
    assert one.give(one.sealed(words.encode(one.saying()[0]), counter=100)) == ["replayed"]


def test_the_echo_goes_on_only_with_the_words_that_it_was_sent_with(lone):
    """Else old words, as of a secondary that waits, would seem to be said after something that ended them."""
    one = lone()
    assert one.beat({"state": "SECOND"}, echo=100) == []
    first, *rest = one.saying({"state": "ALONE", "filler": NOISE[:2000]}, version=2, echo=900)
    before = one.pair.last
    assert one.give(one.sealed(words.encode(first))) == []
    assert one.beat(version=2, echo=950) == []
    now = one.pair.last
    assert now.at > before.at, "it lives"
    assert (now.says, now.echo) == ({"state": "SECOND"}, 100)
    assert one.give(*(one.sealed(words.encode(each)) for each in rest)) == []
    assert one.pair.last.says["state"] == "ALONE"
    assert one.pair.last.echo == 900
    assert one.beat(version=2, echo=950) == []
    assert one.pair.last.echo == 950


def test_an_echo_of_another_run_of_this_server_is_none(lone):
    one = lone()
    assert one.beat({"n": 1}) == []
    assert one.beat(echo=10**18, to=one.boot ^ 2) == []
    assert one.pair.last.echo == 0


def test_of_a_new_run_nothing_is_shown_and_nothing_is_echoed_before_its_words_are_whole(lone):
    one = lone()
    one.pair.say({"n": 0})
    assert one.beat({"run": 1}, sent=111) == []
    one.out()
    assert one.beat({"run": 2}, boot=52) == ["unproven"]
    (number,) = [wire.decode_hello(d.payload)[1] for d in one.out() if d.kind == wire.ASK]
    answer = one.sealed(wire.encode_hello(0, number), kind=wire.ANSWER, boot=52)
    assert one.give(answer) == []
    assert one.pair.last.says == {"run": 1}
    first, *rest = one.saying({"run": 2, "filler": NOISE[:2000]}, sent=222)
    assert one.give(one.sealed(words.encode(first), boot=52)) == []
    one.pulse()
    assert {(each.echo, each.boot) for each in one.sayings()} == {(0, 52)}
    assert one.pair.last.says == {"run": 1}
    assert one.give(*(one.sealed(words.encode(each), boot=52) for each in rest)) == []
    assert one.pair.last.says["run"] == 2
    one.pulse()
    assert {(each.echo, each.boot) for each in one.sayings()} == {(222, 52)}
    assert one.beat({"run": 1}, boot=51) == ["boot"], "the earlier run is over for good"


def test_words_are_repeated_until_they_are_confirmed_and_for_a_new_run_again(lone):
    one = lone()
    one.pair.say({"n": 1, "filler": NOISE})
    one.beat({})
    assert [each.part for each in one.sayings() if each.parts] == [0, 1, 2], "when they are new"
    one.links[0].repeat = 0
    one.pulse()
    assert [each.part for each in one.sayings()] == [0, 1, 2]
    one.pulse()
    assert [each.parts for each in one.sayings()] == [0], "not at every pulse when these are quick"
    one.links[0].repeat = 0
    assert one.beat(have=1) == []
    one.pulse()
    assert [each.parts for each in one.sayings()] == [0]
    one.pair.say({"n": 2})
    assert [each.version for each in one.sayings() if each.parts] == [2]
    one.links[0].repeat = 0
    assert one.beat(have=1) == [], "a confirmation of older words is none of the newer"
    one.pulse()
    assert [each.parts for each in one.sayings()] == [1]
    one.pair.say({"n": 2})
    assert {each.version for each in one.sayings()} == {2}, "words that say nothing new have no new number"


def test_the_last_words_are_said_once_more_at_the_end(lone):
    one = lone()
    one.pair.say({"state": "STOP"})
    one.beat({}, have=1)
    one.out()
    one.pair.leave(time.monotonic_ns())
    assert [words.unpack(each.piece) for each in one.sayings()] == [{"state": "STOP"}]


def test_one_lan_of_two_is_enough_and_each_has_its_own_age(lone):
    one = lone(lans=2)
    one.pair.say({"n": 1})
    assert one.beat({"n": 1}, lan=1) == []
    ages = one.pair.lans()
    assert ages["lan0"] == float("inf")
    assert 0 <= ages["lan1"] < 1
    assert one.reached == ["lan1"]
    assert one.sayings(0)
    assert one.sayings(1)
    one.links[0].socket.shutdown(socket.SHUT_WR)  # sending fails from here on, as with a link that is down
    one.sent.clear()
    one.pulse()
    assert len(one.sent) == 1, "one LAN is enough"
    assert one.pair.sent == one.sent[0]
    assert one.pair.snapshot()["send_errors"] == {"lan0": 1, "lan1": 0}
    one.links[1].socket.shutdown(socket.SHUT_WR)
    one.pulse()
    assert len(one.sent) == 1, "a beat that went nowhere is none"


def test_an_other_that_does_not_listen_does_not_disturb(lone):
    one = lone()
    one.pair.say({"n": 1})
    address = one.sockets[0].getsockname()
    one.sockets[0].close()  # the kernel now answers each datagram with a refusal
    for _ in range(5):
        one.pulse()
        one.pair._readable(one.links[0])
    assert one.pair.snapshot()["send_errors"] == {"lan0": 0}
    one.sockets[0] = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    one.sockets[0].bind(address)
    one.sockets[0].setblocking(False)
    one.pulse()
    assert one.sayings()


def test_repeated_words_are_echoed_as_they_were_first_heard(lone):
    """Else a server whose thread beats on, and that decides nothing any more, would seem to be alive to itself."""
    one = lone()
    one.pair.say({})
    assert one.beat({"tick": 1}, sent=500) == []
    assert one.beat({"tick": 1}, sent=700) == []
    assert one.beat(sent=800) == []
    one.pulse()
    assert {each.echo for each in one.sayings()} == {500, 0}
    assert one.beat({"tick": 2}, sent=900, version=2) == []
    one.pulse()
    assert {each.echo for each in one.sayings()} == {900}


def test_in_one_way_loss_the_echo_stands_still_while_the_beats_go_on(lone):
    one = lone()
    one.pair.say({"n": 1})
    mark = max(each.sent for each in one.sayings())
    assert one.beat({"n": 1}, echo=mark) == []
    assert one.pair.last.echo == mark
    for _ in range(5):
        assert one.beat(echo=mark) == []
    assert one.pair.last.echo == mark
    assert one.pair.silence() < 1


def test_a_pause_of_this_server_is_not_the_silence_of_the_other(lone):
    one = lone()
    one.beat({})
    now = time.monotonic_ns()
    one.pair.pulse(now + PULSE)
    before = one.pair.silence()
    one.pair.pulse(now + PULSE + 60_000_000_000)
    assert one.pair.silence() <= before + 2 * PULSE / 1e9
    for n in range(1, 5):
        one.pair.pulse(now + PULSE + 60_000_000_000 + n * PULSE)
    assert one.pair.silence() >= 4 * PULSE / 1e9


def test_a_flood_takes_a_share_of_a_pulse_and_what_is_genuine_is_heard_in_it(lone):
    one = lone()
    one.beat({"n": 1})
    forged = one.sealed(words.encode(one.saying({"n": 7}, version=7)[0]))
    forged = forged[:-1] + bytes((forged[-1] ^ 1,))
    for _ in range(3):
        for _ in range(400):
            one.sockets[0].sendto(forged, one.links[0].socket.getsockname())
        reads = 0
        while one.links[0].watched and reads < 400:
            one.pair._readable(one.links[0])
            reads += 1
            one.links[0].spent += PULSE // 40  # a slower machine's
        assert 1 <= reads < 12, "reading has no bound"
        one.pulse()
        assert one.links[0].watched
    for _ in range(30):
        one.pair._readable(one.links[0])
    assert one.beat({"n": 2}, version=2) == []
    assert one.pair.last.says == {"n": 2}
    assert one.pair.snapshot()["rejected"]["auth"] == 1200


def test_datagrams_from_another_address_never_get_in(lone):
    one = lone()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.bind(("127.2.0.9", 0))
        for _ in range(10):
            stranger.sendto(b"x" * 100, one.links[0].socket.getsockname())
    assert one.give() == []


def test_words_that_cannot_be_read_are_rejected_and_the_next_are_taken(lone):
    one = lone()
    one.beat({"n": 1})
    bad = replace(one.saying()[0], version=2, parts=1, piece=zlib.compress(b"[1]"))
    assert one.give(one.sealed(words.encode(bad))) == ["malformed"]
    assert one.pair.last.says == {"n": 1}
    assert one.beat({"n": 3}, version=3) == []
    assert one.pair.last.says == {"n": 3}


def test_once_say_has_returned_no_beat_goes_out_with_older_words():
    """A secondary that takes back its promise relies on this; here with the real thread, and many beats at any time."""
    thread = RealtimeThread()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as tap:
        tap.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        tap.bind(("127.2.0.2", 0))
        tap.settimeout(0.3)
        port = tap.getsockname()[1]
        pair = Pair(
            0, 1, keys=Keys(KEY), group=GROUP, boot=7, thread=thread, listener=PairListener(*[lambda _: None] * 3)
        )
        pair.add(Link(0, "a", (socket.AF_INET, ("127.2.0.1", port)), (socket.AF_INET, ("127.2.0.2", port)), 300_000))
        thread.start(pair)
        replaced = {}
        try:
            for number in range(300):
                pair.say({"n": number, "filler": NOISE[:1500]})
                replaced[number] = time.monotonic_ns()
                time.sleep(0.0005)
        finally:
            thread.stop(pair)
        beats = 0
        try:
            while True:
                saying = words.decode(wire.unseal(KEY, GROUP, tap.recv(2048)).payload)
                beats += 1
                if saying.version in replaced:  # version n+1 carries n, and is replaced when n+1 was said
                    assert saying.sent < replaced[saying.version]
        except TimeoutError:
            pass
    assert beats > 600
