"""Each row of ``farm doctor`` looks: it changes when what it looks at does."""

import os
import subprocess

import pytest
from safekit_py.plugins.farm import doctor, ready

pytestmark = pytest.mark.lab
PLACE = {"devices": [], "lease": 0.13, "lans": ["default"]}
REPORT = {
    "view": 3, "server": "a", "packets": {}, "rejected": {}, "ports": [{"port": 4803}],
    "servers": {"a": "alive", "b": "alive"}, "lans": {"default": {"b": 0.02}},
}  # fmt: skip


def module(place=None, **report):
    return list(doctor.module(PLACE | (place or {}), REPORT | report, "web", os.getpid()))


def rows(found, area):
    return [(each.state, each.text) for each in found if each.area == area]


def test_this_kernel_can_do_what_a_farm_needs(bpffs):
    found = list(doctor.server(os.getpid()))
    assert {each.state for each in found if each.area == "kernel" and "BPF file system" not in each.text} == {"ok"}
    assert ("ok", "the kernel takes the filter that ships") in rows(found, "filter")
    assert all(each.remedy for each in found if each.state != "ok")


def test_a_call_that_no_kernel_has_is_missed():
    assert doctor._has(1)
    assert not doctor._has(9999)


def test_a_filter_that_the_kernel_refuses(monkeypatch):
    known = ready.shipped()
    assert known is not None, "make filter"
    broken = known.instructions[:-8] + bytes([0xFF] * 8)
    monkeypatch.setattr(ready, "shipped", lambda: type(known)(broken, known.maps, known.references))
    (state, text), *_ = rows(list(doctor.server(os.getpid())), "filter")
    assert state == "warning"
    assert "refuses" in text


def test_without_an_agent():
    assert rows(list(doctor.server(None)), "agent") == [("problem", "no agent runs on this server")]


def test_heartbeats():
    found = rows(module(), "heartbeats")
    assert ("problem", "UDP 4803 is not open here") in found
    assert ("ok", "heard on the LAN default: b") in found
    found = rows(module(lans={"default": {"b": 3.0}}, rejected={"auth": 2, "unproven": 1}), "heartbeats")
    assert ("problem", "not heard on the LAN default: b") in found
    assert ("warning", "2 datagrams were rejected: auth") in found
    assert not any("unproven" in text for _, text in found)


def test_packets_and_clock():
    device = {"name": "lo", "kind": "vmac_directed", "vmac": ""}
    found = module({"devices": [device]}, packets={"accepted": 4, "passed": 9})
    assert rows(found, "packets") == [("ok", "frames for the addresses arrive: 4 accepted")]
    assert rows(found, "clock")[0][0] == "ok"
    assert rows(found, "device")[0][0] == "problem"
    found = module({"devices": [device], "lease": 0.005})
    assert rows(found, "packets")[0][0] == rows(found, "clock")[0][0] == "warning"
    gone = module({"devices": [device | {"name": "gone0"}]})
    assert rows(gone, "device") == [("problem", "this server has no network device gone0")]
    assert rows(module(), "device")[0][0] == "warning"


@pytest.fixture
def bridge(new_network):
    for words in (
        "link add br0 type bridge",
        "link add v0 type veth peer name v1",
        "link set v0 master br0",
        "link set br0 up",
        "link set v0 up",
        "link set v1 up",
    ):
        subprocess.run(["ip", *words.split()], check=True)


def test_a_bridge_that_has_learned_the_virtual_mac(bridge):
    device = {"name": "br0", "kind": "vmac_invisible", "vmac": "5a:fe:0a:00:00:64"}
    assert rows(module({"devices": [device]}), "switch")[0][0] == "ok"
    subprocess.run(["bridge", "fdb", "add", device["vmac"], "dev", "v0", "master", "dynamic"], check=True)
    ((state, text),) = rows(module({"devices": [device]}), "switch")
    assert (state, "on v0" in text) == ("problem", True)


def test_a_firewall_that_drops_what_it_does_not_know(new_network):
    assert rows(module(), "firewall")[0][0] == "ok"
    ruleset("table inet f { chain in { type filter hook input priority 0; policy drop; }; }")
    ((state, text),) = rows(module(), "firewall")
    assert (state, "4803" in text) == ("warning", True)
    ruleset("add rule inet f in udp dport 4803 accept")
    assert rows(module(), "firewall")[0][0] == "ok"


def ruleset(text):
    subprocess.run(["nft", "-f", "-"], input=text, text=True, check=True)
