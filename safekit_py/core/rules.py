"""Failover rules: which action follows from the values of the resources, and when. Pure.

Flows through it: rules, resources, what has been wished so far and the time in; a decision out.

Invariants, held by tests/unit/core/test_rules.py:

- an action is never taken before every look during its whole ``handle_time`` has found it wished;
- the first look at or after that time takes it, unless another one that is due has a higher rank;
- a gate is open exactly when none of its rules holds and none of the resources that they name is ``init``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from safekit_py.model.config import Failover
from safekit_py.model.rules import ALL, ANY, And, Expression, Not, Operand, Or, Rule, Test

NO_ACTION, WAIT = "noaction", "wait"
INIT, DOWN, UNKNOWN = "init", "down", "unknown"
Resources = Mapping[tuple[str, str], str]
"""(side, name) to value; a resource that is missing is ``unknown``."""


@dataclass(frozen=True, slots=True)
class Wished:
    """An action that some rules ask for, and since when."""

    action: str
    since: float


@dataclass(frozen=True, slots=True)
class Held:
    """What has been wished without a break up to the last look."""

    wished: tuple[Wished, ...] = ()

    def since(self, action: str, now: float) -> float:
        """Since when an action is wished; ``now`` when it was not."""
        return next((each.since for each in self.wished if each.action == action), now)


@dataclass(frozen=True, slots=True)
class Decision:
    """The outcome of one look.

    :param action: to be taken now, or empty.
    :param labels: the rules that ask for it.
    :param wished: label and action of every rule that holds.
    :param due: when the next of the wished actions is due, on the clock of ``now``; None: none is wished.
    :param held: to be handed to the next look.
    :param causes: why, in words.
    """

    action: str
    labels: tuple[str, ...]
    wished: tuple[tuple[str, str], ...]
    due: float | None
    held: Held
    causes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Gate:
    """Whether a module may go on.

    :param labels: the rules that hold it back.
    :param init: resources that have not been seen yet, and hold it back.
    :param causes: why, in words.
    """

    open: bool
    labels: tuple[str, ...] = ()
    init: tuple[str, ...] = ()
    causes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Explained:
    """One rule, seen against the resources.

    :param holds: whether its condition is true.
    :param operands: every operand and the values that it stands for.
    :param since: seconds for which its action has been wished; None when it does not hold.
    :param left: seconds until it is due; None when it does not hold.
    :param outcome: what follows, one phrase.
    """

    label: str
    action: str
    origin: str
    line: int
    text: str
    holds: bool
    operands: tuple[tuple[str, str], ...]
    since: float | None
    left: float | None
    outcome: str


def down(label: str, resources: Iterable[str], action: str) -> Rule:
    """The default rule of checkers: ``action`` follows when one of their resources is down."""
    tests = tuple(Test(_operand(name), True, DOWN) for name in resources)
    return Rule(label, tests[0] if len(tests) == 1 else Or(tests), action, origin="default")


def _operand(name: str) -> Operand:
    kind, _, ident = name.partition(".")
    return Operand("local", kind, ident)


def combine(defaults: Iterable[Rule], failover: Failover) -> tuple[Rule, ...]:
    """The rules in force: the default ones unless ``extends`` is off, and the user's.

    A user's rule takes the place of default ones with its label.
    """
    mine = {rule.label for rule in failover.rules}
    kept = [rule for rule in defaults if rule.label not in mine] if failover.extends else []
    return (*kept, *failover.rules)


def instances(operand: Operand, resources: Resources) -> tuple[tuple[str, str], ...]:
    """The resources that an operand stands for, each with its value."""
    if operand.ident in (ANY, ALL):
        head = f"{operand.kind}."
        found = [(n, v) for (side, n), v in resources.items() if side == operand.side and n.startswith(head)]
        return tuple(sorted(found))
    name = f"{operand.kind}.{operand.ident}"
    return ((name, resources.get((operand.side, name), UNKNOWN)),)


def value(condition: Expression, resources: Resources) -> bool:
    """Whether a condition holds. ``?`` and ``*`` are both false when the class has no instance."""
    if isinstance(condition, Test):
        values = [(v == condition.value) == condition.equal for _, v in instances(condition.operand, resources)]
        return all(values) and bool(values) if condition.operand.ident == ALL else any(values)
    if isinstance(condition, Not):
        return not value(condition.inner, resources)
    if isinstance(condition, And):
        return all(value(part, resources) for part in condition.parts)
    return any(value(part, resources) for part in condition.parts)


def tests(condition: Expression) -> Iterator[Test]:
    """Every comparison in a condition, from left to right."""
    if isinstance(condition, Test):
        yield condition
    elif isinstance(condition, Not):
        yield from tests(condition.inner)
    else:
        for part in condition.parts:
            yield from tests(part)


def _causes(rules: Iterable[Rule], resources: Resources) -> tuple[str, ...]:
    """The values that make rules hold, in words, each once."""
    words: dict[str, None] = {}
    for rule in rules:
        for test in tests(rule.condition):
            for name, seen in instances(test.operand, resources):
                if (seen == test.value) == test.equal:
                    side = "" if test.operand.side == "local" else f"{test.operand.side} "
                    words[f"{side}{name} is {seen}"] = None
    return tuple(words)


def decide(
    rules: Iterable[Rule],
    resources: Resources,
    held: Held,
    now: float,
    handle_time: float,
    ranks: Mapping[str, int],
) -> Decision:
    """What follows now.

    :param held: that of the last look's decision; ``Held()`` at first and after an action was taken.
    :param now: seconds of a clock that never steps.
    :param ranks: rank of each action; of several that are due at once, the highest is taken, then the first by name.
    """
    true = [rule for rule in rules if rule.action != NO_ACTION and value(rule.condition, resources)]
    since = {rule.action: held.since(rule.action, now) for rule in true}
    due = sorted((a for a, s in since.items() if now - s >= handle_time), key=lambda a: (-ranks.get(a, 0), a))
    action = due[0] if due else ""
    asking = [rule for rule in true if rule.action == action]
    return Decision(
        action,
        tuple(rule.label for rule in asking),
        tuple((rule.label, rule.action) for rule in true),
        min((s + handle_time for s in since.values()), default=None),
        Held(tuple(Wished(a, s) for a, s in sorted(since.items()))),
        _causes(asking, resources),
    )


def gate(rules: Iterable[Rule], resources: Resources) -> Gate:
    """Whether a module in WAIT may go on: no rule asks to wait, and all that these rules name has been seen."""
    return _gate([rule for rule in rules if rule.action == WAIT], resources)


def ready(rules: Iterable[Rule], resources: Resources) -> Gate:
    """Whether clients may be let in: no rule asks for anything, and all that the rules name has been seen."""
    return _gate([rule for rule in rules if rule.action != NO_ACTION], resources)


def _gate(rules: list[Rule], resources: Resources) -> Gate:
    true = [rule for rule in rules if value(rule.condition, resources)]
    named = (pair for rule in rules for test in tests(rule.condition) for pair in instances(test.operand, resources))
    init = tuple(sorted({name for name, seen in named if seen == INIT}))
    return Gate(not true and not init, tuple(rule.label for rule in true), init, _causes(true, resources))


def explain(
    rules: Iterable[Rule],
    resources: Resources,
    held: Held,
    now: float,
    handle_time: float,
    ranks: Mapping[str, int],
) -> tuple[Explained, ...]:
    """Every rule with what it sees and what follows; parameters as :func:`decide`."""
    chosen = tuple(rules)
    decision = decide(chosen, resources, held, now, handle_time, ranks)
    wished = sorted({action for _, action in decision.wished}, key=lambda a: (-ranks.get(a, 0), a))
    found: list[Explained] = []
    for rule in chosen:
        holds = value(rule.condition, resources)
        acting = holds and rule.action != NO_ACTION
        since = now - decision.held.since(rule.action, now) if acting else None
        left = max(0.0, handle_time - since) if since is not None else None
        found.append(
            Explained(
                *(rule.label, rule.action, rule.origin, rule.line, text(rule), holds),
                operands=tuple((str(t.operand), _shown(t.operand, resources)) for t in tests(rule.condition)),
                since=since,
                left=left,
                outcome=_outcome(rule, holds, left, decision.action, wished),
            )
        )
    return tuple(found)


def _shown(operand: Operand, resources: Resources) -> str:
    found = instances(operand, resources)
    if operand.ident not in (ANY, ALL):
        return found[0][1]
    return ", ".join(f"{name} {seen}" for name, seen in found) or "(no such resource)"


def _outcome(rule: Rule, holds: bool, left: float | None, action: str, wished: list[str]) -> str:
    if not holds:
        return "does not hold"
    if left is None:
        return "holds; no action is asked for"
    if rule.action == action:
        return f"{action} is taken now"
    if action:
        return f"holds; {action} is taken now"
    higher = f"; {wished[0]} has the higher rank" if wished[0] != rule.action else ""
    return f"{rule.action} in {left:g} s, if it still holds then{higher}"


# --- the rule language ------------------------------------------------------------------------------


def text(rule: Rule) -> str:
    """The rule in the rule language."""
    return f"{rule.label}: if ({_text(rule.condition)}) then {rule.action};"


def _text(condition: Expression) -> str:
    if isinstance(condition, Test):
        plain = condition.value.isidentifier()
        shown = condition.value if plain else f'"{condition.value}"'
        return f"{condition.operand} {'==' if condition.equal else '!='} {shown}"
    if isinstance(condition, Not):
        return f"!({_text(condition.inner)})"
    sign = " && " if isinstance(condition, And) else " || "
    return sign.join(_text(part) if _binds(part, condition) else f"({_text(part)})" for part in condition.parts)


def _binds(part: Expression, whole: And | Or) -> bool:
    """Whether a part needs no parentheses: ``&&`` binds tighter than ``||``."""
    return not isinstance(part, And | Or) or (isinstance(part, And) and isinstance(whole, Or))
