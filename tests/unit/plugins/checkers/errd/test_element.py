"""``<errd>``: values, defaults and what is refused."""

import pytest
from safekit_py.plugins.checkers.errd.element import ELEMENT
from safekit_py.plugins.checkers.errd.model import Errd, Proc

from safekit_py.config.load import check


def look(inside):
    return check(f'<safe><service mode="farm">{inside}</service></safe>'.encode(), "f", [ELEMENT])


def test_defaults():
    assert look('<errd><proc name="httpd"/></errd>').config.one("errd") == Errd(30.0, (Proc("httpd"),))
    assert Proc("httpd") == Proc("httpd", False, "", "", 1, -1, "stopstart", (), "both", 1)
    assert look("<errd/>").config.one("errd") == Errd()


def test_given():
    text = """<errd polltimer="1m"><proc name="w" nameregex="^work" argregex="-x .*" atleast="2" atmax="4"
    action="restart" restart_services="A, B ,C," class="sec" start_after="3"/><proc name="a@1.service" service="yes"
    action="repair.sh" class="custom"/></errd>"""
    found = look(text)
    assert found.problems == ()
    assert found.config.one("errd") == Errd(
        60.0,
        (
            Proc("w", False, "^work", "-x .*", 2, 4, "restart", ("A", "B", "C"), "second", 3),
            Proc("a@1.service", True, action="repair.sh", when="custom"),
        ),
    )


@pytest.mark.parametrize(
    ("proc", "code"),
    [
        ('name="sixteen-letters-"', "errd.long-name"),
        ('name="a" nameregex="("', "errd.bad-expression"),
        ('name="a" argregex="*"', "errd.bad-expression"),
        ('name="a" atleast="3" atmax="2"', "errd.range"),
        ('name="a" atmax="0"', "errd.range"),
        ('name="a" action="wait"', "errd.bad-action"),
        ('name="a" action=".."', "errd.bad-action"),
        ('name="a" action="../repair"', "config.bad-value"),
        ('name="a b"', "config.bad-value"),
        ('name="a" class="other"', "config.bad-value"),
        ('name="a" atleast="-1"', "config.bad-value"),
        ('name="a" start_after="0"', "config.bad-value"),
        ('name="-a" service="yes"', "errd.bad-unit"),
        ('name="a"/><proc name="a"', "errd.name-twice"),
    ],
)
def test_refused(proc, code):
    found = look(f"<errd><proc {proc}/></errd>")
    assert [(each.code, each.severity) for each in found.problems] == [(code, "error")]
    assert found.config is None
    assert found.problems[0].line == 1
    assert found.problems[0].remedy


@pytest.mark.parametrize(
    ("proc", "code"),
    [
        ('name="a" service="yes" argregex="x"', "errd.not-for-services"),
        ('name="a" service="yes" atleast="2"', "errd.not-for-services"),
        ('name="a" restart_services="A"', "errd.not-for-action"),
    ],
)
def test_warned_of(proc, code):
    found = look(f"<errd><proc {proc}/></errd>")
    assert [(each.code, each.severity) for each in found.problems] == [(code, "warning")]
    assert found.config is not None


def test_a_long_name_is_told_how_to_be_written():
    found = look('<errd><proc name="gnome-software-service"/></errd>')
    assert 'name="gnome-software-"' in found.problems[0].remedy


def test_a_timer_of_nothing_is_refused():
    assert [each.code for each in look('<errd polltimer="0"/>').problems] == ["errd.zero"]
