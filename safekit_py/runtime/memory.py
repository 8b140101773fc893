"""What a module must remember over a crash of the agent and over a boot: one small file, whole at any instant."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from safekit_py.runtime.files import write_atomically

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Remembered:
    """One module's memory.

    :param started: whether it should run.
    :param reason: why it stopped.
    :param boot: what a person decided about its start with the server: on, off, or empty.
    :param failover: what a person decided about automatic actions: on, off, or empty.
    :param off: patterns of the checkers that are switched off.
    :param count: automatic actions taken in the present window of the loop counter.
    :param elapsed: seconds of that window that had passed when this was written; a person's clock plays no part.
    """

    started: bool = False
    reason: str = ""
    boot: str = ""
    failover: str = ""
    off: tuple[str, ...] = ()
    count: int = 0
    elapsed: float = 0.0


class Memory:
    """The file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.now = self._read()

    def _read(self) -> Remembered:
        """What is there, with defaults for all that is missing or is not readable."""
        try:
            values = json.loads(self._path.read_text())
        except (OSError, ValueError):
            return Remembered()
        return _known(values) if isinstance(values, Mapping) else Remembered()

    def write(self, **changes: Any) -> None:
        """Remember; a full disk is survived, the memory then lasts as long as the agent."""
        new = replace(self.now, **changes)
        if new == self.now and self._path.exists():
            return
        self.now = new
        try:
            write_atomically(self._path, json.dumps(asdict(new)).encode())
        except OSError:
            return


def _known(values: Mapping[str, Any]) -> Remembered:
    found = {}
    for field in fields(Remembered):
        default = getattr(Remembered(), field.name)
        value = values.get(field.name, default)
        if isinstance(default, tuple):
            value = tuple(str(each) for each in value) if isinstance(value, list) else default
        elif isinstance(default, float):
            value = float(value) if isinstance(value, int | float) and value >= 0 else default
        elif not isinstance(value, type(default)):
            value = default
        found[field.name] = value
    return Remembered(**found)


class Mark:
    """There as long as a module is not in STOP: after a crash it says that something may be left of the application."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def set(self) -> None:
        """The module runs. A full disk: then a crash is not noticed, and nothing else."""
        try:
            self._path.touch()
        except OSError:
            return

    def clear(self) -> None:
        """The module is in STOP."""
        try:
            self._path.unlink(missing_ok=True)
        except OSError:
            return

    @property
    def there(self) -> bool:
        """Whether an earlier run did not end."""
        return self._path.exists()


def boot_id() -> str:
    """The kernel's identifier of the present boot."""
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return ""
