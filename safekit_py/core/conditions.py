"""Conditions over resources: whether one is true, why, what it names, and how it is written. Pure.

Flows through it: an expression and the resources in; a truth value or words out.

Invariants, held by tests/unit/core/test_conditions.py:

- ``!`` is exact negation, ``&&`` is true iff every part is, ``||`` iff one is;
- ``class.?`` is true iff a known resource of the class passes the test, ``class.*`` iff there is one and all pass;
- a resource that is not known has the value ``unknown``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from safekit_py.model.rules import ALL, ANY, And, Expression, Not, Operand, Or, Rule, Test

LOCAL = "local"
REMOTE = "remote"
INIT = "init"
UNKNOWN = "unknown"
STATES = (INIT, "up", "down", UNKNOWN)
"""The values that a rule writes without quotes."""

NAME = r"[^\W\d][\w\-]*"
"""A class, or an action."""
IDENT = r"[\w\-@%](?:[\w\-@%.:]*[\w\-@%])?"
"""What may follow the class without quotes."""
LABEL = r"[^\W\d][\w\-.]*"
"""A label that needs no quotes."""

Resources = Mapping[tuple[str, str], str]
"""(side, ``class.id``) to value."""


def known(operand: Operand, resources: Resources) -> tuple[str, ...]:
    """The names of the resources that an operand stands for, in order; a single one even when nobody has set it."""
    if operand.ident not in (ANY, ALL):
        return (f"{operand.kind}.{operand.ident}",)
    head = f"{operand.kind}."
    return tuple(sorted(name for side, name in resources if side == operand.side and name.startswith(head)))


def look(operand: Operand, resources: Resources) -> tuple[tuple[str, str], ...]:
    """Name and value of each of them; the names of the other server start with ``remote.``."""
    prefix = "remote." if operand.side == REMOTE else ""
    names = known(operand, resources)
    return tuple((prefix + name, resources.get((operand.side, name), UNKNOWN)) for name in names)


def value(condition: Expression, resources: Resources) -> bool:
    """Whether a condition is true."""
    match condition:
        case Not(inner):
            return not value(inner, resources)
        case And(parts):
            return all(value(each, resources) for each in parts)
        case Or(parts):
            return any(value(each, resources) for each in parts)
        case Test(operand, equal, wanted):
            passed = [(found == wanted) is equal for _, found in look(operand, resources)]
            return any(passed) if operand.ident == ANY else bool(passed) and all(passed)


def comparisons(condition: Expression) -> Iterator[Test]:
    """Every test in a condition, from left to right."""
    match condition:
        case Not(inner):
            yield from comparisons(inner)
        case And(parts) | Or(parts):
            for each in parts:
                yield from comparisons(each)
        case Test():
            yield condition


def because(condition: Expression, resources: Resources) -> tuple[str, ...]:
    """What makes a condition true, or false, in words: ``tcp.appli is down``. Each thing once."""
    return tuple(dict.fromkeys(_because(condition, resources)))


def _because(condition: Expression, resources: Resources) -> Iterator[str]:
    match condition:
        case Not(inner):
            yield from _because(inner, resources)
        case And(parts) | Or(parts):
            # Of several conditions, those count that settle the outcome: all of a true "and", the false ones of a
            # false one, and the other way round for "or".
            outcome = value(condition, resources)
            for each in parts:
                if value(each, resources) is outcome:
                    yield from _because(each, resources)
        case Test(operand, equal, wanted):
            seen = look(operand, resources)
            if not seen:
                where = "the other server" if operand.side == REMOTE else "this server"
                yield f"{where} has no {operand.kind} resource"
            outcome = value(condition, resources)
            settled = [(n, v) for n, v in seen if ((v == wanted) is equal) is outcome]
            yield from (f"{name} is {found}" for name, found in settled)


def text(rule: Rule) -> str:
    """The rule as it is written in userconfig.xml; parsing it gives the same label, condition and action."""
    label = rule.label if re.fullmatch(LABEL, rule.label) else quoted(rule.label)
    return f"{label}: if ({write(rule.condition)}) then {rule.action};"


def write(condition: Expression) -> str:
    """A condition in the rule language."""
    match condition:
        case Not(inner):
            return f"!({write(inner)})"
        case And(parts):
            return " && ".join(f"({write(each)})" if isinstance(each, And | Or) else write(each) for each in parts)
        case Or(parts):
            return " || ".join(f"({write(each)})" if isinstance(each, Or) else write(each) for each in parts)
        case Test(operand, equal, wanted):
            state = wanted if wanted in STATES else quoted(wanted)
            return f"{name_of(operand)} {'==' if equal else '!='} {state}"


def name_of(operand: Operand) -> str:
    """An operand in the rule language; ``local.`` goes without saying."""
    ident = operand.ident
    if ident not in (ANY, ALL) and not re.fullmatch(IDENT, ident):
        ident = quoted(ident)
    return f"{'remote.' if operand.side == REMOTE else ''}{operand.kind}.{ident}"


def quoted(words: str) -> str:
    """Text between quotes."""
    return '"' + words.replace("\\", "\\\\").replace('"', '\\"') + '"'
