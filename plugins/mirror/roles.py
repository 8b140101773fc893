"""Who may be primary: the decisions of a mirror's two servers, as pure functions of what both say.

Flows through it: the sides of both servers, what the configuration says, whether the other one has been silent for the
heart's timeout, and a witness's answer in; a decision out.

Invariants, held by tests/unit/plugins/mirror/test_exploration.py in every history of a small model:

- with a witness, or with ``isolation="wait"``, at most one server acknowledges writes at every instant;
- a server becomes primary without a person's word only with data that hold every acknowledged write, or, without a
  witness and with ``isolation="alone"``, with data that both servers see to have diverged;
- a server that is not up to date never becomes primary without a person's word.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from safekit_py.api import Readiness, State

from .generation import Generation, compare

SERVES = (State.PRIM, State.ALONE)
IDLE = (State.WAIT, State.STOP)


@dataclass(frozen=True, slots=True)
class Side:
    """One server, as it says itself.

    :param heard: always true of a side that is there.
    :param frozen: it is primary and acknowledges nothing: it lost the other's replication, or its lease.
    :param connected: the two images are the same and stay so.
    :param leaving: it holds neither the address nor mounted data.
    :param outdated_for: the data against which it has durably noted that it is outdated.
    :param claim: a number while it is about to become primary; 0 otherwise.
    :param yields: the other's claim that it accepts.
    :param began: the state in which it was when it became ALONE.
    :param wish: what a person asked it for: prim, primforce, second, secondforce, or nothing.
    """

    node: int
    state: State
    readiness: Readiness
    generation: Generation
    heard: bool = True
    frozen: bool = False
    connected: bool = False
    leaving: bool = True
    outdated_for: str = ""
    claim: int = 0
    yields: int = 0
    began: State | None = None
    wish: str = ""


@dataclass(frozen=True, slots=True)
class Rules:
    """What the configuration says.

    :param witness: whether a witness decides between servers that lose each other.
    :param isolation: what a secondary does that lost its primary without a witness: ``alone`` or ``wait``.
    :param node: the server that ``defaultprim`` names, or -1.
    :param failover: whether a secondary takes over by itself.
    :param provable: whether the witness's word that it knows of no newer data proves that there are none: it remembers
        data, and a secondary has on disk, not only in memory, what was acknowledged (``async="none"``).
    """

    witness: bool = False
    isolation: str = "alone"
    node: int = -1
    failover: bool = True
    provable: bool = True


@dataclass(frozen=True, slots=True)
class Decision:
    """What follows.

    :param goal: the state to be in.
    :param new_data: a new identifier of the data begins with it.
    :param lease: a witness must grant it first; ask again with its answer.
    :param known: the witness must already know of data: only so does its grant say that there are none newer.
    :param claim: tell the other server that this one is about to become primary.
    :param yields: accept the other's claim.
    :param outdate: note durably that this server is outdated, and tell the other.
    :param fullsync: everything is taken anew.
    :param aside: what the primary has not is kept before it is overwritten.
    :param discards: for a person's command: the data that are given up by it.
    """

    goal: State
    reason: str
    remedy: str = ""
    new_data: bool = False
    lease: bool = False
    known: bool = False
    claim: bool = False
    yields: bool = False
    outdate: bool = False
    fullsync: bool = False
    aside: bool = False
    discards: str = ""


def elect(me: Side, peer: Side | None, rules: Rules, *, silent: bool, granted: bool | None) -> Decision:
    """What a server in WAIT does.

    :param peer: the other server, None while it has not been heard within the timeout.
    :param silent: it has been listened for that long.
    :param granted: a witness's answer, None when it was not asked.
    """
    if peer is not None and peer.state in SERVES:
        return _join(me, peer)
    if peer is not None and peer.state is State.SECOND:
        if peer.generation.uptodate:
            return _wait("the other server takes over")
        return _wait("the other server gives up being the secondary")
    if peer is not None and peer.state is State.WAIT:
        return _settle(me, peer, rules, granted)
    return _by_itself(me, rules, granted, silent=silent)


def _wait(reason: str, remedy: str = "", *, yields: bool = False) -> Decision:
    return Decision(State.WAIT, reason, remedy, yields=yields)


def _by_itself(me: Side, rules: Rules, granted: bool | None, *, silent: bool) -> Decision:
    """Nobody else is there."""
    mine = me.generation
    if me.wish == "primforce" or (me.wish == "prim" and (mine.uptodate or not mine.data)):
        return _rise(me, rules, granted, "asked by a person", new=mine.shared or not mine.uptodate)
    if me.wish == "prim":
        return _wait("the data of this server are not up to date", "start the other server, or safekit-py primforce")
    if me.wish.startswith("second"):
        return _wait("there is no primary yet", "start the other server")
    if not silent:
        return _wait("it listens for the other server")
    if not mine.data:
        return _wait("there are no data yet", "safekit-py prim on the server that has them, second on the other")
    if not mine.uptodate:
        return _wait("the data of this server are not up to date", "start the other server, or safekit-py primforce")
    if mine.shared and rules.witness and rules.provable:
        # The witness was told of newer data before anything was acknowledged with them; and what was acknowledged
        # before is on this disk, whatever has happened to this server's memory.
        return replace(_rise(me, rules, granted, "the witness knows of no newer data", new=True), known=True)
    if mine.shared:
        return _wait("the data of the other server may be newer", "start the other server, or safekit-py prim here")
    return _rise(me, rules, granted, "this server alone has the newest data", new=False)


def _rise(me: Side, rules: Rules, granted: bool | None, reason: str, *, new: bool) -> Decision:
    if rules.witness and granted is False:
        remedy = "it asks again; it needs the other server, or the witness's answer"
        return _wait("the witness does not let this server become primary", remedy)
    return Decision(
        State.ALONE, reason, new_data=new or not me.generation.data, lease=rules.witness and granted is None
    )


def _join(me: Side, peer: Side) -> Decision:
    """The other server is primary."""
    if me.wish in ("prim", "primforce"):
        return _wait("the other server is primary", "stop it first, or start this one as secondary")
    kind = compare(me.generation, peer.generation).kind
    forced = me.wish == "secondforce"
    if forced:
        return Decision(State.SECOND, "asked by a person", fullsync=True, aside=kind in ("diverged", "mine"))
    if kind == "unrelated":
        return _wait(
            "the data of the two servers have nothing in common",
            "safekit-py second NAME fullsync gives up those of this server",
        )
    if kind == "mine":
        return _wait(
            "the other server was made primary with older data than this one has",
            "safekit-py second NAME fullsync gives up those of this server",
        )
    if kind == "diverged":
        reason = "both servers went on alone; what only this one has is kept aside"
        return Decision(State.SECOND, reason, aside=True, outdate=True)
    # The primary may be lost before the first byte of the resynchronisation: its data would be newer all the same.
    return Decision(State.SECOND, "the other server is primary", fullsync=kind == "none", outdate=kind == "theirs")


def _settle(me: Side, peer: Side, rules: Rules, granted: bool | None) -> Decision:
    """Both wait and hear each other: one of them rises, once the other has accepted it."""
    leader, reason, remedy = _leader(me, peer, rules)
    if leader is None:
        return _wait(reason, remedy)
    if leader != me.node:
        return _wait(reason, yields=True)
    if not me.claim or peer.yields != me.claim:
        return Decision(State.WAIT, reason, claim=True)
    mine = me.generation
    new = mine.shared or not mine.uptodate or compare(mine, peer.generation).kind == "same"
    risen = _rise(me, rules, granted, reason, new=new)
    return (
        risen
        if risen.goal is State.WAIT
        else Decision(risen.goal, reason, new_data=risen.new_data, lease=risen.lease, claim=True)
    )


def _leader(me: Side, peer: Side, rules: Rules) -> tuple[int | None, str, str]:
    """The server that rises; the same on both sides, since it looks at both alike."""
    low, high = sorted((me, peer), key=lambda side: side.node)
    forced = [each for each in (low, high) if each.wish == "primforce"]
    if forced:
        return forced[0].node, "asked by a person", ""
    kind = compare(low.generation, high.generation).kind
    newer = {"mine": low, "theirs": high}.get(kind)
    wished = [each for each in (low, high) if each.wish == "prim" and newer in (None, each)]
    wished = [each for each in wished if each.generation.uptodate or not each.generation.data]
    if wished and not (kind == "none" and wished[0].generation.data == "" and _other(wished[0], low, high).data):
        return wished[0].node, "asked by a person", ""
    if newer is not None:
        return _if_uptodate(newer, "it has the newest data")
    if kind == "unrelated":
        remedy = "safekit-py primforce on the server whose data are right, second NAME fullsync on the other"
        return None, "the data of the two servers have nothing in common", remedy
    if kind == "none":
        owners = [each for each in (low, high) if each.generation.data]
        if not owners:
            return None, "there are no data yet", "safekit-py prim on the server that has them, second on the other"
        return _if_uptodate(owners[0], "it alone has data")
    if kind == "diverged":
        # One that is not up to date has had a part of its data replaced by the other's already.
        fit = [each for each in (low, high) if each.generation.uptodate]
        stays = fit[0] if len(fit) == 1 else _stays(low, high)
        return _if_uptodate(stays, "both servers went on alone: what only the other one has is kept aside")
    return _of_equals(low, high, rules)


def _other(side: Side, low: Side, high: Side) -> Generation:
    return (high if side is low else low).generation


def _if_uptodate(side: Side, reason: str) -> tuple[int | None, str, str]:
    if side.generation.uptodate:
        return side.node, reason, ""
    return None, "neither server has data that are up to date", "safekit-py primforce on the better one"


def _of_equals(low: Side, high: Side, rules: Rules) -> tuple[int | None, str, str]:
    fit = [each for each in (low, high) if each.generation.uptodate]
    if not fit:
        return None, "neither server has data that are up to date", "safekit-py primforce on the better one"
    if len(fit) == 1:
        return fit[0].node, "it alone is up to date", ""
    wanted = [each for each in fit if not each.wish.startswith("second")] or fit
    was = [each for each in wanted if each.generation.primary]
    if len(was) == 1:
        return was[0].node, "it was the primary", ""
    named = [each for each in wanted if each.node == rules.node]
    return (named or wanted)[0].node, "both servers have the same data", ""


def _stays(one: Side, other: Side) -> Side:
    """Of two servers that both went on alone, the one whose data are kept in place."""
    return min(one, other, key=lambda s: (s.began is not State.PRIM, -len(s.generation.history), s.node))


def react(me: Side, peer: Side | None, rules: Rules, *, silent: bool, granted: bool | None) -> Decision:
    """What a server in PRIM, ALONE or SECOND does; the parameters are those of :func:`elect`."""
    if me.state not in (*SERVES, State.SECOND):
        return Decision(me.state, "")
    if me.state is State.SECOND:
        return _as_second(me, peer, rules, granted, silent=silent)
    if peer is not None and peer.state in SERVES:
        kept = {"mine": True, "theirs": False}.get(compare(me.generation, peer.generation).kind)
        if kept is None:
            kept = _stays(*sorted((me, peer), key=lambda side: side.node)).node == me.node
        if not kept:
            return _wait("both servers are primary: this one gives way")
        return Decision(me.state, "both servers are primary: the other one gives way")
    if me.state is State.ALONE and not (me.frozen and me.generation.shared):
        return _as_alone(me, rules, granted)
    if not me.frozen or me.connected:
        return Decision(State.PRIM, "")
    if peer is None:
        if not silent:
            return Decision(State.PRIM, "it waits to hear the other server")
        return _go_on(rules, granted, "the secondary is lost")
    if peer.outdated_for == me.generation.data or peer.state in IDLE:
        return _go_on(rules, granted, "the secondary does not replicate any more and knows that it is outdated")
    return Decision(State.PRIM, "it waits for the secondary's word that it is outdated")


def _go_on(rules: Rules, granted: bool | None, reason: str) -> Decision:
    if rules.witness and granted is False:
        return _wait("the secondary is lost and the witness does not let this server go on")
    return Decision(State.ALONE, reason, new_data=True, lease=rules.witness and granted is None)


def _as_alone(me: Side, rules: Rules, granted: bool | None) -> Decision:
    if me.connected:
        return Decision(State.PRIM, "the secondary has all data")
    if me.frozen and rules.witness:
        if granted is False:
            return _wait("the witness does not let this server go on")
        return Decision(State.ALONE, "", lease=granted is None)
    return Decision(State.ALONE, "")


def _as_second(me: Side, peer: Side | None, rules: Rules, granted: bool | None, *, silent: bool) -> Decision:
    fit = me.generation.uptodate
    if peer is None:
        if not silent or me.connected:
            return Decision(State.SECOND, "")
        if fit and rules.failover and not rules.witness and rules.isolation == "wait":
            remedy = "make sure that the other server is off, then safekit-py prim here"
            return _wait('the primary is lost, and isolation="wait"', remedy)
        return _take_over(me, rules, granted, "the primary is lost")
    if peer.state in SERVES:
        gone_on = compare(me.generation, peer.generation).kind == "theirs"
        return Decision(State.SECOND, "", outdate=fit and (gone_on or (peer.frozen and not me.connected)))
    if not peer.leaving:
        return Decision(State.SECOND, "the other server is giving the data up")
    if peer.state is State.SECOND:
        return _exchange(me, peer)
    if compare(me.generation, peer.generation).kind not in ("same", "mine"):
        return _wait("the other server is no primary any more, and its data are newer")
    return _take_over(me, rules, granted, "the other server is no primary any more")


def _take_over(me: Side, rules: Rules, granted: bool | None, reason: str) -> Decision:
    if not me.generation.uptodate:
        return _wait(f"{reason}, and the data of this server are not up to date")
    if not rules.failover:
        return _wait(f"{reason}, and failover is off", "safekit-py prim here")
    if rules.witness and granted is False:
        return _wait(f"{reason}, and the witness does not let this server take over")
    return Decision(State.ALONE, reason, new_data=True, lease=rules.witness and granted is None)


def _exchange(me: Side, peer: Side) -> Decision:
    """Both are SECOND: the one that was not the primary takes over; ``began`` says who was."""
    if me.began is State.PRIM and peer.began is not State.PRIM:
        # It may have begun to resynchronise this one already, before a heartbeat said that it is primary.
        return Decision(State.SECOND, "the other server takes over")
    if not me.generation.uptodate or not peer.generation.uptodate:
        return _wait("neither server is primary")
    if peer.began is State.PRIM and me.began is not State.PRIM:
        return Decision(State.PRIM, "the roles are exchanged")
    return _wait("both servers are secondary")


def refusal(me: Side, peer: Side | None, last: Generation | None) -> str:
    """Why a server that has decided to become primary must not any more, in words; looked at just before it does.

    Scripts may have run since. The other server may have come back meanwhile, and begun to change the data here.

    :param last: what the other server had when it was heard last, however long ago: newer data do not become older.
    """
    if peer is not None and peer.state in SERVES:
        return "the other server is primary"
    if me.wish or not me.generation.data:
        return ""
    if not me.generation.uptodate:
        return "the data of this server have begun to be replaced by the other's"
    if last is not None and compare(me.generation, last).kind == "theirs":
        return "the other server has newer data"
    return ""


def returns(me: Side, peer: Side | None, rules: Rules) -> bool:
    """Whether a primary that has been alone gives its role to the server that ``defaultprim`` names."""
    named = peer is not None and peer.node == rules.node and peer.state is State.SECOND and peer.generation.uptodate
    ready = peer is not None and {me.readiness, peer.readiness} == {Readiness.READY}
    return named and ready and rules.failover and me.state is State.PRIM and me.connected and not me.frozen
