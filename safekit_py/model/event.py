"""The one format of an event: what the log stores, ``--json`` prints and notification plugins get."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from safekit_py.model.state import Severity


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a module on this server.

    :param time: seconds since the epoch, for people; nothing is decided by it.
    :param kind: ``log``, ``state`` or ``resource``.
    :param source: the part that speaks (``heart``, ``vip``, a script's name, ``user``).
    """

    time: float
    module: str
    severity: Severity
    source: str
    message: str
    kind: str = "log"

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)
