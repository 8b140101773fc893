"""Frames for a virtual MAC on real devices: taken by the filter or by hearing everything, and as before afterwards."""

from __future__ import annotations

import pytest
from pyroute2 import IPRoute
from safekit_py.plugins.farm import devices, listening

from safekit_py.errors import SystemProblem

pytestmark = pytest.mark.lab
VMAC, OTHER = bytes.fromhex("5afe0a090064"), bytes.fromhex("5afe0a090065")


@pytest.fixture
def net(new_network):
    """e0, a veth; br0, a bridge; mv0, a macvlan on e0's other end."""
    with IPRoute() as netlink:
        netlink.link("add", ifname="e0", kind="veth", peer="e1")
        netlink.link("add", ifname="br0", kind="bridge")
        index = {name: netlink.link_lookup(ifname=name)[0] for name in ("e0", "br0")}
        netlink.link(
            "add", ifname="mv0", kind="macvlan", link=netlink.link_lookup(ifname="e1")[0], macvlan_mode="bridge"
        )
        index["mv0"] = netlink.link_lookup(ifname="mv0")[0]
        for each in index.values():
            netlink.link("set", index=each, state="up")
        yield netlink, index


def macs(netlink, index):
    found = netlink.get_neighbours(family=listening.AF_BRIDGE)
    return {m.get_attr("NDA_LLADDR") for m in found if m["ifindex"] == index}


def test_a_filter_s_entry_goes_with_its_last_module(net, tmp_path):
    netlink, index = net
    memory = tmp_path / "listening.json"
    before = macs(netlink, index["e0"]), devices.facts("e0").promiscuity
    for user in ("web", "mail", "web"):
        assert listening.listen(netlink, index["e0"], VMAC, user, memory) == "filter"
    listening.listen(netlink, index["e0"], OTHER, "mail", memory)
    assert {VMAC.hex(":"), OTHER.hex(":")} <= macs(netlink, index["e0"])
    # A veth cannot filter by a second MAC: the kernel lets it hear everything.
    assert devices.facts("e0").promiscuity == before[1] + 1
    assert devices.facts("e0").filters_unicast(True) is False
    listening.listen_no_more(netlink, "mail", memory)
    assert VMAC.hex(":") in macs(netlink, index["e0"])
    assert OTHER.hex(":") not in macs(netlink, index["e0"])
    listening.listen_no_more(netlink, "web", memory)
    listening.listen_no_more(netlink, "web", memory)
    assert (macs(netlink, index["e0"]), devices.facts("e0").promiscuity) == before
    assert not memory.exists()


def test_an_entry_of_the_administrator_s_stays(net, tmp_path):
    netlink, index = net
    netlink.fdb("add", ifindex=index["e0"], lladdr=VMAC.hex(":"), flags=2, state=0x80)
    listening.listen(netlink, index["e0"], VMAC, "web", tmp_path / "listening.json")
    listening.listen_no_more(netlink, "web", tmp_path / "listening.json")
    assert VMAC.hex(":") in macs(netlink, index["e0"])


@pytest.mark.parametrize("before", [0, listening.IFF_PROMISC])
def test_a_bridge_hears_everything_and_its_table_stays_empty(net, tmp_path, before):
    netlink, index = net
    netlink.link("set", index=index["br0"], flags=before, mask=listening.IFF_PROMISC)
    memory = tmp_path / "listening.json"
    for user in ("web", "mail"):
        assert listening.listen(netlink, index["br0"], VMAC, user, memory) == "promiscuous"
    assert VMAC.hex(":") not in macs(netlink, index["br0"])
    assert devices.facts("br0").promiscuity == 1
    listening.listen_no_more(netlink, "web", memory)
    assert devices.facts("br0").promiscuity == 1
    listening.listen_no_more(netlink, "mail", memory)
    assert devices.facts("br0").promiscuity == bool(before)


def test_a_macvlan_is_refused(net, tmp_path):
    netlink, index = net
    with pytest.raises(SystemProblem) as refused:
        listening.listen(netlink, index["mv0"], VMAC, "web", tmp_path / "listening.json")
    assert refused.value.problems[0].code == "farm.no-vmac"
    assert not (tmp_path / "listening.json").exists()


def test_a_virtual_mac_that_the_device_has_is_refused(net, tmp_path):
    netlink, index = net
    own = bytes.fromhex(netlink.get_links(index["e0"])[0].get_attr("IFLA_ADDRESS").replace(":", ""))
    with pytest.raises(SystemProblem, match="own address"):
        listening.listen(netlink, index["e0"], own, "web", tmp_path / "listening.json")
    assert not (tmp_path / "listening.json").exists()


def test_a_device_that_is_gone_is_forgotten(net, tmp_path):
    netlink, index = net
    memory = tmp_path / "listening.json"
    listening.listen(netlink, index["e0"], VMAC, "web", memory)
    listening.listen(netlink, index["br0"], VMAC, "web", memory)
    for name in ("e0", "br0"):
        netlink.link("del", index=index[name])
    listening.listen_no_more(netlink, "web", memory)
    assert not memory.exists()
