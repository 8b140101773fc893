"""maxloop and loop_interval."""

from hypothesis import given
from hypothesis import strategies as st

from safekit_py.core.loop import LoopCounter


def test_the_fourth_in_the_interval_is_refused():
    counter, grants = LoopCounter(3, 100.0), []
    for now in (0.0, 1.0, 2.0, 3.0):
        counter, granted = counter.record(now)
        grants.append(granted)
    assert grants == [True, True, True, False]


def test_the_interval_expires():
    counter = LoopCounter(1, 10.0)
    counter, first = counter.record(0.0)
    counter, second = counter.record(5.0)
    counter, third = counter.record(10.0)
    assert (first, second, third) == (True, False, True)


def test_a_person_resets_it():
    counter, _ = LoopCounter(1, 10.0).record(0.0)
    assert counter.reset().record(1.0)[1]


def test_interval_zero_disables_it():
    counter = LoopCounter(1, 0.0)
    for now in range(100):
        counter, granted = counter.record(float(now))
        assert granted


@given(
    st.integers(0, 6),
    st.floats(1, 100),
    st.lists(st.floats(0, 30), max_size=60),
)
def test_never_more_than_maxloop_granted_in_a_window_that_begins_with_a_counted_action(maxloop, interval, gaps):
    counter, now, window = LoopCounter(maxloop, interval), 0.0, []
    began = None
    for gap in gaps:
        now += gap
        counter, granted = counter.record(now)
        if began is None or now - began >= interval:
            began, window = now, []
        window.append(granted)
        assert sum(window) <= maxloop
        assert window == [True] * min(maxloop, len(window)) + [False] * max(0, len(window) - maxloop)
