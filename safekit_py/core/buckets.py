"""The bucket table of a group: which server owns each of 65,536 buckets, moved as little as possible.

Flows through it: the table in force, the powers it was made for and the powers wanted in; the new table out.

Invariants, held by tests/unit/core/test_buckets.py for up to 32 servers:

- every bucket has exactly one owner, a server with power above 0 and above a 64th of the greatest, or ``NOBODY`` when
  there is none;
- a pure leave (nobody is added, nobody's power changes) moves only the leavers' buckets;
- a pure join takes buckets only for the joiners;
- each server's share of all buckets follows its power within 0.05 %;
- equal arguments give equal tables, on every server.

The table depends on history on purpose: tables that do not (Maglev, rendezvous hashing) either move more than they
need or share unevenly.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise

BUCKETS = 65536
NOBODY = 255
CHAIN = 64  # so much power more is a link of a chain, and no share
_RUN = struct.Struct("!HB")  # length - 1, owner


@dataclass(frozen=True, slots=True)
class Table:
    """Owners by runs: (length, owner) in bucket order, no two neighbours alike, lengths adding up to ``BUCKETS``."""

    runs: tuple[tuple[int, int], ...] = ((BUCKETS, NOBODY),)

    def expand(self) -> bytes:
        """One byte, the owner, for each bucket."""
        return b"".join(bytes((owner,)) * length for length, owner in self.runs)

    def counts(self) -> dict[int, int]:
        """Buckets of each owner that has any."""
        found: dict[int, int] = {}
        for length, owner in self.runs:
            found[owner] = found.get(owner, 0) + length
        return found

    def encode(self) -> bytes:
        """Compact form for the wire: three bytes a run."""
        return b"".join(_RUN.pack(length - 1, owner) for length, owner in self.runs)

    @classmethod
    def decode(cls, data: bytes) -> Table:
        """The inverse of :meth:`encode`.

        :raises ValueError: the runs do not add up to ``BUCKETS``, or the length is no multiple of a run's.
        """
        if len(data) % _RUN.size:
            raise ValueError("a table of broken runs")
        runs = tuple((length + 1, owner) for length, owner in _RUN.iter_unpack(data))
        if sum(length for length, _ in runs) != BUCKETS:
            raise ValueError("a table of another size")
        if any(one[1] == other[1] for one, other in pairwise(runs)):
            raise ValueError("a table whose runs are not joined")
        return cls(runs)


def assign(table: Table | None, before: Mapping[int, int], powers: Mapping[int, int]) -> Table:
    """The table for ``powers`` that moves the fewest buckets of ``table``.

    :param table: the table in force, or None when there is none.
    :param before: the powers for which it was made.
    :param powers: server number to relative power, 0 to 65535; 0 owns nothing, nor does a 64th of the greatest.
    """
    table = table or Table()
    active = in_force(powers)
    if not active:
        return Table()
    total = sum(active.values())
    have = dict.fromkeys(active, 0)
    for owner, count in table.counts().items():
        if owner in have:
            have[owner] = count
    # Comparisons are made in whole numbers, scaled by the total power: equal on every server.
    want = {server: BUCKETS * power for server, power in active.items()}

    def deficit(server: int) -> int:
        return want[server] - have[server] * total

    gain = dict.fromkeys(active, 0)
    loss = dict.fromkeys(active, 0)
    _hand_out(BUCKETS - sum(have.values()), have, gain, want, total)
    were = in_force(before)
    leave_only = all(were.get(server) == power for server, power in active.items())
    if not leave_only:
        _level(have, gain, loss, deficit, total)
    return _move(table, active, gain, loss)


def in_force(powers: Mapping[int, int]) -> dict[int, int]:
    """The powers that count, in order of the servers.

    A power 64 times another one is above it: the lesser gets buckets only when no such server is there. So powers of 64
    make a chain, in which each stands in for the one before.
    """
    top = max(powers.values(), default=0)
    return {server: power for server, power in sorted(powers.items()) if power * CHAIN > top}


def _hand_out(orphans: int, have: dict[int, int], gain: dict[int, int], want: Mapping[int, int], total: int) -> None:
    """Give buckets without an owner to those that lack most."""
    # First what each lacks in whole buckets, as far as it goes, then one by one by the largest deficit.
    lacking = {s: max(0, (want[s] - have[s] * total) // total) for s in have}
    while orphans and any(lacking.values()):
        scale = min(1.0, orphans / sum(lacking.values()))
        moved = 0
        for server in sorted(lacking, key=lambda s: (-lacking[s], s)):
            share = min(int(lacking[server] * scale), orphans - moved)
            have[server] += share
            gain[server] += share
            lacking[server] -= share
            moved += share
        orphans -= moved
        if not moved:
            break
    while orphans:
        server = max(have, key=lambda s: (want[s] - have[s] * total, -s))
        have[server] += 1
        gain[server] += 1
        orphans -= 1


def _level(
    have: dict[int, int], gain: dict[int, int], loss: dict[int, int], deficit: Callable[[int], int], total: int
) -> None:
    """Move buckets from those that have too many to those that lack at least one."""
    while True:
        poor = max(have, key=lambda s: (deficit(s), -s))
        rich = min(have, key=lambda s: (deficit(s), s))
        lacks, spare = deficit(poor) // total, -deficit(rich) // total
        if lacks < 1:
            return
        step = max(1, min(lacks, spare))
        have[poor] += step
        have[rich] -= step
        gain[poor] += step
        loss[rich] += step


def _move(table: Table, active: Mapping[int, int], gain: dict[int, int], loss: dict[int, int]) -> Table:
    """Hand the buckets over in bucket order: orphans whole, of those that lose the last of their buckets."""
    for server in active:  # what is gained and lost at once need not move
        both = min(gain[server], loss[server])
        gain[server] -= both
        loss[server] -= both
    free: list[tuple[int, int]] = []  # runs from the end of the table
    for length, owner in reversed(table.runs):
        if owner not in active:
            free.append((length, NOBODY))
            continue
        lost = min(length, loss[owner])
        loss[owner] -= lost
        if lost:
            free.append((lost, NOBODY))
        if length - lost:
            free.append((length - lost, owner))
    takers = [[server, count] for server, count in gain.items() if count]
    runs: list[tuple[int, int]] = []
    for length, owner in reversed(free):
        if owner != NOBODY:
            _append(runs, length, owner)
            continue
        left = length
        while left:
            taker = takers[-1]
            part = min(left, taker[1])
            _append(runs, part, taker[0])
            left -= part
            taker[1] -= part
            if not taker[1]:
                takers.pop()
    return Table(tuple(runs))


def _append(runs: list[tuple[int, int]], length: int, owner: int) -> None:
    if runs and runs[-1][1] == owner:
        runs[-1] = (runs[-1][0] + length, owner)
    else:
        runs.append((length, owner))
