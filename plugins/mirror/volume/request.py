"""What the kernel asks of a volume, and what a volume is made of: the seam between FUSE, the images and replication.

A request goes from ``fuse.Session.read`` through replication to an ``Image``, and its answer back by
``fuse.Session.answer``. Each request is answered exactly once.
"""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal, Protocol

Kind = Literal["read", "write", "flush", "discard", "zero"]
Data = bytes | bytearray | memoryview

BLOCK = 4096  # bytes: sizes of volumes are multiples of it
LARGEST = 1 << 20  # bytes that one read or write asks for at most


def memory(size: int) -> memoryview:
    """Zeros, from a page on, in large pages where the kernel has them: copies and direct I/O look up fewer."""
    made = mmap.mmap(-1, size)
    with suppress(OSError):
        made.madvise(mmap.MADV_HUGEPAGE)
    return memoryview(made)


@dataclass(frozen=True, slots=True)
class VolumeFile:
    """One volume as FUSE shows it: a file.

    :param name: of the file; no slash, at most 250 bytes.
    :param size: in bytes.
    """

    name: str
    size: int


@dataclass(slots=True, eq=False)
class Request:
    """One request of the kernel.

    A discarded range reads as zeros afterwards, as a zeroed one does: the loop device asks for zeros by either.

    :param unique: the kernel's number of it; the highest bit is set when it was asked before (a resent request may
        have been done already, and is done again).
    :param volume: index in the session's volumes.
    :param offset: in bytes; 0 for a flush.
    :param size: in bytes; 0 for a flush. ``offset + size`` never exceeds the volume's size; a write or read has at
        most ``LARGEST``.
    :param data: of a write, else None. It is valid until the request is answered, then its memory is used again.
    :param received: CLOCK_MONOTONIC nanoseconds.
    """

    unique: int
    kind: Kind
    volume: int
    offset: int
    size: int
    data: memoryview | bytes | None
    received: int
    slab: object | None = None  # what holds ``data``; the session's own


class Session(Protocol):
    """The kernel's side of the volumes; see ``fuse.Session``."""

    fd: int
    """For a selector; readable when requests wait. Non-blocking."""

    def read(self) -> list[Request]:
        """All that waits, up to a bound; what is not about data is answered on the way.

        :raises ConnectionError: when the file system was unmounted or aborted; there is nothing more to serve.
        """

    def answer(self, request: Request, error: int = 0, data: Data | Sequence[Data] | None = None) -> None:
        """Answer a request.

        :param error: an errno, 0 when it was done.
        :param data: what a read found; its length is the request's size.
        """

    def resend(self) -> None:
        """Ask the kernel for what an earlier process had read and not answered.

        :raises OSError: it cannot (before 6.9).
        """

    def resize(self, volume: int, size: int) -> None:
        """A volume has grown."""


class Image(Protocol):
    """The data of one volume on this server; see ``image.ImageFile``. Errors are ``OSError`` with the errno as it
    came (EIO, ENOSPC): what was asked is then not done, or done in part."""

    size: int

    def read(self, offset: int, size: int) -> memoryview:
        """The bytes; valid until the next call of ``read``."""

    def write(self, offset: int, data: Data) -> None:
        """Into the page cache; all of it."""

    def discard(self, offset: int, size: int) -> None:
        """Zeros that take no room."""

    def zero(self, offset: int, size: int) -> None:
        """Zeros that keep their room."""

    def sync(self) -> None:
        """All that was written is on the disk (fdatasync). After an error the image must not be trusted to have it."""

    def resize(self, size: int) -> None:
        """Grow; durable when it returns."""

    def close(self) -> None:
        """Close the file; nothing is flushed."""
