"""The generation of a module's data on stable storage: whole at any instant, or an error that is seen."""

from __future__ import annotations

import json
import os
from pathlib import Path

from ..generation import Generation, unreadable
from .image import sync_folder

NAME = "generation.json"


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


def store(folder: Path, generation: Generation) -> None:
    """Store it: old or new after any crash, new when this returns."""
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
