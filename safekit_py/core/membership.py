"""Membership of a farm's group: who is alive, who coordinates, which view is in force, may this server take clients.

Flows through it: ticks of this server's clock, messages of the others and wishes of this server in; a new state and
commands out. No I/O, no clock: ``now`` is nanoseconds of a monotonic clock, given with each event.

How it works. Every pulse each server sends a heartbeat to every other. It says which servers it hears, and repeats the
freshest beat of every server it knows of, so that liveness spreads through a connected group even where two servers do
not hear each other. The lowest-numbered live server that has history (it holds a view) coordinates, those that take a
share before those that take none. It publishes a new view when the members, their powers or their data-plane addresses
change, and repeats it to those that lack it.

In a group of more than 16 what a server does in a pulse stays about the same (``core.overlay``): it sends to its
neighbours and to some others in turn, repeats what it knows of its neighbours and of some others in turn, and decides
once a pulse. What all must know at once (a changed power, a neighbour that is missed) goes to all for a few pulses.

Invariants, held by tests/unit/core/test_membership.py in simulations with loss, duplication, reordering, delay,
partitions (also one-way and partial), crashes, restarts and pauses of 2 to 40 servers:

- at any instant each bucket has at most one owner among the servers that share a view number: a number is never used
  for two views, because it holds the coordinator's boot id and that boot only counts up;
- once faults have ended, after ``settled_after(settings)`` each bucket has exactly one owner in each connected group
  (a server that hears others who do not hear it leaves the service to them);
- a leave moves only the leaver's buckets; shares follow power within 0.05 % (``core.buckets``);
- what a view takes from one member and gives to another is taken by the other only when the first has said that the
  view is in force there (``trail.admitted``): so also between views a bucket has no second owner;
- established connections stay where they are: ``core.trail`` says for each bucket who may hold some;
- a server that was away longer than its lease owns nothing until somebody has answered a beat it sent afterwards, or
  it has listened for ``coordinator_lost_after`` and knows of nobody who could answer.

Sources of the ideas: views and a coordinator from group-communication systems; the doubt in one's own clock from
Lifeguard (arXiv 1707.00788); the lease as dead-man's switch is this project's.
"""

from __future__ import annotations

from dataclasses import replace

from safekit_py.core import overlay, trail
from safekit_py.core.buckets import Table
from safekit_py.core.election import (
    apart,
    behind,
    elect,
    hears,
    living,
    lost,
    may_own,
    publish,
    waits_for_an_answer,
)
from safekit_py.core.group import (
    Command,
    Event,
    Heartbeat,
    Install,
    Known,
    Lease,
    Leave,
    Look,
    Note,
    Number,
    Received,
    Send,
    SetInfo,
    SetPowers,
    SetSettled,
    Settings,
    Tick,
    View,
)
from safekit_py.core.knowledge import NEVER, Peer, State
from safekit_py.core.telling import NEWS, audience, heartbeat, waiting_for


def settled_after(settings: Settings) -> int:
    """Nanoseconds after the last fault within which every connected group has one owner for each bucket."""
    turns = overlay.period(settings.nodes)  # what is far is missed, and found again, within two of them each
    return (3 * settings.slost + 3 * settings.mlost + 10 + 2 * len(settings.nodes) + 8 * turns) * settings.pulse


def next_loss(settings: Settings, state: State) -> int | None:
    """The instant at which the next of those that are alive is lost, if nothing is heard; None: nobody is.

    In a large group a loss is a matter of votes, which are counted once a pulse.
    """
    if settings.sparse:
        return None
    alive = living(settings, state, state.ticked)
    ends = [
        state.peers[server].alive_at
        + (settings.coordinator_lost_after if server == state.coordinator else settings.lost_after)
        for server in alive
    ]
    return min(ends, default=None)


def new(settings: Settings, boot: int, now: int) -> State:
    """A server that has just started: no history, traffic closed."""
    peers = {server: Peer(powers=(0,) * settings.groups) for server in settings.nodes if server != settings.me}
    return State(boot, now, now, powers=(0,) * settings.groups, peers=peers, news=settings.mlost + NEWS)


def step(settings: Settings, state: State, event: Event) -> tuple[State, tuple[Command, ...]]:
    """Take one event.

    :return: the new state, and what is to be done, in this order.
    """
    if not isinstance(event, Tick | Leave) and event.now - state.ticked > 2 * settings.pulse:
        # After a pause the clock comes first, whatever wakes this server: else it would accuse those whom it did not
        # listen to.
        state, first = _tick(settings, state, event.now)
        state, commands = _take(settings, state, event)
        return state, (*first, *commands)
    return _take(settings, state, event)


def _take(settings: Settings, state: State, event: Event) -> tuple[State, tuple[Command, ...]]:
    match event:
        case Tick(now):
            return _tick(settings, state, now)
        case Look(now):
            return _decide(settings, state, now)
        case Received(now, sender, boot, message):
            return _received(settings, state, now, sender, boot, message)
        case SetPowers(now, powers):
            return _decide(settings, replace(state, powers=powers), now)
        case SetInfo(now, info):
            return _decide(settings, replace(state, info=info), now)
        case SetSettled(now, epoch):
            return _decide(settings, replace(state, settled=epoch), now)
        case Leave(now):
            left = replace(state, leaving=True, beat=state.beat + 1, owning=False)
            installed = (Install(state.view, False),) if state.view and state.owning else ()
            return left, (Send(None, heartbeat(settings, left, now)), *installed)


# --- events -----------------------------------------------------------------------------------------


def _tick(settings: Settings, state: State, now: int) -> tuple[State, tuple[Command, ...]]:
    late = now - state.ticked - settings.pulse
    notes: tuple[Command, ...] = ()
    if late > settings.pulse:
        state = _forgive(settings, state, late, now)
        if now - state.ticked > settings.lease and state.peers:
            # Also when it was in doubt already: an answer from before this absence proves nothing.
            state = replace(state, doubt=state.beat + 1, doubted_at=now)
            notes = (Note(f"this server was away for {late // 1_000_000} ms and trusts itself only after an answer"),)
    state = replace(state, ticked=now, beat=state.beat + 1)
    if settings.sparse:
        state = replace(state, lost=lost(settings, state, now))
    state, commands = _decide(settings, state, now)
    out: list[Command] = [*notes, *commands]
    if settings.sparse:
        state, to = audience(settings, state, now)
        out.append(Send(to, heartbeat(settings, state, now)))
    else:
        out.append(Send(None, heartbeat(settings, state, now)))
    if not state.leaving and state.coordinator == settings.me and state.view:
        heard = hears(settings, state, now)
        lacking = tuple(
            server for server, peer in state.peers.items() if peer.number < state.number and heard >> server & 1
        )
        if lacking and not any(isinstance(c, Send) and isinstance(c.message, View) for c in commands):
            out.append(Send(lacking, state.view, urgent=True))
    if state.owning:
        out.append(Lease(now + settings.lease))
    return state, tuple(out)


def _forgive(settings: Settings, state: State, late: int, now: int) -> State:
    """A tick came late: this server heard nothing because it did not listen. Nobody is accused for that time.

    Nor is anybody who was alive before it accused now: what has come meanwhile is read only after this tick.
    """
    alive = set(living(settings, state, state.ticked))
    latest = now + settings.pulse - min(settings.lost_after, settings.coordinator_lost_after)

    def later(time: int) -> int:
        return time if time == NEVER else min(time + late, now)

    peers = {
        server: peer._replace(
            alive_at=max(later(peer.alive_at), latest) if server in alive else later(peer.alive_at),
            direct_at=later(peer.direct_at),
            linked_at=later(peer.linked_at),
            behind_at=later(peer.behind_at),
        )
        for server, peer in state.peers.items()
    }
    apart = {pair: later(since) for pair, since in state.apart.items()}
    return replace(state, peers=peers, apart=apart)


def _received(
    settings: Settings, state: State, now: int, sender: int, boot: int, message: Heartbeat | View
) -> tuple[State, tuple[Command, ...]]:
    if sender not in state.peers or state.leaving:
        return state, ()
    if isinstance(message, View):
        return _take_view(settings, state, now, sender, boot, message)
    old = state.peers[sender]
    if old.boot != boot:
        old = Peer(boot=boot, powers=(0,) * settings.groups, retired=old.retired | {old.boot})
    if message.beat <= old.beat and old.direct_at != NEVER:
        return state, ()  # overtaken on the way by a fresher one
    answers = bool(message.hears >> settings.me & 1)
    behind = message.number > state.number
    peer = old._replace(
        beat=max(old.beat, message.beat),
        history=message.history,
        leaving=message.leaving,
        ready=any(message.powers),
        alive_at=now,
        direct_at=now,
        linked_at=now if answers else old.linked_at,
        behind_at=(old.behind_at if old.behind_at != NEVER else now) if behind else NEVER,
        hears=message.hears,
        number=message.number,
        powers=message.powers,
        info=message.info,
        settled=message.settled,
    )
    peers = {**state.peers, sender: peer}
    told = 0
    for known in message.known:
        if known.server == settings.me:
            told = known.beat if known.boot == state.boot else 0
        elif known.server in peers and known.server != sender:
            peers[known.server] = _heard_of(settings, peers[known.server], known, sender, message.number, now)
    doubt = state.doubt
    sure = answers and told >= doubt and not message.doubt
    if doubt and sure and (message.number == state.number or state.coordinator == settings.me):
        doubt = 0
    state = replace(state, peers=peers, doubt=doubt)
    if settings.sparse and not message.leaving:
        return state, ()
    unchanged = doubt == 0 and (old.number, old.powers, old.info, old.leaving, old.hears, old.history) == (
        peer.number, peer.powers, peer.info, peer.leaving, peer.hears, peer.history
    )  # fmt: skip
    # What a heartbeat leaves as it was needs no decision before the next tick.
    return (state, ()) if unchanged and old.boot == boot else _decide(settings, state, now)


def _heard_of(settings: Settings, peer: Peer, known: Known, sender: int, number: Number, now: int) -> Peer:
    """Another server says what it knows of this one."""
    same = known.boot == peer.boot
    if settings.sparse and (known.accused or peer.accused):
        if sender in overlay.neighbours(settings.nodes, known.server):
            peer = _accused(peer, sender, known)
        if known.accused:
            return peer
    if not same or known.beat > peer.beat:
        peer = _told(settings, peer, known, now)
    if known.abreast and peer.number < number and known.boot == peer.boot:
        peer = peer._replace(number=number)
    return peer


def _accused(peer: Peer, accuser: int, known: Known) -> Peer:
    """A neighbour of the peer accuses it, or does no longer."""
    if known.accused and known.boot == peer.boot:
        return peer._replace(accused={**peer.accused, accuser: known.beat})
    if accuser in peer.accused:
        return peer._replace(accused={by: beat for by, beat in peer.accused.items() if by != accuser})
    return peer


def _told(settings: Settings, peer: Peer, known: Known, now: int) -> Peer:
    """Another server repeats the freshest beat that it knows of this one: of a later boot, or a later one."""
    if known.boot != peer.boot:
        if known.boot in peer.retired or now - peer.direct_at < settings.lost_after:
            return peer
        peer = Peer(boot=known.boot, powers=(0,) * settings.groups, retired=peer.retired | {peer.boot})
    return peer._replace(beat=known.beat, history=known.history, leaving=known.leaving, ready=known.ready, alive_at=now)


def _take_view(
    settings: Settings, state: State, now: int, sender: int, boot: int, view: View
) -> tuple[State, tuple[Command, ...]]:
    """A view counts only from the coordinator that this server elects, and only if it is newer."""
    peer = state.peers[sender]
    if peer.boot != boot:
        peer = Peer(boot=boot, powers=(0,) * settings.groups, retired=peer.retired | {peer.boot})
    # Who publishes is alive and has history, even if none of its heartbeats has come through yet.
    peer = peer._replace(alive_at=now, history=True, number=max(peer.number, view.number))
    heard = replace(state, peers={**state.peers, sender: peer})
    if view.number <= state.number or len(view.tables) != settings.groups or sender != elect(settings, heard, now):
        # Where heartbeats come seldom, its sender has not heard yet that this server has a view as new.
        known = settings.sparse and view.number <= state.number
        return state, ((Send((sender,), heartbeat(settings, state, now)),) if known else ())
    peers = {
        server: peer._replace(behind_at=NEVER) if peer.number <= view.number else peer
        for server, peer in heard.peers.items()
    }
    # The view does not end a doubt: only a heartbeat can say that it answers a beat sent after the doubt.
    state = replace(heard, view=view, peers=peers, coordinator=sender)
    state = replace(state, owning=may_own(settings, state, now))
    after, commands = _decide(settings, state, now)
    # The others wait for this word before they take what the view takes from this server.
    after = replace(after, beat=after.beat + 1, owed=NEWS)
    to = waiting_for(settings, after) if settings.sparse else None
    commands = (*commands, Send(to, heartbeat(settings, after, now), urgent=True))
    first = () if any(isinstance(c, Install) for c in commands) else (Install(view, after.owning, after.waiting),)
    return after, (*first, *commands)


# --- decisions --------------------------------------------------------------------------------------


def _decide(settings: Settings, state: State, now: int) -> tuple[State, tuple[Command, ...]]:
    if state.leaving:
        return state, ()
    out: list[Command] = []
    coordinator = elect(settings, state, now)
    if coordinator != state.coordinator:
        state = replace(state, coordinator=coordinator)
        if coordinator == settings.me:
            out.append(Note("this server coordinates the group"))
    published = None
    if coordinator == settings.me and not waits_for_an_answer(settings, state, now):
        state = replace(state, apart=apart(settings, state, now), doubt=0)
        published = publish(settings, state, now)
        if published:
            state = replace(state, view=published)
    owning = may_own(settings, state, now)
    waiting = behind(settings, state)
    if state.view and (published or owning != state.owning or (state.waiting and not waiting)):
        out.append(Install(state.view, owning, waiting))
    if published:  # in force here before anybody can know of it
        out.append(Send(None, published, urgent=True))
    state = replace(state, owning=owning, waiting=waiting)
    return state, tuple(out)


def owner_entries(view: View, group: int, *, owning: bool, me: int) -> bytes:
    """Owner and holders of each of a group's buckets as this server must apply them, four bytes each.

    While it may not own, this server is neither owner nor holder.
    """
    return trail.entries(view.tables[group], view.trail(group), without=None if owning else me)


__all__ = ["NEVER", "Peer", "State", "Table", "new", "next_loss", "owner_entries", "settled_after", "step"]
