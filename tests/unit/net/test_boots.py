"""What one server admits from the network, pulse by pulse: which boot of a peer it believes, and how much it reads."""

import socket
import time

import pytest

from safekit_py.core.group import NO_NUMBER, Heartbeat, Known, Settings
from safekit_py.model.keys import first
from safekit_py.net import wire
from safekit_py.net.keys import Keys
from safekit_py.net.transport import Callbacks, GroupTransport, LanAddresses, PulseThread

KEY, GROUP, BOOT = first(b"k" * 32), wire.group_id("c", "boots"), 77


class Peer:
    """Server 1, played by hand over a real socket against a real server 0."""

    def __init__(self):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.2", 0))
        self.socket.setblocking(False)
        port = self.socket.getsockname()[1]
        self.server = GroupTransport(
            Settings(0, (0, 1), 1),
            keys=Keys(KEY),
            group=GROUP,
            boot=BOOT,
            lans=(LanAddresses("lan", "127.0.0.1", port, {1: "127.0.0.2"}),),
            callbacks=Callbacks(lambda view, owning, waiting: None, lambda until: None, lambda text: None),
        )
        self.to, self.counter = ("127.0.0.1", port), 0

    def close(self):
        self.socket.close()
        self.server.close()

    def sealed(self, boot, kind, payload):
        self.counter += 1
        return wire.seal(KEY, GROUP, wire.Datagram(kind, 1, 0, boot, self.counter, payload))

    def beat(self, boot, *, echo=BOOT):
        known = (Known(0, echo, 1, False, False, False),)
        heartbeat = Heartbeat(self.counter + 1, NO_NUMBER, False, (0,), b"", 1, known)
        return self.sealed(boot, wire.HEARTBEAT, wire.encode_heartbeat(heartbeat))

    def pulse(self, *datagrams):
        """The server reads these: what it rejected, and what it sent but for heartbeats and views."""
        for datagram in datagrams:
            self.socket.sendto(datagram, self.to)
        self.server.rejected.clear()
        self.server.pulse(time.monotonic_ns())
        answers = []
        try:
            while True:
                answers.append(wire.unseal(KEY, GROUP, self.socket.recv(2000)))
        except BlockingIOError:
            pass
        return dict(self.server.rejected), {
            d.kind: wire.decode_hello(d.payload) for d in answers if d.kind in (3, 4, 5)
        }


@pytest.fixture
def peer():
    one = Peer()
    yield one
    one.close()


def test_a_first_boot_is_believed_once_it_echoes(peer):
    rejected, answers = peer.pulse(peer.beat(11, echo=5))
    assert (rejected, answers) == ({"unproven": 1}, {wire.HELLO: (1, 11)})
    assert peer.pulse(peer.beat(11)) == ({}, {})


def test_a_later_boot_answers_a_number_first(peer):
    peer.pulse(peer.beat(11))
    rejected, answers = peer.pulse(peer.beat(22))
    assert rejected == {"unproven": 1}
    to, number = answers[wire.ASK]
    assert to == 1
    assert answers[wire.HELLO] == (1, 22)
    assert peer.pulse(peer.sealed(22, wire.ANSWER, wire.encode_hello(0, number ^ 1)))[0] == {"unproven": 1}
    assert peer.pulse(peer.sealed(22, wire.ANSWER, wire.encode_hello(1, number)))[0] == {"unproven": 1}
    assert peer.pulse(peer.sealed(22, wire.ANSWER, wire.encode_hello(0, number))) == ({}, {})
    assert peer.pulse(peer.beat(22), peer.beat(11))[0] == {"boot": 1}


def test_what_was_held_back_from_an_earlier_boot_does_not_shut_the_present_one_out(peer):
    held_back = peer.beat(11)
    peer.pulse(peer.beat(22))
    assert peer.pulse(held_back)[0] == {"unproven": 1}
    assert peer.pulse(peer.beat(22)) == ({}, {})


def test_an_answer_that_was_held_back_is_no_answer_to_the_next_question(peer):
    peer.pulse(peer.beat(11))
    number = peer.pulse(peer.beat(22))[1][wire.ASK][1]
    held_back = peer.sealed(22, wire.ANSWER, wire.encode_hello(0, number))
    assert peer.pulse(peer.sealed(33, wire.ANSWER, wire.encode_hello(0, number))) == ({}, {})
    assert peer.pulse(held_back)[0] == {"unproven": 1}
    assert peer.pulse(peer.beat(33)) == ({}, {})


def test_a_question_is_answered_to_a_proven_boot_only(peer):
    ask = wire.encode_hello(0, 4711)
    assert wire.ANSWER not in peer.pulse(peer.sealed(11, wire.ASK, ask))[1]
    peer.pulse(peer.beat(11))
    assert peer.pulse(peer.sealed(11, wire.ASK, ask)) == ({}, {wire.ANSWER: (1, 4711)})
    assert peer.pulse(peer.sealed(11, wire.ASK, wire.encode_hello(7, 4711))) == ({}, {})


def test_a_replayed_boot_is_greeted_once_a_pulse(peer):
    datagrams = [peer.beat(11, echo=5) for _ in range(20)]
    assert peer.pulse(*datagrams)[0] == {"unproven": 20}
    assert peer.server.lans[0].counter == 2, "a greeting and this pulse's heartbeat"


def test_foreign_datagrams_do_not_crowd_a_heartbeat_out(peer):
    rejected, _ = peer.pulse(*[b"x"] * 500, peer.beat(11))
    assert rejected == {"short": 500}
    assert 1 in peer.server.lans[0].heard


def test_a_data_plane_that_raises_stops_neither_the_thread_nor_its_owner():
    """The group of one owns everything, so each change of power is installed: and each time the callback raises."""
    seen = []

    def broken(view, owning, waiting):
        seen.append(view.members[0].powers)
        raise RuntimeError("the data plane is broken")

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    group = GroupTransport(
        Settings(0, (0,), 1, pulse=5_000_000),
        keys=Keys(KEY),
        group=GROUP,
        boot=BOOT,
        lans=(LanAddresses("lan", "127.0.0.1", port, {}),),
        callbacks=Callbacks(broken, lambda until: None, lambda text: None),
    )
    thread = PulseThread()
    thread.add(group)
    try:
        for power in (1, 2):
            thread.set_powers(group, (power,))
            end = time.monotonic() + 3
            while (power,) not in seen and time.monotonic() < end:
                time.sleep(0.005)
            assert (power,) in seen
    finally:
        before = time.monotonic()
        thread.remove(group)  # this installs too: that nothing is owned any more
        took = time.monotonic() - before
    assert took < 1
    assert group.lans[0].socket.fileno() == -1
