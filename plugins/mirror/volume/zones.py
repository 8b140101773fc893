"""The map of one volume: which zones of 4 MiB may differ between the two servers' images.

Invariant: a zone is marked on disk before the first write to it can reach either image's disk, and is unmarked only
when both images have it the same on their disks. So after any crash of either server, what may differ is marked.

A bit that is set without need costs a comparison; so unmarking is not flushed.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from .image import sync_folder

ZONE = 4 << 20  # bytes
MAGIC = b"SKPYMAP1"
HEADER = 4096  # bytes before the bits


def zones_of(offset: int, size: int) -> range:
    """The zones that a range touches."""
    return range(offset // ZONE, (offset + max(size, 1) - 1) // ZONE + 1)


def count_of(size: int) -> int:
    """How many zones a volume of that size has."""
    return (size + ZONE - 1) // ZONE


class ZoneMap:
    """The map, in memory and on disk.

    :param path: of its file; made when it is not there, with every zone marked: nothing is known of it.
    :param size: of the volume, in bytes.
    :raises OSError: it cannot be read or made. A file that is no map is treated as one that is not there.
    """

    def __init__(self, path: Path, size: int) -> None:
        self.count = count_of(size)
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        length = (self.count + 7) // 8
        known = os.pread(self._fd, HEADER, 0)[: len(MAGIC)] == MAGIC
        bits = bytearray(os.pread(self._fd, length, HEADER)) if known else bytearray()
        self._bits = bits + b"\xff" * (length - len(bits)) if not known else bits + bytes(length - len(bits))
        self.marked = {zone for zone in range(self.count) if self._bits[zone >> 3] >> (zone & 7) & 1}
        if not known:
            os.pwrite(self._fd, bytes(self._bits), HEADER)
            os.pwrite(self._fd, MAGIC, 0)
            os.fsync(self._fd)
            sync_folder(path.parent)

    def mark(self, zones: Iterable[int]) -> None:
        """Mark zones; durable when this returns.

        :raises OSError: the disk refused; then nothing may be written to these zones.
        """
        new = [zone for zone in zones if zone not in self.marked]
        if not new:
            return
        self._set(new, on=True)
        os.fdatasync(self._fd)
        self.marked.update(new)

    def clear(self, zones: Iterable[int]) -> None:
        """Unmark zones that are the same on both disks."""
        old = [zone for zone in zones if zone in self.marked]
        self.marked.difference_update(old)
        self._set(old, on=False)

    def _set(self, zones: Iterable[int], *, on: bool) -> None:
        touched = set()
        for zone in zones:
            bit = 1 << (zone & 7)
            self._bits[zone >> 3] = self._bits[zone >> 3] | bit if on else self._bits[zone >> 3] & ~bit
            touched.add(zone >> 3)
        if touched:
            first, end = min(touched), max(touched) + 1
            os.pwrite(self._fd, self._bits[first:end], HEADER + first)

    def fill(self) -> None:
        """Mark every zone: nothing is known of what differs."""
        self.mark(range(self.count))

    def resize(self, size: int) -> None:
        """The volume has grown; the new zones are zeros on both sides."""
        self.count = count_of(size)
        self._bits += bytes((self.count + 7) // 8 - len(self._bits))

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)
