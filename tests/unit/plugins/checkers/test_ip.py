"""``<ip>``: what it is called, when it looks, and whose checkers are whose. Its work is seen in the lab."""

from ipaddress import IPv4Address, ip_address
from types import SimpleNamespace

import pytest
from safekit_py.plugins.checkers import ip
from safekit_py.plugins.checkers.ip_element import IpCheck
from safekit_py.plugins.checkers.netlink import Address, Link, Table
from safekit_py.plugins.vip.model import Interface, Vip, VirtualAddr

from safekit_py.model.config import ModuleConfig, Service

VIP = Vip((Interface((VirtualAddr(IPv4Address("10.0.0.100")),)),))
CHECKS = (IpCheck("v", "10.0.0.100", "", 2.0), IpCheck("own", "10.0.0.1", "prim"))


def context(mode):
    config = ModuleConfig(Service(mode), elements=(("vip", (VIP,)), ("check/ip", CHECKS)))
    return SimpleNamespace(config=config, log=lambda *_: None)


def test_what_the_engine_reads():
    made = ip.make(CHECKS[0], context("light"))
    assert (made.resource, made.rule, made.action) == ("ip.v", "ip_failure", "stopstart")
    assert made.limit > CHECKS[0].interval + 2 * ip.WINDOW


@pytest.mark.parametrize(("mode", "when"), [("farm", "both"), ("light", "both"), ("mirror", "prim")])
def test_when_it_looks_unless_said(mode, when):
    assert ip.make(CHECKS[0], context(mode)).when == when
    assert ip.make(CHECKS[1], context(mode)).when == "prim"


@pytest.mark.parametrize(
    ("mode", "made"), [("farm", ["ip.own"]), ("mirror", ["ip.own"]), ("light", ["ip.v", "ip.own"])]
)
def test_a_farm_or_a_mirror_watches_its_own_addresses(mode, made):
    (kind,) = ip.safekit_checkers()
    assert [each.resource for each in kind.create(context(mode))] == made


def test_where_the_address_is():
    address, made = ip_address("fd00::1"), Table()
    assert ip.locate(made, address) == (None, "fd00::1 is on no device")
    made.links[2] = Link(2, "eth0", True, True, True, bytes(6))
    made.addresses[2, address, 64] = Address(2, address, 64)
    assert ip.locate(made, address) == (made.links[2], "")
    made.addresses[2, address, 64] = Address(2, address, 64, duplicate=True)
    assert ip.locate(made, address) == (made.links[2], "another machine has fd00::1, as the kernel found on eth0")
