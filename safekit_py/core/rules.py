"""Which action the failover rules ask for, and when it may be taken. Pure: (rules, resources, times) -> decision.

Flows through it: rules, the resources as they are now and what was wished before go in; a decision comes out, with the
memory (``Held``) that the next call needs. A rule wishes its action while its condition is true.

Invariants, held by tests/unit/core/test_rules.py:

- ``decide`` depends on nothing but its arguments; the order of the rules and of the resources plays no part;
- an action is never taken before every ``decide`` over ``handle_time`` has found it wished, by whichever rules;
- the first ``decide`` at or after that moment takes it while it is still wished and nothing of higher rank is due;
- ``noaction`` is never taken;
- a gate is open iff none of its rules is true and none of the resources that they name is ``init``;
- with ``extends`` each label of the user's replaces the default rules of that label; without, only the user's count.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from safekit_py.core.conditions import INIT, LOCAL, Resources, because, comparisons, look, name_of, text, value
from safekit_py.model.config import Failover
from safekit_py.model.rules import And, Expression, Not, Operand, Or, Rule, Test

__all__ = [
    "And",
    "Decision",
    "Explained",
    "Expression",
    "Failover",
    "Gate",
    "Held",
    "Not",
    "Operand",
    "Or",
    "Resources",
    "Rule",
    "Seen",
    "Test",
    "combine",
    "decide",
    "down",
    "explain",
    "gate",
    "ready",
    "text",
    "value",
]

NO_ACTION = "noaction"
WAIT = "wait"
DOWN = "down"


@dataclass(frozen=True, slots=True)
class Held:
    """Which actions are wished, since when (the clock of ``decide``) and by which rules; to be handed on unread."""

    wishes: Mapping[str, tuple[float, tuple[str, ...]]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Decision:
    """What follows now.

    :param action: what to do; empty when nothing is due.
    :param labels: the rules that wish it, in order.
    :param wished: label and action of every rule that is true.
    :param due: when the earliest of the wished actions is due, perhaps already; None: none but ``noaction`` is wished.
    :param held: for the next call. After an action was taken the caller starts from ``Held()``.
    :param causes: why, in words; empty when nothing is due.
    """

    action: str
    labels: tuple[str, ...]
    wished: tuple[tuple[str, str], ...]
    due: float | None
    held: Held
    causes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Gate:
    """Whether something may go on.

    :param labels: the rules that hold it shut.
    :param init: resources that are still ``init`` and keep it shut.
    :param causes: why those rules do, in words.
    """

    open: bool
    labels: tuple[str, ...] = ()
    init: tuple[str, ...] = ()
    causes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Seen:
    """An operand as a rule writes it, and name and value of each resource that it stands for."""

    operand: str
    values: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Explained:
    """One rule as things are.

    :param text: in the rule language.
    :param causes: what makes it true, or false, in words.
    :param since: seconds for which its action has been wished; None when the rule is false.
    :param left: seconds until its action is due, 0 when it is; None when it is false or never taken.
    :param taken: whether its action is the next one to be taken if nothing changes.
    :param why: one phrase: when it is taken, or why not.
    """

    label: str
    action: str
    origin: str
    line: int
    text: str
    true: bool
    operands: tuple[Seen, ...]
    causes: tuple[str, ...]
    since: float | None
    left: float | None
    taken: bool
    why: str


def down(label: str, resources: Iterable[str], action: str) -> Rule:
    """The rule of checkers: the action follows when one of their resources is down.

    :param resources: names of this server's resources, ``class.id``, at least one.
    :raises ValueError: there is none.
    """
    parts = [Test(Operand(LOCAL, kind, ident), True, DOWN) for kind, _, ident in (r.partition(".") for r in resources)]
    if not parts:
        raise ValueError(f"the rule {label} names no resource")
    return Rule(label, parts[0] if len(parts) == 1 else Or(tuple(parts)), action, origin="default")


def combine(defaults: Iterable[Rule], failover: Failover) -> tuple[Rule, ...]:
    """The rules in force: the defaults that the user's do not replace, then the user's."""
    if not failover.extends:
        return failover.rules
    replaced = {each.label for each in failover.rules}
    return (*(each for each in defaults if each.label not in replaced), *failover.rules)


def _true(rules: Iterable[Rule], resources: Resources) -> list[Rule]:
    """The rules that are true, in an order that does not depend on how they came."""
    found = [rule for rule in rules if value(rule.condition, resources)]
    return sorted(found, key=lambda rule: (rule.label, rule.action))


def _wishes(true: Iterable[Rule], held: Held, now: float) -> dict[str, tuple[float, tuple[str, ...]]]:
    """Each action that these rules wish: since when, and which of them do."""
    labels: dict[str, list[str]] = {}
    for rule in true:
        labels.setdefault(rule.action, []).append(rule.label)
    return {a: (held.wishes[a][0] if a in held.wishes else now, tuple(found)) for a, found in labels.items()}


def decide(
    rules: Iterable[Rule],
    resources: Resources,
    held: Held,
    now: float,
    handle_time: float,
    ranks: Mapping[str, int],
) -> Decision:
    """What is to be done now; see the module's invariants.

    :param held: of the decision before, ``Held()`` at first.
    :param now: seconds on a clock that never goes back.
    :param handle_time: seconds for which an action must have been wished.
    :param ranks: the rank of each action, 0 for one that is missing; of several that are due the highest is taken, of
        equals the one of the first label.
    """
    true = _true(rules, resources)
    wishes = _wishes(true, held, now)
    due = {a: since + handle_time for a, (since, _) in wishes.items() if a != NO_ACTION}
    ripe = [a for a, moment in due.items() if now >= moment]
    action = min(ripe, key=lambda a: (-ranks.get(a, 0), wishes[a][1], a), default="")
    return Decision(
        action,
        wishes[action][1] if action else (),
        tuple((rule.label, rule.action) for rule in true),
        min(due.values(), default=None),
        Held(wishes),
        _causes([rule for rule in true if rule.action == action], resources),
    )


def _causes(true: Iterable[Rule], resources: Resources) -> tuple[str, ...]:
    return tuple(dict.fromkeys(cause for rule in true for cause in because(rule.condition, resources)))


def gate(rules: Iterable[Rule], resources: Resources) -> Gate:
    """Whether a module in WAIT may go on: asked of the rules whose action is ``wait``."""
    return _gate([rule for rule in rules if rule.action == WAIT], resources)


def ready(rules: Iterable[Rule], resources: Resources) -> Gate:
    """Whether clients may be let in: asked of all rules that have an action."""
    return _gate([rule for rule in rules if rule.action != NO_ACTION], resources)


def _gate(rules: list[Rule], resources: Resources) -> Gate:
    true = _true(rules, resources)
    named = [pair for rule in rules for test in comparisons(rule.condition) for pair in look(test.operand, resources)]
    init = tuple(sorted({name for name, found in named if found == INIT}))
    labels = tuple(dict.fromkeys(rule.label for rule in true))
    return Gate(not true and not init, labels, init, _causes(true, resources))


def explain(
    rules: Iterable[Rule],
    resources: Resources,
    held: Held,
    now: float,
    handle_time: float,
    ranks: Mapping[str, int],
) -> tuple[Explained, ...]:
    """Each rule, in the order given, as :func:`decide` with the same arguments sees it."""
    rules = tuple(rules)
    wishes = _wishes(_true(rules, resources), held, now)
    # What is due already is as good as due now: then the rank settles it, as in decide.
    left = {a: max(0.0, since + handle_time - now) for a, (since, _) in wishes.items() if a != NO_ACTION}
    following = min(left, key=lambda a: (left[a], -ranks.get(a, 0), wishes[a][1], a), default="")
    found = []
    for rule in rules:
        action, true = rule.action, value(rule.condition, resources)
        found.append(
            Explained(
                *(rule.label, action, rule.origin, rule.line, text(rule), true),
                operands=tuple(
                    Seen(name_of(each), look(each, resources))
                    for each in dict.fromkeys(test.operand for test in comparisons(rule.condition))
                ),
                causes=because(rule.condition, resources),
                since=now - wishes[action][0] if true else None,
                left=left.get(action) if true else None,
                taken=true and action == following,
                why=_why(action, left, following, ranks) if true else "not true",
            )
        )
    return tuple(found)


def _why(action: str, left: Mapping[str, float], following: str, ranks: Mapping[str, int]) -> str:
    """What follows from a rule that is true."""
    if action == NO_ACTION:
        return f"{NO_ACTION}: nothing follows"
    if action == following:
        brought = "" if action in ranks else "; no plugin brings this action: it is only logged"
        return ("taken now" if not left[action] else f"taken in {left[action]:.1f} s if nothing changes") + brought
    if left[following] < left[action]:
        return f"{following} is due before it"
    if ranks.get(following, 0) == ranks.get(action, 0):
        return f"{following} goes first: same rank, earlier label"
    return f"{following} goes first: rank {ranks.get(following, 0)} over {ranks.get(action, 0)}"
