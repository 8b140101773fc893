"""The log of what could not be sent: one JSON line a notice, bounded, for root only."""

from __future__ import annotations

import contextlib
import json
import os
import threading
from pathlib import Path
from typing import Any

from safekit_py.model.notice import Notice
from safekit_py.runtime.clock import wall

LARGEST = 1 << 20  # bytes; then it is put aside as .1, and the one before that is gone


class Unsent:
    """Written by one process.

    :param path: the file; its folder is made.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._lock = path, threading.Lock()

    def write(self, target: str, notice: Notice, why: str) -> None:
        """Add a line. A full disk loses it: there is nobody left to tell."""
        line = json.dumps({"time": wall(), "target": target, "why": why, "notice": notice.as_dict()})
        with self._lock, contextlib.suppress(OSError):
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self._path.exists() and self._path.stat().st_size > LARGEST:
                self._path.replace(self._path.with_name(f"{self._path.name}.1"))
            number = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            with os.fdopen(number, "w", encoding="utf-8") as stream:
                stream.write(f"{line}\n")


def read(path: Path, count: int) -> list[dict[str, Any]]:
    """The last lines, the newest last."""
    lines: list[str] = []
    for each in (path.with_name(f"{path.name}.1"), path):
        with contextlib.suppress(FileNotFoundError):
            lines += each.read_text(encoding="utf-8", errors="replace").splitlines()
    found = []
    for line in lines[-count:]:
        with contextlib.suppress(ValueError):  # a torn line of a crash
            found.append(json.loads(line))
    return found
