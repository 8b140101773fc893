"""Which authentic datagrams are fresh: the guard against replays, for one sender.

Flows through it: boot id, counter and LAN of a datagram whose signature was right, and whether it echoes this server's
own boot id; a verdict and the new state out. A datagram that is refused changes nothing.

Invariants, held by tests/unit/core/test_replay.py:

- no (boot, LAN, counter) is admitted twice;
- a boot is admitted on a LAN only from the first datagram on that LAN that echoes this server's present boot id, which
  is random and new, and nothing older than that one: so nothing that was recorded before this server started is ever
  admitted;
- a boot that another one has replaced is never admitted again.

The window is that of IPsec's anti-replay service (RFC 4303, section 3.4.3), one for each LAN.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

WINDOW = 64  # datagrams that may overtake each other
_ALL = (1 << WINDOW) - 1


@dataclass(frozen=True, slots=True)
class Guard:
    """What is remembered of one sender.

    :param boot: its present boot id, 0 before the first.
    :param windows: for each LAN the highest counter and a bit for each of the ``WINDOW`` counters up to it.
    """

    boot: int = 0
    windows: Mapping[int, tuple[int, int]] = field(default_factory=dict)
    retired: frozenset[int] = frozenset()


ADMITTED, REPLAYED, RETIRED, UNPROVEN = "admitted", "replayed", "boot", "unproven"


def admit(guard: Guard, boot: int, counter: int, lan: int, *, echoes: bool) -> tuple[Guard, str]:
    """Judge one authentic datagram.

    :param echoes: whether it repeats this server's present boot id.
    :return: the new state and ``ADMITTED``, ``REPLAYED``, ``RETIRED``, or ``UNPROVEN``: ask the sender for an echo.
    """
    if boot == guard.boot and lan in guard.windows:
        seen = _slide(guard.windows[lan], counter)
        if seen is None:
            return guard, REPLAYED
        return replace(guard, windows={**guard.windows, lan: seen}), ADMITTED
    if boot in guard.retired or boot == 0:
        return guard, RETIRED
    if not echoes:
        return guard, UNPROVEN
    first = {lan: (counter, _ALL)}  # what was sent before the echo may be as old as it likes
    if boot == guard.boot:
        return replace(guard, windows={**guard.windows, **first}), ADMITTED
    retired = guard.retired | {guard.boot} if guard.boot else guard.retired
    return Guard(boot, first, retired), ADMITTED


def _slide(window: tuple[int, int], counter: int) -> tuple[int, int] | None:
    """The window with this counter marked, or None when it was marked before or is too old."""
    top, bits = window
    if counter > top:
        shift = counter - top
        return counter, ((bits << shift if shift < WINDOW else 0) | 1) & _ALL
    behind = top - counter
    if behind >= WINDOW or bits >> behind & 1:
        return None
    return top, bits | 1 << behind
