"""The data of one volume on this server: a sparse file, and what is done to it. The errno of an error is passed on."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from . import system
from .request import BLOCK, LARGEST, Data, memory

DIRECT = 128 << 10  # bytes from which on a write or read goes past the page cache, whose copy costs more than the disk
FEW = 3  # writes between two flushes: then each is written to the disk at once, for the next flush will wait for it
REFUSED = (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)  # of a file system that cannot make holes or zeros


def create(path: Path, size: int) -> None:
    """A new image of zeros, durable when this returns.

    :raises FileExistsError: there is one.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.ftruncate(fd, size)
        os.fsync(fd)
    finally:
        os.close(fd)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Names that were made, renamed or removed in a folder are durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


class ImageFile:
    """See ``request.Image``.

    :param path: of a regular file that exists; its size is the volume's.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        self.size = os.fstat(self.fd).st_size
        # Cold sequential reads were measured twice as fast, at a fifth of the processor's time; others do not change.
        os.posix_fadvise(self.fd, 0, 0, os.POSIX_FADV_SEQUENTIAL)
        self._buffer = memory(LARGEST)
        self._direct = self._open_direct()
        self._writes = self._writes_before = 0  # since the last flush, and between the two before

    def _open_direct(self) -> int | None:
        """The same file past the page cache; None where the file system cannot."""
        try:
            return os.open(f"/proc/self/fd/{self.fd}", os.O_RDWR | os.O_CLOEXEC | os.O_DIRECT)
        except OSError:
            return None

    def _way(self, offset: int, size: int, least: int) -> int:
        """The descriptor for so much. The kernel keeps both ways coherent."""
        if self._direct is None or size < least or (offset | size) % BLOCK:
            return self.fd
        return self._direct

    def read(self, offset: int, size: int) -> memoryview:
        """The bytes; valid until the next call."""
        into = self._buffer[:size]
        self.read_into(offset, into)
        return into

    def read_into(self, offset: int, into: memoryview) -> None:
        """Fill a buffer.

        :raises OSError: EIO also when the file is shorter than it should be.
        """
        try:
            done = os.preadv(self._way(offset, len(into), BLOCK), [into], offset)
        except OSError as error:
            if error.errno != errno.EINVAL:  # memory that is not aligned
                raise
            done = os.preadv(self.fd, [into], offset)
        while done < len(into):
            more = os.preadv(self.fd, [into[done:]], offset + done)
            if more == 0:
                raise OSError(errno.EIO, f"{self.path} ends too early")
            done += more

    def write(self, offset: int, data: Data) -> None:
        """All of it: into the page cache, or, when it is much and begins at a page of memory, past it."""
        try:
            done = os.pwrite(self._way(offset, len(data), DIRECT), data, offset)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            done = os.pwrite(self.fd, data, offset)
        if done < len(data):  # a signal, or the disk is full: then the next call says so
            rest = memoryview(data)
            while done < len(rest):
                done += os.pwrite(self.fd, rest[done:], offset + done)
        self._writes += 1
        if self._writes_before <= FEW >= self._writes and len(data) < DIRECT:
            system.start_writing(self.fd, offset, len(data))

    def discard(self, offset: int, size: int) -> None:
        """Zeros that take no room, where the file system can."""
        self._allocate(system.PUNCH_HOLE | system.KEEP_SIZE, offset, size)

    def zero(self, offset: int, size: int) -> None:
        """Zeros that keep their room, where the file system can."""
        self._allocate(system.ZERO_RANGE | system.KEEP_SIZE, offset, size)

    def _allocate(self, mode: int, offset: int, size: int) -> None:
        if size == 0:
            return
        try:
            system.fallocate(self.fd, mode, offset, size)
        except OSError as error:
            if error.errno not in REFUSED:
                raise
            zeros = bytes(min(size, LARGEST))
            for at in range(offset, offset + size, LARGEST):
                self.write(at, zeros[: min(LARGEST, offset + size - at)])

    def sync(self) -> None:
        """All that was written is on the disk."""
        self._writes, self._writes_before = 0, self._writes
        os.fdatasync(self.fd)

    def resize(self, size: int) -> None:
        """Grow; durable when it returns.

        :raises ValueError: it would shrink, or is no multiple of ``BLOCK``.
        """
        if size < self.size or size % BLOCK:
            raise ValueError(f"a volume of {self.size} bytes cannot become one of {size}")
        os.ftruncate(self.fd, size)
        os.fsync(self.fd)
        self.size = size

    def close(self) -> None:
        """Close the file; nothing is flushed."""
        os.close(self.fd)
        if self._direct is not None:
            os.close(self._direct)
