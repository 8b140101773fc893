"""Both ways to reach the servers, between real hosts: who answers for the address, and which frames are on the wire."""

from __future__ import annotations

import contextlib
import socket
import time
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest
from safekit_py.plugins.farm import addresses, announce, attach, listening
from safekit_py.plugins.farm.hashing import bucket_of
from safekit_py.plugins.farm.layout import BUCKETS, Configuration, KernelRule
from safekit_py.plugins.farm.loader import Filter
from safekit_py.plugins.vip.model import Interface, VirtualAddr
from wire_support import Capture, Host, plug

pytestmark = pytest.mark.lab
V4, V6 = IPv4Address("10.9.0.100"), IPv6Address("fd09::100")
OTHER = IPv4Address("10.8.0.100")
VMAC = bytes.fromhex("5afe0a090064")
SEED, PORT, FOREVER = 0x5AFE, 8080, 2**60
SHARED = bytes(bucket & 1 for bucket in range(BUCKETS))


class Server(Host):
    """A server with its filter on e0, and on e1 when it has one."""

    def __init__(self, number: int, compiled, folder: Path, pins: Path) -> None:
        super().__init__()
        self.number, self.folder = number, folder
        self.filter = Filter.load(compiled, pins / f"reach{number}")
        self.listeners: list[socket.socket] = []

    def start(self, devices: dict[str, Interface]) -> None:
        with self.inside() as netlink:
            self.macs, vips, vmacs = {}, [], {}
            for slot, (device, interface) in enumerate(devices.items()):
                index = netlink.link_lookup(ifname=device)[0]
                self.macs[slot] = addresses.mac_of(netlink, index)
                addresses.ask_in_own_name(device, "web", self.folder / "arp.json")
                if interface.vmac:
                    vmacs[slot] = interface.vmac
                    listening.listen(netlink, index, interface.vmac, "web", self.folder / "listening.json")
                vips += [(each.addr, slot) for each in interface.addresses]
                for each in interface.addresses:
                    lo = interface.vmac and each.addr.version == 6
                    addresses.add(netlink, 1 if lo else index, each.addr, 128 if lo else None)
                attach.attach(netlink, index, "web", self.filter.program, self.folder)
            rule = KernelRule("tcp", "on_port", 0, PORT)
            self.filter.configure(Configuration(self.number, SEED, vips, [rule], 0, vmacs))
            for addr, _ in vips:
                family = socket.AF_INET if addr.version == 4 else socket.AF_INET6
                self.listeners.append(socket.create_server((str(addr), PORT), family=family, backlog=200))
                self.listeners[-1].setblocking(False)

    def served(self) -> int:
        """How many connections it has accepted since the last call."""
        count = 0
        for listener in self.listeners:
            with contextlib.suppress(BlockingIOError):
                while True:
                    listener.accept()[0].close()
                    count += 1
        return count


@dataclass
class Lab:
    stack: contextlib.ExitStack
    switch: Host
    client: Host
    servers: list[Server]

    def start(self, devices: dict[str, Interface]) -> None:
        for server in self.servers:
            server.start(devices)
            for listener in server.listeners:
                self.stack.callback(listener.close)

    def force(self, owners: bytes) -> None:
        table = b"".join(bytes((owner, 255, 255, 255)) for owner in owners)
        macs = {(slot, each.number): mac for each in self.servers for slot, mac in each.macs.items()}
        for server in self.servers:
            server.filter.install([table], macs)
            server.filter.set_open(True)
            server.filter.renew(FOREVER)

    def capture(self, host: Host, device: str) -> Capture:
        made = Capture(host, device)
        self.stack.callback(made.close)
        return made

    def connect(self, vip, count=1, host=None) -> None:
        with (host or self.client).inside():
            for _ in range(count):
                socket.create_connection((str(vip), PORT), 3.0).close()

    def neighbour(self, vip, host=None) -> str:
        with (host or self.client).inside() as netlink:
            family = socket.AF_INET if vip.version == 4 else socket.AF_INET6
            found = {m.get_attr("NDA_DST"): m.get_attr("NDA_LLADDR") for m in netlink.get_neighbours(family=family)}
            return found.get(str(vip)) or ""


@pytest.fixture
def lab(bpffs, filter_object, tmp_path):
    with contextlib.ExitStack() as stack:
        switch, client = Host(), Host()
        servers = [Server(number, filter_object, tmp_path / str(number), bpffs) for number in range(2)]
        for host in (switch, client, *servers):
            stack.callback(host.close)
        for server in servers:
            stack.callback(server.filter.close)
            stack.callback(server.filter.unpin)
            n = server.number
            plug(switch, server, "e0", f"s{n}", "br0", f"10.9.0.{n + 1}/24", f"fd09::{n + 1}/64")
        plug(switch, client, "e0", "c0", "br0", "10.9.0.50/24", "fd09::50/64")
        yield Lab(stack, switch, client, servers)


def invisible(*addrs):
    return Interface(tuple(VirtualAddr(each) for each in addrs), "e0", "vmac_invisible")


def learned(lab: Lab, mac: bytes) -> bool:
    with lab.switch.inside() as netlink:
        return any(m.get_attr("NDA_LLADDR") == mac.hex(":") for m in netlink.get_neighbours(family=7))


def answers(frames: list[bytes], vip) -> list[bytes]:
    """ARP answers and neighbour advertisements for an address."""
    if vip.version == 4:
        return [f for f in frames if f[12:14] == b"\x08\x06" and f[20:22] == b"\0\2" and f[28:32] == vip.packed]
    return [f for f in frames if f[12:14] == b"\x86\xdd" and f[20] == 58 and f[54] == 136 and f[62:78] == vip.packed]


@pytest.mark.parametrize("vip", [V4, V6])
def test_one_server_answers_with_a_mac_that_is_never_a_source(lab, vip):
    lab.start({"e0": invisible(V4, V6)})
    lab.force(SHARED)
    wires = [lab.capture(lab.client, "e0"), lab.capture(lab.switch, "br0"), lab.capture(lab.switch, "s0")]
    lab.connect(vip, 60)
    time.sleep(0.1)
    seen = [wire.frames() for wire in wires]
    said = answers(seen[0], vip)
    assert len(said) == 1
    assert said[0][6:12] in {server.macs[0] for server in lab.servers}
    assert VMAC in said[0][22:]
    assert lab.neighbour(vip) == VMAC.hex(":")
    assert sum(len(each) for each in seen) > 300
    assert not [frame for each in seen for frame in each if frame[6:12] == VMAC]
    assert learned(lab, said[0][6:12])
    assert not learned(lab, VMAC)
    counts = [server.served() for server in lab.servers]
    assert sum(counts) == 60
    assert min(counts) >= 10, counts
    # Every server had every frame: none was sent on.
    for server in lab.servers:
        assert (0, "forwarded") not in server.filter.counters()
        assert server.filter.counters()[0, "not_owner"] > 0


@pytest.mark.parametrize("vip", [V4, V6])
def test_a_server_that_is_lost_changes_no_client_s_table(lab, vip):
    lab.start({"e0": invisible(V4, V6)})
    lab.force(SHARED)
    lab.connect(vip, 4)
    wire = lab.capture(lab.client, "e0")
    with lab.switch.inside() as netlink:
        netlink.link("set", index=netlink.link_lookup(ifname="s0")[0], state="down")
    lab.servers.pop(0)
    lab.force(bytes([1]) * BUCKETS)
    lab.connect(vip, 20)
    assert lab.servers[0].served() >= 20
    assert not answers(wire.frames(), vip)
    assert lab.neighbour(vip) == VMAC.hex(":")


def test_the_kernel_never_gives_a_server_s_own_mac_for_the_address(lab):
    """The servers ask for the client's MAC to answer it: not in the name of the virtual address."""
    lab.start({"e0": invisible(V4, V6)})
    lab.force(SHARED)
    wire = lab.capture(lab.client, "e0")
    lab.connect(V4, 10)
    lab.connect(V6, 10)
    frames = wire.frames()
    asked = [f for f in frames if f[12:14] == b"\x08\x06" and f[20:22] == b"\0\1" and f[6:12] != VMAC]
    solicited = [f for f in frames if f[12:14] == b"\x86\xdd" and f[20] == 58 and f[54] == 135]
    assert asked
    assert solicited
    assert not [f for f in asked if f[28:32] == V4.packed]
    assert not [f for f in solicited if f[22:38] == V6.packed]


def test_directed_over_ipv6_sends_on_and_an_announcement_moves_the_client(lab):
    lab.start({"e0": Interface((VirtualAddr(V4), VirtualAddr(V6)), "e0")})
    lab.force(SHARED)
    lab.connect(V6, 60)
    assert sorted(server.served() > 9 for server in lab.servers) == [True, True]
    assert sum(server.filter.counters().get((0, "forwarded"), 0) for server in lab.servers) > 0
    lab.force(bytes([1]) * BUCKETS)
    mac = lab.servers[1].macs[0]
    with lab.servers[1].inside():
        announce.announce(announce.Told("e0", V6, mac, mac), [], broadcast=True)
    time.sleep(0.1)
    assert lab.neighbour(V6) == mac.hex(":")
    lab.connect(V6)


def test_clients_of_another_network_behind_a_router(lab):
    """The router asks for all of them, so that one server answers; the frames are shared by client all the same."""
    router, far = Host(), Host()
    for host in (router, far):
        lab.stack.callback(host.close)
    plug(lab.switch, router, "e0", "r0", "br0", "10.9.0.254/24")
    plug(lab.switch, router, "e1", "r1", "br1", "10.7.0.254/24")
    plug(lab.switch, far, "e0", "f0", "br1", *(f"10.7.0.{n}/24" for n in range(10, 40)))
    with router.inside():
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    for host, gateway in ((far, "10.7.0.254"), *((server, "10.9.0.254") for server in lab.servers)):
        with host.inside() as netlink:
            netlink.route("add", dst="default", gateway=gateway)
    lab.start({"e0": Interface((VirtualAddr(V4),), "e0")})
    lab.force(SHARED)

    def all_connect():
        with far.inside():
            for n in range(10, 40):
                socket.create_connection((str(V4), PORT), 3.0, source_address=(f"10.7.0.{n}", 0)).close()

    all_connect()
    counts = [server.served() for server in lab.servers]
    assert sum(counts) == 30
    assert min(counts) >= 4, counts
    answering = bucket_of(IPv4Address("10.9.0.254"), SEED) & 1
    assert lab.neighbour(V4, router) == lab.servers[answering].macs[0].hex(":")
    left = 1 - answering
    (known,) = [(addr, mac) for addr, mac, _ in lab.servers[left].filter.clients()]
    assert str(known[0]) == "10.9.0.254"
    with lab.switch.inside() as netlink:
        netlink.link("set", index=netlink.link_lookup(ifname=f"s{answering}")[0], state="down")
    lab.servers[:] = [lab.servers[left]]
    lab.force(bytes([left]) * BUCKETS)
    mac = lab.servers[0].macs[0]
    with lab.servers[0].inside():
        assert announce.announce(announce.Told("e0", V4, mac, mac), [known[1]]) == 1
    time.sleep(0.1)
    assert lab.neighbour(V4, router) == mac.hex(":")
    all_connect()
    assert lab.servers[0].served() == 30


def test_two_addresses_on_two_devices_of_two_kinds(lab):
    for server in lab.servers:
        plug(lab.switch, server, "e1", f"t{server.number}", "br1", f"10.8.0.{server.number + 1}/24")
    plug(lab.switch, lab.client, "e1", "c1", "br1", "10.8.0.50/24")
    second = Interface((VirtualAddr(OTHER),), "e1", "vmac_invisible")
    lab.start({"e0": Interface((VirtualAddr(V4),), "e0"), "e1": second})
    lab.force(SHARED)
    for vip in (V4, OTHER):
        lab.connect(vip, 60)
        counts = [server.served() for server in lab.servers]
        assert sum(counts) == 60
        assert min(counts) >= 10, counts
    answering = bucket_of(IPv4Address("10.9.0.50"), SEED) & 1
    assert lab.neighbour(V4) == lab.servers[answering].macs[0].hex(":")
    assert lab.neighbour(OTHER) == "5a:fe:0a:08:00:64"
