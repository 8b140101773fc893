"""What one server knows of its group, as frozen values. Times are nanoseconds of its own monotonic clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

from safekit_py.core.group import NO_NUMBER, Number, View

NEVER = -(1 << 62)
NOBODY_ACCUSES: Mapping[int, int] = MappingProxyType({})


class Peer(NamedTuple):
    """What is known of another server; times are when it was last so.

    A tuple, since in a large group some hundred change in each pulse: a copy with another field costs a quarter.
    """

    boot: int = 0
    beat: int = 0
    history: bool = False
    leaving: bool = False
    ready: bool = False  # it takes a share of something
    alive_at: int = NEVER  # its beat advanced, heard or told
    direct_at: int = NEVER  # it was heard
    linked_at: int = NEVER  # it was heard, and said that it hears this server
    behind_at: int = NEVER  # since when it announces a newer view than this server's
    hears: int = 0
    number: Number = NO_NUMBER
    powers: tuple[int, ...] = ()
    info: bytes = b""
    settled: int = 0
    retired: frozenset[int] = frozenset()
    accused: Mapping[int, int] = NOBODY_ACCUSES  # by whom, and the last beat that the accuser knows


@dataclass(frozen=True, slots=True)
class State:
    """One server's whole knowledge of its group."""

    boot: int
    began: int
    ticked: int
    beat: int = 0
    powers: tuple[int, ...] = ()
    info: bytes = b""
    settled: int = 0
    leaving: bool = False
    view: View | None = None
    owning: bool = False
    waiting: frozenset[int] = frozenset()  # members in which the view is not known to be in force
    doubt: int = 0  # the beat that somebody must have heard before this server trusts itself again; 0: no doubt
    doubted_at: int = NEVER  # when that doubt began
    coordinator: int | None = None
    peers: Mapping[int, Peer] = field(default_factory=dict)
    apart: Mapping[tuple[int, int], int] = field(default_factory=dict)  # since when two members do not hear each other
    # Only in a large group:
    lost: frozenset[int] = frozenset()  # by vote
    said: tuple[object, ...] = ()  # what all must know of this server, as it was at the last pulse
    news: int = 0  # pulses for which that is still told to all
    owed: int = 0  # pulses for which those who wait are still told that the view is in force here

    @property
    def number(self) -> Number:
        """The view that it holds."""
        return self.view.number if self.view else NO_NUMBER
