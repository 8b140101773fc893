"""Conditions: their truth, the words for it, and how they are written."""

import pytest
from hypothesis import given
from strategies import CONDITIONS, KINDS, RESOURCES, SIDES, TESTS, VALUES

from safekit_py.core.conditions import because, comparisons, look, name_of, text, value, write
from safekit_py.core.rules import And, Not, Operand, Or, Rule, Test

DOWN = Test(Operand("local", "tcp", "a"), True, "down")
SEEN = {("local", "tcp.a"): "down", ("local", "tcp.b"): "up", ("remote", "tcp.a"): "up", ("local", "tcpx.c"): "down"}


def local(ident, value_="down", equal=True, side="local", kind="tcp"):
    return Test(Operand(side, kind, ident), equal, value_)


@pytest.mark.parametrize(
    ("condition", "true", "words"),
    [
        (local("a"), True, ("tcp.a is down",)),
        (local("b"), False, ("tcp.b is up",)),
        (local("c"), False, ("tcp.c is unknown",)),
        (local("c", "unknown"), True, ("tcp.c is unknown",)),
        (local("?"), True, ("tcp.a is down",)),
        (local("*"), False, ("tcp.b is up",)),
        (local("*", "init", equal=False), True, ("tcp.a is down", "tcp.b is up")),
        (local("?", "init"), False, ("tcp.a is down", "tcp.b is up")),
        (local("*", kind="ping"), False, ("this server has no ping resource",)),
        (local("?", equal=False, kind="ping"), False, ("this server has no ping resource",)),
        (local("?", "up", side="remote"), True, ("remote.tcp.a is up",)),
        (local("?", side="remote", kind="ip"), False, ("the other server has no ip resource",)),
        (Not(local("b")), True, ("tcp.b is up",)),
        (And((local("a"), local("b"))), False, ("tcp.b is up",)),
        (And((local("a"), local("b", "up"))), True, ("tcp.a is down", "tcp.b is up")),
        (Or((local("a"), local("b"))), True, ("tcp.a is down",)),
        (Or((local("b"), local("c"))), False, ("tcp.b is up", "tcp.c is unknown")),
    ],
)
def test_truth_and_its_reason(condition, true, words):
    assert value(condition, SEEN) is true
    assert because(condition, SEEN) == words


@given(CONDITIONS, RESOURCES)
def test_not_is_exact(condition, resources):
    assert value(Not(condition), resources) is not value(condition, resources)
    assert because(Not(condition), resources) == because(condition, resources)


@given(CONDITIONS, CONDITIONS, RESOURCES)
def test_and_or(one, other, resources):
    first, second = value(one, resources), value(other, resources)
    assert value(And((one, other)), resources) is (first and second)
    assert value(Or((one, other)), resources) is (first or second)


@given(SIDES, KINDS, VALUES, RESOURCES)
def test_any_and_all(side, kind, wanted, resources):
    values = [v for (s, name), v in resources.items() if s == side and name.partition(".")[0] == kind]
    assert value(local("?", wanted, True, side, kind), resources) is (wanted in values)
    assert value(local("*", wanted, True, side, kind), resources) is (bool(values) and set(values) == {wanted})
    # "no resource has it" is the opposite of "any has it", which != with ? is not
    assert value(local("?", wanted, False, side, kind), resources) is (set(values) - {wanted} != set())
    assert value(local("*", wanted, False, side, kind), resources) is (bool(values) and wanted not in values)


@given(CONDITIONS, RESOURCES)
def test_a_missing_resource_is_unknown(condition, resources):
    named = {(t.operand.side, f"{t.operand.kind}.{t.operand.ident}") for t in comparisons(condition)}
    said = {key: "unknown" for key in named if key[1][-1] not in "?*"} | resources
    if not any(t.operand.ident in "?*" for t in comparisons(condition)):
        assert value(condition, said) is value(condition, resources)


@given(TESTS, RESOURCES)
def test_there_is_always_a_reason(test, resources):
    assert because(test, resources)
    assert all(
        name.startswith("remote.") is (test.operand.side == "remote") for name, _ in look(test.operand, resources)
    )


@pytest.mark.parametrize(
    ("rule", "written"),
    [
        (Rule("t_a", DOWN, "restart"), "t_a: if (tcp.a == down) then restart;"),
        (Rule("a b", Not(DOWN), "stop"), '"a b": if (!(tcp.a == down)) then stop;'),
        (Rule("r", Or((And((DOWN, DOWN)), DOWN)), "x"),
         "r: if (tcp.a == down && tcp.a == down || tcp.a == down) then x;"),
        (Rule("r", And((Or((DOWN, DOWN)), local("?", "50%", False))), "x"),
         'r: if ((tcp.a == down || tcp.a == down) && tcp.? != "50%") then x;'),
    ],
)  # fmt: skip
def test_as_it_is_written(rule, written):
    assert text(rule) == written


def test_a_name_that_needs_quotes():
    assert name_of(Operand("remote", "proc", "(sd-pam)")) == 'remote.proc."(sd-pam)"'
    assert name_of(Operand("local", "ip", "fd00::1")) == "ip.fd00::1"
    assert write(local("*", 'a"b\\')) == 'tcp.* == "a\\"b\\\\"'
