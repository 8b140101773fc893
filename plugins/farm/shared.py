"""Settings of the kernel that several modules of this server need, and what they were before the first of them.

Remembered in a file that outlives any crash: the first user's taking writes it before the kernel is changed, the last
user's return changes the kernel before the file forgets. So what was there before comes back exactly once.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any


def take(memory: Path, key: str, user: str, before: Callable[[], str]) -> None:
    """Note that a user needs a setting; change it after this.

    :param key: of the setting.
    :param user: a module.
    :param before: what it is now; asked for the first user only.
    """
    known = _read(memory)
    if key not in known:
        known[key] = {"before": before(), "users": []}
    known[key]["users"] = sorted({*known[key]["users"], user})
    _write(memory, known)


def give_back(memory: Path, key: str, user: str, restore: Callable[[str], None]) -> None:
    """Undo :func:`take`; again, or without it, is harmless.

    :param restore: called with what it was before, when nobody needs the setting any more.
    """
    known = _read(memory)
    entry = known.get(key)
    if entry is None:
        return
    entry["users"] = [each for each in entry["users"] if each != user]
    if not entry["users"]:
        restore(entry["before"])
        del known[key]
    _write(memory, known)


def taken(memory: Path, user: str) -> tuple[str, ...]:
    """The settings that a user has taken."""
    return tuple(key for key, entry in _read(memory).items() if user in entry["users"])


def _read(memory: Path) -> dict[str, dict[str, Any]]:
    try:
        known = json.loads(memory.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _write(memory: Path, known: dict[str, dict[str, Any]]) -> None:
    if not known:
        memory.unlink(missing_ok=True)
        return
    memory.parent.mkdir(parents=True, exist_ok=True)
    staged = memory.with_name(f"{memory.name}.{os.getpid()}")
    staged.write_text(json.dumps(known), encoding="utf-8")
    staged.replace(memory)
