"""Where a mirror's addresses are to stand: a table of devices in, places out. The kernel's part is seen in the lab."""

from ipaddress import ip_address
from types import MappingProxyType

import pytest
from safekit_py.plugins.checkers.netlink import Address, Link, Table
from safekit_py.plugins.vip.model import Interface, VirtualAddr
from safekit_py.plugins.vip.placing import plan

from safekit_py.errors import SystemProblem

LINKS = MappingProxyType({2: Link(2, "e0", True, True, True, bytes(6)), 3: Link(3, "e1", True, True, True, bytes(6))})
OWN = ((2, "10.0.0.1", 24), (2, "fd00::1", 64), (3, "10.0.0.9", 30), (3, "192.0.2.1", 32))


def table(*more):
    held = [Address(index, ip_address(ip), prefix) for index, ip, prefix in (*OWN, *more)]
    return Table(dict(LINKS), {(each.index, each.ip, each.prefix): each for each in held})


def placed(*addresses, name=None, held=(), **more):
    found = plan((Interface(tuple(VirtualAddr(ip_address(a), **more) for a in addresses), name, "real"),), table(*held))
    return [(each.link.name, each.text, each.routed) for each in found]


@pytest.mark.parametrize(
    ("address", "name", "place"),
    [
        ("10.0.0.50", None, ("e0", "10.0.0.50/24", True)),
        ("fd00::50", None, ("e0", "fd00::50/64", True)),
        ("10.0.0.10", None, ("e1", "10.0.0.10/30", True)),  # the most particular network
        ("10.0.0.10", "e0", ("e0", "10.0.0.10/24", True)),
        ("198.51.100.5", "e1", ("e1", "198.51.100.5/32", False)),
        ("fd01::5", "e1", ("e1", "fd01::5/128", False)),
    ],
)
def test_its_device_and_its_prefix(address, name, place):
    assert placed(address, name=name) == [place]


def test_a_netmask_that_is_given_wins():
    assert placed("10.0.0.50", netmask=16) == [("e0", "10.0.0.50/16", False)]


def test_what_a_crash_left_changes_nothing():
    left = (2, "10.0.0.50", 24), (3, "10.0.0.50", 32), (2, "10.0.0.51", 24)
    assert placed("10.0.0.50", "10.0.0.51", held=left) == placed("10.0.0.50", "10.0.0.51")


def test_an_interface_without_addresses_has_no_place():
    assert plan((Interface((), "nic7", ""),), table()) == ()


@pytest.mark.parametrize(("address", "name"), [("10.0.0.50", "nic7"), ("198.51.100.5", None), ("192.0.2.1", None)])
def test_no_device_is_said_so(address, name):
    with pytest.raises(SystemProblem) as raised:
        placed(address, name=name)
    assert raised.value.code == "vip.no-device"
    assert raised.value.problems[0].remedy
