"""Who is told what after a change, seen as frames on real devices."""

from __future__ import annotations

import asyncio
import contextlib
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from safekit_py.plugins.farm import addresses
from safekit_py.plugins.farm.announcer import Announcer, Change, Client, is_on
from safekit_py.plugins.farm.placing import Device
from safekit_py.plugins.vip.model import Interface, VirtualAddr
from wire_support import Capture, Host, plug

V4, V6, OTHER = IPv4Address("10.9.0.100"), IPv6Address("fd09::100"), IPv4Address("10.8.0.100")
HERE, THERE, SIX = (bytes.fromhex(f"02aa0000000{n}") for n in (1, 2, 3))
CLIENTS = [
    Client(ip_address("10.9.0.50"), HERE),
    Client(ip_address("10.8.0.50"), THERE),
    Client(ip_address("fe80::1"), SIX),
]


@pytest.mark.parametrize(
    ("addr", "networks", "expected"),
    [
        ("10.9.0.50", ["10.9.0.0/24"], True),
        ("10.9.1.50", ["10.9.0.0/24", "fd09::/64"], False),
        ("fd09::50", ["10.9.0.0/24", "fd09::/64"], True),
        ("fe80::1", [], True),
    ],
)
def test_on_which_device_a_client_can_be(addr, networks, expected):
    assert is_on(ip_address(addr), [ip_network(each) for each in networks]) is expected


@pytest.fixture
def wires():
    """A server with e0 and e1, and what is on their wires."""
    with contextlib.ExitStack() as stack:
        switch, server = Host(), Host()
        for host in (switch, server):
            stack.callback(host.close)
        plug(switch, server, "e0", "s0", "br0", "10.9.0.1/24", "fd09::1/64")
        plug(switch, server, "e1", "s1", "br1", "10.8.0.1/24")
        captures = [Capture(switch, port) for port in ("s0", "s1")]
        for each in captures:
            stack.callback(each.close)
        yield server, captures


def told(capture) -> set[tuple[str, str, str]]:
    """(to, the address, its MAC) of the announcements."""
    found = set()
    for f in capture.frames():
        if f[12:14] == b"\x08\x06" and f[28:32] == f[38:42]:
            found.add((f[:6].hex(":"), str(IPv4Address(f[28:32])), f[22:28].hex(":")))
        elif f[12:14] == b"\x86\xdd" and f[20] == 58 and f[54] == 136:
            found.add((f[:6].hex(":"), str(IPv6Address(f[62:78])), f[80:86].hex(":")))
    return found


def run(server, change, kind="vmac_directed", arpreroute=True):
    async def go(places):
        announcer = Announcer(places, lambda: CLIENTS, lambda _, text: pytest.fail(text))
        announcer.changed(change)
        await asyncio.sleep(0.3)
        announcer.stop()

    with server.inside() as netlink:
        places = []
        for name, addrs in (("e0", (V4, V6)), ("e1", (OTHER,))):
            index = netlink.link_lookup(ifname=name)[0]
            interface = Interface(tuple(VirtualAddr(a) for a in addrs), name, kind, arpreroute=arpreroute)
            places.append((interface, Device(index, name, addresses.mac_of(netlink, index))))
        asyncio.run(go(places))
    return [device.mac.hex(":") for _, device in places]


@pytest.mark.lab
def test_after_a_loss_everybody_and_then_each_client_where_it_is(wires):
    server, captures = wires
    first, second = run(server, Change(False, True, True))
    everybody, nodes = "ff:ff:ff:ff:ff:ff", "33:33:00:00:00:01"
    assert told(captures[0]) == {
        (everybody, str(V4), first),
        (nodes, str(V6), first),
        (HERE.hex(":"), str(V4), first),
        (SIX.hex(":"), str(V6), first),
    }
    assert told(captures[1]) == {(everybody, str(OTHER), second), (THERE.hex(":"), str(OTHER), second)}


@pytest.mark.lab
def test_one_server_speaks_to_everybody(wires):
    server, captures = wires
    run(server, Change(False, True, False))
    assert {to for to, _, _ in told(captures[0])} == {HERE.hex(":"), SIX.hex(":")}


@pytest.mark.lab
@pytest.mark.parametrize(("kind", "arpreroute"), [("vmac_invisible", False), ("vmac_directed", True)])
def test_the_first_opening_is_told_to_those_who_know_an_older_mac(wires, kind, arpreroute):
    server, captures = wires
    own, _ = run(server, Change(True, False, True), kind, arpreroute)
    mac = "5a:fe:0a:09:00:64" if kind == "vmac_invisible" else own
    assert told(captures[0]) == {("ff:ff:ff:ff:ff:ff", str(V4), mac), ("33:33:00:00:00:01", str(V6), mac)}


@pytest.mark.lab
@pytest.mark.parametrize("change", [Change(False, False, True), Change(True, False, False)])
def test_a_join_is_told_to_nobody(wires, change):
    server, captures = wires
    run(server, change)
    assert told(captures[0]) == set()


@pytest.mark.lab
def test_without_arpreroute_nobody_is_told_of_a_loss(wires):
    server, captures = wires
    run(server, Change(False, True, True), arpreroute=False)
    assert told(captures[0]) == set()
