"""The resources of one module: what checkers, scripts and the module type have reported, with time and cause."""

from __future__ import annotations

import time
from collections.abc import Callable

from safekit_py.model.state import Resource, Status


class Board:
    """Resources by name.

    :param changed: is told a resource and the value it had before, to be logged.
    :param touched: is called after every change, also when a resource is forgotten.
    """

    def __init__(self, changed: Callable[[Resource, str], None], touched: Callable[[], None] = lambda: None) -> None:
        self._changed, self._touched = changed, touched
        self._resources: dict[str, Resource] = {}

    def set(self, name: str, value: str, cause: str = "", *, log: bool | None = None) -> None:
        """Set a resource; ``since`` moves only when the value changes.

        :param log: False: tell nobody; True: tell it also when the value is the same.
        """
        old = self._resources.get(name)
        same = old is not None and old.value == value
        if same and not log:
            return
        new = old if same and old is not None else Resource(name, value, time.monotonic(), cause)
        self._resources[name] = new
        before = old.value if old else Status.INIT.value
        if log or (log is None and value != before):
            self._changed(new, before)
        self._touched()

    def get(self, name: str) -> str:
        """Its value; ``unknown`` when nobody has set it."""
        found = self._resources.get(name)
        return found.value if found else Status.UNKNOWN.value

    def drop(self, name: str) -> None:
        """Forget a resource that nothing watches any more."""
        if self._resources.pop(name, None) is not None:
            self._touched()

    def all(self) -> list[Resource]:
        """Every resource, by name."""
        return sorted(self._resources.values(), key=lambda r: r.name)
