"""``<tcp>``: values and defaults."""

import pytest
from safekit_py.plugins.checkers.tcp_element import ELEMENT, TcpCheck

from safekit_py.config.load import check


def look(tcp="", to=""):
    inside = f'<check><tcp ident="a" when="both" {tcp}><to addr="10.0.0.1" port="80" {to}/></tcp></check>'
    return inside, lambda text: check(f'<safe><service mode="farm">{text}</service></safe>'.encode(), "f", [ELEMENT])


@pytest.mark.parametrize(("when", "action"), [("both", "restart"), ("prim", "restart"), ("pre", "wait")])
def test_defaults(when, action):
    inside, run = look()
    found = run(inside.replace("both", when)).config.all("check/tcp")
    assert found == (TcpCheck("a", when, action, "10.0.0.1", 80, 10.0, 5.0),)


def test_given():
    inside, run = look('action="stop"', 'interval="1m" timeout="2"')
    found = run(inside.replace("10.0.0.1", "[fd00::1]")).config.one("check/tcp")
    assert found == TcpCheck("a", "both", "stop", "fd00::1", 80, 60.0, 2.0)


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ("10.0.0.1", "10.0.0.300", "tcp.bad-address"),
        ("10.0.0.1", "a b", "tcp.bad-address"),
        ('port="80"', 'port="80" interval="0"', "tcp.zero"),
        ('port="80"', 'port="80" timeout="500ms"', "config.bad-duration"),
        ('port="80"', 'port="http"', "config.bad-value"),
        ('ident="a"', 'ident="a/b"', "config.bad-value"),
    ],
)
def test_refused(old, new, code):
    inside, run = look()
    assert [each.code for each in run(inside.replace(old, new)).problems] == [code]
