"""The heartbeat thread: what it runs, in which order, and that one participant's fault stops nobody else."""

import socket
import threading
import time

import pytest

from safekit_py.net.pulse import RealtimeThread

STEP = 5_000_000


class Member:
    """Notes what happens to it."""

    def __init__(self, raises=False):
        self.due, self.raises = 0, raises
        self.pulses, self.left, self.closed = 0, 0, 0
        self.threads = set()

    def pulse(self, now):
        assert now >= self.due
        self.due = now + STEP
        self.pulses += 1
        self.threads.add(threading.current_thread().name)
        if self.raises:
            raise RuntimeError("broken")

    def leave(self, now):
        self.left += 1
        if self.raises:
            raise RuntimeError("broken")

    def close(self):
        self.closed += 1


def until(holds, limit=4.0):
    end = time.monotonic() + limit
    while not holds():
        assert time.monotonic() < end, "not in time"
        time.sleep(0.005)


@pytest.fixture(scope="module")
def thread():
    return RealtimeThread()  # it ends with the process


def test_each_is_pulsed_in_the_thread_until_it_is_stopped_also_beside_one_that_raises(thread):
    good, bad = Member(), Member(raises=True)
    thread.start(bad)
    thread.start(good)
    until(lambda: good.pulses > 3 and bad.pulses > 3)
    thread.stop(bad)
    assert (bad.left, bad.closed) == (1, 1)
    seen = bad.pulses
    before = good.pulses
    until(lambda: good.pulses > before + 2)
    assert bad.pulses == seen
    thread.stop(good)
    assert (good.left, good.closed) == (1, 1)
    assert good.threads == {"pulse"}


def test_one_that_was_never_started_is_closed_and_says_nothing(thread):
    member = Member()
    thread.stop(member)
    assert (member.pulses, member.left, member.closed) == (0, 0, 1)


def test_orders_are_carried_out_one_after_the_other_and_one_that_fails_is_left_behind(thread):
    done = []
    for number in range(100):
        thread.order(lambda number=number: done.append(number))
        thread.order(lambda: 1 / 0)
    until(lambda: len(done) == 100)
    assert done == list(range(100))


def test_a_watched_socket_wakes_the_thread_until_it_is_unwatched(thread):
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, theirs:
        heard = []
        thread.order(lambda: thread.watch(ours, lambda: heard.append(ours.recv(10))))
        theirs.send(b"one")
        until(lambda: heard == [b"one"])
        done = threading.Event()
        thread.order(lambda: (thread.unwatch(ours), thread.unwatch(ours), done.set()))
        assert done.wait(4)
        theirs.send(b"two")
        time.sleep(0.05)
        assert heard == [b"one"]
