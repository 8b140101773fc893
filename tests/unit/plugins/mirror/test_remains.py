"""What a mirror leaves to the next process: packed and unpacked, and never of another shape under the same number."""

import dataclasses
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from safekit_py.plugins.mirror.generation import Generation
from safekit_py.plugins.mirror.lease import Held, Lease, boottime
from safekit_py.plugins.mirror.mind import Mind, Thoughts
from safekit_py.plugins.mirror.remains import Remains, Standing
from safekit_py.plugins.mirror.roles import Decision, Side
from safekit_py.plugins.mirror.seams import Grant
from safekit_py.plugins.mirror.situation import Situation
from safekit_py.plugins.mirror.type import MirrorType
from safekit_py.plugins.mirror.volume.block import missed

from safekit_py.model.state import Readiness, State

PARTS = (Remains, Standing, Thoughts, Held, Grant, Decision, Situation, Side, Generation)
SHAPES = {"1": "a64528b70253f03b"}
SIDE = Side(1, State.SECOND, Readiness.READY, Generation("d", uptodate=True), heard=True)
STANDING = Standing(
    *(State.PRIM, Readiness.READY, "r", "swap", 2, True, True, True, True, True, True, "u", True, 3, 4, 5, 6, "o"),
    *(State.SECOND, Decision(State.ALONE, "why"), "n", Situation(SIDE, 1, (("a", "b"),)), "s"),
)


class Module:
    """Has a runtime's attributes."""


def test_a_new_shape_has_a_new_number():
    told = [f"{each.__name__}.{field.name}: {field.type}" for each in PARTS for field in dataclasses.fields(each)]
    shape = hashlib.sha256("\n".join(told).encode()).hexdigest()[:16]
    assert SHAPES.get(MirrorType.lasts) == shape, "raise MirrorType.lasts, and note the shape here"


def test_it_comes_back_as_it_was():
    before = Remains(
        STANDING, Thoughts(7, True, False, 2), Held(Grant(granted=True, until=9), "d"), 11, True, {"role": "primary"}
    )
    after = Remains.unpacked(before.packed())
    assert after == before
    module = Module()
    after.standing.restore(module)
    assert Standing.of(module) == STANDING


def test_a_lease_goes_on():
    lease = Lease(object(), 3.0, 1.0)
    held = Held(Grant(granted=True, until=boottime() + 10**9), "d")
    lease.take(held)
    assert lease.until(None, None) == held.grant.until


def test_a_mind_that_goes_on_takes_no_time_for_silence():
    class Configured:
        config = type("", (), {"pulse": 0.1})

    mind = Mind(Configured())
    assert mind.awake == 0.0
    mind.take(Thoughts(7, True, True, 2))
    assert mind.thoughts == Thoughts(7, True, True, 2)
    assert mind.awake > 0.0


# --- what a worker told nobody ------------------------------------------------------------------------

FAILURE = {"cause": "the disk", "data": {"errno": 5}}


@pytest.mark.parametrize(
    ("before", "now", "told"),
    [
        ({"mode": "synced"}, {"mode": "synced"}, []),
        ({"mode": "synced"}, {"mode": "frozen"}, [("lost", True)]),
        ({"mode": "synced"}, {"mode": "waiting"}, [("lost", False)]),
        ({"mode": "alone"}, {"mode": "frozen"}, [("lost", True)]),
        ({"mode": "frozen"}, {"mode": "synced"}, [("synced", None)]),
        ({"mode": "alone"}, {"mode": "fenced"}, [("fenced", None)]),
        ({"mode": "fenced"}, {"mode": "alone"}, []),
        ({"mode": "synced"}, {"mode": "synced", "failure": FAILURE}, [("failed", None)]),
        ({"mode": "synced", "failure": FAILURE}, {"mode": "synced", "failure": FAILURE}, []),
        ({}, {"mode": "synced"}, [("synced", None)]),
    ],
)
def test_what_happened_meanwhile_is_told(before, now, told):
    events = list(missed(before, now))
    assert [(each.kind, (each.data or {}).get("frozen")) for each in events] == told
    assert all((each.data or {}).get("errno") in {None, 5} for each in events)


MODES = st.sampled_from(["alone", "synced", "frozen", "fenced"])


@given(MODES, MODES)
def test_who_hears_what_was_missed_knows_how_it_is(before, now):
    """As the runtime takes these events: what it believes of the copies is never better than it is."""

    def believed(mode):
        return mode == "synced", mode == "frozen", mode == "fenced"

    connected, frozen, fenced = believed(before)
    for event in missed({"mode": before}, {"mode": now}):
        if event.kind == "synced":
            connected, frozen = True, False
        elif event.kind == "lost":
            connected, frozen = False, bool(event.data["frozen"])
        elif event.kind == "fenced":
            connected, frozen, fenced = False, frozen or connected, True
    assert connected == (now == "synced")
    assert frozen or now != "frozen"
    assert fenced or now != "fenced"
