"""The map of one volume: which zones of 4 MiB may differ between the two servers' images.

Invariant: a zone is marked on disk before the first write to it can reach either image's disk, and is unmarked only
when both images have it the same on their disks. So after any crash of either server, what may differ is marked.

A bit that is set without need costs a comparison; so unmarking is not flushed.

The file: a header (what it is, and how many zones it is for), and from ``HEADER`` on a bit for each zone. The header is
written when the bits are on disk, so a file that is torn, shorter than it says, or something else marks everything.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable
from pathlib import Path

from .image import sync_folder

ZONE = 4 << 20  # bytes
MAGIC = b"SKPYMAP2"
HEAD = struct.Struct("<8sQ")  # what it is, zones
HEADER = 4096  # bytes before the bits


def zones_of(offset: int, size: int) -> range:
    """The zones that a range touches."""
    return range(offset // ZONE, (offset + max(size, 1) - 1) // ZONE + 1)


def count_of(size: int) -> int:
    """How many zones a volume of that size has."""
    return (size + ZONE - 1) // ZONE


def _bytes(zones: int) -> int:
    return (zones + 7) // 8


class ZoneMap:
    """The map, in memory and on disk.

    :param path: of its file; made when it is not there, with every zone marked: nothing is known of it.
    :param size: of the volume, in bytes.
    :raises OSError: it cannot be read or made. A file that is no map is treated as one that is not there.
    """

    def __init__(self, path: Path, size: int) -> None:
        self.count = count_of(size)
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        bits = self._read()
        self._bits = bits[: _bytes(self.count)] + bytes(max(0, _bytes(self.count) - len(bits)))
        self.marked = {zone for zone in range(self.count) if self._bits[zone >> 3] >> (zone & 7) & 1}
        if self._known != self.count:
            self._write()
            sync_folder(path.parent)

    def _read(self) -> bytearray:
        """The bits of the file, without those of zones that it does not know; all set when it is no map."""
        magic, self._known = HEAD.unpack(os.pread(self._fd, HEAD.size, 0).ljust(HEAD.size, b"\0"))
        if magic != MAGIC or not self._known or os.fstat(self._fd).st_size < HEADER + _bytes(self._known):
            self._known = 0
            return bytearray(((1 << self.count) - 1).to_bytes(_bytes(self.count), "little"))
        bits = bytearray(os.pread(self._fd, _bytes(self._known), HEADER))
        if self._known & 7:
            bits[-1] &= (1 << (self._known & 7)) - 1
        return bits

    def _write(self) -> None:
        """The whole file; after a crash at any point it is the old one, the new one, or none."""
        os.pwrite(self._fd, bytes(HEAD.size), 0)
        os.fsync(self._fd)
        os.pwrite(self._fd, self._bits, HEADER)
        os.fsync(self._fd)
        os.pwrite(self._fd, HEAD.pack(MAGIC, self.count), 0)
        os.fsync(self._fd)
        self._known = self.count

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
        self._bits += bytes(_bytes(self.count) - len(self._bits))
        self._write()

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)
