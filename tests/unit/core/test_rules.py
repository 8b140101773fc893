"""The decision: golden files, and the invariants that the module's docstring states."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import ACTIONS, LABELS, RESOURCES, RULES

from safekit_py.config.rules import rules_of
from safekit_py.core.conditions import comparisons, look
from safekit_py.core.rules import (
    Failover,
    Held,
    Operand,
    Or,
    Rule,
    Test,
    combine,
    decide,
    down,
    explain,
    gate,
    ready,
    value,
)

GOLDEN = sorted((Path(__file__).parent / "golden").glob("*.txt"))
OUTRANKED = "stop goes first: rank 50 over 10"
RANKS = {"stop": 50, "stopstart": 40, "wait": 30, "swap": 20, "restart": 10, "noaction": 0}


def replay(source):
    """A golden file as the code would write it: head and rules as they are, what follows from each snapshot anew."""
    head, outcome, resources, held, started = [], [], {}, Held(), False
    settings = {"handle_time": "15", "extends": "yes"}
    checkers, rules = [], ()
    for line in source.splitlines():
        words = line.split()
        if not started and words[:1] != ["at"]:
            head.append(line)
            continue
        if not started:
            started = True
            for each in list(head):
                first, *rest = each.split() or [""]
                if first in settings:
                    settings[first] = rest[0]
                elif first == "checker":
                    checkers.append(down(rest[0], rest[2:], rest[1]))
            plain = (each for each in head if (each.split() or [""])[0] not in {*settings, "checker"})
            rules = combine(checkers, Failover(settings["extends"] == "yes", rules=rules_of("\n".join(plain))))
        if words[:1] != ["at"]:
            continue
        for pair in words[2:]:
            name, _, found = pair.partition("=")
            key = ("remote", name.removeprefix("remote.")) if name.startswith("remote.") else ("local", name)
            resources[key] = found
            if found == "-":
                del resources[key]
        now = float(words[1])
        decision = decide(rules, resources, held, now, float(settings["handle_time"]), RANKS)
        held = Held() if decision.action else decision.held
        if decision.action:
            first = f"{decision.action} by {', '.join(decision.labels)} because {', '.join(decision.causes)}"
        else:
            first = "nothing" + (f", due at {decision.due:g}" if decision.due is not None else "")
        if decision.wished:
            first += f"; wished: {', '.join(f'{action} ({label})' for label, action in decision.wished)}"
        outcome += [line, f"   {first}", f"   wait: {_gate(gate(rules, resources))}"]
        outcome += [f"   clients: {_gate(ready(rules, resources))}", ""]
    return "\n".join([*head, *outcome]).rstrip() + "\n"


def _gate(found):
    if found.open:
        return "open"
    return "shut" + "".join(
        f", {what} {' '.join(names)}" for what, names in (("rule", found.labels), ("init", found.init)) if names
    )


@pytest.mark.parametrize("path", GOLDEN, ids=lambda each: each.stem)
def test_golden(path):
    source = path.read_text(encoding="utf-8")
    assert replay(source) == source


def test_there_are_golden_files():
    assert len(GOLDEN) >= 12


SNAPSHOTS = st.lists(st.tuples(st.integers(0, 9), RESOURCES), min_size=1, max_size=10)
SEVERAL = st.lists(RULES, max_size=5)


@given(SEVERAL, RESOURCES, st.randoms())
def test_order_plays_no_part(rules, resources, random):
    shuffled, turned = list(rules), list(resources.items())
    random.shuffle(shuffled)
    random.shuffle(turned)
    for handle_time in (0, 15):
        one = decide(rules, resources, Held(), 3.0, handle_time, RANKS)
        other = decide(shuffled, dict(turned), Held(), 3.0, handle_time, RANKS)
        assert (one.action, one.labels, one.wished, one.due) == (other.action, other.labels, other.wished, other.due)
        assert set(one.causes) == set(other.causes)


@given(SEVERAL, SNAPSHOTS, st.integers(0, 20))
def test_held_and_taken_in_time(rules, snapshots, handle_time):
    """Never before handle_time of unbroken wishing, and then at once unless something of higher rank is due."""
    held, now, since = Held(), 0, {}
    for pause, resources in snapshots:
        now += pause
        wished = {rule.action for rule in rules if value(rule.condition, resources)} - {"noaction"}
        since = {action: since.get(action, now) for action in wished}
        due = {action for action, moment in since.items() if now - moment >= handle_time}
        decision = decide(rules, resources, held, now, handle_time, RANKS)
        if due:
            assert decision.action in due
            assert RANKS.get(decision.action, 0) == max(RANKS.get(action, 0) for action in due)
            assert set(decision.labels) == {label for label, action in decision.wished if action == decision.action}
            assert decision.causes
        else:
            assert (decision.action, decision.labels, decision.causes) == ("", (), ())
        assert decision.due == min((moment + handle_time for moment in since.values()), default=None)
        held = decision.held
        if decision.action:
            held, since = Held(), {}


@given(SEVERAL, SNAPSHOTS)
def test_a_look_more_changes_nothing(rules, snapshots):
    """Whether ``decide`` is asked once or twice at an instant plays no part: a change may come in two steps."""
    held, now = Held(), 0
    for pause, resources in snapshots:
        now += pause
        once = decide(rules, resources, held, now, 15, RANKS)
        again = decide(rules, resources, once.held, now, 15, RANKS)
        assert again == once
        held = once.held


@given(SEVERAL, RESOURCES)
def test_gates(rules, resources):
    for found, asked in ((gate, {"wait"}), (ready, RANKS.keys() - {"noaction"} | {"mail"})):
        mine = [rule for rule in rules if rule.action in asked]
        operands = [test.operand for rule in mine for test in comparisons(rule.condition)]
        true = {rule.label for rule in mine if value(rule.condition, resources)}
        init = {name for each in operands for name, seen in look(each, resources) if seen == "init"}
        result = found(rules, resources)
        assert result.open is (not true and not init)
        assert (set(result.labels), set(result.init)) == (true, init)
        assert bool(result.causes) is bool(true)


@given(SEVERAL, st.lists(RULES, max_size=4), st.booleans())
def test_combine(defaults, mine, extends):
    combined = combine(defaults, Failover(extends, rules=tuple(mine)))
    labels = {rule.label for rule in mine}
    assert combined[len(combined) - len(mine) :] == tuple(mine)
    kept = list(combined[: len(combined) - len(mine)])
    assert kept == ([rule for rule in defaults if rule.label not in labels] if extends else [])


@given(SEVERAL, RESOURCES, st.dictionaries(ACTIONS, st.tuples(st.integers(0, 20).map(float), st.just(())), max_size=4))
def test_explain_tells_what_decide_does(rules, resources, before):
    held, now = Held(before), 20.0
    decision = decide(rules, resources, held, now, 10, RANKS)
    explained = explain(rules, resources, held, now, 10, RANKS)
    assert [each.label for each in explained] == [rule.label for rule in rules]
    for rule, each in zip(rules, explained, strict=True):
        assert each.true is value(rule.condition, resources)
        assert each.why
        assert each.causes
        if not each.true:
            assert (each.since, each.left, each.taken) == (None, None, False)
    taken = {each.action for each in explained if each.taken}
    assert len(taken) <= 1
    assert bool(taken) is (decision.due is not None)
    if decision.action:
        assert taken == {decision.action}
        assert all(each.left == 0 for each in explained if each.taken)
    elif taken:
        assert {now + each.left for each in explained if each.taken} == {decision.due}


@pytest.mark.parametrize(
    ("held", "now", "whys"),
    [
        ({}, 0.0, [OUTRANKED, "taken in 15.0 s if nothing changes", "noaction: nothing follows"]),
        ({"restart": (0.0, ())}, 5.0, ["taken in 10.0 s if nothing changes", "restart is due before it"]),
        ({"restart": (0.0, ()), "stop": (0.0, ())}, 15.0, [OUTRANKED, "taken now"]),
    ],
)  # fmt: skip
def test_why(held, now, whys):
    rules = rules_of(
        "a: if (tcp.a == down) then restart; b: if (tcp.a == down) then stop;"
        "c: if (tcp.a == down) then noaction; d: if (tcp.a == up) then wait;"
    )
    explained = explain(rules, {("local", "tcp.a"): "down"}, Held(held), now, 15.0, RANKS)
    assert [each.why for each in explained][: len(whys)] == whys
    assert explained[3].why == "not true"
    assert explained[3].causes == ("tcp.a is down",)


def test_equal_ranks_and_an_action_that_nobody_brings():
    rules = rules_of("b: if (tcp.a == down) then mail; a: if (tcp.a == down) then post;")
    seen = {("local", "tcp.a"): "down"}
    assert decide(rules, seen, Held(), 0.0, 0.0, {"mail": 5, "post": 5}).action == "post"
    other, first = explain(rules, seen, Held(), 0.0, 0.0, {"mail": 5, "post": 5})
    assert (first.why, other.why) == ("taken now", "post goes first: same rank, earlier label")
    (alone,) = explain(rules[:1], seen, Held(), 0.0, 0.0, {})
    assert alone.why == "taken now; no plugin brings this action: it is only logged"


@given(LABELS, ACTIONS)
def test_the_rule_of_checkers(label, action):
    one, other = (Test(Operand("local", "ip", ident), True, "down") for ident in ("10.0.0.5", "fd00::1"))
    assert down(label, ["ip.10.0.0.5"], action) == Rule(label, one, action, 0, "default")
    assert down(label, ["ip.10.0.0.5", "ip.fd00::1"], action).condition == Or((one, other))


def test_the_rule_of_no_checker():
    with pytest.raises(ValueError, match="names no resource"):
        down("x", [], "stop")
