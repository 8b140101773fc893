"""Which marked zones are being written these days; the others can be unmarked after a flush of both disks.

Invariant: a zone is named cold only when its last write has a lower number than the flush that both disks have, and
never one with a write that failed: what that one holds is not known.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import islice

from .zones import ZoneMap

COLD = 10.0  # seconds after its last write that a zone of a synced volume is unmarked, after a flush of both
MANY = 8192  # zones that are unmarked at a time
Place = tuple[int, int]  # volume, zone


class Warm:
    """Of one primary.

    :ivar last: by place, number and monotonic seconds of its last write; each write notes it.
    :ivar torn: places with a write that failed.
    """

    def __init__(self, maps: Sequence[ZoneMap]) -> None:
        self._maps = maps
        self.last: dict[Place, tuple[int, float]] = {}
        self.torn: set[Place] = set()
        self._look_at = 0.0

    def due(self, now: float) -> bool:
        """Whether it is time to flush, because some have become cold."""
        if now < self._look_at:
            return False
        self._look_at = now + COLD / 10
        return next(self._marked(now - COLD), None) is not None

    def cold(self, now: float, number: int) -> list[Place]:
        """Those to unmark now that both disks have everything up to this number; they are forgotten here."""
        found = list(islice(self._marked(now - COLD / 2, number), MANY))
        for place in found:
            self.last.pop(place, None)
        return found

    def _marked(self, before: float, number: int | None = None) -> Iterator[Place]:
        """Marked zones that were not written since then, nor by a write of that number or a later one."""
        for volume, each in enumerate(self._maps):
            for zone in each.marked:
                last, at = self.last.get((volume, zone), (0, -math.inf))
                if at < before and (number is None or last < number) and (volume, zone) not in self.torn:
                    yield volume, zone
