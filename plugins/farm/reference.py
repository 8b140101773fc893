"""The filter's decision in plain Python, written from the specification and not from filter.c.

State and one Ethernet frame go in; verdict, group, bucket and the frame as it leaves come out. The tests let this and
the loaded program judge the same frames; read this file to know what the filter does.

Invariant: for one frame and one set of tables, at most one server's ``decide`` says accepted (a property test checks
it).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address

from .layout import MAX_SERVERS, PROTOCOLS, KernelRule

WORD = 0xFFFFFFFF
ETHERNET = 14


def _rotate(word: int, bits: int) -> int:
    return (word << bits | word >> (32 - bits)) & WORD


def _lookup3(words: tuple[int, int], start: int) -> int:
    """Bob Jenkins' final mix over at most two words."""
    a, b, c = (words[0] + start) & WORD, (words[1] + start) & WORD, start & WORD
    c = ((c ^ b) - _rotate(b, 14)) & WORD
    a = ((a ^ c) - _rotate(c, 11)) & WORD
    b = ((b ^ a) - _rotate(a, 25)) & WORD
    c = ((c ^ b) - _rotate(b, 16)) & WORD
    a = ((a ^ c) - _rotate(c, 4)) & WORD
    b = ((b ^ a) - _rotate(a, 14)) & WORD
    return ((c ^ b) - _rotate(b, 24)) & WORD


def jhash_1word(word: int, seed: int) -> int:
    """Linux's hash of one 32-bit number."""
    return _lookup3((word, 0), seed + 0xDEADBEEF + 4)


def jhash_2words(first: int, second: int, seed: int) -> int:
    """Linux's hash of two 32-bit numbers."""
    return _lookup3((first, second), seed + 0xDEADBEEF + 8)


def bucket_of(address: IPv4Address, seed: int, other: int | None = None) -> int:
    """The bucket, 0 to 65535, of a client's address, with its port or an IP identification where a rule says so."""
    return (jhash_1word(int(address), seed) if other is None else jhash_2words(int(address), other, seed)) >> 16


@dataclass(frozen=True, slots=True)
class FilterState:
    """All that a decision depends on besides the frame.

    :param me: this server's number.
    :param vips: virtual address -> slot of its device.
    :param tables: owner of each bucket, for each group.
    :param macs: (slot, server) -> MAC.
    :param leased: whether the lease runs.
    :param device_mac: what the kernel compares the frame's destination with.
    """

    me: int
    seed: int
    vips: Mapping[IPv4Address, int]
    rules: Sequence[KernelRule]
    tables: Sequence[bytes]
    macs: Mapping[tuple[int, int], bytes]
    arp_group: int | None = 0
    opened: bool = True
    leased: bool = True
    device_mac: bytes = bytes(6)


@dataclass(frozen=True, slots=True)
class Decision:
    """What happens to a frame; group and bucket are None where the decision did not need them."""

    verdict: str
    frame: bytes
    group: int | None = None
    bucket: int | None = None
    client: tuple[IPv4Address, bytes] | None = field(default=None)


def decide(state: FilterState, frame: bytes) -> Decision:
    """Judge a frame (from its Ethernet header on)."""
    if len(frame) < ETHERNET:
        return Decision("passed", frame)
    destination, kind = frame[:6], frame[12:14]
    if destination != state.device_mac and not destination[0] & 1:
        return Decision("passed", frame)  # another machine's: the switch flooded it
    if kind == b"\x08\x00":
        return _decide_ip(state, frame, frame[ETHERNET:])
    if kind == b"\x08\x06":
        return _decide_arp(state, frame, frame[ETHERNET:])
    return Decision("passed", frame)


def _decide_arp(state: FilterState, frame: bytes, arp: bytes) -> Decision:
    if len(arp) < 28 or arp[:8] != bytes.fromhex("0001080006040001"):  # Ethernet, IPv4, request
        return Decision("passed", frame)
    hardware, sender, target = arp[8:14], IPv4Address(arp[14:18]), IPv4Address(arp[24:28])
    if target not in state.vips:
        return Decision("passed", frame)
    if sender == target:
        return Decision("announced", frame)
    if state.arp_group is None:
        return Decision("denied", frame)
    bucket = bucket_of(sender, state.seed)
    decision = Decision("not_owner", frame, state.arp_group, bucket)
    if int(sender):
        decision = replace(decision, client=(sender, hardware))
    owner = state.tables[state.arp_group][bucket]
    if owner == state.me:
        return replace(decision, verdict=_mine(state, new=True))
    return replace(decision, verdict="nobody") if owner >= MAX_SERVERS else decision


def _decide_ip(state: FilterState, frame: bytes, packet: bytes) -> Decision:
    if len(packet) < 20 or packet[0] >> 4 != 4:
        return Decision("passed", frame)
    source, destination = IPv4Address(packet[12:16]), IPv4Address(packet[16:20])
    if destination not in state.vips:
        return Decision("passed", frame)
    header = 4 * (packet[0] & 15)
    total, identification, flags = struct.unpack_from(">HHH", packet, 2)
    if not 20 <= header <= total <= len(packet):
        return Decision("malformed", frame)
    fragment = bool(flags & 0x2000 or flags & 0x1FFF)
    names = {number: name for name, number in PROTOCOLS.items()} | {1: "icmp"}
    protocol = names.get(packet[9])
    if protocol is None:
        return Decision("denied", frame)
    above = packet[header:total]
    if not fragment and len(above) < {"icmp": 8, "tcp": 20, "udp": 8}[protocol]:
        return Decision("malformed", frame)

    if protocol == "icmp":
        rule, client, port = _icmp_rule(state, source, destination, b"" if fragment else above)
    else:
        client, port = source, None if fragment else int.from_bytes(above[:2], "big")
        rule = _rule_for(state, destination, protocol, None if fragment else int.from_bytes(above[2:4], "big"))
    if rule is None:
        return Decision("denied", frame)

    parts = {"on_addr": None, "on_port": port, "on_ipid": identification}
    bucket = bucket_of(client, state.seed, None if fragment else parts[rule.filter])
    decision = Decision("nobody", frame, rule.group, bucket)
    owner = state.tables[rule.group][bucket]
    if owner == state.me:
        synchronise, acknowledge = 0x02, 0x10
        opens = protocol != "tcp" or fragment or above[13] & (synchronise | acknowledge) == synchronise
        return replace(decision, verdict=_mine(state, new=opens))
    return decision if owner >= MAX_SERVERS else _forward(state, decision, owner, state.vips[destination])


def _icmp_rule(
    state: FilterState, source: IPv4Address, vip: IPv4Address, icmp: bytes
) -> tuple[KernelRule | None, IPv4Address, int | None]:
    """Rule, client and client's port that decide on ICMP: those of the quoted connection, else of the sender."""
    quoted = _quoted(icmp, vip) if icmp else None
    if quoted is not None:
        rule = _rule_for(state, vip, quoted.protocol, quoted.port)
        if rule is not None and rule.filter != "on_ipid":  # the client's own IP identification is not known
            return rule, quoted.client, quoted.client_port
    return None if state.arp_group is None else KernelRule("icmp", "on_addr", state.arp_group), source, None


@dataclass(frozen=True, slots=True)
class _Quoted:
    """The packet from the VIP that an ICMP error is about, as far as it is quoted."""

    protocol: str
    client: IPv4Address
    client_port: int
    port: int


def _quoted(icmp: bytes, vip: IPv4Address) -> _Quoted | None:
    """An error goes where its connection is: there it makes segments smaller (path MTU) or ends a wait."""
    unreachable, time_exceeded, parameter_problem = 3, 11, 12
    inner = icmp[8:]
    if icmp[0] not in {unreachable, time_exceeded, parameter_problem} or len(inner) < 20 or inner[0] >> 4 != 4:
        return None
    header = 4 * (inner[0] & 15)
    protocol = {number: name for name, number in PROTOCOLS.items()}.get(inner[9])
    later = int.from_bytes(inner[6:8], "big") & 0x1FFF
    if header < 20 or len(inner) < header + 4 or later or protocol is None or inner[12:16] != vip.packed:
        return None
    port, client_port = struct.unpack_from(">HH", inner, header)
    return _Quoted(protocol, IPv4Address(inner[16:20]), client_port, port)


def _rule_for(state: FilterState, destination: IPv4Address, protocol: str, port: int | None) -> KernelRule | None:
    """The first rule that covers the packet; a fragment (no port) takes the first one whatever its port."""
    for rule in state.rules:
        if rule.proto == protocol and rule.addr in {None, destination} and (port is None or rule.port in {0, port}):
            return rule
    return None


def _mine(state: FilterState, new: bool) -> str:
    if not state.opened:
        return "closed"
    return "expired" if new and not state.leased else "accepted"


def _forward(state: FilterState, decision: Decision, owner: int, slot: int) -> Decision:
    frame = decision.frame
    if frame[:6] != state.device_mac:
        return replace(decision, verdict="not_owner")  # broadcast: the owner has it already
    if frame[6:12] in [mac for (row, _), mac in state.macs.items() if row == slot]:
        return replace(decision, verdict="looped")
    theirs, ours = state.macs.get((slot, owner)), state.macs.get((slot, state.me))
    if theirs is None or ours is None:
        return replace(decision, verdict="unreachable")
    return replace(decision, verdict="forwarded", frame=theirs + ours + frame[12:])
