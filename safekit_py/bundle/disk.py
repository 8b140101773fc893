"""Folders that appear, are exchanged and go in one step, and are on the disk when the call returns."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from safekit_py.errors import Problem, StateError

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


def sync(path: Path) -> None:
    """Bring a folder's own entries to the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(path: Path) -> None:
    """Bring the entries of a folder and of all below it to the disk; its files are synced as they are written."""
    for folder, _, _ in os.walk(path, topdown=False):
        sync(Path(folder))


def private(path: Path) -> None:
    """Make a folder that only its owner can look into."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.chmod(0o700)


def write(path: Path, chunks: Iterable[bytes], mode: int) -> int:
    """Write a new file, never through a link and never over another; returns its size."""
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        size = sum(map(stream.write, chunks))
        stream.flush()
        os.fchmod(stream.fileno(), mode)
        os.fsync(stream.fileno())
    return size


def exchange(one: Path, other: Path) -> bool:
    """Swap two paths in one step; False where the file system cannot."""
    try:
        call = ctypes.CDLL(None, use_errno=True).renameat2
    except AttributeError:
        return False
    if call(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.ENOSYS, errno.EINVAL):
        return False
    raise OSError(code, os.strerror(code), str(other))


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder for one change at a time.

    :raises StateError: another change is under way.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            message = "Another module is being installed or removed"
            raise StateError(Problem("bundle.busy", message, "try again in a moment")) from error
        yield
    finally:
        os.close(descriptor)


def discard(path: Path) -> None:
    """Delete what nobody uses any more; what cannot be deleted now goes at the next clean-up."""
    if path.is_symlink() or path.is_file():
        path.unlink()
    else:
        shutil.rmtree(path, ignore_errors=True)
