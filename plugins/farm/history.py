"""What a server remembers of its farm's views: who owned each bucket since when, and what each change was.

Flows through it: views as they are installed in; their changes, and since when a bucket has its owner, out. Pure. A
view that changes nothing but who may hold connections keeps no entry. Tables are kept encoded, three bytes a run, so
that a farm of many changes costs little.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from safekit_py.api import BUCKETS, Table, View

KEPT = 32  # changes


@dataclass(frozen=True, slots=True)
class Change:
    """A view that changed owners or members.

    :param time: when it was installed here, seconds of the monotonic clock.
    :param moved: how many buckets of each group got another owner by it.
    """

    epoch: int
    cause: str
    time: float
    tables: tuple[bytes, ...]
    members: frozenset[int]
    moved: tuple[int, ...]

    def owner(self, group: int, bucket: int) -> int | None:
        """Who owned a bucket; None when the view had no such group."""
        return owner_of(Table.decode(self.tables[group]).runs, bucket) if group < len(self.tables) else None


class History:
    """The last changes, the newest last."""

    def __init__(self) -> None:
        self._changes: deque[Change] = deque(maxlen=KEPT)
        self._whole = True

    def note(self, view: View, time: float) -> None:
        """A view was installed."""
        tables = tuple(table.encode() for table in view.tables)
        members = frozenset(member.server for member in view.members)
        last = self._changes[-1] if self._changes else None
        if last is not None and (last.tables, last.members) == (tables, members):
            return
        self._whole = self._whole and len(self._changes) < KEPT
        before = [Table.decode(each) for each in last.tables] if last else []
        moved = tuple(_differ(before[n], table) if n < len(before) else 0 for n, table in enumerate(view.tables))
        self._changes.append(Change(view.number.epoch, view.cause, time, tables, members, moved))

    def changes(self) -> tuple[Change, ...]:
        """What is remembered, the newest last."""
        return tuple(self._changes)

    def since(self, group: int, bucket: int) -> tuple[Change | None, bool]:
        """The change that gave a bucket to the owner that it has, and whether it may have had it before already.

        That is so when nothing older is remembered than this server's own coming, or than ``KEPT`` changes.
        """
        found: Change | None = None
        for change in reversed(self._changes):
            if found is not None and change.owner(group, bucket) != found.owner(group, bucket):
                return found, False
            found = change
        return found, True


def owner_of(runs: Sequence[tuple[int, int]], bucket: int) -> int:
    """The owner of a bucket in a table's runs."""
    for length, owner in runs:
        bucket -= length
        if bucket < 0:
            return owner
    raise ValueError(f"a bucket beyond {BUCKETS}")


def _differ(old: Table, new: Table) -> int:
    one, other = (int.from_bytes(each.expand(), "big") for each in (old, new))
    changed = (one ^ other).to_bytes(BUCKETS, "big")
    return BUCKETS - changed.count(0)
