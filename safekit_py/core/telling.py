"""What a server tells in a heartbeat, and whom: all others, or in a large group some.

Flows through it: the state of ``core.knowledge`` in, heartbeats and their receivers out. ``core.membership`` asks, and
states the invariants; ``core.overlay`` says who is whose neighbour, and whose turn it is.
"""

from __future__ import annotations

from dataclasses import replace

from safekit_py.core import overlay, trail
from safekit_py.core.election import has_history, hears, living, missed
from safekit_py.core.group import Heartbeat, Known, Settings
from safekit_py.core.knowledge import Peer, State

NEWS = 4  # pulses for which what all must know is sent to all, in a large group: datagrams get lost


def waiting_for(settings: Settings, state: State) -> tuple[int, ...]:
    """Who waits for the word that the view is in force here: the coordinator, and owners of what was this server's."""
    assert state.view is not None
    servers = {state.view.number.coordinator}
    for group, table in enumerate(state.view.tables):
        servers |= trail.successors(table, state.view.trail(group), settings.me)
    return tuple(sorted(servers - {settings.me}))


def audience(settings: Settings, state: State, now: int) -> tuple[State, tuple[int, ...] | None]:
    """To whom this pulse's heartbeat goes in a large group; None: to all."""
    near = settings.near
    heard = hears(settings, state, now) & sum(1 << server for server in near)
    history = has_history(settings, state, now)
    said = state.powers, state.info, state.settled, history, heard, missed(settings, state, now)
    news = max(state.news, 0 if state.said in ((), said) else NEWS)
    state = replace(state, said=said, news=max(0, news - 1))
    if news:
        return state, None
    to = {*near, *overlay.in_turn(settings.nodes, settings.me, state.beat)}
    if state.owed and state.view:
        to |= {*waiting_for(settings, state)}
        state = replace(state, owed=state.owed - 1)
    # The coordinator and another must hear each other: when a turn was in vain, they do not wait for the next. Whoever
    # joins is sent to at once by that: else each would need a view of its own.
    to |= {server for server in _bound(settings, state, now) if _unsure(settings, state.peers[server], now)}
    return state, tuple(sorted(to))


def _bound(settings: Settings, state: State, now: int) -> list[int]:
    """Those that must hear this server, and it them: of the coordinator all others, of another one the coordinator."""
    if state.coordinator == settings.me:
        return living(settings, state, now)
    return [] if state.coordinator is None else [state.coordinator]


def _unsure(settings: Settings, peer: Peer, now: int) -> bool:
    """Whether it last said that it does not hear this server, or has not said that it does when its turn was."""
    return peer.linked_at < peer.direct_at or now - peer.linked_at >= settings.far_lost_after // 2


def _known(settings: Settings, state: State, now: int) -> tuple[Known, ...]:
    """What a heartbeat repeats of the others: all of them, or in a large group neighbours and some others."""
    servers = state.peers.keys() if not settings.sparse else overlay.told(settings.nodes, settings.me, state.beat)
    accused = missed(settings, state, now) if settings.sparse else frozenset()
    limit = settings.far_lost_after if settings.sparse else settings.lost_after
    found = []
    for server in servers:
        peer = state.peers[server]
        if now - peer.alive_at < limit or server in accused:
            abreast = state.view is not None and peer.number >= state.number
            flags = peer.history, peer.leaving, peer.ready, server in accused, abreast
            found.append(Known(server, peer.boot, peer.beat, *flags))
    return tuple(found)


def heartbeat(settings: Settings, state: State, now: int) -> Heartbeat:
    """This server's next one."""
    history = has_history(settings, state, now)
    return Heartbeat(
        state.beat,
        state.number,
        state.leaving,
        state.powers,
        state.info,
        hears(settings, state, now),
        _known(settings, state, now),
        history,
        bool(state.doubt),
        state.settled,
    )
