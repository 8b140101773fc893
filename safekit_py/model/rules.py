"""What a failover rule is, as frozen values: conditions over resources, and the action that follows.

The configuration makes them out of ``<failover>`` and the engine out of checkers; ``safekit_py.core.rules`` judges
them.
"""

from __future__ import annotations

from dataclasses import dataclass

ANY = "?"
ALL = "*"


@dataclass(frozen=True, slots=True)
class Operand:
    """A resource, or several.

    :param side: ``local`` or ``remote``: this server's resource, or the other one's.
    :param kind: the class, what stands before the first dot of a resource's name.
    :param ident: the rest of the name; ``?`` for any resource of the class, ``*`` for all of them.
    """

    side: str
    kind: str
    ident: str


@dataclass(frozen=True, slots=True)
class Test:
    """Whether a resource has a value (``equal``) or has not."""

    __test__ = False  # the name is not meant for pytest

    operand: Operand
    equal: bool
    value: str


@dataclass(frozen=True, slots=True)
class Not:
    """The opposite of a condition."""

    inner: Expression


@dataclass(frozen=True, slots=True)
class And:
    """Every one of two or more conditions."""

    parts: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Or:
    """At least one of two or more conditions."""

    parts: tuple[Expression, ...]


Expression = Test | Not | And | Or


@dataclass(frozen=True, slots=True)
class Rule:
    """``label: if (condition) then action;``.

    :param line: of userconfig.xml where it stands; 0 for a rule that the engine made.
    :param origin: ``user`` or ``default``.
    """

    label: str
    condition: Expression
    action: str
    line: int = 0
    origin: str = "user"
