"""The witness's records on stable storage: one small file a module, written whole or not at all."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import IO

from safekit_py.api import Problem, SystemProblem

from .protocol import Record

Where = tuple[str, str, str]
"""``wire.owner`` of the cluster's keys, cluster, module."""


class Store:
    """A folder that one witness uses at a time.

    :raises SystemProblem: ``witness.state``: it cannot be used, another witness uses it, or a record cannot be read: to
        go on without it could make a second primary.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock: IO[str] | None = None
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = (folder / "lock").open("w")
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self.close()
            raise _unusable(folder, error.strerror or str(error), "another witness may use it") from error

    def load(self) -> dict[Where, Record]:
        """All records."""
        found: dict[Where, Record] = {}
        for path in sorted(self._folder.glob("*.json")):
            try:
                content = json.loads(path.read_text())
                key, cluster, module = content["where"]
                found[str(key), str(cluster), str(module)] = Record(**content["record"])
            except (OSError, ValueError, KeyError, TypeError) as error:
                remedy = "restore it; or delete it when both servers of that module are stopped"
                raise _unusable(path, f"no record can be read: {error}", remedy) from error
        return found

    def save(self, where: Where, record: Record) -> None:
        """Returns when the record is on disk.

        :raises OSError: it is not; the one before is there, or this one.
        """
        name = hashlib.blake2b("\0".join(where).encode(), digest_size=12).hexdigest()
        path, new = self._folder / f"{name}.json", self._folder / f"{name}.new"
        with new.open("w") as stream:
            json.dump({"where": where, "record": asdict(record)}, stream)
            stream.flush()
            os.fsync(stream.fileno())
        new.replace(path)
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def close(self) -> None:
        """Let another witness use the folder."""
        if self._lock is not None:
            with contextlib.suppress(OSError):
                self._lock.close()


def _unusable(path: Path, why: str, remedy: str) -> SystemProblem:
    return SystemProblem(Problem("witness.state", f"{path} cannot be used: {why}", remedy, str(path)))
