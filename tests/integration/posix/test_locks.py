"""Locks between descriptors and between processes: flock, POSIX record locks, open-file-description locks, leases."""

import errno
import fcntl
import os
import signal

import pytest
from posixcalls import F_OFD_GETLK, F_OFD_SETLK, flock_ofd, in_child, outcome

pytestmark = pytest.mark.lab
EX, SH, UN, NB = fcntl.LOCK_EX, fcntl.LOCK_SH, fcntl.LOCK_UN, fcntl.LOCK_NB


@pytest.fixture
def pair(folder):
    """Two open descriptions of one file."""
    one = os.open("file", os.O_RDWR | os.O_CREAT)
    two = os.open("file", os.O_RDWR)
    os.ftruncate(one, 1000)
    yield one, two
    os.close(one)
    os.close(two)


def test_flock_belongs_to_the_open_description(pair, note):
    one, two = pair
    fcntl.flock(one, EX)
    same = os.dup(one)
    seen = [
        outcome(fcntl.flock, two, EX | NB),
        outcome(fcntl.flock, two, SH | NB),
        outcome(fcntl.flock, same, EX | NB),
        in_child(lambda: outcome(fcntl.flock, one, EX | NB)),
    ]
    fcntl.flock(one, SH)
    seen.extend([outcome(fcntl.flock, two, SH | NB), outcome(fcntl.flock, two, EX | NB)])
    fcntl.flock(same, UN)
    seen.append(outcome(fcntl.flock, two, EX | NB))
    os.close(same)
    note(seen)
    assert seen == ["EAGAIN", "EAGAIN", "ok", "ok", "ok", "EAGAIN", "ok"]


def test_record_locks_belong_to_the_process(pair, note):
    one, two = pair
    fcntl.lockf(one, EX | NB, 100, 0)

    def elsewhere():
        fd = os.open("file", os.O_RDWR)
        return [
            outcome(fcntl.lockf, fd, EX | NB, 10, 50),
            outcome(fcntl.lockf, fd, SH | NB, 10, 99),
            outcome(fcntl.lockf, fd, EX | NB, 10, 100),
            outcome(fcntl.lockf, fd, EX | NB, 0, 0),
        ]

    seen = [outcome(fcntl.lockf, two, EX | NB, 100, 0), in_child(elsewhere)]
    fcntl.lockf(one, UN, 50, 25)
    seen.append(in_child(lambda: outcome(fcntl.lockf, os.open("file", os.O_RDWR), EX | NB, 50, 25)))
    seen.append(in_child(lambda: outcome(fcntl.lockf, os.open("file", os.O_RDWR), EX | NB, 51, 25)))
    os.close(os.open("file", os.O_RDONLY))  # closing any descriptor of the file releases them all
    seen.append(in_child(lambda: outcome(fcntl.lockf, os.open("file", os.O_RDWR), EX | NB, 0, 0)))
    note(seen)
    assert seen == ["ok", "['EAGAIN', 'EAGAIN', 'ok', 'EAGAIN']", "ok", "EAGAIN", "ok"]


def test_description_locks(pair, note):
    one, two = pair
    flock_ofd(one, F_OFD_SETLK, fcntl.F_WRLCK, 0, 100)
    seen = [
        outcome(flock_ofd, two, F_OFD_SETLK, fcntl.F_WRLCK, 99, 1),
        outcome(flock_ofd, two, F_OFD_SETLK, fcntl.F_RDLCK, 100, 1),
        flock_ofd(two, F_OFD_GETLK, fcntl.F_RDLCK, 50, 1) == fcntl.F_WRLCK,
        in_child(lambda: outcome(fcntl.lockf, two, EX | NB, 10, 0)),
    ]
    os.close(os.open("file", os.O_RDONLY))  # releases none of these
    seen.append(outcome(flock_ofd, two, F_OFD_SETLK, fcntl.F_WRLCK, 0, 1))
    flock_ofd(one, F_OFD_SETLK, fcntl.F_UNLCK, 0, 0)
    seen.append(outcome(flock_ofd, two, F_OFD_SETLK, fcntl.F_WRLCK, 0, 1))
    note(seen)
    assert seen == ["EAGAIN", "ok", True, "EAGAIN", "EAGAIN", "ok"]


def test_a_deadlock_is_seen(pair, note):
    one, _ = pair
    fcntl.lockf(one, EX, 1, 0)
    ready, told = os.pipe()

    def other():
        fd = os.open("file", os.O_RDWR)
        fcntl.lockf(fd, EX, 1, 10)
        os.write(told, b"x")
        return outcome(fcntl.lockf, fd, EX, 1, 0)

    child = os.fork()
    if child == 0:
        seen = other()
        os._exit(0 if seen == "EDEADLOCK" else 1 if seen == "ok" else 2)
    os.read(ready, 1)
    mine = outcome(fcntl.lockf, one, EX, 1, 10)
    fcntl.lockf(one, UN, 0, 0)
    _, status = os.waitpid(child, 0)
    os.close(ready)
    os.close(told)
    both = {mine, {0: "EDEADLOCK", 1: "ok"}[os.waitstatus_to_exitcode(status)]}
    note(sorted(both))
    assert both == {"EDEADLOCK", "ok"}


def test_a_killed_process_gives_its_locks_back(pair):
    one, _ = pair
    ready, told = os.pipe()
    child = os.fork()
    if child == 0:
        fcntl.lockf(one, EX)
        fcntl.flock(os.open("file", os.O_RDWR), EX)
        os.write(told, b"x")
        signal.pause()
        os._exit(0)
    os.read(ready, 1)
    held = outcome(fcntl.lockf, one, EX | NB), outcome(fcntl.flock, one, EX | NB)
    os.kill(child, 9)
    os.waitpid(child, 0)
    os.close(ready)
    os.close(told)
    assert held == ("EAGAIN", "EAGAIN")
    assert (outcome(fcntl.lockf, one, EX | NB), outcome(fcntl.flock, one, EX | NB)) == ("ok", "ok")


def test_a_lease_needs_that_nobody_else_has_it_open(pair, note):
    one, two = pair
    with pytest.raises(OSError) as refused:  # noqa: PT011
        fcntl.fcntl(one, fcntl.F_SETLEASE, fcntl.F_WRLCK)
    note(errno.errorcode[refused.value.errno])
    assert two != one
    assert refused.value.errno == errno.EAGAIN
