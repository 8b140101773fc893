"""Loop devices: a file as a block device, with direct I/O, and gone by itself when its last user is.

A device is known by its number and the kernel's sequence number of it, both read from sysfs. It is never asked for its
status: the kernel would ask the file behind it, and that file's process may be dead or stopped.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

CLR_FD, SET_CAPACITY, CONFIGURE, GET_FREE = 0x4C01, 0x4C07, 0x4C0A, 0x4C82
READ_ONLY, AUTOCLEAR, DIRECT_IO = 1, 4, 16
INFO = struct.Struct("=QQQQQIIII64s64s32sQQ")  # loop_info64
CONFIG = struct.Struct(f"=II{INFO.size}s64x")
SECTOR = 512  # logical block: what applications that read and write directly expect of any disk
TRIES = 64
AT_ONCE = 1024  # KiB: what FUSE takes in one request
READ_AHEAD = 4096  # KiB: requests as large as FUSE takes, several at a time


@dataclass(frozen=True, slots=True)
class Loop:
    """One use of a loop device.

    :param number: of the device.
    :param sequence: differs at each use of a device, and between devices, until the next boot.
    """

    number: int
    sequence: int

    @property
    def device(self) -> Path:
        """Its node."""
        return Path(f"/dev/loop{self.number}")

    @property
    def there(self) -> bool:
        """Whether the device still has the same file behind it."""
        return Path(f"/sys/block/loop{self.number}/loop").exists() and _sequence(self.number) == self.sequence


def _sequence(number: int) -> int:
    try:
        return int(Path(f"/sys/block/loop{number}/diskseq").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return -1


def attach(file: Path, *, read_only: bool = False) -> tuple[Loop, int]:
    """A free loop device with this file behind it.

    :returns: the device, and an open descriptor of it: the device goes when it and all mounts of it are closed.
    :raises OSError: also EBUSY when others took every free device first.
    """
    mode = os.O_RDONLY if read_only else os.O_RDWR
    backing = os.open(file, mode | os.O_CLOEXEC)
    try:
        for _ in range(TRIES):
            with Path("/dev/loop-control").open("rb") as control:
                number = fcntl.ioctl(control, GET_FREE)
            device = Path(f"/dev/loop{number}")
            if not device.exists():  # a machine without devtmpfs, as a container
                with suppress(FileExistsError):
                    os.mknod(device, 0o600 | 0o060000, os.makedev(7, number))
            fd = os.open(device, mode | os.O_CLOEXEC)
            flags = AUTOCLEAR | DIRECT_IO | (READ_ONLY if read_only else 0)
            info = INFO.pack(0, 0, 0, 0, 0, 0, 0, 0, flags, b"", b"", b"", 0, 0)
            try:
                fcntl.ioctl(fd, CONFIGURE, CONFIG.pack(backing, SECTOR, info))
            except OSError as error:
                os.close(fd)
                if error.errno == errno.EBUSY:  # somebody else took it in between
                    continue
                raise
            for name, value in (("read_ahead_kb", READ_AHEAD), ("max_sectors_kb", AT_ONCE)):
                with suppress(OSError):
                    Path(f"/sys/block/{device.name}/queue/{name}").write_text(str(value), encoding="ascii")
            return Loop(number, _sequence(number)), fd
    finally:
        os.close(backing)
    raise OSError(errno.EBUSY, "no loop device is free")


def detach(device: Path) -> None:
    """Take the file away; while the device is mounted, that happens when it is not any more."""
    with suppress(OSError):
        fd = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.ioctl(fd, CLR_FD)
        finally:
            os.close(fd)


def grown(device: Path) -> None:
    """The file behind the device has become larger: so does the device."""
    fd = os.open(device, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.ioctl(fd, SET_CAPACITY)
    finally:
        os.close(fd)
