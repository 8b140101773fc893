"""The resources of one module: what checkers and the module type have reported, with time and cause."""

from __future__ import annotations

import time
from collections.abc import Callable

from safekit_py.model.state import Resource, Status


class Board:
    """Resources by name; a change is told to ``changed``."""

    def __init__(self, changed: Callable[[Resource, str], None]) -> None:
        self._changed = changed
        self._resources: dict[str, Resource] = {}

    def set(self, name: str, value: str, cause: str = "") -> None:
        """Set a resource; ``since`` moves only when the value changes."""
        old = self._resources.get(name)
        if old is not None and old.value == value:
            return
        new = Resource(name, value, time.monotonic(), cause)
        self._resources[name] = new
        before = old.value if old else Status.INIT.value
        if value != before:
            self._changed(new, before)

    def get(self, name: str) -> str:
        """Its value; ``unknown`` when nobody has set it."""
        found = self._resources.get(name)
        return found.value if found else Status.UNKNOWN.value

    def drop(self, name: str) -> None:
        """Forget a resource that nothing watches any more."""
        self._resources.pop(name, None)

    def all(self) -> list[Resource]:
        """Every resource, by name."""
        return sorted(self._resources.values(), key=lambda r: r.name)
