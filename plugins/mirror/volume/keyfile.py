"""The cluster's keys as the volume process reads them: from the file, anew for each connection."""

from __future__ import annotations

import contextlib
from pathlib import Path

from safekit_py.api import Ring, parse_keys


class KeyFile:
    """The key file.

    :raises OSError: it cannot be read at first; ValueError: it is none.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._ring = parse_keys(path.read_text())

    def ring(self) -> Ring:
        """What it holds now; what it held before when it cannot be read."""
        with contextlib.suppress(OSError, ValueError):
            self._ring = parse_keys(self._path.read_text())
        return self._ring
