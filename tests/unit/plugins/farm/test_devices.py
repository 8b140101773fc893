"""What a device is, read from real ones, and what follows from it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pyroute2 import IPRoute
from safekit_py.plugins.farm import devices
from safekit_py.plugins.farm.devices import OK, PROBLEM, WARNING, Facts

GOOD = Facts("eth0", 2, bytes.fromhex("020000000001"), True, True, 1500, offloads={"lro": False, "gro": True})
DIRECTED, INVISIBLE = "vmac_directed", "vmac_invisible"


@pytest.mark.parametrize("kind", [DIRECTED, INVISIBLE])
def test_a_device_that_is_fit(kind):
    (note,) = devices.notes(GOOD, kind)
    assert (note.state, str(note)) == (OK, f"eth0 is fit for {kind}")


@pytest.mark.parametrize(
    ("change", "kind", "state", "said"),
    [
        ({"up": False}, DIRECTED, PROBLEM, "ip link set eth0 up"),
        ({"running": False}, DIRECTED, PROBLEM, "has no link"),
        ({"mac": b""}, DIRECTED, PROBLEM, "Ethernet"),
        ({"mac": bytes(6)}, INVISIBLE, PROBLEM, "Ethernet"),
        ({"master": "br0", "master_kind": "bridge"}, DIRECTED, PROBLEM, '<interface name="br0">'),
        ({"master": "bond0", "master_kind": "bond"}, INVISIBLE, PROBLEM, '<interface name="bond0">'),
        ({"kind": "ipvlan"}, DIRECTED, PROBLEM, "ipvlan"),
        ({"offloads": {"lro": True}}, DIRECTED, WARNING, "ethtool -K eth0 lro off"),
        ({"kind": "macvlan", "mode": "bridge"}, INVISIBLE, PROBLEM, "vmac_directed"),
        ({"hypervisor": "VMware"}, INVISIBLE, WARNING, "promiscuous mode"),
        ({"hypervisor": devices.UNKNOWN}, INVISIBLE, WARNING, "virtual switch"),
        ({"hypervisor": "a public cloud"}, DIRECTED, WARNING, "load balancer"),
    ],
)
def test_what_is_not_well_has_a_remedy(change, kind, state, said):
    (note,) = devices.notes(replace(GOOD, **change), kind)
    assert note.state == state
    assert note.remedy
    assert said in str(note)


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "macvlan", "mode": "bridge"},
        {"hypervisor": "VMware"},
        {"kind": "vlan", "lower": "eth1"},
        {"master": "blue", "master_kind": "vrf"},
    ],
)
def test_what_is_no_fault_with_the_device_s_own_mac(change):
    assert devices.notes(replace(GOOD, **change), DIRECTED)[0].state == OK


def test_every_hypervisor_has_an_advice():
    assert set(devices.HYPERVISORS.values()) | {devices.UNKNOWN} == set(devices.ALLOW)


@pytest.mark.parametrize(
    ("vendor", "product", "flags", "expected"),
    [
        ("VMware, Inc.", "VMware7,1", "hypervisor", "VMware"),
        ("Microsoft Corporation", "Virtual Machine", "hypervisor", "Hyper-V"),
        ("Microsoft Corporation", "Surface", "", ""),
        ("QEMU", "Standard PC", "hypervisor", "KVM"),
        ("Amazon EC2", "m5.large", "hypervisor", "a public cloud"),
        ("Dell Inc.", "PowerEdge", "", ""),
        (None, None, "hypervisor", "a hypervisor"),
    ],
)
def test_the_hypervisor_by_the_firmware(tmp_path, monkeypatch, vendor, product, flags, expected):
    for name, text in (("sys_vendor", vendor), ("product_name", product)):
        if text is not None:
            (tmp_path / name).write_text(f"{text}\n")
    (tmp_path / "cpuinfo").write_text(f"processor: 0\nflags\t\t: fpu sse {flags}\n")
    monkeypatch.setattr(devices, "VENDORS", tmp_path)
    monkeypatch.setattr(devices, "CPUINFO", tmp_path / "cpuinfo")
    assert devices.hypervisor() == expected


@pytest.mark.lab
def test_real_devices(new_network):
    with IPRoute() as netlink:
        netlink.link("add", ifname="e0", kind="veth", peer="e1")
        netlink.link("add", ifname="br0", kind="bridge")
        e0, e1, br0 = (netlink.link_lookup(ifname=name)[0] for name in ("e0", "e1", "br0"))
        netlink.link("set", index=e1, state="up", master=br0)
        netlink.link("set", index=e0, state="up", mtu=1400)
        netlink.link("add", ifname="mv0", kind="macvlan", link=e0, macvlan_mode="vepa")
        mac = netlink.get_links(e0)[0].get_attr("IFLA_ADDRESS")
    found = devices.facts("e0")
    assert (found.index, found.mac.hex(":"), found.mtu, found.kind, found.driver) == (e0, mac, 1400, "veth", "veth")
    assert (found.up, found.running, found.master, found.lower) == (True, True, "", "")
    assert found.offloads["tso"] is True
    assert found.offloads["lro"] is False
    assert found.filters_unicast(False) is None
    port = devices.facts("e1")
    assert (port.master, port.master_kind, port.is_bridge_port) == ("br0", "bridge", True)
    upper = devices.facts("mv0")
    assert (upper.kind, upper.mode, upper.lower) == ("macvlan", "vepa", "e0")
    assert devices.facts("lo").offloads["lro"] is False
    with pytest.raises(LookupError, match="nic7"):
        devices.facts("nic7")
