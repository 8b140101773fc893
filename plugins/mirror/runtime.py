"""One mirror module at work on this server: the heart, the election, replication and the virtual address together.

``mind`` decides; what the engine then calls (``become``, ``release`` …) is done here and holds the same lock, so that
no decision is made about a role that is just being taken.

The volume acknowledges writes only until its lease ends. The mind renews the lease while it lives and while this
server may be primary; so an agent that is dead or stopped leaves no second primary behind.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from safekit_py.api import ModuleConfig, ModuleContext, Readiness, Severity, State, Status

from ..checkers.splitbrain_element import SplitbrainCheck
from .change import RoleChange
from .commands import Commands
from .generation import Generation
from .heart import FIRST_PORT as HEART_PORT
from .heart import places
from .lease import Lease, boottime
from .mind import Mind
from .model import Heart, Rfs
from .notes import notes
from .remains import Remains, Standing
from .roles import SERVES, Decision, Rules, Side
from .seams import Beat, Engine, HeartLink, VolumeEvent, WitnessClient
from .situation import Situation, read
from .witness.ping import PingWitness

SHARE = 0.7  # of the timeout: how far ahead of now the lease ends when nothing limits it
GOODBYES = 3  # words that a stopping server sends: a datagram may be lost


class MirrorRuntime:
    """See ``Roles``; constructing it changes nothing.

    :param addresses: the virtual addresses: ``up``, ``down``, ``recover``, ``announce``, ``guarded``.
    """

    def __init__(
        self,
        context: ModuleContext,
        *,
        engine: Engine,
        heart: Callable[[], HeartLink],
        addresses: Any,
        witness: WitnessClient | None,
        witness_lease: float = 3.0,
    ) -> None:
        self.context, self.engine, self.addresses = context, engine, addresses
        self._make_heart = heart
        heart_config: Heart | None = context.config.one("heart")
        assert heart_config is not None, "MirrorType.check refuses a module without <heart>"
        self.config = heart_config
        self.lease = Lease(witness, witness_lease, heart_config.timeout)
        self.mind, self._change = Mind(self), RoleChange(self)
        self.node = context.cluster.nodes.index(context.node)
        self.other = places(context.cluster, context.node, heart_config)[0]
        self._other_node = context.cluster.nodes.index(self.other)
        self.link: HeartLink | None = None
        self.state, self.readiness, self.reason = State.STOP, Readiness.NOT_READY, ""
        self.wish, self.swaps = "", 0
        self.fullsync = False
        self.frozen = self.fenced = self.connected = self.failing = self.refused = False
        self.unfit = ""  # why the primary's data cannot be taken here, when it failed for that
        self._settled = False
        self.leaving = True  # it holds neither address nor data
        self.fenced_at = 0  # monotonic nanoseconds
        self.lost_at = 0  # the same, of the last loss of replication
        self.claim = self.yields = 0
        self.outdated_for = ""
        self.began: State | None = None
        self.decided: Decision | None = None
        self.new = ""  # the identifier of the data that a decision begins
        self.peer: Situation | None = None
        self._peer_tick, self._peer_at = -1, -math.inf  # of the other server's mind, and when that was seen to live
        self._began_to_listen = 0.0
        self._until = 0  # until when the volume was told last that it may acknowledge
        self.news, self._complete, self.role = asyncio.Event(), asyncio.Event(), asyncio.Lock()
        self._tasks: tuple[asyncio.Task[None], ...] = ()
        self.election: asyncio.Future[State] | None = None
        self.tell: Callable[[str], None] = lambda _: None
        self.said = ""
        self.commands = Commands(self)
        engine.listen(self._volume)

    # --- what the engine calls ------------------------------------------------------------------

    async def recover(self) -> None:
        """Remove addresses, mounts and processes of a run that was killed."""
        await self.addresses.recover()
        await self.engine.recover()

    async def prepare(self) -> None:
        """Nothing stands outside of a role."""

    async def open(self) -> None:
        """The address stands since before the start scripts: some applications bind to it."""

    async def close(self) -> None:
        """The other server takes over when this one has released the data, not before."""

    async def elect(self, tell: Callable[[str], None]) -> State:
        """The role to start in."""
        self.tell, self.said = tell, ""
        self._listen()
        self.election = asyncio.get_running_loop().create_future()
        self.news.set()
        try:
            return await self.election
        finally:
            self.election = None

    async def become(self, state: State) -> None:
        """Take a role."""
        async with self.role:
            decided, self.decided = self.decided, None
            if state in SERVES and self.state in SERVES:
                return
            if state in SERVES:
                await self._change.serve(state, decided)
            else:
                await self._change.receive(decided)
                self.claim = self.yields = 0
            self.wish, self.fullsync = "", False
        self.news.set()

    async def settled(self) -> None:
        """A secondary is complete when it has all data."""
        while self.state is State.SECOND and not (self.connected and self.engine.generation().uptodate):
            self._complete.clear()
            await self._complete.wait()

    async def release(self) -> None:
        """After the stop scripts: address and data are given up; then the other server may take them."""
        async with self.role:
            await self.addresses.down()
            await self._change.release()
            self.connected = self.frozen = self.fenced = False
            self.claim = self.yields = 0
            self.decided, self.began = None, None
            await self.lease.give_back()
            self.leaving = True
            self.say()

    def reconfigured(self, config: ModuleConfig) -> None:
        """What a running module takes: the bandwidth of a resynchronisation, and whom an echo is asked of."""
        self.context = replace(self.context, config=config)
        rfs: Rfs | None = config.one("rfs")
        if rfs is not None:
            self.engine.limit(rfs.bandwidth)
        check: SplitbrainCheck | None = config.one("check/splitbrain")
        if check is not None and isinstance(self.lease.witness, PingWitness):
            self.lease.witness.ask_instead(check)

    async def rest(self) -> None:
        """The module is in STOP."""
        await self._end_tasks()
        if self.link is not None:
            self.state, self.readiness = State.STOP, Readiness.NOT_READY
            for _ in range(GOODBYES):
                self.say()
                await asyncio.sleep(0.01)
            self.link.close()
            self.link = None
        await self.lease.close()
        self.peer, self._peer_tick, self._peer_at = None, -1, -math.inf
        self.context.set_remote({})

    # --- while the agent's process is replaced --------------------------------------------------

    @property
    def engaged(self) -> str:
        """What it does for a person, and another process could not go on with."""
        return self.commands.running

    async def hand_over(self) -> bytes:
        """Let go: the volume goes on, on its lease, and the next process with the decisions and the heartbeats."""
        async with self.role:  # a decision is carried out to its end
            await self._end_tasks()
            engine, held, here = await self.engine.hand_over(), await self.lease.leave(), self.addresses.leave()
            remains = Remains(Standing.of(self), self.mind.thoughts, held, self._until, here, engine)
            if self.link is not None:
                self.link.close()
                self.link = None
            return remains.packed()

    async def take_over(self, left: bytes) -> None:
        """Go on as the server that another process was until now; the heartbeats come first."""
        found = Remains.unpacked(left)
        found.standing.restore(self)
        self.lease.take(found.held)
        self.mind.take(found.thoughts)
        self._until, self._peer_at = found.until, time.monotonic()
        if self.peer is not None:
            self.context.set_remote(dict(self.peer.resources))
        try:
            self._speak()
            await self.engine.take_over(found.engine)
            self.addresses.take(here=found.here)
        except BaseException:  # not half of it: who has no mind must not be heard, and the lease ends
            if self.link is not None:
                self.link.close()
            raise
        self._begin_to_think()

    def look(self, state: State, readiness: Readiness, reason: str) -> None:
        """The engine's news."""
        self.state, self.readiness, self.reason = state, readiness, reason
        if state in SERVES:
            self.claim = self.yields = 0  # the state says it from here on
        if readiness is Readiness.READY and state in SERVES and not self._settled:
            self._settled = True
            self._begin_in_thread(self.engine.settled)
        self.news.set()

    def _begin_in_thread(self, work: Callable[[], None]) -> None:
        future = asyncio.get_running_loop().run_in_executor(None, work)
        future.add_done_callback(self._ended)

    def _ended(self, future: asyncio.Future[None]) -> None:
        if not future.cancelled() and (error := future.exception()) is not None:
            self.log(Severity.WARNING, str(error))

    async def command(self, verb: str, arguments: tuple[str, ...]) -> Mapping[str, Any]:
        """See ``commands``."""
        return await self.commands.carry_out(verb, arguments)

    # --- what comes in --------------------------------------------------------------------------

    def log(self, severity: Severity, text: str) -> None:
        """One line of the module's log."""
        self.context.log(severity, text)

    def nudge(self) -> None:
        """Something has changed: think again."""
        self.news.set()

    def _listen(self) -> None:
        if self.link is None:
            self._speak()
            self._warn()
        if not self._tasks:
            self._begin_to_think()

    def _speak(self) -> None:
        self.link = self._make_heart()
        self._began_to_listen = time.monotonic()
        self.say()
        self.link.start(self._beat)

    def _begin_to_think(self) -> None:
        name = f"mirror {self.context.name}"
        minds = (self.mind.live(), self.mind.keep())
        self._tasks = tuple(asyncio.create_task(each, name=name) for each in minds)

    async def _end_tasks(self) -> None:
        tasks, self._tasks = self._tasks, ()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _warn(self) -> None:
        witness = self.lease.witness
        if witness is None and self.config.isolation == "alone":
            text = "no <witness>: two servers that lose each other, and both live, both run; see docs/mirror.md"
            self.log(Severity.WARNING, text)
        elif witness is not None and not witness.proves:
            text = "<splitbrain> by ping: two servers that lose each other, and both reach a host of it, both run"
            self.log(Severity.WARNING, f"{text}; <witness> prevents that; see docs/mirror.md")

    def _beat(self, beat: Beat) -> None:
        tick = beat.says.get("tick")
        if tick != self._peer_tick:
            self._peer_tick, self._peer_at = int(tick or 0), time.monotonic()
        before, self.peer = self.peer, read(beat.says, self._other_node)
        if before is None or self.peer.swap < before.swap:  # it, or this one, counts anew
            self.mind.asked_swap = self.peer.swap
        self.context.set_remote(dict(self.peer.resources))
        if before is None or before.side != self.peer.side or before.swap != self.peer.swap:
            self.news.set()

    def _volume(self, event: VolumeEvent) -> None:
        if event.kind == "synced":
            self.connected, self.frozen, self.outdated_for = True, False, ""
            self.context.set_resource("rfs.degraded", Status.DOWN, "both servers have the same data")
        elif event.kind == "lost":
            self.connected, self.lost_at = False, time.monotonic_ns()
            self.frozen = not self.leaving and bool((event.data or {}).get("frozen", self.state is State.PRIM))
        elif event.kind == "fenced":
            self.fenced, self.fenced_at = True, time.monotonic_ns()
            if self.connected:  # it has let the secondary go, too
                self.connected, self.frozen, self.lost_at = False, True, self.fenced_at
        elif event.kind == "failed":
            data = event.data or {}
            self.failing, self.connected = True, False
            self.refused = bool(data.get("errno"))
            self.unfit = f"{event.cause} ({data['code']}): {data['remedy']}" if "code" in data else ""
        if event.kind != "progress":
            severity = Severity.INFO if event.kind in ("connected", "synced") else Severity.WARNING
            self.log(severity, f"replication: {event.kind} {event.cause}".rstrip())
        self.show()
        self.news.set()
        self._complete.set()

    def show(self) -> None:
        """The resource that says whether the data are whole."""
        mine = self.engine.generation()
        value = Status.UP if mine.uptodate else Status.DOWN
        self.context.set_resource("rfs.uptodate", value, f"data {mine.data[:8] or 'none'}")

    # --- what is known --------------------------------------------------------------------------

    @property
    def silent(self) -> bool:
        """Whether the other server, or its mind, has not been heard for the timeout. Own sleep does not count."""
        since = max(self._peer_at, self._began_to_listen, self.mind.awake)
        heard_in_vain = self.link is None or self.link.silence() >= self.config.timeout
        return heard_in_vain or time.monotonic() - since >= self.config.timeout

    @property
    def rules(self) -> Rules:
        """What the configuration says of decisions."""
        service, nodes = self.context.config.service, self.context.cluster.nodes
        named = nodes.index(service.defaultprim) if service.defaultprim in nodes else -1
        rfs: Rfs | None = self.context.config.one("rfs")
        witness = self.lease.witness
        proves = witness is not None and witness.proves and (rfs is None or rfs.sync == "none")
        return Rules(witness is not None, self.config.isolation, named, self.context.automatic(), proves)

    def me(self) -> Side:
        """This server."""
        return Side(
            node=self.node,
            state=self.state,
            readiness=self.readiness,
            generation=self.engine.generation(),
            heard=True,
            frozen=self.frozen or self.fenced,
            connected=self.connected,
            leaving=self.leaving,
            outdated_for=self.outdated_for,
            claim=self.claim,
            yields=self.yields,
            began=self.began,
            wish=self.wish,
        )

    def side(self) -> Side | None:
        """The other server, None while it has not been heard within the timeout."""
        if self.peer is None or self.silent:
            return None
        side, link = self.peer.side, self.link
        if side.outdated_for and (link is None or not link.answered(self.lost_at)):
            # It may have been said before the two were the same for the last time: only a later word counts.
            return replace(side, outdated_for="")
        return side

    def say(self) -> None:
        """Tell the other server how things are here."""
        if self.link is None:
            return
        resources = tuple(sorted(self.context.resources().items()))
        words = Situation(self.me(), self.swaps, resources, self.reason).words()
        self.link.say({**words, "tick": self.mind.tick})

    def may_until(self) -> float:
        """Instant of CLOCK_BOOTTIME in nanoseconds until which this server may be primary; infinite without witness."""
        beat = self.link.last() if self.link is not None else None
        return self.lease.until(beat, self.peer.side if self.peer is not None else None)

    def renew(self) -> None:
        """The volume may acknowledge for a while from now on, unless it was fenced."""
        if self.fenced or (boottime() < self._until and self.link is not None and self.link.last() is None):
            return  # what an earlier process has allowed holds, until this one has heard what it may allow
        self._until = int(min(boottime() + SHARE * self.config.timeout * 1e9, self.may_until()))
        self.engine.lease(self._until)

    def _ports(self) -> list[dict[str, Any]]:
        beats = self.config.port or HEART_PORT + self.context.module_id
        found: list[dict[str, Any]] = [{"port": beats, "protocol": "udp", "purpose": "heartbeats between the servers"}]
        if port := self.engine.port:
            found.append({"port": port, "protocol": "tcp", "purpose": "replication between the servers"})
        return found

    # --- for people -----------------------------------------------------------------------------

    def _behind(self) -> float | None:
        """Seconds since the copies were the same for the last time; None when they were not since the agent began."""
        if self.connected:
            return 0.0
        return round((time.monotonic_ns() - self.lost_at) / 1e9, 1) if self.lost_at else None

    def report(self) -> Mapping[str, Any]:
        """What ``status`` shows."""
        mine: Generation = self.engine.generation()
        peer = self.peer
        heard = self.link is not None and not self.silent and peer is not None
        other = self.other
        found: dict[str, Any] = {
            "role": self.state.value,
            "peer": other,
            "peer_state": f"{peer.side.state} {peer.side.readiness}" if heard and peer is not None else "not heard",
            "servers": {self.context.node: "alive", other: "alive" if heard else "lost"} if self.link else {},
            "lans": dict(self.link.lans()) if self.link is not None else {},
            "rejected": dict(self.link.rejected()) if self.link is not None else {},
            "data": mine.data,
            "uptodate": mine.uptodate,
            "replicated": self.connected,
            "behind": self._behind(),
            "volumes": dict(self.engine.status()),
            "witness": self.lease.words(self.config.isolation),
            "ports": self._ports(),
        }
        found["notes"] = notes(self.state, found["volumes"], found["witness"], same=self.connected)
        return found
