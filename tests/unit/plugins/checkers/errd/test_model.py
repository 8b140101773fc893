"""What is decided about a look at the processes."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from safekit_py.plugins.checkers.errd.model import (
    BURST,
    MOST,
    SPAN,
    Matcher,
    Pace,
    Proc,
    Process,
    Unit,
    act,
    judge,
    judge_unit,
    vital,
)

from safekit_py.api import Status


def process(pid, name="httpd", command="", started=0.0):
    return Process(started, pid, name, command)


@given(
    st.sets(st.integers(1, 400), max_size=60),
    st.integers(0, 70),
    st.data(),
)
def test_too_few_are_left_only_when_a_vital_one_has_ended(pids, atleast, data):
    """As long as none of the processes that ``vital`` names has ended, at least ``atleast`` of those seen are there."""
    proc = Proc("httpd", atleast=atleast)
    found = Matcher(proc).find([process(pid, started=float(pid % 7)) for pid in pids])
    watched = vital(proc, found)
    if judge(proc, len(found)).status is Status.DOWN:
        return  # it is down already: no end of a process can tell anything new
    ended = data.draw(st.sets(st.sampled_from(sorted(pids)))) if pids else set()
    if ended.isdisjoint({each.pid for each in watched}):
        assert judge(proc, len(found) - len(ended)).status is Status.UP


def test_the_oldest_are_vital_and_only_as_many_as_must_run():
    found = Matcher(Proc("httpd")).find([process(9, started=2.0), process(7, started=1.0), process(8, started=3.0)])
    assert [each.pid for each in vital(Proc("httpd", atleast=2), found)] == [7, 9]
    assert vital(Proc("httpd", atleast=0, atmost=0), found) == []
    many = [process(pid) for pid in range(2 * MOST)]
    assert len(vital(Proc("httpd", atleast=2 * MOST), many)) == MOST


@pytest.mark.parametrize(
    ("given", "pids"),
    [
        ({"name": "httpd"}, [1, 2]),
        ({"name": "http"}, []),
        ({"name": "web", "nameregex": "^http"}, [1, 2, 3]),
        ({"name": "httpd", "argregex": "-f /etc/b"}, [2]),
        ({"name": "x", "nameregex": "d$", "argregex": "a.conf$"}, [1, 4]),
    ],
)
def test_matching(given, pids):
    seen = [
        process(1, "httpd", "/usr/sbin/httpd -f /etc/a.conf"),
        process(2, "httpd", "/usr/sbin/httpd -f /etc/b.conf"),
        process(3, "http2", ""),
        process(4, "sshd", "sshd -f /etc/a.conf"),
    ]
    matcher = Matcher(Proc(**given))
    assert [each.pid for each in matcher.find(seen)] == pids
    assert matcher.commands is ("argregex" in given)


@pytest.mark.parametrize(
    ("given", "count", "status", "cause"),
    [
        ({}, 0, "down", "no process a runs, and at least 1 must"),
        ({}, 1, "up", "1 process a runs"),
        ({"atleast": 3}, 2, "down", "2 processes a run, and at least 3 must"),
        ({"atmost": 2}, 3, "down", "3 processes a run, and at most 2 may"),
        ({"atmost": 2}, 2, "up", "2 processes a run"),
        ({"atleast": 0, "atmost": 0}, 0, "up", "no process a runs"),
        ({"atleast": 0, "atmost": 0}, 1, "down", "1 process a runs, and at most 0 may"),
    ],
)
def test_counts(given, count, status, cause):
    assert judge(Proc("a", **given), count) == (Status(status), cause)


@pytest.mark.parametrize(
    ("unit", "status"),
    [
        (Unit("loaded", "active", "running"), "up"),
        (Unit("loaded", "reloading", "reload"), "up"),
        (Unit("loaded", "activating", "start-pre"), "init"),
        (Unit("loaded", "activating", "auto-restart"), "down"),
        (Unit("loaded", "failed", "failed"), "down"),
        (Unit("loaded", "inactive", "dead"), "down"),
        (Unit("loaded", "deactivating", "stop"), "down"),
        (Unit("not-found", "inactive", "dead"), "down"),
        (Unit("masked", "inactive", "dead"), "down"),
    ],
)
def test_services(unit, status):
    assert judge_unit(Proc("a", service=True), unit).status is Status(status)


def test_what_the_action_is():
    assert Proc("a").handler == ""
    assert Proc("a", action="repair").handler == "repair"
    assert Proc("a", action="restart", services=("A", "B")).arguments == ("-Services", "A, B")
    assert Proc("a", action="stopstart", services=("A", "B")).arguments == ()


@given(st.lists(st.floats(0, 100), min_size=1, max_size=60), st.floats(0.1, 60))
def test_between_two_actions_lies_polltimer(looks, polltimer):
    """Between two actions for one failure lies at least ``polltimer``."""
    acted, taken = None, []
    for now in sorted(looks):
        if act(acted, now, polltimer):
            acted = now
            taken.append(now)
    assert taken[0] == min(looks)
    assert all(later - earlier >= polltimer for earlier, later in pairwise(taken))


@given(st.lists(st.floats(0, 3), min_size=1, max_size=200))
def test_events_are_looked_at_without_delay_until_they_are_many(gaps):
    """Of the looks that follow from events, at most ``2 * BURST`` fall within any ``SPAN`` seconds."""
    pace, now, looks = Pace(), 0.0, []
    for gap in gaps:
        now += gap
        delay = pace.delay(now)
        assert delay == 0.0 or len(looks) >= BURST
        now += delay
        looks.append(now)
        assert sum(each > now - SPAN for each in looks) <= 2 * BURST
