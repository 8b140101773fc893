"""The key files of a witness, or of a module with a witness of its own: read anew when they have changed."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from safekit_py.api import Problem, Ring, SystemProblem, parse_keys

from . import wire

log = logging.getLogger("safekit.witness")
LOOK = 1_000_000_000  # ns between two looks at the files


@dataclass(frozen=True, slots=True)
class Held:
    """One key that the witness holds.

    :param owner: of the records; see ``wire.owner``.
    :param names: of all keys of that cluster.
    """

    key: wire.Key
    owner: str
    names: tuple[bytes, ...]


class KeyFiles:
    """Several files, one for each cluster.

    :raises SystemProblem: ``witness.key``, when one cannot be read at first. Later that is told in the log, and what
        was read before goes on.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = tuple(paths)
        self._rings = {path: read_keys(path) for path in self._paths}
        self._seen = self._look()
        self._looked = 0
        self._held = self._index()

    def find(self, name: bytes, now: int) -> Held | None:
        """The key of that name, if it is held.

        :param now: any monotonic clock, in nanoseconds.
        """
        if now - self._looked >= LOOK:
            self._looked = now
            seen = self._look()
            if seen != self._seen:
                self._seen = seen
                self._read()
        return self._held.get(name)

    def _look(self) -> list[tuple[int, int] | None]:
        found: list[tuple[int, int] | None] = []
        for path in self._paths:
            try:
                status = path.stat()
                found.append((status.st_ino, status.st_mtime_ns))
            except OSError:
                found.append(None)
        return found

    def _read(self) -> None:
        for path in self._paths:
            try:
                self._rings[path] = read_keys(path)
            except SystemProblem as problem:
                log.error("%s; the keys that were there before go on", problem.problems[0].message)
        self._held = self._index()
        log.info("the key files have changed: %s keys are held", len(self._held))

    def _index(self) -> dict[bytes, Held]:
        held = {}
        for ring in self._rings.values():
            names, owner = tuple(key.name for key in ring.keys), wire.owner(ring)
            for shared in ring.keys:
                key = wire.Key(shared)
                held[key.name] = Held(key, owner, names)
        return held


def read_keys(path: Path) -> Ring:
    """The keys of a cluster, as ``safekit-py cluster genkey`` and ``cluster key rotate`` write them.

    :raises SystemProblem: ``witness.key``.
    """
    try:
        if path.stat().st_mode & 0o077:
            raise SystemProblem(Problem("witness.key", "others may read the key", f"chmod 600 {path}", str(path)))
        return parse_keys(path.read_text(encoding="utf-8", errors="replace"))
    except OSError as error:
        why = f"the key cannot be read: {error.strerror}"
        raise SystemProblem(Problem("witness.key", why, "copy the key of the cluster there", str(path))) from error
    except ValueError:
        text = "the file does not hold the keys of a cluster"
        raise SystemProblem(Problem("witness.key", text, "copy the key file of the cluster there", str(path))) from None
