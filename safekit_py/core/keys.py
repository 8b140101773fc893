"""The cluster's keys: which one signs for whom, which ones verify, and when an old one may go. Pure.

Flows through it: rings of keys in, changed ones out; what another server says that it holds in, the key that signs what
is for it out; when which server has signed with what in, those for whose sake the old keys must stay out.

A new key is added to the ring of each server in turn, in any order. Every datagram names the keys that its sender
holds, so nobody has to decide for all: what is for a server is signed with the newest key that it says it holds. The
old ones go when every other server has signed with the newest for a while.

Invariants, held by tests/unit/core/test_keys.py, whatever the order in which keys are made, copied and dropped, and
whatever is lost, comes late or is started again:

- what is signed for a server that has said what it holds can be verified by it: no heartbeat is missed;
- two servers that hold a common key understand each other as soon as one datagram of each has had its turn;
- rings that have taken each other's keys are equal, also when two administrators made a key at the same time;
- the origin never changes: what is made of it, as a farm's hash, stays as it is through every rotation.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from safekit_py.model.keys import Key, Ring, ring_of

QUIET = 600.0  # seconds for which the others must have signed with the newest key alone before the old ones go
Who = TypeVar("Who")


def rotated(ring: Ring, secret: bytes) -> Ring:
    """The ring with one more key, the newest."""
    return ring_of(ring.origin, (*ring.keys, Key(ring.newest.number + 1, secret)))


def merged(mine: Ring, theirs: Ring) -> Ring:
    """What a server holds after it has been given another one's keys; those that it has dropped stay dropped.

    :raises ValueError: they are those of another cluster.
    """
    if mine.origin != theirs.origin:
        raise ValueError("another origin")
    return ring_of(mine.origin, (*mine.keys, *(key for key in theirs.keys if key.number >= mine.oldest.number)))


def dropped(ring: Ring) -> Ring:
    """The ring with its newest key alone."""
    return Ring(ring.origin, ring.keys[-1:])


def choose(ring: Ring, holds: Collection[bytes], attempt: int = 0) -> Key:
    """The key that signs what is for somebody.

    :param holds: the names of the keys that it has said it holds; empty when it has said nothing.
    :param attempt: counts what was sent to it in vain: where nothing is known, each key has its turn, the oldest first,
        which a server that was away during a rotation has too.
    """
    common = [key for key in ring.keys if key.name in holds]
    return common[-1] if common else ring.keys[attempt % len(ring.keys)]


@dataclass(frozen=True, slots=True)
class Heard:
    """What is known of another server's keys.

    :param holds: the names of those that it held when it was heard last; the one that it signed with comes first.
    :param signed: for each that it has signed with, when it did so first and last, in seconds.
    """

    holds: tuple[bytes, ...] = ()
    signed: Mapping[bytes, tuple[float, float]] = field(default_factory=dict)


def awaited(ring: Ring, others: Mapping[Who, Heard], now: float, quiet: float = QUIET) -> frozenset[Who]:
    """Those of the others for whose sake the old keys must stay.

    :param quiet: seconds for which all must have signed with the newest key and with no other.
    """
    newest, older = ring.newest.name, [key.name for key in ring.keys[:-1]]

    def ready(heard: Heard) -> bool:
        if newest not in heard.holds or newest not in heard.signed:
            return False
        last = max((heard.signed[name][1] for name in older if name in heard.signed), default=heard.signed[newest][0])
        return now - max(last, heard.signed[newest][0]) >= quiet

    return frozenset(who for who, heard in others.items() if not ready(heard))
