"""``check="on"``: what generated checkers are called, and whom they trust."""

from ipaddress import IPv4Address, ip_address
from types import SimpleNamespace

import pytest
from safekit_py.plugins.checkers.intf_element import IntfCheck
from safekit_py.plugins.checkers.ip_element import IpCheck
from safekit_py.plugins.checkers.netlink import Address, Link, Table
from safekit_py.plugins.checkers.network import NetworkWatch
from safekit_py.plugins.vip import checks
from safekit_py.plugins.vip.model import Interface, Vip, VirtualAddr

from safekit_py.model.config import Cluster, Lan, LanNode, ModuleConfig, Service

MAC, OTHER, STRANGER = (bytes.fromhex(f"02000000000{n}") for n in (2, 3, 9))
NODES = ("server1", "server2", "server3")
LAN = Lan("default", tuple(LanNode(name, f"198.51.100.{n}") for n, name in enumerate(NODES, 1)))


def context(*interfaces, intf=(), ip=()):
    elements = (("vip", (Vip(interfaces),)), ("check/intf", intf), ("check/ip", ip))
    config = ModuleConfig(Service("farm"), elements=elements)
    cluster = Cluster((LAN,), nodes=NODES)
    return SimpleNamespace(config=config, cluster=cluster, node="server1", log=lambda *_: None)


def interface(*addresses, name=None, netmask=None, check=True):
    held = tuple(VirtualAddr(IPv4Address(a), netmask=netmask, check=check) for a in addresses)
    return Interface(held, name=name, check=check)


def names(made):
    return [each.resource for each in made]


@pytest.mark.parametrize(
    ("given", "resource"),
    [
        (interface("198.51.100.100", name="eth7"), "intf.eth7"),
        (interface("198.51.100.100", netmask=24), "intf.198.51.100.0"),
        (interface("127.0.0.100"), "intf.127.0.0.0"),  # this machine's loopback is in 127.0.0.0/8
        (interface("198.51.100.100"), "intf.198.51.100.100"),  # and no device of it in this network
    ],
)
def test_an_interface_is_named_after_its_device_or_its_network(given, resource):
    assert names(checks.interfaces(context(given))) == [resource]


def test_two_interfaces_in_one_network_are_one_device():
    given = interface("198.51.100.100", netmask=24), interface("198.51.100.101", netmask=24)
    assert names(checks.interfaces(context(*given))) == ["intf.198.51.100.0"]


def test_a_checker_of_the_configuration_takes_the_place_of_a_generated_one():
    given = interface("198.51.100.100", "198.51.100.101", netmask=24)
    own = IpCheck("198.51.100.100", "198.51.100.100", "", 3.0), IpCheck("other", "198.51.100.1")
    made = context(given, intf=(IntfCheck("198.51.100.0", "198.51.100.1"),), ip=own)
    assert names(checks.interfaces(made)) == []
    found = {each.resource: each.config for each in checks.addresses(made, dict)}
    assert sorted(found) == ["ip.198.51.100.100", "ip.198.51.100.101"]
    assert found["ip.198.51.100.100"].interval == 3.0


def test_check_off_makes_none():
    made = context(interface("198.51.100.100", netmask=24, check=False))
    assert names(checks.interfaces(made)) == names(checks.addresses(made, dict)) == []


@pytest.fixture
def network():
    """A device in the servers' network."""
    watch = NetworkWatch()
    watch.table = Table({2: Link(2, "eth0", True, True, True, bytes(6))})
    mine = ip_address("198.51.100.1")
    watch.table.addresses[2, mine, 24] = Address(2, mine, 24)
    return watch


def doubt(network, monkeypatch, seen, neighbours, mac=STRANGER):
    monkeypatch.setattr(checks, "neighbours", lambda: {ip_address(a): m for a, m in neighbours.items()})
    made = checks.Members(context(), lambda: seen, network)
    return made.doubt(mac, network.table.links[2])


def test_members_are_known_by_the_views():
    made = checks.Members(context(), lambda: {1: frozenset({MAC}), 2: frozenset({OTHER})})
    assert made.macs() == {MAC, OTHER}


def test_a_server_is_known_by_its_own_address(network, monkeypatch):
    assert doubt(network, monkeypatch, {}, {"198.51.100.3": STRANGER}) == "it is server3, a server of this farm"


def test_a_stranger_is_nobody_s(network, monkeypatch):
    """Servers in the device's network whose MAC is known to be another, or that are dead, do not answer for a VIP."""
    assert doubt(network, monkeypatch, {}, {"198.51.100.2": MAC}) == ""


def test_a_server_of_other_networks_gets_the_benefit_of_the_doubt(network, monkeypatch):
    network.table.addresses.clear()
    text = doubt(network, monkeypatch, {1: frozenset({MAC})}, {})
    assert text == "it may be server3, not seen in the farm yet"
    assert doubt(network, monkeypatch, {1: frozenset({MAC}), 2: frozenset({OTHER})}, {}) == ""
