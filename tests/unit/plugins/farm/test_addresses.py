"""Virtual addresses on a real device in a network namespace of the test's own."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest
from pyroute2 import IPRoute
from safekit_py.plugins.farm import addresses
from safekit_py.plugins.vip.model import Interface, VirtualAddr

pytestmark = pytest.mark.lab
VIP = IPv4Address("10.9.0.100")


@pytest.fixture
def device(new_network):
    """Device e0 with the server's own address 10.9.0.1/24."""
    with IPRoute() as netlink:
        netlink.link("add", ifname="e0", kind="veth", peer="e1")
        index = netlink.link_lookup(ifname="e0")[0]
        netlink.link("set", index=index, state="up")
        netlink.addr("add", index=index, address="10.9.0.1", prefixlen=24)
        yield netlink, index


def routes(netlink):
    return sorted((r.get_attr("RTA_DST"), r["dst_len"]) for r in netlink.get_routes(family=2, table=254))


def present(netlink):
    return {str(address) for _, name, address in addresses.networks(netlink) if name == "e0"}


def test_added_twice_and_removed_twice_leaves_what_was_there(device):
    netlink, index = device
    before = routes(netlink), present(netlink)
    assert addresses.add(netlink, index, VIP) == 24
    assert addresses.add(netlink, index, VIP) == 24
    assert present(netlink) == {"10.9.0.1/24", "10.9.0.100/24"}
    assert routes(netlink) == before[0]
    assert addresses.remove(netlink, index, VIP)
    assert not addresses.remove(netlink, index, VIP)
    assert (routes(netlink), present(netlink)) == before


def test_an_address_of_no_network_stands_alone_and_a_given_netmask_wins(device):
    netlink, index = device
    assert addresses.add(netlink, index, IPv4Address("172.16.0.5")) == 32
    assert addresses.add(netlink, index, IPv4Address("172.17.0.5"), 16) == 16
    assert ("172.17.0.0", 16) in routes(netlink)


def test_an_address_of_ipv6_can_be_used_at_once_and_is_no_source(device):
    netlink, index = device
    netlink.addr("add", index=index, address="fd09::1", prefixlen=64, flags=0x02)
    six = IPv6Address("fd09::100")
    before = len(list(netlink.get_routes(family=10, table=254)))
    assert addresses.device_of(netlink, Interface((VirtualAddr(six),))) == (index, "e0")
    assert addresses.add(netlink, index, six) == addresses.add(netlink, index, six) == 64
    (flags,) = [m.get_attr("IFA_FLAGS") for m in netlink.get_addr(index=index) if m.get_attr("IFA_ADDRESS") == str(six)]
    assert not flags & 0x40, "tentative: the kernel still looks for a duplicate"
    assert flags & 0x20, "deprecated"
    assert len(list(netlink.get_routes(family=10, table=254))) == before
    assert addresses.remove(netlink, index, six)
    assert not addresses.remove(netlink, index, six)
    assert "fd09::1/64" in present(netlink)


def test_the_device_is_found_by_name_or_by_network(device):
    netlink, index = device
    for name in ("e0", None):
        assert addresses.device_of(netlink, Interface((VirtualAddr(VIP),), name)) == (index, "e0")
    with pytest.raises(LookupError, match=r"no network device nic7; it has e0, e1, lo"):
        addresses.device_of(netlink, Interface((VirtualAddr(VIP),), "nic7"))
    with pytest.raises(LookupError, match=r"network of 192\.0\.2\.1; .* 10\.9\.0\.1/24 on e0"):
        addresses.device_of(netlink, Interface((VirtualAddr(IPv4Address("192.0.2.1")),)))


def test_mac_of_a_device_and_of_none(device):
    netlink, index = device
    assert len(addresses.mac_of(netlink, index)) == 6
    with pytest.raises(LookupError):
        addresses.mac_of(netlink, 9999)


def test_arp_announce_comes_back_with_the_last_user_even_from_another_process(device, tmp_path):
    setting, memory = Path("/proc/sys/net/ipv4/conf/e0/arp_announce"), tmp_path / "arp.json"
    setting.write_text("1")
    for user in ("web", "mail", "web"):
        addresses.ask_in_own_name("e0", user, memory)
    assert setting.read_text() == "2\n"
    addresses.ask_as_before("e0", "web", memory)
    assert setting.read_text() == "2\n"
    addresses.ask_as_before("e0", "mail", memory)
    assert setting.read_text() == "1\n"
    assert not memory.exists()
    addresses.ask_as_before("e0", "mail", memory)
