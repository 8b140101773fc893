"""Checksums of an image's blocks, by which two servers find what differs: xxh3 of 128 bits.

The connection is authentic, so a hash that nobody can invert is not needed; 128 bits leave no accident.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import xxhash

from .image import ImageFile
from .request import LARGEST

BLOCK = 64 << 10  # bytes: the first look
PIECE = 4096  # bytes: the second look, in blocks that differ
WIDTH = 16  # bytes of a hash
ZEROS = bytes(BLOCK)
OF_ZEROS = {BLOCK: xxhash.xxh3_128_digest(ZEROS), PIECE: xxhash.xxh3_128_digest(ZEROS[:PIECE])}


def digests(image: ImageFile, offset: int, size: int, unit: int = BLOCK) -> bytes:
    """The hashes of a range's units, one after the other; a hole costs no reading."""
    if hole(image, offset, size) and size % unit == 0:
        return OF_ZEROS[unit] * (size // unit)
    found = []
    for at in range(offset, offset + size, LARGEST):
        data = image.read(at, min(LARGEST, offset + size - at))
        found += [xxhash.xxh3_128_digest(data[n : n + unit]) for n in range(0, len(data), unit)]
    return b"".join(found)


def hole(image: ImageFile, offset: int, size: int) -> bool:
    """Whether nothing was ever written in a range."""
    return data_from(image, offset) >= offset + size


def data_from(image: ImageFile, offset: int) -> int:
    """Where the first data at or behind an offset are; the image's end when there are none."""
    try:
        return os.lseek(image.fd, offset, os.SEEK_DATA)
    except OSError:  # there are no data behind it, or the file system cannot tell
        return image.size if _tells(image) else offset


def _tells(image: ImageFile) -> bool:
    try:
        os.lseek(image.fd, 0, os.SEEK_HOLE)
    except OSError:
        return False
    return True


def different(mine: bytes, theirs: bytes) -> Iterator[int]:
    """The numbers of the units whose hashes differ; all of them when the lengths do."""
    count = max(len(mine), len(theirs)) // WIDTH
    for number in range(count):
        at = number * WIDTH
        if mine[at : at + WIDTH] != theirs[at : at + WIDTH]:
            yield number


def zeros(data: memoryview) -> bool:
    """Whether there is nothing but zeros."""
    return not any(data[:64]) and data == memoryview(bytes(len(data)))
