"""What a server knows of its data: each transition says no more than what is true, and both servers see it alike."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from safekit_py.plugins.mirror import generation as gen
from safekit_py.plugins.mirror.generation import HISTORY, Generation, compare

from safekit_py.api import SafekitError

IDS = st.sampled_from(["", "d1", "d2", "d3", "d4"])
GENERATIONS = st.builds(
    Generation,
    data=IDS,
    history=st.lists(st.sampled_from(["d1", "d2", "d3", "d4"]), max_size=3, unique=True).map(tuple),
    uptodate=st.booleans(),
    shared=st.booleans(),
    primary=st.booleans(),
    base=IDS,
    external=st.sampled_from(["", "copy"]),
)
MIRRORED = {"mine": "theirs", "theirs": "mine"}


@given(GENERATIONS)
def test_what_is_written_is_read(generation):
    assert Generation.from_dict(generation.as_dict()) == generation


@given(GENERATIONS, st.sampled_from(sorted(Generation().as_dict())), st.sampled_from([None, 7, [7], {}, "x", True]))
def test_a_field_of_another_kind_is_refused(generation, name, value):
    said = {**generation.as_dict(), name: value}
    if type(value) is type(getattr(generation, name)):
        assert getattr(Generation.from_dict(said), name) == value
        return
    with pytest.raises(SafekitError) as caught:
        Generation.from_dict(said)
    assert caught.value.problems[0].code == "volume.generation-unreadable"


@given(GENERATIONS, st.sampled_from(sorted(Generation().as_dict())))
def test_a_field_that_is_missing_or_unknown_is_refused(generation, name):
    said = generation.as_dict()
    del said[name]
    with pytest.raises(SafekitError):
        Generation.from_dict(said)
    with pytest.raises(SafekitError):
        Generation.from_dict({**generation.as_dict(), "more": 1})


@given(GENERATIONS, GENERATIONS)
def test_two_servers_see_their_data_alike(one, two):
    here, there = compare(one, two), compare(two, one)
    if one.data in two.history and two.data in one.history and one.data != two.data:
        return  # no transition leads there
    assert there.kind == MIRRORED.get(here.kind, here.kind)
    assert there.by_map == here.by_map


@given(GENERATIONS)
def test_going_on_alone_is_newer_than_what_was(mine):
    new = gen.alone(mine, "new")
    assert new.uptodate
    assert not new.shared
    assert new.primary
    assert len(new.history) <= HISTORY
    if mine.data:
        assert compare(new, mine).kind == "mine"
        assert compare(mine, new).kind == "theirs"


def test_a_history_is_kept_up_to_its_length():
    mine = gen.first("d0")
    for number in range(1, HISTORY + 10):
        mine = gen.alone(mine, f"d{number}")
    assert len(mine.history) == HISTORY
    assert mine.history[0] == f"d{HISTORY + 8}"
    assert compare(mine, gen.first("d0")).kind == "unrelated"


@given(GENERATIONS, GENERATIONS)
def test_after_a_synchronisation_both_have_the_same_and_neither_rises_blindly(mine, theirs):
    primary = gen.sharing(theirs)
    secondary = gen.synced(gen.resyncing(mine), primary)
    if theirs.data:
        assert compare(primary, secondary) == gen.Relation("same", by_map=True)
    assert primary.shared
    assert secondary.shared
    assert secondary.uptodate
    assert not secondary.primary


@given(GENERATIONS)
def test_while_it_is_being_changed_or_outdated_it_is_not_up_to_date(mine):
    for each in (gen.resyncing(mine), gen.outdated(mine), gen.discarded(mine)):
        assert not each.uptodate
        assert (each.data, each.history) == (mine.data, mine.history)


@given(GENERATIONS)
def test_a_planned_exchange_changes_only_who_was_primary(mine):
    assert gen.promoted(gen.demoted(mine)) == gen.promoted(mine)
    assert gen.demoted(mine).data == mine.data
    assert gen.demoted(mine).uptodate == mine.uptodate


def pair():
    """Two servers with the same data."""
    one = gen.sharing(gen.first("d1"))
    return one, gen.synced(Generation(), one)


def test_the_map_is_enough_after_one_went_alone():
    one, two = pair()
    went = gen.alone(one, "d2")
    assert compare(went, two) == gen.Relation("mine", by_map=True)
    again = gen.alone(went, "d3")
    assert again.base == "d1"
    assert compare(again, two).kind == "mine"
    assert compare(again, two).by_map


def test_the_map_is_enough_after_both_went_alone_from_the_same():
    one, two = pair()
    found = compare(gen.alone(one, "d2"), gen.alone(two, "d3"))
    assert found == gen.Relation("diverged", by_map=True)


def test_the_map_is_not_enough_when_the_other_is_not_the_one_of_the_map():
    one, two = pair()
    went = gen.sharing(gen.alone(one, "d2"))  # a resynchronisation was noted here, and broke off before it was there
    assert compare(went, two) == gen.Relation("mine", by_map=False)


def test_a_copy_by_other_means_is_the_same_on_both_and_only_the_primary_may_rise():
    one, two = gen.copied("copy", primary=True), gen.copied("copy", primary=False)
    assert compare(one, two).kind == "same"
    assert (one.shared, two.shared) == (False, True)


def test_no_data_are_related_to_none():
    assert compare(Generation(), gen.first("d1")).kind == "none"
    assert compare(Generation(), Generation()).kind == "none"
    assert compare(gen.first("d1"), gen.first("d2")).kind == "unrelated"
