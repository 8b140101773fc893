"""The trail of a group: for each bucket the servers that owned it before and may still hold connections of its clients.

Flows through it: the tables before and after a change of view, the trail so far, and who is there, in; the next trail
out. With it a data plane leaves established connections where they are when buckets move, and knows when nobody can
hold one any more: only then may the new owner say so to the client (a TCP reset).

Invariants, held by tests/unit/core/test_trail.py:

- a bucket's holders are members of the view, at most ``HOLDERS``, none twice, and never its owner;
- whoever owned a bucket and has been a member since is among its holders until it says that it holds nothing, or more
  than ``HOLDERS`` others have owned the bucket after it;
- whoever joins is a holder of every bucket that it does not own: it may have been away with its connections.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from safekit_py.core.buckets import BUCKETS, NOBODY, Table

HOLDERS = 3  # as many as the data plane holds for a bucket
_HEAD = struct.Struct("!HB")  # length - 1, holders that follow


@dataclass(frozen=True, slots=True)
class Trail:
    """Holders by runs: (length, holders) in bucket order, the latest owner first, lengths adding up to ``BUCKETS``."""

    runs: tuple[tuple[int, tuple[int, ...]], ...] = ((BUCKETS, ()),)

    def holders(self) -> frozenset[int]:
        """Every server that is a holder of some bucket."""
        return frozenset(server for _, servers in self.runs for server in servers)

    def encode(self) -> bytes:
        """Compact form for the wire: three bytes a run, and one for each holder."""
        return b"".join(_HEAD.pack(length - 1, len(servers)) + bytes(servers) for length, servers in self.runs)

    @classmethod
    def decode(cls, data: bytes) -> Trail:
        """The inverse of :meth:`encode`.

        :raises ValueError: the runs do not add up to ``BUCKETS``, or a run cannot be.
        """
        runs, at = [], 0
        while at < len(data):
            if len(data) - at < _HEAD.size:
                raise ValueError("a trail of broken runs")
            length, count = _HEAD.unpack_from(data, at)
            at += _HEAD.size
            servers = tuple(data[at : at + count])
            at += count
            if count > HOLDERS or len(set(servers)) != count or NOBODY in servers:
                raise ValueError("a trail with holders that cannot be")
            runs.append((length + 1, servers))
        if sum(length for length, _ in runs) != BUCKETS:
            raise ValueError("a trail of another size")
        if any(one[1] == other[1] for one, other in pairwise(runs)):
            raise ValueError("a trail whose runs are not joined")
        return cls(tuple(runs))


@dataclass(frozen=True, slots=True)
class Present:
    """Who is there after a change of view.

    :param members: of the new view.
    :param joined: those of them that the old view had not.
    :param settled: those of them that hold nothing but what is their own in the old view.
    """

    members: Collection[int]
    joined: Collection[int] = ()
    settled: Collection[int] = ()


def follow(old: Table, trail: Trail, new: Table, present: Present) -> Trail:
    """The trail after a change from one table to another."""
    runs: list[tuple[int, tuple[int, ...]]] = []
    for length, before, holders, after in _together(old.runs, trail.runs, new.runs):
        # Who joins may have been away for long: it comes last, so that it displaces nobody.
        candidates = [*([before] if before != after else []), *holders, *sorted(present.joined)]
        gone = {after, NOBODY, *(set(holders) & set(present.settled))}
        kept: list[int] = []
        for server in candidates:
            if server not in gone and server in present.members and server not in kept:
                kept.append(server)
        _append(runs, length, tuple(kept[:HOLDERS]))
    return Trail(tuple(runs))


def entries(table: Table, trail: Trail, without: int | None = None) -> bytes:
    """Four bytes for each bucket: its owner and up to three holders, ``NOBODY`` where there is none.

    :param without: a server that must not appear.
    """

    def named(servers: Sequence[int]) -> Iterator[int]:
        return (server for server in servers if server != without)

    parts = []
    for length, _, holders, owner in _together(table.runs, trail.runs, table.runs):
        row = bytes((NOBODY if owner == without else owner, *named(holders)))
        parts.append(row.ljust(1 + HOLDERS, bytes((NOBODY,))) * length)
    return b"".join(parts)


def successors(table: Table, trail: Trail, server: int) -> set[int]:
    """The owners of buckets that a server holds: they wait for its word that a view is in force there."""
    owners = {owner for _, _, held, owner in _together(table.runs, trail.runs, table.runs) if server in held}
    return owners - {NOBODY}


def admitted(rows: bytes, before: int, waiting: Collection[int], me: int) -> tuple[bytes, int]:
    """Leave out what this server must not own yet: what another member may still own by the view before.

    :param rows: ``entries``.
    :param before: what this server owned until now: the second result of the last call, 0 at first.
    :param waiting: members in which the view may not be in force yet; only a bucket's holders matter for it.
    :return: the rows with ``NOBODY`` in such buckets, and what this server owns now: a number of a byte for each
        bucket, 255 where it does.
    """
    own = bytes(255 * (each == me) for each in range(256))
    late = bytes(255 * (each in waiting) for each in range(256))
    mine = int.from_bytes(rows[::4].translate(own), "big")
    held = 0
    for place in range(1, 1 + HOLDERS):
        held |= int.from_bytes(rows[place::4].translate(late), "big")
    shut = mine & ~before & held
    if not shut:
        return rows, mine
    found = bytearray(rows)
    found[::4] = (int.from_bytes(rows[::4], "big") | shut).to_bytes(len(rows) // 4, "big")
    return bytes(found), mine & ~shut


Runs = Sequence[tuple[int, int]]


def _together(
    first: Runs, second: Sequence[tuple[int, tuple[int, ...]]], third: Runs
) -> Iterator[tuple[int, int, tuple[int, ...], int]]:
    """Owners, holders and owners, in runs that are cut wherever one of the three is."""
    ends = sorted({end for runs in (first, second, third) for end in accumulate(length for length, _ in runs)})
    ones, holders, others = iter(first), iter(second), iter(third)
    (left, one), (left2, held), (left3, other) = next(ones), next(holders), next(others)
    at = 0
    for end in ends:
        length, at = end - at, end
        yield length, one, held, other
        left, left2, left3 = left - length, left2 - length, left3 - length
        if not left:
            left, one = next(ones, (0, NOBODY))
        if not left2:
            left2, held = next(holders, (0, ()))
        if not left3:
            left3, other = next(others, (0, NOBODY))


def _append(runs: list[tuple[int, tuple[int, ...]]], length: int, holders: tuple[int, ...]) -> None:
    if runs and runs[-1][1] == holders:
        runs[-1] = (runs[-1][0] + length, holders)
    else:
        runs.append((length, holders))
