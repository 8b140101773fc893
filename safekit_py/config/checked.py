"""The outcome of a check, as plain values: what the checking process sends to the agent. Imports no XML library."""

from __future__ import annotations

from dataclasses import dataclass

from safekit_py.errors import Problem
from safekit_py.model.config import Cluster, ModuleConfig

OPEN_SUFFIX = "_TO_BE_DEFINED"
"""A value that ends so is a placeholder that the user has yet to fill in."""


def is_open(value: str) -> bool:
    """Whether a macro's value is still to be given by the user."""
    return not value.strip() or value.strip().endswith(OPEN_SUFFIX)


@dataclass(frozen=True, slots=True)
class Macro:
    """``<macro name value>``, with the value in force (an override wins over the file).

    :param line: of its start tag; 0 for one that only the caller gave.
    """

    name: str
    value: str
    line: int = 0

    @property
    def open(self) -> bool:
        """Whether its value is still to be given."""
        return is_open(self.value)


@dataclass(frozen=True, slots=True)
class Checked:
    """A checked userconfig.xml.

    :param config: the model, None if and only if ``problems`` holds an error.
    :param problems: sorted by line; warnings too.
    :param macros: every macro, in document order.
    """

    config: ModuleConfig | None
    problems: tuple[Problem, ...] = ()
    macros: tuple[Macro, ...] = ()


@dataclass(frozen=True, slots=True)
class CheckedCluster:
    """A checked cluster.xml; ``cluster`` is None if and only if ``problems`` holds an error."""

    cluster: Cluster | None
    problems: tuple[Problem, ...] = ()


def ordered(problems: list[Problem]) -> tuple[Problem, ...]:
    """Sort by line and drop what is said twice."""
    return tuple(sorted(dict.fromkeys(problems), key=lambda each: each.line))


def failed(problems: list[Problem]) -> bool:
    """Whether one of them is an error."""
    return any(each.severity == "error" for each in problems)
