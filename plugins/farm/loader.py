"""The filter in the kernel: agent's decisions -> pinned maps, counters and clients back.

Maps and program are pinned in one folder for each module, so they outlive the agent and a new one takes them up with
:meth:`Filter.reopen`. Owners and MACs are double-buffered: a packet sees the old tables or the new ones, never a mix.

Invariant: a filter that knows its VIPs (``configure``) lets the stack have a packet for one only while it is open and
the lease runs. Before ``configure`` it knows no VIP, so attach it after.
"""

from __future__ import annotations

import contextlib
import os
import struct
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from ipaddress import IPv6Address
from pathlib import Path

from safekit_py.api import Problem, SystemProblem

from . import bpf
from .clock import TickClock
from .compiled import LICENCE, FilterObject
from .compiler import MAPS
from .layout import (
    BUCKETS,
    GATE_ACTIVE,
    GATE_BITS,
    GATE_EXACT,
    GATE_OPEN,
    NO_ENTRY,
    SLICES,
    TABLE,
    VERDICTS,
    VERDICTS_ROOM,
    Configuration,
    Ip,
    macs_bytes,
    peer_key,
    settings_bytes,
)

PROGRAM = "program"
LAG = 2  # ticks by which the lease ends sooner: the kernel's count of ticks may be late
ZERO = bytes(4)


class Filter:
    """One module's filter. Its methods may be called from several threads."""

    def __init__(self, program: int, maps: Mapping[str, bpf.Map], folder: Path) -> None:
        self.program = program
        self.folder = folder
        self._maps = dict(maps)
        self._lock = threading.Lock()
        (self._gate,) = struct.unpack("=Q", self._maps["gate"].lookup(ZERO))
        self._ticks = None if self._gate & GATE_EXACT else TickClock.of_kernel()
        self._groups = self._maps["owners"].layout.entries // 2
        self._peers = {key for key, _ in self._maps["peers"].items()}

    @classmethod
    def load(cls, compiled: FilterObject, folder: Path, groups: int = 1, *, exact: bool = False) -> Filter:
        """Create, verify and pin a closed filter that owns nothing, in place of any that is pinned there.

        :param folder: in a BPF file system; made when missing.
        :param groups: how many bucket tables it shall hold, at most 16.
        :param exact: it reads the exact clock for the lease, for leases of few ticks; that costs 20 to 30 ns a packet.
        :raises SystemProblem: the kernel refused.
        """
        maps: dict[str, bpf.Map] = {}
        program = -1
        entries = {"owners": 2 * groups, "counters": VERDICTS_ROOM * (1 + groups * SLICES)}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            unpin(folder)
            folder.mkdir(exist_ok=True)
            for layout in compiled.maps:
                fitting = replace(layout, entries=entries.get(layout.name, layout.entries))
                maps[layout.name] = bpf.Map.create(fitting)
            maps["gate"].update(ZERO, struct.pack("=Q", GATE_EXACT if exact else 0))
            for index in range(2 * groups):
                maps["owners"].update(struct.pack("=i", index), NO_ENTRY * BUCKETS)
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

    def configure(self, config: Configuration) -> None:
        """Say who this server is and what the rules are. Only while closed: the change is not atomic for packets.

        :raises ValueError: beyond a limit; nothing was changed.
        """
        if self.is_open:
            raise ValueError("the filter is open: close it before it is configured anew")
        self._maps["settings"].update(ZERO, settings_bytes(config))

    def install(self, tables: Sequence[bytes], macs: Mapping[tuple[int, int], bytes]) -> None:
        """Put new tables in force at once.

        :param tables: for each group in order, four bytes for each of 65,536 buckets: owner and up to three holders;
            255 is nobody.
        :param macs: (interface slot, server) -> MAC of that server's device.
        :raises ValueError: beyond a limit; the old tables are still in force.
        """
        if len(tables) > self._groups or any(len(table) != TABLE for table in tables):
            raise ValueError(f"at most {self._groups} tables of {TABLE} bytes")
        coded = macs_bytes(macs)
        peers = {peer_key(slot, mac) for (slot, _), mac in macs.items()}
        with self._lock:
            inactive = 0 if self._gate & GATE_ACTIVE else 1
            # A MAC stays known when its server has left: by an old table that one may still send frames on, and they
            # must not be taken for a client's, or a second server would send them on again.
            self._know(peers)
            self._maps["macs"].update(struct.pack("=i", inactive), coded)
            for group in range(self._groups):
                table = tables[group] if group < len(tables) else NO_ENTRY * BUCKETS
                self._maps["owners"].update(struct.pack("=i", group * 2 + inactive), table)
            self._set_gate(self._gate ^ GATE_ACTIVE)

    def _know(self, peers: set[bytes]) -> None:
        if len(self._peers | peers) > self._maps["peers"].layout.entries:
            for key in self._peers - peers:
                self._maps["peers"].delete(key)
            self._peers = set()
        for key in peers - self._peers:
            self._maps["peers"].update(key, bytes(4))
        self._peers |= peers

    def set_open(self, opened: bool) -> None:
        """Take traffic, or none: closed, the filter still forwards what is another's."""
        with self._lock:
            self._set_gate(self._gate | GATE_OPEN if opened else self._gate & ~GATE_OPEN)

    @property
    def is_open(self) -> bool:
        """Whether traffic is taken (while the lease runs)."""
        return bool(self._gate & GATE_OPEN)

    def _set_gate(self, value: int) -> None:
        self._maps["gate"].update(ZERO, struct.pack("=Q", value))
        self._gate = value

    def renew(self, deadline_ns: int) -> None:
        """Let packets in until CLOCK_MONOTONIC reaches this, less ``LAG`` where ticks are counted; 0 ends the lease.

        No effect after close.
        """
        if self._ticks is None:
            deadline = max(deadline_ns, 0)
        else:
            deadline = max(self._ticks.jiffies_at(deadline_ns) - LAG, 0) if deadline_ns > 0 else 0
        deadline = min(deadline, (1 << 64 - GATE_BITS) - 1)
        with self._lock:
            if self._maps["gate"].fd >= 0:
                self._set_gate(deadline << GATE_BITS | self._gate & (1 << GATE_BITS) - 1)

    def counters(self) -> dict[tuple[int | None, str], int]:
        """Packets by group (None: no group) and verdict, those that are not 0."""
        found: dict[tuple[int | None, str], int] = {}
        for place, counts in self._counted():
            group = None if place == 0 else (place - 1) // SLICES
            for verdict, count in counts.items():
                found[group, verdict] = found.get((group, verdict), 0) + count
        return found

    def slices(self, group: int) -> list[dict[str, int]]:
        """Packets by verdict of each 256th of a group's buckets, in order (the upper eight bits of the bucket)."""
        found: list[dict[str, int]] = [{} for _ in range(SLICES)]
        for place, counts in self._counted():
            if place and (place - 1) // SLICES == group:
                found[(place - 1) % SLICES] = counts
        return found

    def _counted(self) -> Iterator[tuple[int, dict[str, int]]]:
        """Counts of verdicts: place 0 without a group, then a place for each slice; those without any are left out."""
        values = self._maps["counters"].all_values()
        width = len(values) // self._maps["counters"].layout.entries
        empty = bytes(width * VERDICTS_ROOM)
        for place in range(len(values) // len(empty)):
            part = values[place * len(empty) : (place + 1) * len(empty)]
            if part == empty:
                continue
            counts = (sum(struct.unpack_from(f"={width // 8}Q", part, i * width)) for i in range(len(VERDICTS)))
            yield place, {verdict: count for verdict, count in zip(VERDICTS, counts, strict=True) if count}

    def clients(self) -> list[tuple[Ip, bytes, int]]:
        """Who asked for the MAC of a VIP: address, MAC, and when last (CLOCK_MONOTONIC, ns)."""
        found: list[tuple[Ip, bytes, int]] = []
        for address, value in self._maps["clients"].items():
            mac, seen = struct.unpack("=6s2xQ", value)
            whole = IPv6Address(address)
            found.append((whole.ipv4_mapped or whole, mac, seen))
        return found

    def run(self, packet: bytes, repeat: int = 1) -> bpf.Trial:
        """Let the program decide on a packet as if loopback had received it; counters count it."""
        return bpf.run_program(self.program, packet, repeat)

    def unpin(self) -> None:
        """Remove the pins; the kernel keeps the filter as long as it is attached or open."""
        unpin(self.folder)

    def close(self) -> None:
        """Give the descriptors back; pins and attachments stay. Again is harmless."""
        with self._lock:
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
