"""The trail over random histories: whoever may hold a connection is known, and nobody else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safekit_py.core.buckets import BUCKETS, NOBODY, Table, assign
from safekit_py.core.trail import HOLDERS, Present, Trail, admitted, entries, follow

SERVERS = st.integers(0, 7)
POWERS = st.dictionaries(SERVERS, st.sampled_from([0, 1, 1, 2, 64]), max_size=6)


def rows(trail):
    return [holders for length, holders in trail.runs for _ in range(length)]


@given(st.lists(st.tuples(POWERS, st.sets(SERVERS)), max_size=6))
def test_any_history(steps):
    table, trail, powers = Table(), Trail(), {}
    owners = [[] for _ in range(0, BUCKETS, 257)]  # of some buckets: members that owned them, latest first
    for wanted, told in steps:
        after = assign(table, powers, wanted)
        joined, settled = set(wanted) - set(powers), told & set(powers)
        trail = follow(table, trail, after, Present(set(wanted), joined, settled))
        old, new, held = table.expand(), after.expand(), rows(trail)
        for place, bucket in enumerate(range(0, BUCKETS, 257)):
            past = [s for s in owners[place] if s not in settled]
            if old[bucket] != new[bucket]:
                past.insert(0, old[bucket])
            past = [s for s in dict.fromkeys(past) if s in wanted and s not in {new[bucket], NOBODY}]
            owners[place] = past
            holders = held[bucket]
            assert set(holders) <= set(wanted) - {new[bucket]}
            assert len(holders) == len(set(holders)) <= HOLDERS
            assert list(holders[: len(past)]) == past[:HOLDERS]
            if len(past) + len(joined - set(past) - {new[bucket]}) <= HOLDERS:
                assert joined - {new[bucket]} <= set(holders)
            owners[place] = list(holders)
        assert Trail.decode(trail.encode()) == trail
        table, powers = after, wanted


def test_a_join_leaves_a_trail_that_ends_when_all_has_settled():
    one = assign(None, {}, {0: 1})
    two = assign(one, {0: 1}, {0: 1, 1: 1})
    trail = follow(one, Trail(), two, Present({0, 1}, {1}))
    assert {h for _, h in trail.runs} == {(0,), (1,)}
    assert follow(two, trail, two, Present({0, 1}, (), {0})).holders() == {1}
    assert follow(two, trail, two, Present({0, 1}, (), {0, 1})) == Trail()


def test_who_dies_leaves_the_trail():
    trail = Trail(((BUCKETS, (1, 2)),))
    alone = assign(None, {}, {0: 1})
    assert follow(alone, trail, alone, Present({0, 2})).runs == ((BUCKETS, (2,)),)


def test_an_owner_that_settled_becomes_a_holder_of_what_it_loses():
    before, after = assign(None, {}, {0: 1}), assign(None, {}, {1: 1})
    assert follow(before, Trail(), after, Present({0, 1}, (), {0})).runs == ((BUCKETS, (0,)),)


def test_entries():
    table = Table(((BUCKETS // 2, 0), (BUCKETS // 2, 1)))
    trail = Trail(((BUCKETS // 4, ()), (BUCKETS - BUCKETS // 4, (2, 0))))
    found = entries(table, trail)
    assert len(found) == 4 * BUCKETS
    assert [found[i : i + 4].hex() for i in (0, BUCKETS, 2 * BUCKETS)] == ["00ffffff", "000200ff", "010200ff"]
    found = entries(table, trail, without=0)
    assert [found[i : i + 4].hex() for i in (0, BUCKETS, 2 * BUCKETS)] == ["ffffffff", "ff02ffff", "0102ffff"]


def test_fixed_vector():
    assert Trail(((BUCKETS // 2, ()), (BUCKETS // 2, (2, 0)))).encode().hex() == "7fff00" + "7fff020200"


@pytest.mark.parametrize(
    "data",
    ["", "00", "ffff", "fffe00", "ffff0101ff", "ffff01", "ffff01ff", "ffff020101", "ffff0401020304", "7fff007fff00"],
)
def test_a_trail_that_lies_is_refused(data):
    with pytest.raises(ValueError, match="a trail"):
        Trail.decode(bytes.fromhex(data))


def owner_of(found, bucket):
    return found[4 * bucket]


def test_what_another_member_may_still_own_is_not_taken_before_it_has_the_view():
    table = Table(((BUCKETS // 4, 0), (BUCKETS // 4, 0), (BUCKETS // 4, 0), (BUCKETS // 4, 1)))
    trail = Trail(((BUCKETS // 4, ()), (BUCKETS // 4, (1,)), (BUCKETS // 4, (2, 1)), (BUCKETS // 4, ())))
    whole = entries(table, trail)
    places = [place * BUCKETS // 4 for place in range(4)]

    found, owned = admitted(whole, 0, {1}, 0)
    assert [owner_of(found, place) for place in places] == [0, NOBODY, NOBODY, 1]
    assert admitted(whole, owned, {2}, 0)[0][4 * places[2]] == NOBODY, "nor what was shut until now"
    found, owned = admitted(whole, owned, (), 0)
    assert found == whole
    assert admitted(whole, owned, {1, 2}, 0) == (whole, owned), "what it owns already it keeps"
    assert admitted(whole, 0, {1, 2}, 1)[0] == whole, "a bucket without holders, as a dead server's, is taken at once"
