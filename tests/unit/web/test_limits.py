"""Failed logins: no key has more than its share in any window, and the table has a largest size."""

from hypothesis import given
from hypothesis import strategies as st

from safekit_py.web import limits
from safekit_py.web.limits import Failures


@given(st.lists(st.floats(0, 30), max_size=60), st.integers(1, 6))
def test_no_window_has_more_failures(gaps, most):
    table, now, passed = Failures(most, 60.0), 0.0, []
    for gap in gaps:
        now += gap
        if table.wait("a", now) <= 0:
            table.failed("a", now)
            passed.append(now)
        assert table.wait("b", now) == 0
    for first in passed:
        assert sum(first <= each < first + 60.0 - 1e-6 for each in passed) <= most


def test_who_waits_may_try_again_and_success_forgets():
    table = Failures(2, 60.0)
    for now in (0.0, 10.0):
        table.failed("a", now)
    assert table.wait("a", 10.0) == 50.0
    assert table.wait("a", 60.0) == 0.0
    table.good("a")
    assert table.wait("a", 10.0) == 0.0


def test_the_table_does_not_grow(monkeypatch):
    monkeypatch.setattr(limits, "SIZE", 10)
    table = Failures(1, 60.0)
    for number in range(100):
        table.failed(str(number), 0.0)
    assert [table.wait(str(n), 0.0) > 0 for n in (0, 89, 90, 99)] == [False, False, True, True]
