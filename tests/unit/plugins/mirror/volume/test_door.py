"""Who connects stays outside until the proof: nobody without the key reaches the volume process, or takes its place."""

import select
import socket
import time

import pytest
from safekit_py.plugins.mirror.volume.door import WAITING, Door
from safekit_py.plugins.mirror.volume.frames import Kind, words
from safekit_py.plugins.mirror.volume.link import Link, Names

from safekit_py.model.keys import first

RING = first(b"k" * 32)
PRIMARY, SECONDARY = Names("m", lambda: RING, "A", "B"), Names("m", lambda: RING, "B", "A")


class House:
    """A door with a loop around it, and those who came in."""

    def __init__(self, peer="127.0.0.1"):
        self.poll, self.on, self.inside = select.poll(), {}, []
        self.door = Door(
            ("127.0.0.1", 0), peer, SECONDARY, 2.0, watch=self.watch, forget=self.forget, enter=self.enter
        )  # fmt: skip
        self.address = self.door._socket.getsockname()
        self.made = []

    def watch(self, fd, run, events):
        self.on[fd] = run
        self.poll.register(fd, events)

    def forget(self, fd):
        del self.on[fd]
        self.poll.unregister(fd)

    def enter(self, link, frames):
        self.inside.append((link, [(frame.kind, bytes(frame.payload)) for frame in frames]))

    def connect(self):
        self.made.append(socket.create_connection(self.address))
        self.turn()
        return self.made[-1]

    def turn(self, rounds=5):
        for _ in range(rounds):
            for fd, event in self.poll.poll(20):
                if fd in self.on:
                    self.on[fd](event)

    def close(self):
        self.door.close()
        for each in (*self.made, *(link.socket for link, _ in self.inside)):
            each.close()


@pytest.fixture
def house():
    made = House()
    yield made
    made.close()


def closed(connection):
    connection.settimeout(2)
    try:
        while connection.recv(4096):
            continue
    except ConnectionError:
        return True
    except TimeoutError:
        return False
    return True


def prove(house, connection, *more):
    link = Link(connection, PRIMARY, 2.0)
    for _ in range(4):
        link.flush()
        house.turn(2)
        list(link.read())
        if link.proven and more:
            for kind, said in more:
                link.say(kind, said)
            more = ()
    link.flush()
    house.turn(2)
    return link


def test_one_that_proves_itself_comes_in(house):
    link = prove(house, house.connect())
    assert link.proven
    assert len(house.inside) == 1
    assert not house.door._waiting


def test_what_was_said_behind_the_proof_comes_in_with_it(house):
    connection = house.connect()
    link = Link(connection, PRIMARY, 2.0)
    link.flush()
    house.turn()
    list(link.read())  # nonce and proof of the other side: now its own proof waits to be sent
    assert link.proven
    link.say(Kind.HELLO, {"a": 1})
    link.flush()
    house.turn()
    assert house.inside[0][1] == [(Kind.HELLO, b'{"a": 1}')]


@pytest.mark.parametrize(
    "said", [b"GET / HTTP/1.0\r\n\r\n" * 3, words(Kind.HELLO, {}), words(Kind.AUTH, {}), words(Kind.AUTH, {"proof": 1})]
)
def test_anybody_else_is_turned_away(house, said):
    stranger = house.connect()
    stranger.sendall(said)
    house.turn()
    assert closed(stranger)
    assert not house.inside
    assert not house.door._waiting


def test_silence_is_turned_away(house):
    stranger = house.connect()
    house.door.tick(time.monotonic() + 1)
    assert len(house.door._waiting) == 1
    house.door.tick(time.monotonic() + 3)
    assert closed(stranger)
    assert not house.door._waiting


def test_one_that_leaves_is_forgotten(house):
    house.connect().close()
    house.turn()
    assert not house.door._waiting


def test_another_address_is_turned_away():
    house = House(peer="127.0.0.9")
    try:
        assert closed(house.connect())
        assert not house.door._waiting
    finally:
        house.close()


def test_many_strangers_do_not_keep_the_primary_out(house):
    strangers = [house.connect() for _ in range(3 * WAITING)]
    assert len(house.door._waiting) == WAITING
    assert closed(strangers[0])
    assert prove(house, house.connect()).proven
    assert len(house.inside) == 1


def test_a_closed_door_lets_nobody_in(house):
    stranger = house.connect()
    house.door.close()
    assert closed(stranger)
    with pytest.raises(ConnectionError):
        socket.create_connection(house.address)
    house.door = Door(
        house.address, "127.0.0.1", SECONDARY, 2.0, watch=house.watch, forget=house.forget, enter=house.enter
    )
