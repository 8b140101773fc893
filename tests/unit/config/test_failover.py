"""<failover> in a userconfig.xml: its attributes, its rules, and where its faults are."""

import pickle
import subprocess
import sys

import pytest

from safekit_py.config.load import check
from safekit_py.model.config import Failover
from safekit_py.runtime.configcheck import check_blocking


def checked(element, before="", **more):
    return check(f'<safe>{before}\n<service mode="farm">\n{element}\n</service></safe>'.encode(), "u.xml", (), **more)


def test_without_the_element_and_with_an_empty_one():
    assert checked("").config.failover == Failover(True, 5.0, 15.0, ())
    assert checked("<failover/>").config.failover == Failover()


def test_the_whole_element():
    found = checked(
        '<failover extends="no" period="2s" handle_time="20000">\n'
        "<![CDATA[ a: if (tcp.x == down && tcp.y == up) then stop();"
        "\n]]> b: if (tcp.x == up &amp;&amp;\n tcp.y == up) then wait;</failover>"
    )
    assert found.problems == ()
    failover = found.config.failover
    assert (failover.extends, failover.period, failover.handle_time) == (False, 2.0, 20.0)
    assert [(rule.label, rule.action, rule.line) for rule in failover.rules] == [("a", "stop", 4), ("b", "wait", 5)]
    assert pickle.loads(pickle.dumps(found)) == found


@pytest.mark.parametrize(
    ("element", "line", "code"),
    [
        ('<failover\n period="0"/>', 4, "config.handle-time"),
        ('<failover period="4000"/>', 3, "config.handle-time"),
        ('<failover\n\n handle_time="1s"/>', 5, "config.handle-time"),
        ('<failover handle_time="5us"/>', 3, "config.bad-duration"),
        ('<failover extends="on"/>', 3, "config.bad-value"),
        ('<failover timeout="1"/>', 3, "config.unknown-attribute"),
        ("<failover><rule/></failover>", 3, "config.unknown-element"),
        ("<failover/>\n<failover/>", 4, "config.element-twice"),
        ("<failover>\n <!-- a\n comment -->\nx: if (tcp.a = up) then stop;</failover>", 6, "config.rule-syntax"),
        ("<failover>x: if (tcp.%M% == up) then stop;</failover>", 3, "config.unknown-macro"),
    ],
)
def test_faults(element, line, code):
    found = checked(element)
    assert found.config is None
    assert [(each.line, each.code) for each in found.problems] == [(line, code)]
    assert found.problems[0].remedy


def test_handle_time_zero_acts_at_once():
    assert checked('<failover handle_time="0"/>').config.failover.handle_time == 0.0


def test_macros_in_rules():
    element = '<failover>%L%: if (tcp.%ID% == "5%%" || tcp.b == "9%") then stop;</failover>'
    macros = '<macro name="ID" value="web"/><macro name="L" value="x"/>'
    (rule,) = checked(element, macros).config.failover.rules
    assert rule.label == "x"
    assert [part.operand.ident for part in rule.condition.parts] == ["web", "b"]
    assert [part.value for part in rule.condition.parts] == ["5%", "9%"]
    (rule,) = checked(element, macros, macros={"ID": "other"}).config.failover.rules
    assert rule.condition.parts[0].operand.ident == "other"


def test_a_macro_that_is_still_open_is_told_once():
    found = checked("<failover>x: if (tcp.%M% == up) then stop;</failover>", '<macro name="M" value=""/>')
    assert [each.code for each in found.problems] == ["config.open-macro"]


def test_a_fault_behind_a_macro_is_shown_where_it_stands():
    element = "<failover>x: if (tcp.%LONG_NAME% = up) then stop;</failover>"
    (problem,) = checked(element, '<macro name="LONG_NAME" value="a"/>').problems
    _, shown, caret = problem.message.split("\n")
    assert shown == f"    {element}"
    assert shown[caret.index("^") :].startswith("= up")


def test_an_action_that_no_plugin_brings():
    rules = "a: if (tcp.x == up) then stop;\nb: if (tcp.x == up) then fly;"
    source = f'<safe>\n<service mode="light">\n<failover>{rules}</failover></service></safe>'
    found = check_blocking(source.encode(), "u.xml", {})
    assert found.config is None
    (problem,) = found.problems
    assert (problem.line, problem.code, problem.file) == (4, "config.unknown-action", "u.xml")
    assert "stopstart" in problem.remedy


def test_neither_the_agent_nor_a_file_without_rules_loads_the_parser():
    code = (
        "import sys, safekit_py.runtime.agent\n"
        "assert 'lark' not in sys.modules\n"
        "from safekit_py.config.load import check\n"
        "assert check(b'<safe><service mode=\"x\"/></safe>', 'f', ()).config\n"
        "assert 'lark' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
