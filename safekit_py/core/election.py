"""What follows from what a server knows of its group: who is alive, who coordinates, who belongs to the next view.

Flows through it: the state of ``core.knowledge`` in, an answer out; nothing is changed. ``core.membership`` asks, and
states the invariants.
"""

from __future__ import annotations

from collections.abc import Iterable

from safekit_py.core import overlay
from safekit_py.core.buckets import Table, assign
from safekit_py.core.group import Member, Number, Settings, View
from safekit_py.core.knowledge import NEVER, State
from safekit_py.core.trail import Present, Trail, follow


def living(settings: Settings, state: State, now: int) -> list[int]:
    """The others that are alive, by number."""
    late = now - (settings.far_lost_after if settings.sparse else settings.lost_after)
    found = [s for s, p in state.peers.items() if p.alive_at > late and not p.leaving and s not in state.lost]
    leader = state.coordinator
    if not settings.sparse and leader is not None and leader != settings.me:
        peer, late = state.peers[leader], now - settings.coordinator_lost_after
        found = [s for s in found if s != leader]
        found += [leader] if peer.alive_at > late and not peer.leaving else []
    return sorted(found)


def missed_after(settings: Settings, state: State, server: int) -> int:
    """Silence after which a neighbour is missed."""
    return settings.coordinator_lost_after if server == state.coordinator else settings.lost_after


def missed(settings: Settings, state: State, now: int) -> frozenset[int]:
    """The neighbours that this server accuses, in a large group, of being silent."""
    peers = ((server, state.peers[server]) for server in settings.near)
    return frozenset(
        server
        for server, peer in peers
        if peer.boot and not peer.leaving and now - peer.alive_at >= missed_after(settings, state, server)
    )


def lost(settings: Settings, state: State, now: int) -> frozenset[int]:
    """The servers that are lost by vote, in a large group."""
    mine = missed(settings, state, now)
    accusers: dict[int, set[int]] = {server: {settings.me} for server in mine}
    for server, peer in state.peers.items():
        # Who knows of later beats than the accuser does not believe it.
        against = {accuser for accuser, beat in peer.accused.items() if peer.beat < beat + settings.slost}
        if against:
            accusers.setdefault(server, set()).update(against)
    if not accusers:
        return frozenset()
    alive = {s for s, p in state.peers.items() if now - p.alive_at < settings.far_lost_after and not p.leaving}
    return overlay.outvoted(settings.nodes, accusers, alive | {settings.me})


def _heard_within(settings: Settings, server: int) -> int:
    """Silence after which two servers, one of which is this one, no longer hear each other."""
    return settings.lost_after if server in settings.near else settings.far_lost_after


def hears(settings: Settings, state: State, now: int) -> int:
    """Bit n is set when this server hears server n itself; one that is no neighbour learns early that it does not."""
    late, far = now - settings.lost_after, now - settings.far_lost_after // 2
    found = 0
    for server, peer in state.peers.items():
        if peer.direct_at > late or (peer.direct_at > far and server not in settings.near):
            found |= 1 << server
    return found


def linked(settings: Settings, state: State, server: int, now: int) -> bool:
    """Whether this server and another one hear each other."""
    return now - state.peers[server].linked_at < _heard_within(settings, server)


def elect(settings: Settings, state: State, now: int) -> int | None:
    """The coordinator in this server's eyes; None while it still listens.

    Servers that take a share come first: were one that takes none to coordinate, a partial cut between it and the only
    one that does would leave the group without an owner.
    """
    alive = living(settings, state, now)
    candidates = [server for server in alive if state.peers[server].history]
    if has_history(settings, state, now):
        candidates.append(settings.me)
    if not candidates:
        if now - state.began < settings.coordinator_lost_after:
            return None
        candidates = [*alive, settings.me]
    return min(candidates, key=lambda server: (not _ready(settings, state, server), server))


def _ready(settings: Settings, state: State, server: int) -> bool:
    return any(state.powers) if server == settings.me else state.peers[server].ready


def has_history(settings: Settings, state: State, now: int) -> bool:
    """Whether this server may coordinate: it holds a view, and has listened long enough to know who is there.

    Not while somebody who may has a later view: what was built on the older one would leave out what has moved since.
    """
    if state.view is None or now - state.began < settings.coordinator_lost_after:
        return False
    mine = state.view.number
    alive = living(settings, state, now)
    return not any(state.peers[server].history and state.peers[server].number > mine for server in alive)


def may_own(settings: Settings, state: State, now: int) -> bool:
    """Whether this server may take what its view gives it."""
    if state.doubt or state.leaving or state.view is None or not state.view.has(settings.me):
        return False
    if state.coordinator == settings.me:
        return True
    if state.coordinator is None:
        return False
    leader = state.peers[state.coordinator]
    limit = settings.coordinator_lost_after
    if leader.behind_at != NEVER and now - leader.behind_at >= limit:
        return False
    if state.coordinator in settings.near:
        return now - leader.linked_at < limit
    # A coordinator that is no neighbour is heard in turn only; that anybody hears this server, neighbours say.
    answered = any(linked(settings, state, server, now) for server in settings.near)
    return answered and linked(settings, state, state.coordinator, now)


def behind(settings: Settings, state: State) -> frozenset[int]:
    """The other members of the view that have not said yet that it, or a later one, is in force there."""
    if state.view is None:
        return frozenset()
    mine = state.view.number
    others = (member.server for member in state.view.members if member.server != settings.me)
    return frozenset(server for server in others if state.peers[server].number < mine)


def waits_for_an_answer(settings: Settings, state: State, now: int) -> bool:
    """In doubt, and there is somebody who could answer, or it has not listened long enough to say that there is not.

    After twice the detection time all that was believed before the doubt is forgotten: then somebody who is heard
    without hearing this server, or who is in doubt too, is no reason to wait on.
    """
    if not state.doubt:
        return False
    since = now - state.doubted_at
    limit = settings.coordinator_lost_after
    return since < limit or (since < 2 * limit and bool(living(settings, state, now)))


def _linked(settings: Settings, state: State, one: int, other: int, now: int) -> bool:
    """Whether two servers hear each other, as far as this one knows."""
    if settings.me in (one, other):
        return linked(settings, state, other if one == settings.me else one, now)
    return bool(state.peers[one].hears >> other & 1 and state.peers[other].hears >> one & 1)


def apart(settings: Settings, state: State, now: int) -> dict[tuple[int, int], int]:
    """Pairs of members that do not hear each other, each with the time since when."""
    members = sorted({settings.me, *(m.server for m in state.view.members)}) if state.view else []
    alive = {*living(settings, state, now), settings.me}.intersection(members)
    return {pair: state.apart.get(pair, now) for pair in _unlinked(settings, state, alive, now)}


def _unlinked(settings: Settings, state: State, servers: Iterable[int], now: int) -> set[tuple[int, int]]:
    """Pairs of servers that do not hear each other.

    In a large group only this server and its links, and neighbours, are judged: of others nobody knows it in time.
    """
    among = sorted(servers)
    found = set()
    for one in among:
        watched = (
            {*among} - {one} if one == settings.me else overlay.neighbours(settings.nodes, one).intersection(among)
        )
        for other in watched:
            if (one < other or one == settings.me) and not _linked(settings, state, one, other, now):
                found.add((min(one, other), max(one, other)))
    return found


def _members(settings: Settings, state: State, now: int) -> list[int]:
    """The coordinator and those that hear it and each other: members first, the lower number first.

    Present members are given ``lost_after`` to hear each other again: when a server dies, the first who notices must
    not be taken for the one that is cut off, and a new coordinator needs a pulse or two to see who hears whom.
    """
    present = {settings.me, *(m.server for m in state.view.members)} if state.view else set()
    alive = living(settings, state, now)

    def excused(pair: tuple[int, int]) -> bool:
        return present.issuperset(pair) and now - state.apart.get(pair, now) < settings.lost_after

    unlinked = {pair for pair in _unlinked(settings, state, {*alive, settings.me}, now) if not excused(pair)}
    without: dict[int, set[int]] = {}
    for one, other in unlinked:
        without.setdefault(one, set()).add(other)
        without.setdefault(other, set()).add(one)
    chosen = {settings.me}
    # Present members first: one who joins must hear them all before it is let in, and displaces nobody.
    for server in sorted(alive, key=lambda server: (server not in present, server)):
        if not chosen & without.get(server, set()):
            chosen.add(server)
    return sorted(chosen)


def publish(settings: Settings, state: State, now: int) -> View | None:
    """The next view, if the present one is no longer right."""
    members = tuple(_member(settings, state, server) for server in _members(settings, state, now))
    known = max(settings.lost_after, settings.far_lost_after if settings.sparse else 0)
    newest = max([state.number, *(p.number for p in state.peers.values() if now - p.alive_at < known)])
    old = state.view
    settled = _settled(settings, state)
    if old and old.members == members and newest == state.number and not settled:
        return None
    tables = []
    for group in range(settings.groups):
        before = {m.server: m.powers[group] for m in old.members} if old else {}
        powers = {m.server: m.powers[group] for m in members}
        tables.append(assign(old.tables[group] if old else None, before, powers))
    present = {m.server for m in members}
    joined = present - {m.server for m in old.members} if old else present
    trails = [
        follow(
            old.tables[group] if old else Table(),
            old.trail(group) if old else Trail(),
            table,
            Present(present, joined, settled),
        )
        for group, table in enumerate(tables)
    ]
    number = Number(newest.epoch + 1, settings.me, state.boot)
    return View(number, members, tuple(tables), _cause(old, members, settled), tuple(trails))


def _settled(settings: Settings, state: State) -> list[int]:
    """The holders that hold nothing any more: those that said so of the very view that is in force."""
    if state.view is None:
        return []
    epoch = state.view.number.epoch
    found = []
    for server in state.view.holders():
        if server == settings.me:
            said = state.settled == epoch
        else:
            peer = state.peers[server]
            said = peer.settled == epoch and peer.number == state.view.number
        if said:
            found.append(server)
    return sorted(found)


def _member(settings: Settings, state: State, server: int) -> Member:
    if server == settings.me:
        return Member(server, state.powers, state.info)
    peer = state.peers[server]
    if (
        peer.direct_at == NEVER and state.view
    ):  # a new coordinator goes by the view until it has heard the member itself
        return next((m for m in state.view.members if m.server == server), Member(server, peer.powers, peer.info))
    return Member(server, peer.powers, peer.info)


def _cause(old: View | None, members: tuple[Member, ...], settled: list[int]) -> str:
    """What changed, in a few words; servers by number."""
    before = {m.server: m for m in old.members} if old else {}
    after = {m.server: m for m in members}
    words = [f"join {s}" for s in after if s not in before] + [f"lost {s}" for s in before if s not in after]
    for server in before.keys() & after.keys():
        if before[server].powers != after[server].powers:
            change = ",".join(map(str, before[server].powers)), ",".join(map(str, after[server].powers))
            words.append(f"power {server} {change[0]}->{change[1]}")
    if not words:
        words = [f"settled {server}" for server in settled]
    return ", ".join(words) or "another history was merged"
