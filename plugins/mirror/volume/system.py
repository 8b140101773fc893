"""The few calls of the kernel that Python's standard library lacks: mounts, holes, process properties.

Each raises ``OSError`` with the kernel's own errno.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

LIBC = ctypes.CDLL(None, use_errno=True)

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_SYNCHRONOUS = 0x1, 0x2, 0x4, 0x8, 0x10
MS_REMOUNT, MS_BIND, MS_PRIVATE = 0x20, 0x1000, 0x40000
MNT_FORCE, MNT_DETACH, UMOUNT_NOFOLLOW = 0x1, 0x2, 0x8
KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE = 0x1, 0x2, 0x10  # of fallocate(2)
SYNC_FILE_RANGE_WRITE = 2
PR_SET_PDEATHSIG, PR_SET_NAME, PR_SET_IO_FLUSHER = 1, 15, 57
MCL_CURRENT, MCL_FUTURE, MCL_ONFAULT = 1, 2, 4
CAP_SYS_RESOURCE = 24


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def mount(source: str, target: Path, kind: str, flags: int = 0, options: str = "") -> None:
    """mount(2)."""
    call = (source.encode(), os.fsencode(target), kind.encode(), ctypes.c_ulong(flags), options.encode() or None)
    _check(LIBC.mount(*call), f"mount {target}")


def umount(target: Path, flags: int = 0) -> None:
    """umount2(2); it follows no link."""
    _check(LIBC.umount2(os.fsencode(target), flags | UMOUNT_NOFOLLOW), f"umount {target}")


def fallocate(fd: int, mode: int, offset: int, size: int) -> None:
    """fallocate(2), for the modes that os.posix_fallocate has not."""
    _check(LIBC.fallocate(fd, mode, ctypes.c_int64(offset), ctypes.c_int64(size)), "fallocate")


def start_writing(fd: int, offset: int, size: int) -> None:
    """The range is on its way from the page cache to the disk; errors are told by the next fdatasync."""
    LIBC.sync_file_range(fd, ctypes.c_int64(offset), ctypes.c_int64(size), SYNC_FILE_RANGE_WRITE)


def syncfs(fd: int) -> None:
    """All of the file system that the descriptor belongs to is on its disk."""
    _check(LIBC.syncfs(fd), "syncfs")


def die_with_parent(parent: int, signal: int) -> None:
    """This process gets the signal when its parent ends; for the child after a fork."""
    _check(LIBC.prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(signal), 0, 0, 0), "prctl")
    if os.getppid() != parent:  # it ended before
        os._exit(1)


def has_capability(number: int) -> bool:
    """Whether this process has it."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    effective = next(line.split()[1] for line in lines if line.startswith("CapEff:"))
    return bool(int(effective, 16) >> number & 1)


def harden(name: str) -> list[str]:
    """Make this process fit to stand below a file system, as far as the kernel permits.

    Its memory is not swapped out, writing back dirty pages never waits for itself, and it is not killed for memory:
    a file system whose process waits for memory that only this file system could free would stand still for ever.

    :returns: what was not permitted.
    """
    refused: list[str] = []
    LIBC.prctl(PR_SET_NAME, name.encode()[:15], 0, 0, 0)
    if LIBC.mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) != 0:
        refused.append("mlockall")
    if LIBC.prctl(PR_SET_IO_FLUSHER, ctypes.c_ulong(1), 0, 0, 0) != 0:
        refused.append("io_flusher")
    try:
        Path("/proc/self/oom_score_adj").write_text("-1000", encoding="ascii")
    except OSError:
        refused.append("oom_score_adj")
    return refused


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of /proc/self/mountinfo.

    :param device: st_dev of its files.
    :param root: what part of the file system is seen; ``/`` but for bind mounts.
    """

    device: int
    root: str
    target: Path
    kind: str
    source: str


def _plain(field: str) -> str:
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        field = field.replace(code, character)
    return field


def read_mounts(lines: str) -> Iterator[Mount]:
    """The mounts that a mountinfo tells, the oldest first; lines that cannot be read are left out."""
    for line in lines.splitlines():
        before, _, after = line.partition(" - ")
        fields, rest = before.split(" "), after.split(" ")
        with suppress(ValueError, IndexError):
            major, minor = map(int, fields[2].split(":"))
            target = Path(_plain(fields[4]))
            yield Mount(os.makedev(major, minor), _plain(fields[3]), target, rest[0], _plain(rest[1]))


def mounts() -> list[Mount]:
    """All mounts that this process sees, the oldest first."""
    text = Path("/proc/self/mountinfo").read_text(sys.getfilesystemencoding(), "surrogateescape")
    return list(read_mounts(text))
