"""Durations: what is accepted is exact, in every unit."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safekit_py.config.durations import UNITS, parse, text

units = st.sampled_from(sorted(UNITS))


@pytest.mark.parametrize(
    ("written", "unit", "seconds"),
    [
        ("10", "s", 10.0),
        ("25", "ms", 0.025),
        ("24", "h", 86400.0),
        ("0", "s", 0.0),
        ("1d", "h", 86400.0),
        ("2000ms", "s", 2.0),
        ("1h30m", "m", 5400.0),
        (" 5s ", "s", 5.0),
        ("7us", "us", 7e-6),
    ],
)
def test_accepted(written, unit, seconds):
    assert parse(written, unit) == seconds


@pytest.mark.parametrize(
    "written", ["", " ", "s", "-1", "1.5s", "1e3", "10 s", "10x", "30m1h", "1h1h", "\u0661s", "1" * 99]
)
def test_not_a_duration(written):
    with pytest.raises(ValueError, match="is not a duration"):
        parse(written, "s")


@pytest.mark.parametrize(("written", "unit"), [("1500ms", "s"), ("1us", "ms"), ("30m", "h")])
def test_finer_than_the_unit(written, unit):
    with pytest.raises(ValueError, match="finer"):
        parse(written, unit)


@given(st.integers(0, 100_000), units, units)
def test_whole_multiples_only(number, written, unit):
    if number * UNITS[written] % UNITS[unit]:
        with pytest.raises(ValueError, match="finer"):
            parse(f"{number}{written}", unit)
    else:
        assert parse(f"{number}{written}", unit) == number * UNITS[written] / 1e6


@given(st.integers(0, 100_000), units)
def test_text_is_the_inverse(number, unit):
    seconds = parse(str(number), unit)
    assert parse(text(seconds), "us") == seconds


@given(st.text(max_size=12))
def test_anything_else_is_refused_by_value_error(written):
    with contextlib.suppress(ValueError):
        assert parse(written, "us") >= 0


def test_too_long():
    with pytest.raises(ValueError, match="too long"):
        parse("100001d", "s")
