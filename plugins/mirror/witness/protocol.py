"""The witness's decisions, pure: who has the lease of a module, and with which data.

Flows through it: what is known of one module of one cluster (``Room``), a request, the witness's clock and a fresh
random number in; what is known then and an answer out.

Invariants, held by tests/unit/plugins/mirror/witness/test_protocol.py for clocks that run up to 5 % too fast or too
slow, for messages that are lost, late, doubled or out of order, and for restarts of the witness at any instant:

- no two servers hold the lease at one instant of real time, when each counts ``MARGIN`` of its length from before it
  asked;
- the recorded data never go back: a grant replaces them only by data that were made of them, or, where the server that
  had announced them never went on with them, by others that were made of what they were to be made of.

Each request carries the token of the answer before, and each token serves once. So of the requests of one server none
takes effect after a later one, and one that was recorded and is sent again has none. A request that comes twice gets
the same answer twice. The tokens are lost with a restart; who has a wrong one is told the right one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

MARGIN = 0.9  # of a lease: what its holder uses of it; with clocks within 5 % it ends before the witness lets it go
SHORTEST, LONGEST = 500_000_000, 60_000_000_000  # ns, of a lease
NAME = 200  # characters of a name or an identifier


@dataclass(frozen=True, slots=True)
class Record:
    """What is on stable storage.

    :param data: the newest data that somebody was allowed to go on with.
    :param previous: what they were made of, ``author``: who announced them.
    :param holder: the server that has the lease; empty for nobody.
    :param lease: nanoseconds: the longest that it may still have it.
    """

    data: str = ""
    previous: str = ""
    author: str = ""
    holder: str = ""
    lease: int = 0


@dataclass(frozen=True, slots=True)
class Request:
    """What a server asks.

    :param verb: ``acquire``, ``release``, or ``resume``: acquire, but only when something is recorded.
    :param nonce: names this request; its answer repeats it.
    :param token: of the last answer; 0 for none.
    """

    server: str
    verb: str
    nonce: int
    token: int
    data: str = ""
    previous: str = ""
    lease: int = 0


@dataclass(frozen=True, slots=True)
class Answer:
    """What it is told.

    :param verdict: ``granted``, ``released``, ``refused``, or ``again``: the token was not the present one.
    :param token: the one to use next.
    """

    nonce: int
    verdict: str
    token: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Room:
    """What is known of one module.

    :param until: the witness's clock, in nanoseconds, at which the lease ends.
    :param tokens: by server, the one that its next request must carry.
    :param answers: by server, the last one that had an effect.
    """

    record: Record = Record()
    until: int = 0
    tokens: Mapping[str, int] = field(default_factory=dict)
    answers: Mapping[str, Answer] = field(default_factory=dict)


def restored(record: Record, now: int) -> Room:
    """After a restart: how much of the lease is left is not known, so it counts in full."""
    return Room(record, now + record.lease if record.holder else 0)


def step(room: Room, request: Request, now: int, fresh: int) -> tuple[Room, Answer]:
    """Judge a request.

    :param now: the witness's clock, which goes on while the machine sleeps, in nanoseconds.
    :param fresh: random and not 0.
    """
    server = request.server
    before = room.answers.get(server)
    if before is not None and before.nonce == request.nonce:
        return room, before
    if request.token == 0 or room.tokens.get(server) != request.token:
        token = room.tokens.get(server) or fresh
        return replace(room, tokens={**room.tokens, server: token}), Answer(request.nonce, "again", token)
    if request.verb == "release":
        room, verdict, reason = _released(room, request), "released", ""
    else:
        reason = refusal(room.record, room.until > now, request)
        verdict = "refused" if reason else "granted"
        room = room if reason else _granted(room, request, now)
    answer = Answer(request.nonce, verdict, fresh, reason)
    room = replace(room, tokens={**room.tokens, server: fresh}, answers={**room.answers, server: answer})
    return room, answer


def refusal(record: Record, live: bool, request: Request) -> str:
    """Why a server may not have the lease; empty when it may.

    :param live: whether the recorded lease has not ended.
    """
    if live and record.holder not in ("", request.server):
        return f"{record.holder} holds the lease"
    if not record.data and request.verb == "resume":
        return "the witness knows of no data yet"
    if record.data in ("", request.data, request.previous):
        return ""
    if request.server == record.author and request.previous and request.previous == record.previous:
        return ""  # it had announced other data, and was not told that it might go on with them
    return f"the witness knows of newer data, {record.data}"


def noted(record: Record, request: Request) -> Record:
    """The record when a request is granted."""
    stays = record.holder == request.server
    lease = max(record.lease, request.lease) if stays else request.lease  # an earlier, longer one may not have ended
    if record.data == request.data:
        return replace(record, holder=request.server, lease=lease)
    return Record(request.data, request.previous, request.server, request.server, lease)


def _granted(room: Room, request: Request, now: int) -> Room:
    until = now + request.lease
    if room.record.holder == request.server:
        until = max(until, room.until)
    return replace(room, record=noted(room.record, request), until=until)


def _released(room: Room, request: Request) -> Room:
    if room.record.holder != request.server:
        return room
    return replace(room, record=replace(room.record, holder="", lease=0), until=0)
