"""The bucket table over random histories of joins, leaves and changes of power."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safekit_py.core.buckets import BUCKETS, CHAIN, NOBODY, Table, assign

POWERS = st.dictionaries(st.integers(0, 63), st.sampled_from([0, 1, 1, 1, 2, 5, 64]), max_size=32)


def check(table, before, powers):
    """Every invariant of the module's docstring, for one change."""
    after = assign(table, before, powers)
    active, were = (
        {s: p for s, p in each.items() if p and p * CHAIN > max(each.values())} for each in (powers, before)
    )
    old, new = (table or Table()).expand(), after.expand()
    counts = after.counts()
    assert len(new) == BUCKETS
    assert set(counts) <= (set(active) or {NOBODY})
    for server, power in active.items():
        assert abs(counts.get(server, 0) / BUCKETS - power / sum(active.values())) <= 0.0005
    if all(were.get(s) == p for s, p in active.items()):
        assert all(x == y for x, y in zip(old, new, strict=True) if x in active), "a leave moved what it need not"
    if all(active.get(s) == p for s, p in were.items()):
        assert all(x == y for x, y in zip(old, new, strict=True) if y in were), "a join moved what it need not"
    assert assign(table, before, dict(reversed(powers.items()))) == after
    assert Table.decode(after.encode()) == after
    return after


@given(st.lists(POWERS, max_size=4))
def test_any_history(steps):
    table, before = None, {}
    for powers in steps:
        table, before = check(table, before, powers), powers


@given(POWERS, st.data())
def test_leaves_one_by_one(powers, data):
    table = check(None, {}, powers)
    for _ in range(min(6, len(powers))):
        left = dict(powers)
        del left[data.draw(st.sampled_from(sorted(left)))]
        table, powers = check(table, powers, left), left


@given(POWERS, st.lists(st.integers(64, 95), unique=True, max_size=4))
def test_joins_one_by_one(powers, joiners):
    table = check(None, {}, powers)
    for joiner in joiners:
        more = {**powers, joiner: 1}
        table, powers = check(table, powers, more), more


def test_nothing_changes_when_nothing_changes():
    powers = {1: 1, 2: 3, 7: 2}
    table = assign(None, {}, powers)
    assert assign(table, powers, powers) == table


def test_nobody_owns_what_no_server_may():
    assert assign(None, {}, {}).expand() == bytes([NOBODY]) * BUCKETS
    assert assign(None, {}, {1: 0}) == Table()


def test_powers_of_64_are_a_chain():
    chain = {0: 1, 1: 64, 2: 4096}
    table = assign(None, {}, chain)
    assert table.counts() == {2: BUCKETS}
    two = {0: 1, 1: 64}
    table = assign(table, chain, two)
    assert table.counts() == {1: BUCKETS}
    assert assign(table, two, {0: 1}).counts() == {0: BUCKETS}
    assert assign(table, two, chain).counts() == {2: BUCKETS}
    assert assign(None, {}, {0: 1, 1: 63}).counts()[0] == BUCKETS // 64


def test_thirds():
    assert sorted(assign(None, {}, {0: 1, 1: 1, 2: 1}).counts().values()) == [21845, 21845, 21846]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00",
        b"\xff\xff",
        b"\xff\xff\x01\x00\x00\x01",
        b"\xff\xfe\x01",
        b"\x7f\xff\x01\x7f\xff\x01",
        b"\xff\xff\x01\x00",
    ],
)
def test_a_table_that_lies_is_refused(data):
    with pytest.raises(ValueError, match="a table"):
        Table.decode(data)


def test_fixed_vector():
    table = assign(None, {}, {0: 1, 1: 1})
    assert table.encode().hex() == "7fff017fff00"
