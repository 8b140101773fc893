"""Every packet has exactly one owner: random packets of every kind to three real servers, on the wire.

Half of the buckets have moved, and connections of before go on: some on the owner, some on the server before it.
"""

from __future__ import annotations

import contextlib
import itertools
import socket
import time
from ipaddress import IPv4Address, IPv6Address

import pytest
from effort import examples
from hosts import Host, join
from hypothesis import given, settings
from hypothesis import strategies as st
from packets import NONE, ONE, UDP, World, ipv4, ipv6, packets, udp
from safekit_py.plugins.farm import addresses, attach
from safekit_py.plugins.farm.hashing import bucket_of
from safekit_py.plugins.farm.layout import BUCKETS, Configuration, KernelRule
from safekit_py.plugins.farm.loader import Filter

pytestmark = pytest.mark.lab
SERVERS, SEED, FOREVER = 3, 0x5AFE, 2**60
VIP, VIP6 = IPv4Address("10.9.0.100"), IPv6Address("fd09::64")
FRIEND, PORT, SINK = IPv4Address("10.9.0.60"), 80, 53
VMAC, CLIENT_MAC = bytes.fromhex("5afe0a090064"), bytes.fromhex("02aabbccdd01")
RULES = (
    KernelRule("udp", "on_port", 0, SINK),
    KernelRule("udp", "on_addr", 0, 54),
    KernelRule("udp", "on_ipid", 0, 55),
    KernelRule("tcp", "on_port", 0, PORT),
    KernelRule("tcp", "on_port", 0, 81),
    KernelRule("tcp", "on_addr", 0, 82),
)


def table(*, moved: bool) -> bytes:
    """Bucket b is server b % 3's; of the upper half, when it has moved, the next server's."""
    before = [bytes((bucket % SERVERS, 255, 255, 255)) for bucket in range(BUCKETS)]
    if not moved:
        return b"".join(before)
    after = [bytes(((bucket + 1) % SERVERS, bucket % SERVERS, 255, 255)) for bucket in range(BUCKETS)]
    return b"".join(before[: BUCKETS // 2] + after[BUCKETS // 2 :])


class Server(Host):
    """One with a filter, a listener on the VIP, and a socket for datagrams."""

    def __init__(self, number: int, compiled, pins, marks) -> None:
        super().__init__()
        self.number, self._marks = number, marks
        self.filter = Filter.load(compiled, pins / f"owner{number}")

    def start(self) -> None:
        with self.inside() as netlink:
            index = netlink.link_lookup(ifname="e0")[0]
            self.mac = addresses.mac_of(netlink, index)
            addresses.ask_in_own_name("e0", "web", self._marks / "arp.json")
            for vip in (VIP, VIP6):
                addresses.add(netlink, index, vip)
            vips = [(VIP, 0), (VIP6, 0)]
            self.filter.configure(Configuration(self.number, SEED, vips, RULES, vmacs={0: VMAC}))
            attach.attach(netlink, index, "web", self.filter.program, self._marks)
            self.listener = socket.create_server((str(VIP), PORT), backlog=200)
            self.sinks = []
            for family, address in ((socket.AF_INET, VIP), (socket.AF_INET6, VIP6)):
                sink = socket.socket(family, socket.SOCK_DGRAM)
                sink.bind((str(address), SINK))
                sink.setblocking(False)
                self.sinks.append(sink)

    def close(self) -> None:
        for each in (self.listener, *self.sinks):
            each.close()
        self.filter.unpin()
        self.filter.close()
        super().close()

    def received(self) -> list[bytes]:
        found = []
        for sink in self.sinks:
            with contextlib.suppress(BlockingIOError):
                while True:
                    found.append(sink.recv(65536))
        return found


class Farm:
    """Three servers, their connections, and a way to send them frames."""

    def __init__(self, servers: list[Server], client: Host, connections) -> None:
        self.servers, self.connections = servers, tuple(connections)
        prefixes = (IPv4Address("10.9.0.0").packed[:3], IPv6Address("fd09::").packed[:15])
        self.world = World((VIP, VIP6), prefixes, (SINK, 54, 55), (81, 82), self.connections)
        with client.inside():
            self._raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
            self._raw.setsockopt(263, 15, 1)  # SOL_PACKET, PACKET_VNET_HDR: segments that are still to be cut
            self._raw.bind(("e0", 0))

    def send(self, frame: bytes, large: bytes = bytes(10)) -> None:
        self._raw.send(large + frame)

    def close(self) -> None:
        self._raw.close()

    def drain(self) -> None:
        """Forget what the sinks have got."""
        for server in self.servers:
            server.received()

    def count(self, verdict: str) -> int:
        found = 0
        for server in self.servers:
            found += sum(n for (_, name), n in server.filter.counters().items() if name == verdict)
        return found

    def way(self, number: int) -> bytes:
        """A destination MAC: a server's own, the virtual one that reaches all, or everybody's."""
        return [*(server.mac for server in self.servers), VMAC, b"\xff" * 6][number]


WAYS = st.integers(0, SERVERS)  # directed to a server, or flooded


@pytest.fixture(scope="module")
def farm(bpffs, filter_object, tmp_path_factory):
    with contextlib.ExitStack() as stack:
        switch, client, friend = Host(), Host(), Host()
        marks = tmp_path_factory.mktemp("owner")
        servers = [Server(number, filter_object, bpffs, marks / str(number)) for number in range(SERVERS)]
        hosts = {f"10.9.0.{number + 1}": server for number, server in enumerate(servers)}
        for each in (switch, client, friend):
            stack.callback(each.close)
        join(switch, {**hosts, "10.9.0.50": client, str(FRIEND): friend})
        for server in servers:
            server.start()
            stack.callback(server.close)
        macs = {(0, server.number): server.mac for server in servers}
        for server in servers:
            server.filter.install([table(moved=False)], macs)
            server.filter.set_open(True)
            server.filter.renew(FOREVER)
        with friend.inside() as netlink:
            opened = [stack.enter_context(socket.create_connection((str(VIP), PORT), 3)) for _ in range(24)]
            # Nothing that a server says reaches the other end any more, so nothing that the test did not send comes.
            netlink.link("set", index=netlink.link_lookup(ifname="e0")[0], state="down")
        for server in servers:
            server.filter.install([table(moved=True)], macs)
        made = Farm(servers, client, [(FRIEND, each.getsockname()[1], PORT) for each in opened])
        stack.callback(made.close)
        yield made


def expected(farm, sent) -> int:
    if sent.expected in {ONE, NONE}:
        return sent.expected == ONE
    address, port = sent.client
    bucket = bucket_of(address, SEED, None if sent.port == 82 else port)
    return bucket < BUCKETS // 2 or (address, port, sent.port) in farm.connections


def test_connections_are_on_either_side_of_a_move(farm):
    upper = {bucket_of(FRIEND, SEED, port) >= BUCKETS // 2 for _, port, _ in farm.connections}
    assert upper == {True, False}


def test_every_packet_has_exactly_one_owner(farm):
    total = farm.count("accepted")

    @settings(max_examples=examples(400))
    @given(sent=packets(farm.world), way=WAYS)
    def each_has(sent, way):
        nonlocal total
        total += expected(farm, sent)
        farm.send(sent.frame(farm.way(way), CLIENT_MAC), sent.large)
        end = time.monotonic() + 0.5
        while (found := farm.count("accepted")) < total and time.monotonic() < end:
            time.sleep(0.001)
        off, total = found - total, found
        assert off == 0, "owners too many" if off > 0 else "no owner"

    each_has()
    time.sleep(0.1)
    assert farm.count("accepted") == total


def fragments(source, data: bytes, port: int, number: int, cuts: list[int]) -> list[bytes]:
    """A datagram to the sinks in pieces, as IP packets, the first one first; cuts in units of eight bytes."""
    target = VIP if source.version == 4 else VIP6
    whole = udp(source, target, port, SINK, data)
    places = sorted({0, *(8 * cut for cut in cuts if 8 <= 8 * cut < len(whole))})
    found = []
    for start, end in zip(places, [*places[1:], len(whole)], strict=True):
        more, piece = end < len(whole), whole[start:end]
        if source.version == 4:
            found.append(ipv4(source, target, UDP, piece, number=number & 0xFFFF, part=more << 13 | start // 8))
        else:
            header = b"\0" + (start | more).to_bytes(2, "big") + number.to_bytes(4, "big")
            found.append(ipv6(source, target, UDP, piece, extensions=((44, header),)))
    return found


def test_the_fragments_of_a_datagram_reach_one_server_in_whatever_order(farm):
    """No two servers can put it together, and one can: its socket gets it, once."""
    numbers = itertools.count(1)

    @settings(max_examples=examples(120))
    @given(
        six=st.booleans(),
        host=st.integers(200, 249),
        port=st.integers(1024, 65535),
        cuts=st.lists(st.integers(1, 24), min_size=1, max_size=4, unique=True),
        data=st.data(),
    )
    def each_arrives(six, host, port, cuts, data):
        number = next(numbers)
        source = IPv6Address(f"fd09::{host:x}") if six else IPv4Address(f"10.9.0.{host}")
        text = number.to_bytes(4, "big") * 50
        pieces = data.draw(st.permutations(fragments(source, text, port, number, cuts)))
        way, kind = farm.way(data.draw(WAYS)), b"\x86\xdd" if six else b"\x08\0"
        for piece in pieces:
            farm.send(way + CLIENT_MAC + kind + piece)
        got = []
        end = time.monotonic() + 0.5
        while not any(got) and time.monotonic() < end:
            time.sleep(0.002)
            got = [server.received() for server in farm.servers]
        time.sleep(0.002)
        again = [server.received() for server in farm.servers]
        assert list(itertools.chain(*got, *again)) == [text]
        assert [bool(each) for each in got].index(True) == owner_of(source, port)

    farm.drain()
    each_arrives()


def owner_of(source, port: int) -> int:
    bucket = bucket_of(source, SEED, port)
    return (bucket + (bucket >= BUCKETS // 2)) % SERVERS
