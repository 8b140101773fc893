"""The rule language: what is written is what is meant, and every fault is told at its place."""

import re
import time
from pathlib import Path

import pytest
from hypothesis import given
from strategies import RULES

from safekit_py.config.rules import MAX_DEPTH, MAX_RULES, parse, rules_of
from safekit_py.config.source import plain
from safekit_py.core.rules import And, Not, Operand, Or, Test, text
from safekit_py.errors import ConfigError

PAGE = Path(__file__).resolve().parents[3] / "docs/failover.md"


def is_(kind, ident, value="down", equal=True, side="local"):
    return Test(Operand(side, kind, ident), equal, value)


A, B, C = (is_("tcp", each) for each in "abc")


@given(RULES)
def test_what_is_written_is_read_again(rule):
    (read,) = rules_of(text(rule))
    assert (read.label, read.condition, read.action) == (rule.label, rule.condition, rule.action)


@pytest.mark.parametrize(
    ("expression", "condition"),
    [
        ("tcp.a == down", A),
        ("((tcp.a==down))", A),
        ("local.tcp.a == 'down'", A),
        ("remote.tcp.? != \"50%\"", is_("tcp", "?", "50%", False, "remote")),
        ("ip.10.0.0.5 == up", is_("ip", "10.0.0.5", "up")),
        ("ip.fd00::1 == up", is_("ip", "fd00::1", "up")),
        ("proc.'(sd-pam)' == init", is_("proc", "(sd-pam)", "init")),
        ("module.web_127.0.0.1:9010 == unknown", is_("module", "web_127.0.0.1:9010", "unknown")),
        ("tcp.a == down || tcp.b == down && tcp.c == down", Or((A, And((B, C))))),
        ("(tcp.a == down || tcp.b == down) && tcp.c == down", And((Or((A, B)), C))),
        ("tcp.a == down && tcp.b == down && tcp.c == down", And((A, B, C))),
        ("!tcp.a == down && tcp.b == down", And((Not(A), B))),
        ("!(tcp.a == down && tcp.b == down)", Not(And((A, B)))),
        ("!!tcp.a == down", Not(Not(A))),
        ("tcp.a /* not b */ == down // nor c\n", A),
        ("tcp.*== # all\n down", is_("tcp", "*")),
    ],
)  # fmt: skip
def test_expressions(expression, condition):
    (rule,) = rules_of(f"x: if ({expression}) then stop();")
    assert rule.condition == condition


def test_several_rules_with_their_lines():
    rules = rules_of(
        'a: if (tcp.a == down)\n then stop;\n\n/* ; */ "b c": if (tcp.b == down) then mail-admin ( ) ;; # x\n'
    )
    assert [(r.label, r.action, r.line, r.origin) for r in rules] == [
        ("a", "stop", 1, "user"),
        ("b c", "mail-admin", 4, "user"),
    ]
    assert rules_of(" /* nothing */ \n") == ()


@pytest.mark.parametrize(
    ("source", "code", "column", "said", "remedy"),
    [
        ("a: if (tcp.a = down) then stop;", "syntax", 14, "expected '==' or '!=', found '='", "write == in place of ="),
        ("a: if (tcp.a == up and tcp.b == up) then stop;", "syntax", 20, "found 'and'", "write &&"),
        ("a: if (tcp.a == up & tcp.b == up) then stop;", "syntax", 20, "found '&'", "write &&"),
        ("a: if (tcp.a == up) && (tcp.b == up) then stop;", "syntax", 21, "expected 'then'", "one pair of parentheses"),
        ("if (tcp.a == up) then stop;", "syntax", 4, "expected ':'", "a rule begins with a label"),
        ("a: if (tcp.a == up) then stop", "syntax", 30, "found the end of the text", "end the rule with ;"),
        ("a: if (tcp.a == up then stop;", "syntax", 20, "expected ')'", "label: if"),
        ("a: if (tcp.a == up", "syntax", 19, "expected ')'", "close each ( with )"),
        ("a: if (tcp == up) then stop;", "syntax", 8, "a resource such as tcp.appli, found 'tcp'", "class.id"),
        ("a: if () then stop;", "syntax", 8, "a resource such as tcp.appli", "label: if"),
        ("a: if (tcp.a == 50%) then stop;", "syntax", 17, "or a value in quotes, found '50'", "in quotes"),
        ("a: if (tcp.a == up) then;", "syntax", 25, "expected an action, found ';'", "label: if"),
        ("a: fi (tcp.a == up) then stop;", "syntax", 4, "expected 'if', found 'fi'", "label: if"),
        ("a if (tcp.a == up) then stop;", "syntax", 3, "expected ':', found 'if'", "label: if"),
        ("? : if (tcp.a == up) then stop;", "syntax", 1, "expected a label, found '?'", "label: if"),
        ("a: if (tcp.a == up) then stop; /* x", "syntax", 32, "this comment is not closed", "*/"),
        ('a: if (tcp.a == "x) then stop;', "syntax", 17, "this quote is not closed", '"'),
        ("a: if (tcp.a == donw) then stop;", "state", 17, "'donw' is none of init", "did you mean down?"),
        ("a: if (remot.tcp.a == up) then stop;", "side", 8, "neither a side nor a class", "local and remote"),
        ("a: if (remote.tcp == up) then stop;", "side", 8, "names a side", "remote.class.id"),
        ("a: if (local.remote.x == up) then stop;", "side", 8, "names a side", "local.class.id"),
        ("a: if (cluster() == up) then stop;", "unsupported", 8, "cluster()", "class.id"),
        ('Rules.disable("a");', "unsupported", 6, "Lua", "label: if"),
        ("a: if (tcp.a==up) then stop; a: if (tcp.b==up) then stop;", "label-twice", 30, "line 2 already", "its own"),
        (f"a: if ({'!' * (MAX_DEPTH + 1)}tcp.a==up) then stop;", "too-deep", 1, "deep", "two rules"),
    ],
)  # fmt: skip
def test_a_fault_is_told_at_its_place(source, code, column, said, remedy):
    _, (problem,) = parse(plain("\n" + source, "userconfig.xml"))
    assert (problem.code, problem.line, problem.file) == (f"config.rule-{code}", 2, "userconfig.xml")
    head, shown, caret = problem.message.split("\n")
    assert head.startswith(f"column {column}: ")
    assert said in head
    assert remedy in problem.remedy
    assert caret.index("^") - 4 == column - 1
    assert shown.strip() in source


def test_every_fault_at_once_and_the_sound_rules_stay():
    source = """
a: if (tcp.a == nope && wrong.tcp.b == up) then stop;
b: if (tcp.b = up) then stop;
c: if (tcp.c == up) then stop;
d: if (tcp.d == "x) then stop;
e: if (tcp.e == up) then stop;
c: if (tcp.f == up) then stop;
/* end"""
    rules, problems = parse(plain(source))
    assert [each.label for each in rules] == ["c", "e"]
    assert [(each.line, each.code.removeprefix("config.rule-")) for each in problems] == [
        (2, "state"),
        (2, "side"),
        (3, "syntax"),
        (5, "syntax"),
        (7, "label-twice"),
        (8, "syntax"),
    ]
    with pytest.raises(ConfigError) as caught:
        rules_of(source)
    assert caught.value.problems == problems


def test_the_caret_stands_under_a_tab_and_in_a_long_line():
    _, (problem,) = parse(plain("\ta: if\t(tcp.a = up) then stop;"))
    _, shown, caret = problem.message.split("\n")
    assert caret == "    \t     \t       ^"
    assert len(shown[: caret.index("^")].expandtabs()) == len(caret[:-1].expandtabs())
    _, (problem,) = parse(plain(f"a: if ({'tcp.a == up && ' * 50}tcp.b = up) then stop;"))
    _, shown, caret = problem.message.split("\n")
    assert shown[caret.index("^")] == "="
    assert len(shown) < 130


def test_hostile_text_ends_soon():
    began = time.process_time()
    many = "".join(f"r{n}: if (tcp.a == up) then stop;" for n in range(MAX_RULES + 5))
    rules, (problem,) = parse(plain(many))
    assert (len(rules), problem.code) == (MAX_RULES, "config.rule-too-many")
    for nasty in ("(" * 20_000, "!" * 20_000, '"' * 20_000, "/*" * 20_000, "a:" * 20_000):
        assert parse(plain(f"a: if ({nasty}"))[1]
    assert parse(plain(f"a: if ({'!' * 20_000}tcp.a == up) then stop;"))[1][0].code == "config.rule-too-deep"
    assert time.process_time() - began < 20


BLOCKS = re.findall(
    r"^```text\n(.*?)^```", PAGE.read_text(encoding="utf-8") if PAGE.exists() else "", re.MULTILINE | re.DOTALL
)


def test_the_page_has_examples():
    assert len(BLOCKS) >= 2


@pytest.mark.parametrize("block", BLOCKS)
def test_an_example_of_the_page_is_sound(block):
    rules = rules_of(block)
    assert rules
    for rule in rules:
        assert rules_of(text(rule))[0].condition == rule.condition
