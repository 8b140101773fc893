"""Who sends a heartbeat to whom, and who watches whom: what one server does in a pulse is bounded in any group.

Flows through it: the numbers of a group's servers in; neighbours, whose turn it is, and votes out.

Up to ``FULL`` servers each sends to every other, and is a neighbour of every other. In a larger group each has ``NEAR``
neighbours, to which it sends in every pulse, and it sends to ``TURN`` of the rest in turn: within ``period`` pulses any
two have exchanged heartbeats. Neighbours are found at fixed distances in the circle of all servers, which grow by a
constant factor: any server can be reached in few steps, and no rack that holds consecutive numbers holds all neighbours
of one. The graph is a circulant one (Boesch and Wang, "Super line-connectivity properties of circulant graphs", 1986).

In a large group a server that its neighbours miss is accused by them, before all others, and counts as lost when more
than half of its living neighbours accuse it. A vote cannot be won by one server whose own link has failed; the idea of
asking others before one accuses is that of SWIM (Das, Gupta, Motivala 2002), done here by counting.

Invariants, held by tests/unit/core/test_overlay.py for up to 250 servers:

- to be neighbours is mutual, and every server has min(n - 1, ``NEAR``) of them in a group larger than ``FULL``;
- within ``period`` pulses each server sends to every other, and in none to more than ``NEAR + TURN``;
- nobody is lost by vote without an accuser, nor while half of its living neighbours are silent about it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import lru_cache

FULL = 16  # servers up to which each sends to every other
NEAR = 12  # neighbours of each above that
TURN = 3  # of the others, in each pulse
TOLD = 24  # of the others of whom it repeats what it knows


def sparse(nodes: tuple[int, ...]) -> bool:
    """Whether the group is so large that not everybody sends to everybody in each pulse."""
    return len(nodes) > FULL


@lru_cache(maxsize=1024)
def neighbours(nodes: tuple[int, ...], server: int) -> frozenset[int]:
    """Those to whom a server sends in every pulse, and who watch it."""
    count = len(nodes)
    if not sparse(nodes):
        return frozenset(nodes) - {server}
    at = nodes.index(server)
    return frozenset(nodes[(at + way * far) % count] for far in _distances(count) for way in (1, -1))


@lru_cache(maxsize=64)
def _distances(count: int) -> tuple[int, ...]:
    """Half of ``NEAR`` distances from 1 to below half of the circle, each about the same factor further."""
    half = NEAR // 2
    most = (count - 1) // 2
    found: list[int] = []
    for step in range(half):
        wanted = round(most ** (step / (half - 0.5)))
        found.append(min(max(wanted, found[-1] + 1 if found else 1), most - (half - 1 - step)))
    return tuple(found)


@lru_cache(maxsize=1024)
def _others(nodes: tuple[int, ...], server: int) -> tuple[int, ...]:
    """Those that are not neighbours, in the order of the circle from this server on."""
    at = nodes.index(server)
    near = neighbours(nodes, server)
    return tuple(other for other in nodes[at + 1 :] + nodes[:at] if other not in near)


def in_turn(nodes: tuple[int, ...], server: int, beat: int) -> tuple[int, ...]:
    """Those of the others to whom it sends with this beat; all servers' turns together hit each about as often."""
    others = _others(nodes, server)
    if not others:
        return ()
    return tuple(dict.fromkeys(others[(beat * TURN + place) % len(others)] for place in range(TURN)))


def told(nodes: tuple[int, ...], server: int, beat: int) -> tuple[int, ...]:
    """Those of whom it repeats with this beat what it knows: neighbours, whom it sends to, and ``TOLD`` in turn."""
    others = _others(nodes, server)
    repeated = {others[(beat * TOLD + place) % len(others)] for place in range(TOLD)} if others else set()
    return tuple(sorted(neighbours(nodes, server) | repeated | {*in_turn(nodes, server, beat)}))


def period(nodes: tuple[int, ...]) -> int:
    """Pulses in which everybody's turn has come once; 0 where all send to all."""
    others = len(nodes) - 1 - NEAR if sparse(nodes) else 0
    return -(-others // TURN)


def outvoted(
    nodes: tuple[int, ...], accusers: Mapping[int, Collection[int]], living: Collection[int]
) -> frozenset[int]:
    """The servers that are lost by vote.

    :param accusers: those of its neighbours that miss a server, for each that is missed by one at least.
    :param living: who else may vote; whoever is lost by this vote may not.
    """
    gone: set[int] = set()
    while True:
        more = set()
        for server, against in accusers.items():
            if server not in gone:
                voters = [each for each in neighbours(nodes, server) if each in living and each not in gone]
                if 2 * sum(each in against for each in voters) > len(voters):
                    more.add(server)
        if not more:
            return frozenset(gone)
        gone |= more
