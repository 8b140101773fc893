"""What the filter's maps hold: its limits, its verdicts, and settings as bytes. Must agree with filter.h."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address

MAX_VIPS, MAX_RULES, MAX_GROUPS, MAX_SERVERS, MAX_SLOTS = 32, 64, 16, 64, 8
BUCKETS = 65536
NOBODY = 255  # the owner of a bucket that no server has
NO_GROUP = MAX_GROUPS  # where packets without a group are counted

VERDICTS = (
    "passed",  # no VIP is concerned; not counted
    "accepted",  # mine: the stack has it
    "forwarded",  # another's: sent there
    "not_owner",  # another's, and that server has it already, or it is ARP
    "denied",  # no rule covers it
    "expired",  # mine, but it would be new and the agent's lease is over
    "closed",  # mine, but this server takes no traffic now
    "looped",  # another's, but a server forwarded it to this one
    "nobody",  # no server has the bucket
    "malformed",
    "announced",  # ARP by which another server announces the VIP
    "unreachable",  # another's, whose MAC is not known
)
VERDICTS_ROOM = 16
ACT_UNSPEC, ACT_DROP, ACT_REDIRECT = 0xFFFFFFFF, 2, 7

PROTOCOLS = {"tcp": 6, "udp": 17}
FILTERS = {"on_addr": 0, "on_port": 1, "on_ipid": 2}
_CHOSEN = 0x10000  # so that no choice is 0


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
    addr: IPv4Address | None = None


def settings_bytes(
    me: int, seed: int, vips: Sequence[tuple[IPv4Address, int]], rules: Sequence[KernelRule], arp_group: int | None
) -> bytes:
    """The map ``settings``; ``ValueError`` when something is beyond the filter's limits."""
    for what, value, limit in (
        ("virtual addresses", len(vips), MAX_VIPS + 1),
        ("rules", len(rules), MAX_RULES + 1),
        ("server number", me, MAX_SERVERS),
        ("ARP group", arp_group or 0, MAX_GROUPS),
        *(("group", rule.group, MAX_GROUPS) for rule in rules),
        *(("port", rule.port, 65536) for rule in rules),
        *(("interface", slot, MAX_SLOTS) for _, slot in vips),
    ):
        if not 0 <= value < limit:
            raise ValueError(f"{what}: {value} is beyond the filter's limit {limit - 1}")
    group = MAX_GROUPS if arp_group is None else arp_group
    head = struct.pack("=6I", me, seed & 0xFFFFFFFF, group, len(vips), len(rules), 0)
    rows = b"".join(addr.packed + struct.pack("=I", _CHOSEN | slot * MAX_SERVERS) for addr, slot in vips)
    lines = b"".join(
        (rule.addr.packed if rule.addr else bytes(4))
        + rule.port.to_bytes(2, "big")
        + struct.pack("=HI", PROTOCOLS[rule.proto], _CHOSEN | FILTERS[rule.filter] << 8 | rule.group)
        for rule in rules
    )
    return head + rows.ljust(8 * MAX_VIPS, b"\0") + lines.ljust(12 * MAX_RULES, b"\0")


def macs_bytes(macs: Mapping[tuple[int, int], bytes]) -> bytes:
    """The map ``macs`` from (interface slot, server) -> six bytes; ``ValueError`` beyond the limits."""
    data = bytearray(8 * MAX_SLOTS * MAX_SERVERS)
    for (slot, server), mac in macs.items():
        if not (0 <= slot < MAX_SLOTS and 0 <= server < MAX_SERVERS and len(mac) == 6):
            raise ValueError(f"no place for the MAC {mac.hex(':')} of server {server} on interface {slot}")
        start = 8 * (slot * MAX_SERVERS + server)
        data[start : start + 6] = mac
    return struct.pack("=Q", max((server + 1 for _, server in macs), default=0)) + bytes(data)
