"""Since when a bucket has its owner, as far as it is remembered."""

from hypothesis import given
from hypothesis import strategies as st
from safekit_py.plugins.farm.history import KEPT, History, owner_of

from safekit_py.api import BUCKETS, Table, View
from safekit_py.core.group import Member, Number

HALF = BUCKETS // 2


def table(*owners):
    """Equal runs of these owners; neighbours that are alike are joined."""
    runs = []
    for owner in owners:
        if runs and runs[-1][1] == owner:
            runs[-1] = (runs[-1][0] + BUCKETS // len(owners), owner)
        else:
            runs.append((BUCKETS // len(owners), owner))
    return Table(tuple(runs))


def view(epoch, *tables, members=(0, 1)):
    return View(Number(epoch, 0, 1), tuple(Member(n, (1,)) for n in members), tables, f"change {epoch}")


def test_the_change_that_gave_a_bucket_to_its_owner():
    history = History()
    for epoch, owners in enumerate([(0, 0), (0, 1), (0, 1), (2, 1), (0, 1)], 1):
        history.note(view(epoch, table(*owners), members=(0, 1, 2)), float(epoch))
    assert [each.epoch for each in history.changes()] == [1, 2, 4, 5]
    assert [each.moved for each in history.changes()] == [(0,), (HALF,), (HALF,), (HALF,)]
    change, earlier = history.since(0, 7)
    assert (change.epoch, change.time, change.cause, earlier) == (5, 5.0, "change 5", False)
    change, earlier = history.since(0, HALF)
    assert (change.epoch, earlier) == (2, False)


def test_what_was_before_this_server_came_is_not_known():
    history = History()
    assert history.since(0, 7) == (None, True)
    history.note(view(9, table(1)), 1.0)
    change, earlier = history.since(0, 7)
    assert (change.epoch, earlier) == (9, True)


def test_a_member_more_is_a_change_and_a_trail_less_is_none():
    history = History()
    for members in ((0, 1), (0, 1), (0, 1, 2)):
        history.note(view(len(history.changes()) + 1, table(0), members=members), 0.0)
    assert [each.members for each in history.changes()] == [{0, 1}, {0, 1, 2}]


@given(st.lists(st.lists(st.sampled_from([0, 1, 2]), min_size=4, max_size=4), min_size=1, max_size=2 * KEPT))
def test_it_is_what_looking_at_every_view_gives(owners):
    """Invariant: the change named is the last by which the owner of the bucket came; never a newer or an older one."""
    history = History()
    for epoch, each in enumerate(owners):
        history.note(view(epoch, table(*each)), float(epoch))
    assert len(history.changes()) <= KEPT
    oldest = history.changes()[0].epoch
    for quarter in range(4):
        came = max((n for n in range(1, len(owners)) if owners[n - 1][quarter] != owners[n][quarter]), default=0)
        change, earlier = history.since(0, quarter * (BUCKETS // 4) + 5)
        assert earlier == (came <= oldest)
        assert change.epoch == max(came, oldest)
        assert owner_of(table(*owners[-1]).runs, quarter * (BUCKETS // 4)) == owners[-1][quarter]
