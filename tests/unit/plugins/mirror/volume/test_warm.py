"""Zones become cold a while after their last write, and only behind a flush of both disks."""

from hypothesis import given
from hypothesis import strategies as st
from safekit_py.plugins.mirror.volume.warm import COLD, Warm


class Marks:
    """Of one volume."""

    def __init__(self, marked):
        self.marked = marked


WRITES = st.dictionaries(st.integers(0, 9), st.tuples(st.integers(1, 20), st.floats(0, 100)))


@given(st.sets(st.integers(0, 9)), WRITES, st.sets(st.integers(0, 9)), st.integers(0, 21), st.floats(0, 120))
def test_what_is_cold_was_written_before_the_flush_and_not_lately(marked, writes, torn, number, now):
    warm = Warm([Marks(marked)])
    warm.last = {(0, zone): write for zone, write in writes.items()}
    warm.torn = {(0, zone) for zone in torn}
    found = {zone for _, zone in warm.cold(now, number)}
    for zone in found:
        written, at = writes.get(zone, (0, -1e9))
        assert zone in marked
        assert zone not in torn
        assert written < number
        assert at < now - COLD / 2
        assert (0, zone) not in warm.last
    assert {zone for zone in marked - torn - writes.keys() if number > 0} <= found, "one that nobody wrote is cold"


def test_a_flush_is_due_now_and_then_and_only_for_cold_zones():
    warm = Warm([Marks({1})])
    warm.last[0, 1] = (5, 100.0)
    assert not warm.due(101.0)
    assert not warm.due(101.5), "it looks again after a while"
    assert warm.due(111.0)
