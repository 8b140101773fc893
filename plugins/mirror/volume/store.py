"""The generation of a module's data on stable storage: whole at any instant, or an error that is seen."""

from __future__ import annotations

import errno
import json
import os
from contextlib import suppress
from pathlib import Path

from safekit_py.api import SafekitError

from ..generation import Generation, unreadable
from .image import sync_folder

NAME, RESERVE = "generation.json", ".reserve"
ROOM = 64 << 10  # bytes that are kept for the day on which the disk is full


def load(folder: Path) -> Generation:
    """What is stored; no file means that this server never had data.

    :raises SafekitError: it cannot be read: this server must not become primary then.
    """
    try:
        text = (folder / NAME).read_bytes()
    except FileNotFoundError:
        return Generation()
    except OSError as error:
        raise unreadable(error.strerror or str(error)) from error
    try:
        values = json.loads(text)
    except ValueError:
        raise unreadable("it is no JSON") from None
    if not isinstance(values, dict):
        raise unreadable("it is no JSON object")
    return Generation.from_dict(values)


def known(folder: Path) -> Generation:
    """What is stored, or, when that cannot be read, data that are never up to date and related to no other: such a
    server must not become primary by itself, nor look like a new one."""
    try:
        return load(folder)
    except SafekitError:
        return Generation(data="unreadable")


def stamp(folder: Path) -> tuple[int, ...]:
    """Another value whenever what is stored has been replaced or taken away."""
    try:
        about = (folder / NAME).stat()
    except FileNotFoundError:
        return ()
    return about.st_ino, about.st_mtime_ns, about.st_size


def store(folder: Path, generation: Generation) -> None:
    """Store it: old or new after any crash, new when this returns.

    A full disk is no reason to fail: a primary that cannot note that it goes on alone would have to stand still. So
    some room is kept, and given up when there is no other.
    """
    reserve = folder / RESERVE
    try:
        _replace(folder, generation)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT) or not reserve.exists():
            raise
        reserve.unlink()
        _replace(folder, generation)
    else:
        if not reserve.exists():
            with suppress(OSError):
                _keep_room(reserve)


def _replace(folder: Path, generation: Generation) -> None:
    temporary = folder / f".{NAME}.new"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        rest = json.dumps(generation.as_dict()).encode()
        while rest:  # a disk that is just full takes a part, and refuses the rest
            rest = rest[os.write(fd, rest) :]
        os.fsync(fd)
    finally:
        os.close(fd)
    temporary.rename(folder / NAME)
    sync_folder(folder)


def _keep_room(reserve: Path) -> None:
    fd = os.open(reserve, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        os.posix_fallocate(fd, 0, ROOM)
    except OSError:
        reserve.unlink()
        raise
    finally:
        os.close(fd)
