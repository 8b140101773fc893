"""The errors that a user sees: few classes, each with a stable code, a place, and what to do.

A ``Problem`` is one finding (a value); a ``SafekitError`` is raised with one or more of them. The code is part of
the interface (scripts may test it); the sentences are not. docs/messages.md lists every code.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Problem:
    """One finding.

    :param code: stable, ``area.what``, for instance ``config.unknown-element``.
    :param message: what is wrong, one sentence.
    :param remedy: what to write or do instead; empty only where the message says it already.
    :param file: the file it is in, as the user named it.
    :param line: 1-based line in that file, 0 where there is none.
    :param severity: ``error`` or ``warning``; a warning stops nothing.
    """

    code: str
    message: str
    remedy: str = ""
    file: str = ""
    line: int = 0
    severity: str = "error"

    @property
    def place(self) -> str:
        """``file:line``, ``file``, or empty."""
        return f"{self.file}:{self.line}" if self.file and self.line else self.file

    def __str__(self) -> str:
        place = f"{self.place}: " if self.place else ""
        remedy = f" -> {self.remedy}" if self.remedy else ""
        return f"{place}{self.severity} [{self.code}] {self.message}{remedy}"

    def as_dict(self) -> dict[str, Any]:
        """The same as plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Problem:
        """The inverse of :meth:`as_dict`; unknown keys are ignored."""
        return cls(**{k: values[k] for k in cls.__slots__ if k in values})


class SafekitError(Exception):
    """Something that the user must know and can act on; ``problems`` holds at least one error."""

    def __init__(self, problems: Problem | Iterable[Problem]) -> None:
        self.problems: tuple[Problem, ...] = (problems,) if isinstance(problems, Problem) else tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))

    @property
    def code(self) -> str:
        """The code of the first problem."""
        return self.problems[0].code


class ConfigError(SafekitError):
    """A configuration or an archive is not acceptable; nothing was changed."""


class NotFoundError(SafekitError):
    """A module, server, resource or file that was named does not exist."""


class StateError(SafekitError):
    """The command does not fit the module's present state."""


class AccessError(SafekitError):
    """The caller may not do this."""


class SystemProblem(SafekitError):
    """This server lacks something (a package, a kernel feature, a capability); it says which and how to get it."""
