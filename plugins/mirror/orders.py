"""Whether what a person orders is possible now, and what it would discard. Pure; ``roles`` decides what follows."""

from __future__ import annotations

from safekit_py.api import Problem, Readiness, State, StateError

from .generation import compare
from .roles import SERVES, Decision, Side


def command(me: Side, peer: Side | None, verb: str) -> Decision:
    """Whether a person's command is possible now, and what it discards; its ``goal`` is what it leads to.

    :raises StateError: it is not.
    """
    if verb == "swap":
        return _swap(me, peer)
    if me.state in (*SERVES, State.SECOND):
        text = f"this server is {me.state} already"
        raise StateError(Problem("mirror.running", text, "safekit-py swap exchanges the roles; or stop it first"))
    if verb.startswith("prim"):
        return _prim(me, peer, verb)
    full = verb in ("second fullsync", "secondforce")
    discards = "the data of this server: they are replaced by those of the primary" if full else ""
    return Decision(State.SECOND, "it becomes the secondary when there is a primary", discards=discards)


def _prim(me: Side, peer: Side | None, verb: str) -> Decision:
    if peer is not None and peer.state in SERVES:
        text = "the other server is primary"
        raise StateError(
            Problem("mirror.other-is-primary", text, "stop it there first, or start this one as secondary")
        )
    mine = me.generation
    if verb.startswith("primforce"):
        return Decision(
            State.ALONE, "it becomes primary", discards="whatever the other server has and this one has not"
        )
    if mine.data and not mine.uptodate:
        text = "the data of this server are not up to date"
        raise StateError(Problem("mirror.not-uptodate", text, "start the other server; or safekit-py primforce here"))
    if peer is not None and compare(mine, peer.generation).kind == "theirs":
        text = "the other server has newer data"
        raise StateError(Problem("mirror.not-uptodate", text, "start the other server; or safekit-py primforce here"))
    discards = "what the other server may have written since it was last seen" if mine.shared and peer is None else ""
    return Decision(State.ALONE, "it becomes primary", discards=discards)


def _swap(me: Side, peer: Side | None) -> Decision:
    pair = {me.state, peer.state} if peer is not None else set()
    ready = peer is not None and {me.readiness, peer.readiness} == {Readiness.READY}
    if pair != {State.PRIM, State.SECOND} or not ready or not me.connected:
        state = f"{me.state} {me.readiness}"
        other = f"{peer.state} {peer.readiness}" if peer is not None else "not heard"
        text = f"the roles are exchanged between PRIM Ready and SECOND Ready: here it is {state}, there {other}"
        raise StateError(
            Problem("mirror.no-swap", text, "wait until both are Ready: safekit-py status on both servers")
        )
    return Decision(State.SECOND if me.state is State.PRIM else State.PRIM, "the two servers exchange their roles")
