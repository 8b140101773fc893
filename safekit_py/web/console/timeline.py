"""The past of resources as bars over time. Pure.

Flows through it: changes, oldest first, and the present values in; for each resource the spans in which it had a value,
as parts of the time that is shown, out. Invariant: a resource's spans follow each other without a gap up to now.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

KINDS = {"up": "up", "down": "down", "init": "init", "unknown": "init"}


@dataclass(frozen=True, slots=True)
class Span:
    """A resource had a value.

    :param begin: of what is shown, from 0 to 1.
    :param length: the same.
    :param kind: the colour: up, down, init, other, or none where it is not known.
    """

    begin: float
    length: float
    value: str
    kind: str
    cause: str


@dataclass(frozen=True, slots=True)
class Row:
    """One resource of one server."""

    server: str
    resource: str
    spans: tuple[Span, ...]


def rows(
    server: str, changes: Iterable[Mapping[str, Any]], present: Mapping[str, str], since: float, now: float
) -> list[Row]:
    """The bars of a server.

    :param changes: ``time``, ``name``, ``value``, ``before`` and ``cause``; oldest first.
    :param present: the values now, by resource.
    """
    past: dict[str, list[Mapping[str, Any]]] = {name: [] for name in present}
    for change in changes:
        past.setdefault(change["name"], []).append(change)
    return [
        Row(server, name, _spans(found, present.get(name), since, now)) for name, found in sorted(past.items()) if found
    ]


def _spans(changes: list[Mapping[str, Any]], present: str | None, since: float, now: float) -> tuple[Span, ...]:
    value, cause, begin = str(changes[0]["before"]), "", since
    value = "" if value == "init" else value  # it began with this change
    found = []
    for change in changes:
        at = min(max(float(change["time"]), since), now)
        if at > begin:
            found.append(_span(begin, at, value, cause, since, now))
        value, cause, begin = str(change["value"]), str(change["cause"]), at
    if present is None:
        value, cause = "", ""  # it is gone
    found.append(_span(begin, now, value, cause, since, now))
    return tuple(found)


def _span(begin: float, end: float, value: str, cause: str, since: float, now: float) -> Span:
    whole = now - since
    kind = KINDS.get(value, "other") if value else "none"
    return Span((begin - since) / whole, (end - begin) / whole, value, kind, cause)
