"""The one format of an event: what the log stores, ``--json`` prints and notification plugins get."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from safekit_py.model.state import Severity


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a module on this server.

    :param time: seconds since the epoch, for people; nothing is decided by it.
    :param kind: ``log``; ``state``, a change of the module's state; ``resource``, a change of a resource; ``config``, a
        change of what is configured; ``command``, what somebody asked for.
    :param source: the part that speaks (``heart``, ``vip``, a script's name, ``user``).
    :param data: the same for programs. state: ``state``, ``readiness``, ``before``, ``reason``, ``by`` (``person`` when
        somebody asked for it, else ``itself``); resource: ``resource``, ``value``, ``before``, ``cause``; config:
        ``change``; command: ``command``, ``who``.
    """

    time: float
    module: str
    severity: Severity
    source: str
    message: str
    kind: str = "log"
    data: Mapping[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)
