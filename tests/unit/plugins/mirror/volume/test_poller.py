"""What a volume process waits for."""

import os
import select
import time

import pytest
from safekit_py.plugins.mirror.volume.poller import Poller


@pytest.fixture
def pipe():
    ends = os.pipe()
    yield ends
    for fd in ends:
        try:
            os.close(fd)
        except OSError:
            continue


def test_it_waits_for_those_that_are_watched(pipe):
    poller, seen = Poller(), []
    poller.watch(pipe[0], seen.append)
    assert poller.wait(0) == []
    os.write(pipe[1], b"x")
    ((fd, event),) = poller.wait(5)
    poller.on[fd](event)
    assert seen == [select.POLLIN]
    poller.modify(pipe[0], 0)
    assert poller.wait(0) == []


def test_nothing_comes_before_the_time_is_over():
    begun = time.monotonic()
    assert Poller().wait(0.05) == []
    assert time.monotonic() - begun >= 0.04


def test_what_is_forgotten_is_not_waited_for(pipe):
    poller = Poller()
    poller.watch(pipe[0], print)
    os.write(pipe[1], b"x")
    poller.forget(pipe[0])
    poller.forget(pipe[0])
    assert poller.wait(0) == []


def test_one_that_is_closed_already_is_forgotten_by_what_it_runs(pipe):
    """Else its number would be reported as invalid for ever, and the process would never sleep again."""
    poller = Poller()
    poller.watch(pipe[0], print)
    other = os.eventfd(0)
    poller.watch(other, repr)
    os.close(pipe[0])
    assert poller.wait(0) == [(pipe[0], select.POLLNVAL)]
    poller.forget_all(print)
    assert poller.wait(0) == []
    assert list(poller.on) == [other]
    os.close(other)
