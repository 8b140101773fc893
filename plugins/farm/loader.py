"""The filter in the kernel: agent's decisions -> pinned maps, counters and clients back.

Maps and program are pinned in one folder for each module, so they outlive the agent and a new one takes them up with
:meth:`Filter.reopen`. Owners and MACs are double-buffered: a packet sees the old tables or the new ones, never a mix.

Invariant: a filter that knows its VIPs (``configure``) accepts a packet for one only in a bucket of its own, while
open, and a packet that may open a connection only while the lease runs. Before ``configure`` it knows no VIP, so attach
it after.
"""

from __future__ import annotations

import contextlib
import os
import struct
import threading
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address
from pathlib import Path

from safekit_py.api import Problem, SystemProblem

from . import bpf
from .compiled import LICENCE, FilterObject
from .compiler import MAPS
from .layout import (
    BUCKETS,
    MAX_GROUPS,
    NO_GROUP,
    NOBODY,
    VERDICTS,
    VERDICTS_ROOM,
    KernelRule,
    macs_bytes,
    settings_bytes,
)

PROGRAM = "program"
CLOCK_LAG = 20_000_000  # ns: two ticks of the slowest kernel clock (100 Hz), by which the filter's clock may be late
ZERO = bytes(4)


class Filter:
    """One module's filter. :meth:`renew` may be called from a thread of its own; the rest from one thread at a time."""

    def __init__(self, program: int, maps: Mapping[str, bpf.Map], folder: Path) -> None:
        self.program = program
        self.folder = folder
        self._maps = dict(maps)
        self._closing = threading.Lock()
        self._open, self._active = struct.unpack("=II", self._maps["gate"].lookup(ZERO))

    @classmethod
    def load(cls, compiled: FilterObject, folder: Path) -> Filter:
        """Create, verify and pin a closed filter that owns nothing, in place of any that is pinned there.

        :param folder: in a BPF file system; made when missing.
        :raises SystemProblem: the kernel refused.
        """
        maps: dict[str, bpf.Map] = {}
        program = -1
        try:
            folder.mkdir(parents=True, exist_ok=True)
            unpin(folder)
            folder.mkdir(exist_ok=True)
            for layout in compiled.maps:
                maps[layout.name] = bpf.Map.create(layout)
            for index in range(2 * MAX_GROUPS):
                maps["owners"].update(struct.pack("=i", index), bytes([NOBODY]) * BUCKETS)
            code = compiled.linked({name: each.fd for name, each in maps.items()})
            program = bpf.load_program(code, "safekit_filter", LICENCE)
            for name, each in maps.items():
                each.pin(folder / name)
            bpf.pin(program, folder / PROGRAM)
            return cls(program, maps, folder)
        except OSError as error:
            for each in maps.values():
                each.close()
            if program >= 0:
                os.close(program)
            with contextlib.suppress(OSError):
                unpin(folder)
            raise SystemProblem(
                Problem(
                    "filter.load", f"the kernel did not take the filter: {error}", "see docs/messages.md, filter.load"
                )
            ) from error

    @classmethod
    def reopen(cls, folder: Path) -> Filter:
        """The filter that an earlier process pinned.

        :raises FileNotFoundError: there is none, or part of it is missing.
        """
        with contextlib.ExitStack() as stack:
            program = bpf.open_pin(folder / PROGRAM)
            stack.callback(os.close, program)
            maps = {}
            for name in MAPS:
                maps[name] = bpf.Map.from_fd(bpf.open_pin(folder / name))
                stack.callback(maps[name].close)
            found = cls(program, maps, folder)
            stack.pop_all()
            return found

    def configure(
        self,
        me: int,
        seed: int,
        vips: Sequence[tuple[IPv4Address, int]],
        rules: Sequence[KernelRule],
        arp_group: int | None,
    ) -> None:
        """Say who this server is and what the rules are. Only while closed: the change is not atomic for packets.

        :param me: this server's number, 0 to 63.
        :param seed: 32 bits, the same on all servers.
        :param vips: virtual address and the slot of its device in ``install``'s MACs (0 to 7).
        :param rules: at most 64, in order.
        :param arp_group: group that decides ARP and ICMP, or None: neither is answered.
        :raises ValueError: beyond a limit; nothing was changed.
        """
        if self._open:
            raise ValueError("the filter is open: close it before it is configured anew")
        self._maps["settings"].update(ZERO, settings_bytes(me, seed, vips, rules, arp_group))

    def install(self, tables: Sequence[bytes], macs: Mapping[tuple[int, int], bytes]) -> None:
        """Put new tables in force at once.

        :param tables: owner of each of 65,536 buckets, one table for each group in order; 255 is nobody.
        :param macs: (interface slot, server) -> MAC of that server's device.
        :raises ValueError: beyond a limit; the old tables are still in force.
        """
        if len(tables) > MAX_GROUPS or any(len(table) != BUCKETS for table in tables):
            raise ValueError(f"at most {MAX_GROUPS} tables of {BUCKETS} bytes")
        inactive = 1 - self._active
        self._maps["macs"].update(struct.pack("=i", inactive), macs_bytes(macs))
        for group in range(MAX_GROUPS):
            table = tables[group] if group < len(tables) else bytes([NOBODY]) * BUCKETS
            self._maps["owners"].update(struct.pack("=i", inactive * MAX_GROUPS + group), table)
        self._set_gate(self._open, inactive)

    def set_open(self, opened: bool) -> None:
        """Take traffic, or none: closed, the filter still forwards what is another's."""
        self._set_gate(int(opened), self._active)

    @property
    def is_open(self) -> bool:
        """Whether traffic is taken (while the lease runs)."""
        return bool(self._open)

    def _set_gate(self, opened: int, active: int) -> None:
        self._maps["gate"].update(ZERO, struct.pack("=II", opened, active))
        self._open, self._active = opened, active

    def renew(self, deadline_ns: int) -> None:
        """Let connections start until CLOCK_MONOTONIC reaches this, less ``CLOCK_LAG``; 0 ends the lease.

        The filter reads the kernel's coarse clock, which lags by up to a tick: the lease ends sooner, never later. No
        effect after close.
        """
        with self._closing:
            if (lease := self._maps["lease"]).fd >= 0:
                lease.update(ZERO, struct.pack("=Q", max(deadline_ns - CLOCK_LAG, 0)))

    def counters(self) -> dict[tuple[int | None, str], int]:
        """Packets by group (None: no group) and verdict, those that are not 0."""
        found: dict[tuple[int | None, str], int] = {}
        for group in range(MAX_GROUPS + 1):
            for index, verdict in enumerate(VERDICTS):
                key = struct.pack("=i", group * VERDICTS_ROOM + index)
                values = self._maps["counters"].lookup(key)
                if count := sum(struct.unpack(f"={len(values) // 8}Q", values)):
                    found[None if group == NO_GROUP else group, verdict] = count
        return found

    def clients(self) -> list[tuple[IPv4Address, bytes, int]]:
        """Who asked for a VIP by ARP: address, MAC, and when last (CLOCK_MONOTONIC, ns)."""
        found = []
        for address, value in self._maps["clients"].items():
            mac, seen = struct.unpack("=6s2xQ", value)
            found.append((IPv4Address(address), mac, seen))
        return found

    def run(self, packet: bytes, repeat: int = 1) -> bpf.Trial:
        """Let the program decide on a packet as if loopback had received it; counters count it."""
        return bpf.run_program(self.program, packet, repeat)

    def unpin(self) -> None:
        """Remove the pins; the kernel keeps the filter as long as it is attached or open."""
        unpin(self.folder)

    def close(self) -> None:
        """Give the descriptors back; pins and attachments stay. Again is harmless."""
        with self._closing:
            for each in self._maps.values():
                each.close()
            if self.program >= 0:
                os.close(self.program)
                self.program = -1


def unpin(folder: Path) -> None:
    """Remove a filter's pins and their folder; none there is fine."""
    if not folder.is_dir():
        return
    for name in (PROGRAM, *MAPS):
        (folder / name).unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # something that is not ours is in it
        folder.rmdir()
