"""States of a module and of a resource, and the event that is logged: the product's words, as values."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """Where a module stands."""

    STOP = "STOP"
    WAIT = "WAIT"
    ALONE = "ALONE"
    UP = "UP"
    PRIM = "PRIM"
    SECOND = "SECOND"

    @property
    def exit_code(self) -> int:
        """What ``safekit-py state -q`` exits with."""
        return {"STOP": 0, "WAIT": 1, "ALONE": 2, "UP": 2, "PRIM": 3, "SECOND": 4}[self.value]


class Readiness(StrEnum):
    """How far the module has come in its state: red, orange, green."""

    NOT_READY = "NotReady"
    TRANSIENT = "Transient"
    READY = "Ready"


class Status(StrEnum):
    """Value of a resource that a checker sets."""

    INIT = "init"
    UP = "up"
    DOWN = "down"
    UNKNOWN = "unknown"


class Severity(StrEnum):
    """Severity of an event: the letter that the log shows."""

    CRITICAL = "C"
    ERROR = "E"
    WARNING = "W"
    INFO = "I"
    DEBUG = "D"


@dataclass(frozen=True, slots=True)
class Resource:
    """One watched thing, ``class.id``.

    :param value: usually a :class:`Status`; other values (``50%``) are for people to read.
    :param since: seconds of the monotonic clock of this server when the value was set.
    :param cause: who or what set it, one phrase.
    """

    name: str
    value: str
    since: float
    cause: str = ""
