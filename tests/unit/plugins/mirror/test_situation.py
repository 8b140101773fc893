"""What the heartbeats carry: it is read as it was said, and nonsense counts as the least that it could mean."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from safekit_py.plugins.mirror import generation as gen
from safekit_py.plugins.mirror.generation import Generation
from safekit_py.plugins.mirror.roles import Side
from safekit_py.plugins.mirror.situation import MAX_RESOURCES, Situation, read

from safekit_py.api import Readiness, State

NUMBERS = st.integers(0, (1 << 48) - 1)
SIDES = st.builds(
    Side, st.integers(0, 1), st.sampled_from(State), st.sampled_from(Readiness),
    st.sampled_from([Generation(), gen.first("d1"), gen.sharing(gen.alone(gen.first("d1"), "d2"))]),
    st.just(True), st.booleans(), st.booleans(), st.booleans(), st.sampled_from(["", "d1"]), NUMBERS, NUMBERS,
    st.sampled_from([None, *State]), st.sampled_from(["", "prim", "second"]),
)  # fmt: skip
SITUATIONS = st.builds(
    Situation, SIDES, NUMBERS, st.dictionaries(st.text(max_size=9), st.text(max_size=5), max_size=4).map(
        lambda found: tuple(found.items())), st.text(max_size=40), st.sampled_from(["", "1.2"]),
)  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=6,
)
LEAST = read({}, 1)
FIELDS = sorted(Situation(LEAST.side).words())


@given(SITUATIONS)
def test_it_is_read_as_it_was_said(situation):
    assert read(json.loads(json.dumps(situation.words())), situation.side.node) == situation


@given(SITUATIONS, st.sampled_from(FIELDS), JSON)
def test_any_value_of_any_field_is_read_as_something(situation, field, value):
    found = read({**situation.words(), field: value}, 1)
    assert isinstance(found.side.state, State)
    assert isinstance(found.side.readiness, Readiness)
    assert found.side.claim >= 0
    json.dumps(found.words())


def test_nothing_said_is_the_least():
    side = LEAST.side
    assert (side.state, side.readiness) == (State.STOP, Readiness.NOT_READY)
    assert side.generation == Generation()
    assert (side.connected, side.frozen, side.leaving) == (False, False, False)
    assert (side.claim, side.yields, side.outdated_for, side.began) == (0, 0, "", None)


@pytest.mark.parametrize("value", [1, "true", "yes", [True], {"a": 1}, 0.5])
@pytest.mark.parametrize("field", ["connected", "leaving", "frozen"])
def test_only_true_is_true(field, value):
    """A peer of which nobody knows that it has given the data up has not."""
    assert getattr(read({field: value}, 1).side, field) is False


@pytest.mark.parametrize("value", [True, -1, 1 << 64, "7", 1.0, None])
def test_a_claim_that_is_no_number_is_none(value):
    assert read({"claim": value, "yields": value}, 1).side.claim == 0


@pytest.mark.parametrize("value", [{}, {"data": "d9"}, {**gen.first("d9").as_dict(), "uptodate": 1}, [], "d9"])
def test_a_generation_that_cannot_be_read_is_none(value):
    assert read({"generation": value}, 1).side.generation == Generation()


def test_what_is_too_much_is_cut_off_and_not_refused():
    many = tuple((f"r{number}", "up") for number in range(MAX_RESOURCES + 50))
    words = Situation(LEAST.side, resources=many, reason="x" * 10_000).words()
    assert len(words["resources"]) == MAX_RESOURCES
    assert len(words["reason"]) == 500
    assert len(json.dumps(words)) < 30_000
