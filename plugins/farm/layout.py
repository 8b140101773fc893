"""What the filter's maps hold: its limits, its verdicts, and settings as bytes. Must agree with filter.h."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address

Ip = IPv4Address | IPv6Address

MAX_VIPS, MAX_VIPS6, MAX_RULES, MAX_GROUPS, MAX_SLOTS = 32, 16, 64, 16, 8
MAX_SERVERS = 250  # numbers from 0; a byte has room for them and for NOBODY
BUCKETS = 65536
NOBODY = 255  # the owner of a bucket that no server has
NO_ENTRY = bytes((NOBODY,)) * 4  # of a bucket without owner and holders
TABLE = 4 * BUCKETS  # bytes of a group's table
SLICES = 256  # of a group's buckets, for counting: the upper eight bits of the bucket
_ROWS = 256  # of the map ``macs``, for each slot

VERDICTS = (
    "passed",  # no VIP is concerned; not counted
    "accepted",  # mine: the stack has it
    "forwarded",  # another's: sent there
    "not_owner",  # another's, and that server has it already
    "denied",  # no rule covers it
    "expired",  # mine, but the agent's lease is over
    "closed",  # mine, but this server takes no traffic now
    "looped",  # another's, but a server forwarded it to this one
    "nobody",  # no server has the bucket
    "malformed",
    "announced",  # ARP or neighbour advertisement by which another server announces the VIP
    "unreachable",  # another's, whose MAC is not known
    "held",  # mine, but of a connection that another server may still hold
    "parked",  # a fragment before its first one: every server keeps it for the stack to put together
    "answered",  # ARP or neighbour solicitation, answered with the virtual MAC
)
VERDICTS_ROOM = 16
ACT_UNSPEC, ACT_DROP, ACT_REDIRECT = 0xFFFFFFFF, 2, 7

PROTOCOLS = {"tcp": 6, "udp": 17}
FILTERS = {"on_addr": 0, "on_port": 1, "on_ipid": 2}
_CHOSEN, _UNIFORM = 0x10000, 0x20000  # of a choice; filter.h says why

# Bits of the map ``gate``; above them the deadline of the lease.
GATE_OPEN, GATE_ACTIVE, GATE_EXACT, GATE_BITS = 1, 2, 4, 3


@dataclass(frozen=True, slots=True)
class KernelRule:
    """Which packets a group takes; the first rule that covers a packet decides.

    :param proto: ``tcp`` or ``udp``.
    :param filter: ``on_addr``, ``on_port`` or ``on_ipid``.
    :param group: 0 to 15.
    :param port: 0 means every port.
    :param addr: None means every virtual address.
    """

    proto: str
    filter: str
    group: int
    port: int = 0
    addr: Ip | None = None


@dataclass(frozen=True, slots=True)
class Configuration:
    """Who this server is and what the rules are.

    :param me: this server's number, 0 to 249.
    :param seed: 32 bits, the same on all servers.
    :param vips: virtual address and the slot of its device in the MACs (0 to 7).
    :param rules: in order.
    :param arp_group: group that decides ARP, neighbour solicitations and ICMP, or None: they are denied.
    :param vmacs: the virtual MAC of a slot, for those that have one.
    """

    me: int
    seed: int
    vips: Sequence[tuple[Ip, int]]
    rules: Sequence[KernelRule]
    arp_group: int | None = 0
    vmacs: Mapping[int, bytes] = field(default_factory=dict)


def settings_bytes(config: Configuration) -> bytes:
    """The map ``settings``; ``ValueError`` when something is beyond the filter's limits."""
    old = [(addr, slot) for addr, slot in config.vips if addr.version == 4]
    new = [(addr, slot) for addr, slot in config.vips if addr.version == 6]
    for what, value, limit in (
        ("virtual addresses of IPv4", len(old), MAX_VIPS + 1),
        ("virtual addresses of IPv6", len(new), MAX_VIPS6 + 1),
        ("rules", len(config.rules), MAX_RULES + 1),
        ("server number", config.me, MAX_SERVERS),
        ("ARP group", config.arp_group or 0, MAX_GROUPS),
        *(("group", rule.group, MAX_GROUPS) for rule in config.rules),
        *(("port", rule.port, 65536) for rule in config.rules),
        *(("interface", slot, MAX_SLOTS) for _, slot in config.vips),
        *(("interface", slot, MAX_SLOTS) for slot in config.vmacs),
    ):
        if not 0 <= value < limit:
            raise ValueError(f"{what}: {value} is beyond the filter's limit {limit - 1}")
    group = MAX_GROUPS if config.arp_group is None else config.arp_group
    head = struct.pack("=6I", config.me, config.seed & 0xFFFFFFFF, group, len(old), len(new), len(config.rules))
    macs = b"".join(config.vmacs.get(slot, b"").ljust(8, b"\0") for slot in range(MAX_SLOTS))
    numbers: dict[Ip, int] = {addr: number for number, (addr, _) in enumerate(old)}
    numbers |= {addr: MAX_VIPS + number for number, (addr, _) in enumerate(new)}
    rows = {addr: addr.packed + struct.pack("=I", _CHOSEN | slot << 8 | numbers[addr]) for addr, slot in config.vips}
    lines = b"".join(_rule_bytes(rule, config, numbers) for rule in config.rules)
    return (
        head
        + macs
        + b"".join(rows[addr] for addr, _ in old).ljust(8 * MAX_VIPS, b"\0")
        + b"".join(rows[addr] for addr, _ in new).ljust(20 * MAX_VIPS6, b"\0")
        + lines.ljust(24 * MAX_RULES, b"\0")
    )


def _rule_bytes(rule: KernelRule, config: Configuration, numbers: Mapping[Ip, int]) -> bytes:
    if rule.addr is not None and rule.addr not in numbers:
        raise ValueError(f"a rule is about {rule.addr}, which is no virtual address")
    vip = 0 if rule.addr is None else numbers[rule.addr] + 1
    # A port is compared as it stands in the packet.
    (port,) = struct.unpack("=H", rule.port.to_bytes(2, "big"))
    key = vip << 32 | PROTOCOLS[rule.proto] << 16 | port
    mask = (0xFFFFFFFF if vip else 0) << 32 | 0xFFFF << 16 | (0xFFFF if rule.port else 0)
    others = [r for r in config.rules if r.proto == rule.proto and (None in {r.addr, rule.addr} or r.addr == rule.addr)]
    uniform = _UNIFORM if all((r.group, r.filter) == (rule.group, rule.filter) for r in others) else 0
    return struct.pack("=3Q", key, mask, _CHOSEN | uniform | FILTERS[rule.filter] << 8 | rule.group)


def macs_bytes(macs: Mapping[tuple[int, int], bytes]) -> bytes:
    """The map ``macs`` from (interface slot, server) -> six bytes; ``ValueError`` beyond the limits."""
    data = bytearray(8 * MAX_SLOTS * _ROWS)
    for (slot, server), mac in macs.items():
        if not (0 <= slot < MAX_SLOTS and 0 <= server < MAX_SERVERS and len(mac) == 6):
            raise ValueError(f"no place for the MAC {mac.hex(':')} of server {server} on interface {slot}")
        start = 8 * (slot * _ROWS + server)
        data[start : start + 6] = mac
    return bytes(data)


def peer_key(slot: int, mac: bytes) -> bytes:
    """The key in the map ``peers`` of a server's MAC on an interface."""
    return struct.pack("=6sH", mac, slot)
