"""Packets of every kind to a virtual address, as hypothesis draws them, and what must come of each.

What must come of it is said by the one who makes the packet, from what it is, and not by a model of the filter.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address

from hypothesis import strategies as st

Ip = IPv4Address | IPv6Address
TCP, UDP, ICMP, ICMP6 = 6, 17, 1, 58
ONE, NONE, SOCKET = "one owner", "nobody", "whose kernel has the socket"
FIN, SYN, RST, ACK = 1, 2, 4, 16
NOT_GSO = bytes(10)  # struct virtio_net_hdr


@dataclass(frozen=True, slots=True)
class Sent:
    """One packet.

    :param packet: from the IP header on.
    :param expected: ``ONE``; ``NONE``; or ``SOCKET``: in a bucket that has moved, whoever has the connection's socket,
        elsewhere as ``ONE``.
    :param client: address and port that its bucket goes by; the port None where it has none.
    :param tag: of a VLAN; None: untagged.
    :param large: what ``struct virtio_net_hdr`` says of a segment that is to be cut.
    """

    packet: bytes
    expected: str
    client: tuple[Ip, int | None]
    port: int | None = None
    tag: int | None = None
    large: bytes = NOT_GSO

    def frame(self, destination: bytes, source: bytes) -> bytes:
        """With its Ethernet header."""
        tagged = b"" if self.tag is None else b"\x81\0" + struct.pack(">H", self.tag)
        kind = b"\x86\xdd" if self.client[0].version == 6 else b"\x08\0"
        return destination + source + tagged + kind + self.packet


def checksum(data: bytes) -> int:
    """The Internet's."""
    total = sum(struct.unpack(f">{(len(data) + 1) // 2}H", data + b"\0" * (len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ipv4(
    source: Ip, target: Ip, protocol: int, above: bytes, *, options: bytes = b"", number: int = 0, part: int = 0
) -> bytes:
    """A right packet."""
    words, total = 5 + len(options) // 4, 20 + len(options) + len(above)
    head = struct.pack(">BBHHHBBH", 0x40 | words, 0, total if total < 65536 else 0, number, part, 64, protocol, 0)
    head += source.packed + target.packed + options
    return head[:10] + checksum(head).to_bytes(2, "big") + head[12:] + above


def ipv6(
    source: Ip, target: Ip, protocol: int, above: bytes, *, extensions: tuple[tuple[int, bytes], ...] = ()
) -> bytes:
    """A right packet; extensions are (their own number, what follows the byte for the next header)."""
    kinds = [number for number, _ in extensions] + [protocol]
    chain = b"".join(bytes((kinds[place + 1],)) + rest for place, (_, rest) in enumerate(extensions))
    length = len(chain) + len(above)
    return struct.pack(">IHBB", 6 << 28, length, kinds[0], 64) + source.packed + target.packed + chain + above


def sealed(source: Ip, target: Ip, protocol: int, above: bytes, at: int) -> bytes:
    """With the check sum of TCP, UDP or ICMPv6 at its place."""
    pseudo = source.packed + target.packed + struct.pack(">II", len(above), protocol)
    return above[:at] + checksum(pseudo + above).to_bytes(2, "big") + above[at + 2 :]


def udp(source: Ip, target: Ip, port: int, service: int, data: bytes) -> bytes:
    """A datagram."""
    return sealed(source, target, UDP, struct.pack(">HHHH", port, service, 8 + len(data), 0) + data, 6)


def tcp(source: Ip, target: Ip, port: int, service: int, flags: int, data: bytes = b"", sequence: int = 0) -> bytes:
    """A segment."""
    head = struct.pack(">HHIIBBHHH", port, service, sequence, 7, 0x50, flags, 1024, 0, 0)
    return sealed(source, target, TCP, head + data, 16)


@dataclass(frozen=True, slots=True)
class World:
    """What the packets are about.

    :param vips: one of IPv4, one of IPv6.
    :param clients: prefixes of three bytes, or 15, to which a client's number is added: none of them is there.
    :param services: UDP and TCP ports that a rule covers; nobody listens on the TCP ports.
    :param connections: client, its port, VIP's port: each has a socket on one server.
    """

    vips: tuple[IPv4Address, IPv6Address]
    clients: tuple[bytes, bytes]
    udp_services: tuple[int, ...]
    tcp_services: tuple[int, ...]
    connections: tuple[tuple[IPv4Address, int, int], ...]


PORTS, BYTES = st.integers(1024, 65535), st.binary(max_size=40)
EXTENSION = st.sampled_from([0, 43, 60])


@st.composite
def ends(draw: st.DrawFn, world: World) -> tuple[Ip, Ip]:
    """A client and the VIP of its family."""
    version = draw(st.sampled_from([0, 0, 1]))
    made = world.clients[version] + bytes((draw(st.integers(200, 249)),))
    return (IPv6Address(made) if version else IPv4Address(made)), world.vips[version]


@st.composite
def around(draw: st.DrawFn, source: Ip, target: Ip, protocol: int, above: bytes) -> bytes:
    """A right IP packet with or without options, extension headers and bytes after its end."""
    if source.version == 4:
        options = b"\1" * 4 * draw(st.sampled_from([0, 0, 0, 1, 10]))
        number = draw(st.integers(0, 65535))
        return ipv4(
            source, target, protocol, above, options=options, number=number, part=draw(st.sampled_from([0, 0x4000]))
        )
    kinds = draw(st.lists(EXTENSION, max_size=5))
    chain = tuple((number, bytes((0,)) + (bytes(6) if number == 43 else b"\1\4\0\0\0\0")) for number in kinds)
    if draw(st.integers(0, 7)) == 0:  # a fragment header of a packet that is whole (RFC 6946)
        chain += ((44, bytes(3) + draw(st.binary(min_size=4, max_size=4))),)
    return ipv6(source, target, protocol, above, extensions=chain)


@st.composite
def datagrams(draw: st.DrawFn, world: World) -> Sent:
    """UDP."""
    source, target = draw(ends(world))
    port, service = draw(PORTS), draw(st.sampled_from(world.udp_services))
    above = udp(source, target, port, service, draw(BYTES))
    return Sent(draw(around(source, target, UDP, above)), ONE, (source, port), service)


@st.composite
def segments(draw: st.DrawFn, world: World) -> Sent:
    """TCP with every combination of flags."""
    source, target = draw(ends(world))
    port, service, flags = draw(PORTS), draw(st.sampled_from(world.tcp_services)), draw(st.integers(0, 255))
    above = tcp(source, target, port, service, flags, draw(BYTES))
    opens = flags & (SYN | ACK) == SYN
    return Sent(draw(around(source, target, TCP, above)), ONE if opens else SOCKET, (source, port), service)


@st.composite
def of_connections(draw: st.DrawFn, world: World) -> Sent:
    """Segments of connections that are there, far from what their windows take, so that they stay there."""
    source, port, service = draw(st.sampled_from(world.connections))
    flags = draw(st.integers(0, 255)) & ~(SYN | RST) | ACK
    above = tcp(source, world.vips[0], port, service, flags, draw(BYTES), draw(st.integers(0, 1 << 20)))
    return Sent(draw(around(source, world.vips[0], TCP, above)), SOCKET, (source, port), service)


@st.composite
def echoes(draw: st.DrawFn, world: World) -> Sent:
    """Ping, and other ICMP that quotes nothing."""
    source, target = draw(ends(world))
    if source.version == 4:
        above = bytes((draw(st.sampled_from([0, 8, 13, 17])), 0, 0, 0)) + draw(st.binary(min_size=4, max_size=40))
        above = above[:2] + checksum(above).to_bytes(2, "big") + above[4:]
        return Sent(draw(around(source, target, ICMP, above)), ONE, (source, None))
    above = bytes((draw(st.sampled_from([128, 129])), 0, 0, 0)) + draw(st.binary(min_size=4, max_size=40))
    return Sent(draw(around(source, target, ICMP6, sealed(source, target, ICMP6, above, 2))), ONE, (source, None))


@st.composite
def errors(draw: st.DrawFn, world: World) -> Sent:
    """A router's ICMP error about a packet that a server has sent from the VIP."""
    router, vip = draw(ends(world))
    own = draw(st.booleans()) and vip.version == 4
    if own:
        client, port, service = draw(st.sampled_from(world.connections))
        protocol = TCP
    else:
        client, port, protocol = draw(ends(world))[0], draw(PORTS), draw(st.sampled_from([TCP, UDP]))
        if client.version != vip.version:
            client = router
        service = draw(st.sampled_from(world.tcp_services if protocol == TCP else world.udp_services))
    quoted = struct.pack(">HHI", service, port, draw(st.integers(0, 1 << 20))) + draw(BYTES)
    if vip.version == 4:
        inner = ipv4(vip, client, protocol, quoted, part=0x4000)
        kind, code = draw(st.sampled_from([(3, 1), (3, 4), (11, 0), (12, 0)]))
        above = bytes((kind, code, 0, 0, 0, 0, 5, 0)) + inner
        above = above[:2] + checksum(above).to_bytes(2, "big") + above[4:]
        packet = draw(around(router, vip, ICMP, above))
    else:
        inner = ipv6(vip, client, protocol, quoted)
        above = bytes((draw(st.integers(1, 4)), 0, 0, 0)) + struct.pack(">I", 1280) + inner
        packet = draw(around(router, vip, ICMP6, sealed(router, vip, ICMP6, above, 2)))
    return Sent(packet, SOCKET if protocol == TCP else ONE, (client, port), service)


@st.composite
def large(draw: st.DrawFn, world: World) -> Sent:
    """A TCP segment that the device is to cut into many: the filter sees it in one piece."""
    source, target = draw(ends(world))
    port, service = draw(PORTS), draw(st.sampled_from(world.tcp_services))
    above = tcp(source, target, port, service, ACK, bytes(draw(st.integers(3000, 60000))))
    packet = (ipv4 if source.version == 4 else ipv6)(source, target, TCP, above)
    start = 14 + len(packet) - len(above)
    header = struct.pack("=BBHHHH", 1, 1 if source.version == 4 else 4, start + 20, 1400, start, 16)
    return Sent(packet, SOCKET, (source, port), service, large=header)


@st.composite
def malformed(draw: st.DrawFn, world: World) -> Sent:
    """A packet that contradicts itself, or ends too early."""
    good = draw(st.one_of(datagrams(world), segments(world), echoes(world)))
    packet = bytearray(good.packet)
    if good.client[0].version == 6:
        how = draw(st.sampled_from(["beyond", "cut", "chain"]))
        if how == "beyond":
            packet[4:6] = (len(packet) - 40 + draw(st.integers(1, 9000))).to_bytes(2, "big")
        elif how == "cut":
            packet = packet[: draw(st.integers(0, len(packet) - 1))]
        else:
            packet[6:7] = bytes((60,))
            packet[40:] = bytes((UDP, 200)) + packet[42:]
        return Sent(bytes(packet), NONE, good.client, good.port)
    how = draw(st.sampled_from(["short header", "long header", "short", "beyond", "cut"]))
    if how == "short header":
        packet[0] = 0x40 | draw(st.integers(0, 4))
    elif how == "long header":
        packet[2:4] = (20).to_bytes(2, "big")
        packet[0] = 0x40 | draw(st.integers(6, 15))
    elif how == "short":
        head = (packet[0] & 15) * 4
        packet[2:4] = (head + draw(st.integers(0, 7))).to_bytes(2, "big")
    elif how == "beyond":
        packet[2:4] = (len(packet) + draw(st.integers(1, 9000))).to_bytes(2, "big")
    else:
        packet = packet[: draw(st.integers(0, len(packet) - 1))]
    return Sent(bytes(packet), NONE, good.client, good.port)


@st.composite
def uncovered(draw: st.DrawFn, world: World) -> Sent:
    """What no rule covers, and other protocols."""
    source, target = draw(ends(world))
    port = draw(PORTS)
    if draw(st.booleans()):
        return Sent(draw(around(source, target, UDP, udp(source, target, port, 99, b"x"))), NONE, (source, port), 99)
    protocol = draw(st.sampled_from([2, 4, 33, 47, 132]))
    return Sent(draw(around(source, target, protocol, draw(st.binary(min_size=8, max_size=40)))), NONE, (source, None))


@st.composite
def tagged(draw: st.DrawFn, world: World) -> Sent:
    """In VLAN 0, which is a mere priority, or in another one."""
    good = draw(st.one_of(datagrams(world), segments(world), malformed(world)))
    vlan = draw(st.sampled_from([0, 0, 5]))
    return replace(good, tag=draw(st.integers(0, 7)) << 13 | vlan, expected=NONE if vlan else good.expected)


def packets(world: World) -> st.SearchStrategy[Sent]:
    """All of them."""
    kinds = (datagrams, segments, of_connections, echoes, errors, large, malformed, uncovered, tagged)
    return st.one_of([each(world) for each in kinds])
