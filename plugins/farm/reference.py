"""The filter's decision in plain Python, written from docs/filter.md and not from filter.c.

State, memory and one Ethernet frame go in; verdict, group, bucket and the frames as they leave come out. The tests let
this and the loaded program judge the same frames; read this file to know what the filter does.

Invariant, checked by a property test: of one frame that all servers get, and with one set of tables, at most one
server's ``decide`` says ``accepted``, as long as the connection has a socket on one server at most; of one frame that
one server gets, at most one of that server and those to which it sends the frame on.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv6Address

from .hashing import bucket_of, jhash_1word, jhash_2words
from .layout import NOBODY, Ip, KernelRule
from .reading import (
    ETHERNET,
    Denied,
    Malformed,
    Packet,
    addresses4,
    addresses6,
    discovery,
    read4,
    read6,
)

FRAGMENT_AGE, SUPERSEDED_AGE = 30_000_000_000, 60_000_000_000  # ns
EVERYBODY = b"\xff" * 6
Connection = tuple[Ip, int, Ip, int]  # client, its port, VIP, port


@dataclass(frozen=True, slots=True)
class FilterState:
    """All that a decision depends on besides the frame.

    :param me: this server's number.
    :param vips: virtual address -> slot of its device.
    :param tables: owner and holders of each bucket, four bytes each, for each group.
    :param macs: (slot, server) -> MAC.
    :param vmacs: slot -> virtual MAC.
    :param leased: whether the lease runs.
    :param device_mac: what the kernel compares the frame's destination with.
    :param sockets: what this server's kernel has of a connection: ``firm``, ``fleeting`` (half open or in TIME_WAIT) or
        ``cookie`` (a listening socket, and the segment brings its cookie back).
    """

    me: int
    seed: int
    vips: Mapping[Ip, int]
    rules: Sequence[KernelRule]
    tables: Sequence[bytes]
    macs: Mapping[tuple[int, int], bytes]
    arp_group: int | None = 0
    opened: bool = True
    leased: bool = True
    device_mac: bytes = bytes(6)
    vmacs: Mapping[int, bytes] = field(default_factory=dict)
    sockets: Mapping[Connection, str] = field(default_factory=dict)


@dataclass(slots=True)
class Memory:
    """What the filter remembers from one frame to the next.

    :param now: CLOCK_MONOTONIC, ns; the caller sets it.
    :param fragments: datagram -> ports and kind of its first fragment, and when it came.
    :param superseded: connection -> when it was opened elsewhere.
    :param clients: who asked for a VIP's MAC -> their MAC.
    """

    now: int = 0
    fragments: dict[tuple[Ip, Ip, str, int], tuple[tuple[int, int], str, int]] = field(default_factory=dict)
    superseded: dict[Connection, int] = field(default_factory=dict)
    clients: dict[Ip, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Decision:
    """What happens to a frame.

    :param stack: this server's stack gets it.
    :param sent: frames that leave this server, in order.
    :param group: None, as the bucket, where the decision did not need it.
    """

    verdict: str
    stack: bool = False
    sent: tuple[bytes, ...] = ()
    group: int | None = None
    bucket: int | None = None


PASSED = Decision("passed", stack=True)


def decide(state: FilterState, frame: bytes, memory: Memory | None = None) -> Decision:
    """Judge a frame (from its Ethernet header on)."""
    memory = memory or Memory()
    if len(frame) < ETHERNET:
        return PASSED
    kind = frame[12:14]
    if kind == b"\x08\x06":
        return _Judge(state, memory, frame).arp(frame[ETHERNET:])
    ends = {b"\x08\x00": addresses4, b"\x86\xdd": addresses6}.get(kind, lambda _: None)(frame[ETHERNET:])
    if ends is None:
        return PASSED
    return _Judge(state, memory, frame).ip(frame[ETHERNET:], *ends)


def _own_mac(state: FilterState, slot: int) -> bytes | None:
    return state.macs.get((slot, state.me))


@dataclass(frozen=True, slots=True)
class _Flow:
    """A packet on its way to a decision.

    :param quoted: it is an ICMP error about the connection.
    """

    slot: int
    group: int
    bucket: int
    kind: str
    connection: Connection
    quoted: bool = False


class _Judge:
    """Judges one frame."""

    def __init__(self, state: FilterState, memory: Memory, frame: bytes) -> None:
        self._state, self._memory, self._frame = state, memory, frame

    # --- which frames -------------------------------------------------------------------------------

    def _is_foreign(self, slot: int) -> bool:
        """Unicast to another machine, which the switch flooded."""
        to = self._frame[:6]
        return not to[0] & 1 and to not in {self._state.device_mac, self._state.vmacs.get(slot)}

    def _elsewhere(self, slot: int) -> str | None:
        """Why other servers may have the frame, as a verdict; None when this server is the first."""
        if self._frame[:6] != self._state.device_mac:
            return "not_owner"
        servers = {mac for (row, _), mac in self._state.macs.items() if row == slot}
        return "looped" if self._frame[6:12] in servers else None

    # --- ARP and neighbour discovery ----------------------------------------------------------------

    def arp(self, arp: bytes) -> Decision:
        state = self._state
        if len(arp) < 28 or arp[:8] != bytes.fromhex("0001080006040001"):  # Ethernet, IPv4, request
            return PASSED
        hardware, sender, target = arp[8:14], IPv4Address(arp[14:18]), IPv4Address(arp[24:28])
        slot = state.vips.get(target)
        if slot is None or self._is_foreign(slot):
            return PASSED
        if sender == target:
            return Decision("announced")
        if state.arp_group is None:
            return Decision("denied")
        if int(sender):
            self._memory.clients[sender] = hardware
        vmac, own = state.vmacs.get(slot), _own_mac(state, slot)
        answer = b""
        if vmac and own:
            head = hardware + own + bytes.fromhex("08060001080006040002")
            answer = (head + vmac + target.packed + hardware + sender.packed).ljust(60, b"\0")
        return self._question(sender, vmac, answer)

    def _question(self, sender: Ip, vmac: bytes | None, answer: bytes) -> Decision:
        group = self._state.arp_group or 0
        bucket = bucket_of(sender, self._state.seed)
        owner = self._state.tables[group][4 * bucket]
        if owner != self._state.me:
            return Decision("nobody" if owner == NOBODY else "not_owner", group=group, bucket=bucket)
        shut = self._shut()
        if shut or not vmac:
            return Decision(shut or "accepted", stack=not shut, group=group, bucket=bucket)
        if not answer:
            return Decision("unreachable", group=group, bucket=bucket)
        return Decision("answered", sent=(answer,), group=group, bucket=bucket)

    def _solicited(self, source: Ip, target: IPv6Address, slot: int, mac: bytes | None) -> Decision:
        state = self._state
        if state.arp_group is None:
            return Decision("denied")
        if int(source) and mac is not None:
            self._memory.clients[source] = mac
        vmac, own = state.vmacs.get(slot), _own_mac(state, slot)
        answer = b""
        if vmac and own:
            everybody = IPv6Address("ff02::1")
            to, flags = (source, 0x60) if int(source) else (everybody, 0x20)
            body = bytes([136, 0, 0, 0, flags, 0, 0, 0]) + target.packed + b"\x02\x01" + vmac
            total = sum(struct.unpack(">36H", target.packed + to.packed + struct.pack(">II", 32, 58) + body))
            while total >> 16:
                total = (total & 0xFFFF) + (total >> 16)
            body = body[:2] + (~total & 0xFFFF).to_bytes(2, "big") + body[4:]
            ether = (self._frame[6:12] if int(source) else b"\x33\x33\0\0\0\x01") + own + b"\x86\xdd"
            answer = ether + struct.pack(">IHBB", 6 << 28, 32, 58, 255) + target.packed + to.packed + body
        return self._question(source, vmac, answer)

    # --- IP -----------------------------------------------------------------------------------------

    def ip(self, packet: bytes, source: Ip, destination: Ip) -> Decision:
        state = self._state
        found = discovery(packet) if source.version == 6 else None
        if found:
            slot = state.vips.get(found.target)
            if slot is not None:
                if self._is_foreign(slot):
                    return PASSED
                if found.advertisement:
                    return Decision("announced")
                return self._solicited(source, found.target, slot, found.mac)
            if found.advertisement and destination in state.vips:
                return PASSED
        slot = state.vips.get(destination)
        if slot is None or self._is_foreign(slot):
            return PASSED
        try:
            return self._packet(read4(packet) if source.version == 4 else read6(packet), slot)
        except Malformed:
            return Decision("malformed")
        except Denied:
            return Decision("denied")

    def _packet(self, packet: Packet, slot: int) -> Decision:
        state, vip = self._state, packet.destination
        quoted = packet.quoted()
        if quoted is not None:
            rule = self._rule(vip, quoted.protocol, quoted.port)
            if rule is not None and rule.filter != "on_ipid":  # the client's own identification is not known
                kind = "segment" if quoted.protocol == "tcp" else "opens"
                connection = quoted.client, quoted.client_port, vip, quoted.port
                bucket = self._bucket(rule, connection, 0)
                return self._judge(_Flow(slot, rule.group, bucket, kind, connection, quoted=True))
        if packet.protocol == "icmp":
            if state.arp_group is None:
                raise Denied
            bucket = bucket_of(packet.source, state.seed)
            return self._judge(_Flow(slot, state.arp_group, bucket, "opens", (packet.source, 0, vip, 0)))

        ports, kind = self._of_datagram(packet)
        rule = self._rule(vip, packet.protocol, ports[1] if ports else None)
        if rule is None:
            raise Denied
        if ports is None and (rule.filter == "on_port" or not self._uniform(rule)):
            return self._park(slot, None, None)
        connection = packet.source, ports[0] if ports else 0, vip, ports[1] if ports else 0
        bucket = self._bucket(rule, connection, packet.identification)
        moved = state.tables[rule.group][4 * bucket + 1 : 4 * bucket + 4] != bytes((NOBODY,)) * 3
        if ports is None and packet.protocol == "tcp" and moved:
            return self._park(slot, rule.group, bucket)
        return self._judge(_Flow(slot, rule.group, bucket, kind, connection))

    def _of_datagram(self, packet: Packet) -> tuple[tuple[int, int] | None, str]:
        """Ports and kind of a packet, of a later fragment those of the first; None where that has not been seen."""
        if packet.part == "whole":
            return packet.ports, packet.kind
        key = packet.source, packet.destination, packet.protocol, packet.identification
        if packet.part == "first":
            self._memory.fragments[key] = packet.ports, packet.kind, self._memory.now
            return packet.ports, packet.kind
        ports, kind, seen = self._memory.fragments.get(key, (None, "opens", 0))
        fresh = ports is not None and self._memory.now - seen <= FRAGMENT_AGE
        return (ports, kind) if fresh else (None, "opens")

    def _rule(self, vip: Ip, protocol: str, port: int | None) -> KernelRule | None:
        for rule in self._state.rules:
            if rule.proto == protocol and rule.addr in {None, vip} and (port is None or rule.port in {0, port}):
                return rule
        return None

    def _uniform(self, rule: KernelRule) -> bool:
        alike = [r for r in self._state.rules if r.proto == rule.proto]
        if rule.addr is not None:
            alike = [r for r in alike if r.addr in {None, rule.addr}]
        return {(r.group, r.filter) for r in alike} == {(rule.group, rule.filter)}

    def _bucket(self, rule: KernelRule, connection: Connection, identification: int) -> int:
        client, client_port, _, _ = connection
        other = {"on_port": client_port, "on_ipid": identification}.get(rule.filter)
        if rule.filter == "on_ipid" and client.version == 6:
            other = None
        return bucket_of(client, self._state.seed, other)

    # --- who takes it -------------------------------------------------------------------------------

    def _shut(self) -> str | None:
        if not self._state.opened:
            return "closed"
        return None if self._state.leased else "expired"

    def _take(self, group: int | None, bucket: int | None, verdict: str = "accepted") -> Decision:
        shut = self._shut()
        return Decision(shut or verdict, stack=not shut, group=group, bucket=bucket)

    def _park(self, slot: int, group: int | None, bucket: int | None) -> Decision:
        decision = self._take(group, bucket, "parked")
        own = _own_mac(self._state, slot)
        if decision.stack and own and self._elsewhere(slot) is None:
            return replace(decision, sent=(EVERYBODY + own + self._frame[12:],))
        return decision

    def _send(self, flow: _Flow, servers: Sequence[int], verdict: str = "forwarded") -> Decision:
        decision = Decision(verdict, group=flow.group, bucket=flow.bucket)
        elsewhere = self._elsewhere(flow.slot)
        if elsewhere:
            return replace(decision, verdict="held" if verdict == "held" else elsewhere)
        own = _own_mac(self._state, flow.slot)
        known = [self._state.macs.get((flow.slot, server)) for server in servers if server != self._state.me]
        sent = tuple(mac + own + self._frame[12:] for mac in known if mac) if own else ()
        if not sent and verdict == "forwarded":
            return replace(decision, verdict="unreachable")
        return replace(decision, sent=sent)

    def _judge(self, flow: _Flow) -> Decision:
        owner, *rest = self._state.tables[flow.group][4 * flow.bucket : 4 * flow.bucket + 4]
        holders = [server for server in rest if server != NOBODY]
        if flow.kind != "opens" and holders:
            return self._moved(flow, owner, holders)
        if owner == self._state.me:
            return self._take(flow.group, flow.bucket)
        if owner == NOBODY:
            return Decision("nobody", group=flow.group, bucket=flow.bucket)
        return self._send(flow, [owner])

    def _moved(self, flow: _Flow, owner: int, holders: list[int]) -> Decision:
        mine = owner == self._state.me
        socket = self._state.sockets.get(flow.connection)
        others = [*holders, *([owner] if owner != NOBODY else [])]
        if flow.kind == "syn":
            if mine:
                sent = self._send(flow, holders, "held").sent
                return replace(self._take(flow.group, flow.bucket), sent=sent)
            if socket == "fleeting":
                self._memory.superseded[flow.connection] = self._memory.now
            return self._send(flow, others)
        if socket == "fleeting" and not mine:
            since = self._memory.superseded.get(flow.connection)
            if since is not None and self._memory.now - since < SUPERSEDED_AGE:
                socket = None
        if socket == "cookie" and flow.quoted:
            socket = None
        if socket:
            return self._take(flow.group, flow.bucket)
        return self._send(flow, holders, "held") if mine else self._send(flow, others)


__all__ = ["Decision", "FilterState", "Memory", "bucket_of", "decide", "jhash_1word", "jhash_2words"]
