"""What is being compared with the secondary: a resynchronisation, a verification, or both at a time.

Flows through it: the secondary's answers to each, and the time in which they ask for more.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .catchup import CatchUp
from .frames import Frame
from .image import ImageFile
from .link import Link
from .zones import ZoneMap

Verified = Callable[[Mapping[str, Any] | OSError], None]
RANGES = 1000  # that a verification names at most


class Comparing:
    """Of one primary.

    :ivar catch: the resynchronisation.
    """

    def __init__(self, images: Sequence[ImageFile], maps: Sequence[ZoneMap]) -> None:
        self._images, self._maps = images, maps
        self.catch: CatchUp | None = None
        self._check: tuple[CatchUp, Verified] | None = None

    @property
    def busy(self) -> bool:
        """Whether there is something to do now."""
        return (self.catch is not None and self.catch.busy) or (self._check is not None and self._check[0].busy)

    def marked(self, marks: Sequence[str] | None) -> set[tuple[int, int]]:
        """Zones that may differ: what either map has, by the secondary's marks (bits in hexadecimal); None: all. They
        are marked here when this returns, on disk.

        :raises OSError: the disk refused.
        """
        zones: set[tuple[int, int]] = set()
        for volume, each in enumerate(self._maps):
            if marks is None:
                found = set(range(each.count))
            else:
                bits = bytes.fromhex(marks[volume])
                known = range(min(each.count, 8 * len(bits)))
                found = each.marked | {n for n in known if bits[n >> 3] >> (n & 7) & 1}
            zones |= {(volume, zone) for zone in found}
        for volume, each in enumerate(self._maps):
            each.mark(zone for v, zone in zones if v == volume)
        return zones

    def resynchronise(self, link: Link, zones: set[tuple[int, int]], options: Mapping[str, Any]) -> Mapping[str, Any]:
        """Begin; how far it is."""
        rate, compression = int(options.get("bandwidth", 0)), str(options.get("compression", "auto"))
        self.catch = CatchUp(link, self._images, zones, rate=rate, compression=compression)
        return self.catch.progress()

    def limit(self, bandwidth: int) -> None:
        """Bytes a second from now on; 0: no limit."""
        if self.catch is not None:
            self.catch.rate = bandwidth

    def verify(self, link: Link, done: Verified) -> None:
        """Compare everything.

        :raises OSError: it is being done already.
        """
        if self._check is not None:
            raise OSError(errno.EBUSY, "the two servers are being compared already")
        zones = [(volume, zone) for volume, each in enumerate(self._maps) for zone in range(each.count)]
        self._check = (CatchUp(link, self._images, zones, repair=False), done)

    def take(self, frame: Frame) -> None:
        """An answer of the secondary; each knows its own."""
        for each in (self.catch, self._check[0] if self._check else None):
            if each is not None:
                each.take(frame)

    def caught_up(self, now: float) -> bool:
        """Go on with the resynchronisation; whether everything that differed is in the stream."""
        if self.catch is None:
            return False
        self.catch.step(now)
        return self.catch.complete

    def step(self, now: float) -> None:
        """Go on with the verification."""
        if self._check is not None:
            check, done = self._check
            check.step(now)
            if check.complete:
                self._check = None
                done({"different": check.different, "ranges": check.ranges[:RANGES]})

    def ended(self) -> Mapping[str, Any]:
        """The resynchronisation is complete; what it was."""
        found = self.catch.progress() if self.catch is not None else {}
        self.catch = None
        return found

    def lost(self, cause: str) -> None:
        """The connection is gone."""
        check, self._check, self.catch = self._check, None, None
        if check is not None:
            check[1](OSError(errno.ECONNABORTED, f"the other server was lost: {cause}"))
