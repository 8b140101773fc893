"""The filter between real hosts: a bridge, two servers and a client in network namespaces of the test's own."""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from safekit_py.plugins.farm import addresses, announce, attach
from safekit_py.plugins.farm.hashing import bucket_of
from safekit_py.plugins.farm.layout import BUCKETS, Configuration, KernelRule
from safekit_py.plugins.farm.loader import Filter
from wire_support import Host

pytestmark = pytest.mark.lab
VIP, CLIENT, SEED, PORT = IPv4Address("10.9.0.100"), IPv4Address("10.9.0.50"), 0x5AFE, 8080
FOREVER = 2**60


class Server(Host):
    def __init__(self, number: int, compiled, pins: Path, marks: Path) -> None:
        super().__init__()
        self.number, self.marks = number, marks
        self.filter = Filter.load(compiled, pins / f"server{number}")

    def start(self) -> None:
        with self.inside() as netlink:
            self.index, _ = addresses.device_of(netlink, addresses.Interface((), "e0"))
            self.mac = addresses.mac_of(netlink, self.index)
            addresses.ask_in_own_name("e0", "web", self.marks / "arp.json")
            addresses.add(netlink, self.index, VIP)
            self.filter.configure(Configuration(self.number, SEED, [(VIP, 0)], [KernelRule("tcp", "on_port", 0, PORT)]))
            attach.attach(netlink, self.index, "web", self.filter.program, self.marks)
            self.listener = socket.create_server((str(VIP), PORT), backlog=200)
            self.listener.setblocking(False)

    def accepted(self) -> list[tuple[socket.socket, int]]:
        found = []
        with contextlib.suppress(BlockingIOError):
            while True:
                connection, (_, port) = self.listener.accept()
                found.append((connection, port))
        return found


@pytest.fixture
def farm(bpffs, filter_object, tmp_path):
    with contextlib.ExitStack() as stack:
        switch, client = Host(), Host()
        servers = [Server(number, filter_object, bpffs, tmp_path / str(number)) for number in range(2)]
        for host in (switch, client, *servers):
            stack.callback(host.close)
        for server in servers:
            stack.callback(server.filter.close)
            stack.callback(server.filter.unpin)
        with switch.inside() as netlink:
            netlink.link("add", ifname="br0", kind="bridge")
            bridge = netlink.link_lookup(ifname="br0")[0]
            netlink.link("set", index=bridge, state="up")
            for number, host in enumerate((*servers, client)):
                netlink.link("add", ifname=f"p{number}", kind="veth", peer={"ifname": "e0", "net_ns_fd": host.fd})
                netlink.link("set", index=netlink.link_lookup(ifname=f"p{number}")[0], state="up", master=bridge)
        for host, own in ((servers[0], "10.9.0.1"), (servers[1], "10.9.0.2"), (client, str(CLIENT))):
            with host.inside() as netlink:
                index = netlink.link_lookup(ifname="e0")[0]
                netlink.addr("add", index=index, address=own, prefixlen=24)
                netlink.link("set", index=index, state="up")
        for server in servers:
            server.start()
            stack.callback(server.listener.close)
        yield client, servers


def put_in_force(servers, owners: bytes, *holders: int) -> None:
    rest = bytes(holders).ljust(3, b"\xff")
    for server in servers:
        table = b"".join(bytes((owner,)) + rest for owner in owners)
        server.filter.install([table], {(0, each.number): each.mac for each in servers})
        server.filter.set_open(True)
        server.filter.renew(FOREVER)


def neighbour(client) -> str:
    with client.inside() as netlink:
        return {m.get_attr("NDA_DST"): m.get_attr("NDA_LLADDR") for m in netlink.get_neighbours(family=2)}.get(
            str(VIP), ""
        )


def connect(client, timeout: float = 2.0) -> socket.socket:
    with client.inside():
        return socket.create_connection((str(VIP), PORT), timeout)


def test_each_client_reaches_its_owner_through_whichever_server_answers_arp(farm):
    client, servers = farm
    put_in_force(servers, bytes(bucket & 1 for bucket in range(BUCKETS)))
    connections = [connect(client) for _ in range(60)]
    expected = {c.getsockname()[1]: bucket_of(CLIENT, SEED, c.getsockname()[1]) & 1 for c in connections}
    served = {port: server.number for server in servers for _, port in server.accepted()}
    assert served == expected
    assert set(served.values()) == {0, 1}
    answering = bucket_of(CLIENT, SEED) & 1
    assert neighbour(client) == servers[answering].mac.hex(":")
    counters = [server.filter.counters() for server in servers]
    assert counters[answering][0, "forwarded"] > 0
    assert (0, "forwarded") not in counters[1 - answering]
    assert counters[1 - answering][0, "not_owner"] == 1
    assert servers[answering].filter.clients()[0][0] == CLIENT
    for connection in connections:
        connection.close()


def test_past_the_lease_nothing_gets_in(farm):
    client, servers = farm
    put_in_force(servers, bytes(BUCKETS))
    connection = connect(client)
    (served, _), *_ = servers[0].accepted()
    servers[0].filter.renew(time.monotonic_ns() + 20_000_000)
    time.sleep(0.05)
    connection.sendall(b"question")
    served.settimeout(0.3)
    with pytest.raises(TimeoutError):
        served.recv(100)
    with pytest.raises(TimeoutError):
        connect(client, 0.3)
    assert servers[0].filter.counters()[0, "expired"] >= 2
    servers[0].filter.renew(FOREVER)
    served.settimeout(5)
    assert served.recv(100) == b"question", "sent again by the client's kernel"
    connect(client).close()
    connection.close()
    served.close()


def test_an_announcement_moves_a_client_at_once(farm):
    client, servers = farm
    put_in_force(servers, bytes(BUCKETS))
    connect(client).close()
    assert neighbour(client) == servers[0].mac.hex(":")
    put_in_force(servers, bytes([1]) * BUCKETS)
    targets = [mac for _, mac, _ in servers[1].filter.clients()]
    with servers[0].inside():
        announce.announce(announce.Told("e0", VIP, servers[0].mac, servers[0].mac), [], broadcast=True)
    with servers[1].inside():
        assert announce.announce(announce.Told("e0", VIP, servers[1].mac, servers[1].mac), targets) == 1
    time.sleep(0.05)
    assert neighbour(client) == servers[1].mac.hex(":")
    connect(client).close()
    assert len(servers[1].accepted()) == 1


def test_a_closed_server_takes_nothing_and_a_reopened_filter_goes_on(farm):
    client, servers = farm
    put_in_force(servers, bytes(BUCKETS))
    connect(client).close()
    servers[0].filter.set_open(False)
    with pytest.raises(TimeoutError):
        connect(client, 0.3)
    later = Filter.reopen(servers[0].filter.folder)
    assert not later.is_open
    later.set_open(True)
    connect(client).close()
    later.close()


@pytest.mark.parametrize(("vlan", "counted"), [(0, 1), (5, 0)])
def test_a_frame_of_another_vlan_is_not_judged(farm, vlan, counted):
    client, servers = farm
    put_in_force(servers, bytes([1]) * BUCKETS)
    ip = struct.pack(">BBHHHBBH", 0x45, 0, 28, 7, 0, 64, 17, 0) + CLIENT.packed + VIP.packed
    packet = b"\x08\0" + ip + struct.pack(">HHI", 40000, 53, 0)  # no rule covers it
    with client.inside():
        tag = b"\x81\0" + vlan.to_bytes(2, "big")
        announce.send("e0", [servers[0].mac + b"\2\0\0\0\0\x50" + tag + packet.ljust(46, b"\0")])
    time.sleep(0.05)
    assert servers[0].filter.counters().get((None, "denied"), 0) == counted
