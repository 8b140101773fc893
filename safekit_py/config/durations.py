"""Text of a duration -> seconds. Pure.

Invariant: what is accepted is a whole number of the attribute's own unit, so that no value is ever rounded.
"""

from __future__ import annotations

import re

UNITS = {"d": 86_400_000_000, "h": 3_600_000_000, "m": 60_000_000, "s": 1_000_000, "ms": 1_000, "us": 1}
"""Microseconds in each unit, longest first."""

MAX = 100_000 * UNITS["d"]
"""Longest duration, in microseconds: a float holds each whole number up to it."""

NAMES = {"d": "days", "h": "hours", "m": "minutes", "s": "seconds", "ms": "milliseconds", "us": "microseconds"}

PATTERN = (
    r"\s*([0-9]{1,16}|([0-9]{1,16}d)?([0-9]{1,16}h)?([0-9]{1,16}m)?([0-9]{1,16}s)?([0-9]{1,16}ms)?([0-9]{1,16}us)?)\s*"
)
"""What the schema lets through; the empty text, which it cannot tell apart here, is refused by :func:`parse`."""

_PART = re.compile(r"([0-9]+)(ms|us|d|h|m|s)")
_WHOLE = re.compile(PATTERN)


def parse(text: str, unit: str) -> float:
    """Read a duration.

    :param text: a bare number (``10``), a number with its unit (``10s``, ``2h``), or several with their units, longest
        first, each unit once (``1h30m``).
    :param unit: the attribute's own unit, one of d h m s ms us; a bare number counts in it.
    :return: seconds.
    :raises ValueError: not a duration, or finer than ``unit`` (``1500ms`` where the unit is s); the text says which.
    """
    stripped = text.strip(" \t\r\n")
    if not stripped or not stripped.isascii() or not _WHOLE.fullmatch(stripped):
        raise ValueError(
            f"'{text}' is not a duration: write a number and a unit out of d h m s ms us, such as 10{unit}"
        )
    if stripped.isdigit():
        total = int(stripped) * UNITS[unit]
    else:
        total = sum(int(number) * UNITS[each] for number, each in _PART.findall(stripped))
    if total > MAX:
        raise ValueError(f"'{text}' is too long a duration: write at most 100000d")
    if total % UNITS[unit]:
        raise ValueError(f"'{text}' is finer than this attribute counts: write whole {NAMES[unit]}")
    return total / 1_000_000


def text(seconds: float) -> str:
    """Write a duration in the longest unit that holds it exactly; the inverse of :func:`parse` in any unit."""
    total = round(seconds * 1_000_000)
    unit = next((each for each in UNITS if total and not total % UNITS[each]), "s")
    return f"{total // UNITS[unit]}{unit}"
