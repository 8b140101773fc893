"""``<ping>``, ``<intf>`` and ``<ip>``: values and defaults."""

import pytest
from safekit_py.plugins.checkers import intf_element, ip_element, ping_element
from safekit_py.plugins.checkers.intf_element import IntfCheck
from safekit_py.plugins.checkers.ip_element import IpCheck
from safekit_py.plugins.checkers.ping_element import PingCheck

from safekit_py.config.load import check

ELEMENTS = [ping_element.ELEMENT, intf_element.ELEMENT, ip_element.ELEMENT]


def load(text):
    return check(f'<safe><service mode="farm"><check>{text}</check></service></safe>'.encode(), "f", ELEMENTS)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('<ping ident="r"><to addr="10.0.0.1"/></ping>', PingCheck("r", "pre", "wait", "10.0.0.1", 10.0, 5.0)),
        (
            '<ping ident="r" when="both" action="restart"><to addr="[fd00::1]" interval="1m" timeout="2"/></ping>',
            PingCheck("r", "both", "restart", "fd00::1", 60.0, 2.0),
        ),
        ('<ping ident="r"><to addr="fe80::1%eth0"/></ping>', PingCheck("r", "pre", "wait", "fe80::1%eth0")),
        ('<intf ident="i"><to local_addr="10.0.0.1"/></intf>', IntfCheck("i", "10.0.0.1")),
        ('<intf ident="i" when="pre"><to local_addr="web1"/></intf>', IntfCheck("i", "web1")),
        ('<ip ident="v"><to addr="10.0.0.9"/></ip>', IpCheck("v", "10.0.0.9", "", 10.0)),
        ('<ip ident="v" when="prim"><to addr="fd00::9" interval="3"/></ip>', IpCheck("v", "fd00::9", "prim", 3.0)),
    ],
)
def test_values(text, value):
    found = load(text)
    assert not found.problems
    assert found.config.one(f"check/{text[1:].split()[0]}") == value


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ('<ping ident="r"><to addr="10.0.0.300"/></ping>', "ping.bad-address"),
        ('<ping ident="r"><to addr="a" interval="0"/></ping>', "ping.zero"),
        ('<ping ident="r"><to addr="a" timeout="0"/></ping>', "ping.zero"),
        ('<intf ident="i"><to local_addr="0.0.0.0"/></intf>', "intf.bad-address"),
        ('<intf ident="i" when="both"><to local_addr="10.0.0.1"/></intf>', "config.bad-value"),
        ('<ip ident="v"><to addr="224.0.0.1"/></ip>', "ip.bad-address"),
        ('<ip ident="v"><to addr="10.0.0.9" interval="0"/></ip>', "ip.zero"),
        ('<ip ident="v" when="pre"><to addr="10.0.0.9"/></ip>', "config.bad-value"),
    ],
)
def test_refused(text, code):
    assert [each.code for each in load(text).problems] == [code]
