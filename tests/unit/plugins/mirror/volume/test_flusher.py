"""Flushes: done means on disk, whoever runs it; and after a failure never again."""

import os
import select
import threading
import time

import pytest
from safekit_py.plugins.mirror.volume import flusher as module
from safekit_py.plugins.mirror.volume.flusher import LITTLE, Flusher


class Image:
    """Counts flushes; each can be made to wait or to fail."""

    def __init__(self):
        self.syncs, self.threads, self.error = 0, [], None
        self.gate = threading.Event()
        self.gate.set()

    def sync(self):
        self.gate.wait(10)
        self.syncs += 1
        self.threads.append(threading.current_thread())
        if self.error is not None:
            raise self.error


@pytest.fixture
def images():
    return [Image(), Image()]


@pytest.fixture
def flusher(images):
    made = Flusher(images)
    yield made
    for each in images:
        each.gate.set()
    made.close()


def finish(flusher):
    assert select.select([flusher.fd], [], [], 10)[0]
    flusher.finish()


@pytest.fixture
def clean(flusher, images):
    """After the first flush, which is of everything."""
    flusher.flush([lambda _: None])
    finish(flusher)
    for each in images:
        each.syncs = 0
        each.threads.clear()
    return flusher


def test_the_first_flush_is_of_all_that_an_earlier_process_may_have_written(flusher, images):
    told = []
    flusher.flush([told.append])
    assert told == []
    finish(flusher)
    assert told == [None]
    assert [each.syncs for each in images] == [1, 1]


def test_little_is_flushed_in_place(clean, images):
    told = []
    clean.wrote(1, 4096)
    clean.flush([told.append, told.append])
    assert told == [None, None]
    assert [each.syncs for each in images] == [0, 1]
    assert images[1].threads == [threading.current_thread()]


def test_a_discard_counts_though_it_brings_no_bytes(clean, images):
    clean.wrote(0, 0)
    clean.flush([])
    assert images[0].syncs == 1


def test_nothing_written_is_nothing_to_flush(clean, images):
    told = []
    clean.flush([told.append])
    assert told == [None]
    assert [each.syncs for each in images] == [0, 0]


def test_much_is_flushed_in_a_thread_and_others_share_the_next(clean, images):
    told = []
    images[0].gate.clear()
    clean.wrote(0, LITTLE + 1)
    clean.flush([lambda error: told.append(("first", error))])
    assert clean.running
    clean.wrote(0, 1)
    for number in range(3):
        clean.flush([lambda error, number=number: told.append((number, error))])
    assert told == []
    images[0].gate.set()
    finish(clean)
    assert told[0] == ("first", None)
    assert images[0].syncs == 2, "what came while it ran needs one of its own"
    assert told[1:] == [(0, None), (1, None), (2, None)]
    assert not clean.running


@pytest.mark.parametrize("size", [1, LITTLE + 1])
def test_after_a_failure_every_flush_fails(clean, images, size):
    """The kernel has forgotten what it could not write: the next flush of the file would succeed without it."""
    told = []
    images[0].error = OSError(5, "Input/output error")
    clean.wrote(0, size)
    clean.flush([told.append])
    if clean.running:
        finish(clean)
    images[0].error = None
    clean.wrote(1, size)
    clean.flush([told.append])
    if clean.running:
        finish(clean)
    assert [error.errno for error in told] == [5, 5]


def test_finish_without_a_flush_does_nothing(clean):
    clean.finish()


def test_closing_waits_for_the_thread(images, monkeypatch):
    """Else it would write its word into whatever has the descriptor's number by then: an image, for one."""
    made = Flusher(images)
    images[0].gate.clear()
    told, written = [], []
    real = os.eventfd_write
    monkeypatch.setattr(module.os, "eventfd_write", lambda fd, n: (written.append(time.monotonic()), real(fd, n)))
    made.flush([told.append])
    timer = threading.Timer(0.1, images[0].gate.set)
    timer.start()
    made.close()
    closed = time.monotonic()
    assert len(written) == 1
    assert written[0] <= closed
    assert told == []
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(made.fd)
