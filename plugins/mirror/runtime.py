"""One mirror module at work on this server: the heart, the election, replication and the virtual address together.

One task, the mind, makes all decisions, one at a time: it looks at what the two servers say, asks ``roles`` what
follows, and does it or asks the engine for another role. What the engine then calls (``become``, ``release`` …) holds
the same lock, so that no decision is made about a role that is just being taken.

The volume acknowledges writes only until its lease ends. The mind renews the lease while it lives and while this
server may be primary; so an agent that is dead or stopped leaves no second primary behind.
"""

from __future__ import annotations

import asyncio
import math
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from safekit_py.api import ModuleContext, Problem, Readiness, SafekitError, Severity, State, StateError, Status

from . import roles
from .commands import Commands
from .generation import Generation
from .heart import places
from .model import Heart, Rfs
from .notes import notes
from .roles import Decision, Rules, Side
from .seams import Beat, Engine, Grant, HeartLink, VolumeEvent, WitnessClient
from .situation import Situation, read

SHARE = 0.7  # of the timeout: how far ahead of now the lease ends when nothing limits it
VOUCH = 0.9  # of the timeout: how long the other server's last word holds, counted from what it had heard
SLEPT = 0.5  # seconds between two looks at the clock, beyond the pulse, that mean that this server was asleep
PATIENCE = 5.0  # seconds beyond the timeout for the other server's word when the data are to be unmounted
GOODBYES = 3  # words that a stopping server sends: a datagram may be lost
SERVES = (State.PRIM, State.ALONE)
ROLES = (*SERVES, State.SECOND)


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
        self.context, self.engine, self._addresses = context, engine, addresses
        self._make_heart, self._witness, self._witness_lease = heart, witness, witness_lease
        heart_config: Heart | None = context.config.one("heart")
        assert heart_config is not None, "MirrorType.check refuses a module without <heart>"
        self._config = heart_config
        self.node = context.cluster.nodes.index(context.node)
        self.other = places(context.cluster, context.node, heart_config)[0]
        self._other_node = context.cluster.nodes.index(self.other)
        self._missed = False  # the other server was silent
        self.link: HeartLink | None = None
        self.state, self.readiness, self._reason = State.STOP, Readiness.NOT_READY, ""
        self.wish, self.swaps = "", 0
        self.fullsync = False
        self._asked_swap = 0  # the other server's exchange that was begun last
        self.frozen = self.fenced = self.connected = self._failing = self._refused = False
        self._unfit = ""  # why the primary's data cannot be taken here, when it failed for that
        self._settled = False
        self.leaving = True  # it holds neither address nor data
        self._fenced_at = 0  # monotonic nanoseconds
        self._lost_at = 0  # the same, of the last loss of replication
        self._awake = 0.0  # monotonic seconds: since when this server has not been asleep
        self._claim = self._yields = 0
        self._outdated_for = ""
        self._began: State | None = None
        self._decided: Decision | None = None
        self._new = ""  # the identifier of the data that a decision begins
        self._grant = Grant(granted=False)
        self._holds = ""  # the data for which the witness's lease is held, or asked for again
        self._asking: asyncio.Task[None] | None = None
        self._tick = 0
        self.peer: Situation | None = None
        self._peer_tick, self._peer_at = -1, -math.inf  # of the other server's mind, and when that was seen to live
        self._began_to_listen = 0.0
        self._news, self._complete, self._role = asyncio.Event(), asyncio.Event(), asyncio.Lock()
        self._tasks: tuple[asyncio.Task[None], ...] = ()
        self._election: asyncio.Future[State] | None = None
        self._tell: Callable[[str], None] = lambda _: None
        self._said = ""
        self.commands = Commands(self)
        engine.listen(self._volume)

    # --- what the engine calls ------------------------------------------------------------------

    async def recover(self) -> None:
        """Remove addresses, mounts and processes of a run that was killed."""
        await self._addresses.recover()
        await self.engine.recover()

    async def prepare(self) -> None:
        """Nothing stands outside of a role."""

    async def open(self) -> None:
        """The address stands since before the start scripts: some applications bind to it."""

    async def close(self) -> None:
        """The other server takes over when this one has released the data, not before."""

    async def elect(self, tell: Callable[[str], None]) -> State:
        """The role to start in."""
        self._tell, self._said = tell, ""
        self._listen()
        self._election = asyncio.get_running_loop().create_future()
        self._news.set()
        try:
            return await self._election
        finally:
            self._election = None

    async def become(self, state: State) -> None:
        """Take a role."""
        async with self._role:
            decided, self._decided = self._decided, None
            if state in SERVES and self.state in SERVES:
                return
            if state in SERVES:
                await self._serve(state, decided)
            else:
                await self._receive(decided)
                self._claim = self._yields = 0
            self.wish, self.fullsync = "", False
        self._news.set()

    async def _serve(self, state: State, decided: Decision | None) -> None:
        new = self._new if decided is not None and decided.new_data else ""
        self._began = self.state if self.state in (State.PRIM, State.SECOND) else State.ALONE
        await self.engine.release()
        self.frozen = self.fenced = self._failing = self.connected = False
        self.leaving, self._outdated_for = False, ""
        self._lost_at = time.monotonic_ns()
        self._renew()
        await self.engine.serve(new=new)
        self._new = ""
        if self.engine.generation().shared:
            await self._agree()
        await self.engine.mount()
        await self._addresses.up()
        self.engine.guard(self._addresses.guarded())
        self.log(Severity.INFO, f"the data are served and the address is here ({state})")

    async def _agree(self) -> None:
        """The other server has the same data, or may have gone on from them: it must answer, or be known to be gone.

        :raises SafekitError: neither: this server cannot be primary now.
        """
        while not self.connected:
            self.frozen = True
            decision = await self._decide(roles.react, replace(self.me(), state=State.PRIM, frozen=True))
            if decision.goal is State.ALONE:
                try:
                    await self.engine.alone(self._new)
                except SafekitError:  # it refuses when the other server has just come back
                    await asyncio.sleep(self._config.pulse)
                    if not self.connected:
                        raise
                    continue
                self._new, self.frozen = "", False
                return
            if decision.goal is not State.PRIM:
                await self.engine.release(force=True)
                raise StateError(Problem("mirror.not-agreed", f"it cannot be primary: {decision.reason}", "start it"))
            await asyncio.sleep(self._config.pulse)
        self.frozen = False

    async def _receive(self, decided: Decision | None) -> None:
        await self._addresses.down()
        self.engine.guard(())
        await self._release()
        await self._give_back()
        self.connected, self.leaving, self._unfit = False, True, ""
        self._began = self.state if self.state is State.PRIM else None
        aside = decided is not None and decided.aside
        await self.engine.receive(fullsync=self.fullsync or (decided is not None and decided.fullsync), aside=aside)
        if decided is not None and decided.outdate:
            await self._outdate()

    async def settled(self) -> None:
        """A secondary is complete when it has all data."""
        while self.state is State.SECOND and not (self.connected and self.engine.generation().uptodate):
            self._complete.clear()
            await self._complete.wait()

    async def release(self) -> None:
        """After the stop scripts: address and data are given up; then the other server may take them."""
        async with self._role:
            await self._addresses.down()
            await self._release()
            self.connected = self.frozen = self.fenced = False
            self._claim = self._yields = 0
            self._decided, self._began = None, None
            await self._give_back()
            self.leaving = True
            self._say()

    async def _release(self) -> None:
        """Unmount in order. What the secondary was lost with is acknowledged first, or given up with force."""
        if self.fenced:
            await self.engine.release(force=True)
            return
        task = asyncio.create_task(self.engine.release())
        end = time.monotonic() + self._config.timeout + PATIENCE
        while not (await asyncio.wait({task}, timeout=self._config.pulse))[0]:
            if self.frozen and not await self._thaw() and time.monotonic() > end:
                self.log(
                    Severity.WARNING, "writes that were never acknowledged are given up: the other server is silent"
                )
                await self.engine.release(force=True)
                end = math.inf
        try:
            await task
        except SafekitError as error:
            self.log(Severity.WARNING, f"the data are taken away by force: {error.problems[0].message}")
            await self.engine.release(force=True)

    async def _thaw(self) -> bool:
        """Go on without the other server, if that may be, so that the data can be unmounted."""
        side = replace(self.me(), state=State.PRIM, frozen=True, connected=False)
        if (await self._decide(roles.react, side)).goal is not State.ALONE:
            return False
        try:
            await self.engine.alone(self._new)
        except SafekitError:  # the disk here has refused data, or the other server has just come back
            return False
        self._new, self.frozen = "", False
        return True

    async def rest(self) -> None:
        """The module is in STOP."""
        tasks = (*self._tasks, *((self._asking,) if self._asking is not None else ()))
        self._tasks, self._asking = (), None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self.link is not None:
            self.state, self.readiness = State.STOP, Readiness.NOT_READY
            for _ in range(GOODBYES):
                self._say()
                await asyncio.sleep(0.01)
            self.link.close()
            self.link = None
        await self._give_back()
        self.peer, self._peer_tick, self._peer_at = None, -1, -math.inf
        self.context.set_remote({})

    def look(self, state: State, readiness: Readiness, reason: str) -> None:
        """The engine's news."""
        self.state, self.readiness, self._reason = state, readiness, reason
        if state in SERVES:
            self._claim = self._yields = 0  # the state says it from here on
        if readiness is Readiness.READY and state in SERVES and not self._settled:
            self._settled = True
            self._begin_in_thread(self.engine.settled)
        self._news.set()

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
        self._news.set()

    def _listen(self) -> None:
        if self.link is None:
            self.link = self._make_heart()
            self._began_to_listen = time.monotonic()
            self._say()
            self.link.start(self._beat)
            if self._witness is None and self._config.isolation == "alone":
                text = "no <witness>: two servers that lose each other, and both live, both run; see docs/mirror.md"
                self.log(Severity.WARNING, text)
        if not self._tasks:
            name = f"mirror {self.context.name}"
            self._tasks = (asyncio.create_task(self._live(), name=name), asyncio.create_task(self._keep(), name=name))

    def _beat(self, beat: Beat) -> None:
        tick = beat.says.get("tick")
        if tick != self._peer_tick:
            self._peer_tick, self._peer_at = int(tick or 0), time.monotonic()
        before, self.peer = self.peer, read(beat.says, self._other_node)
        self.context.set_remote(dict(self.peer.resources))
        if before is None or before.side != self.peer.side or before.swap != self.peer.swap:
            self._news.set()

    def _volume(self, event: VolumeEvent) -> None:
        if event.kind == "synced":
            self.connected, self.frozen, self._outdated_for = True, False, ""
            self.context.set_resource("rfs.degraded", Status.DOWN, "both servers have the same data")
        elif event.kind == "lost":
            self.connected, self._lost_at = False, time.monotonic_ns()
            self.frozen = not self.leaving and bool((event.data or {}).get("frozen", self.state is State.PRIM))
        elif event.kind == "fenced":
            self.fenced, self._fenced_at = True, time.monotonic_ns()
        elif event.kind == "failed":
            data = event.data or {}
            self._failing, self.connected = True, False
            self._refused = bool(data.get("errno"))
            self._unfit = f"{event.cause} ({data['code']}): {data['remedy']}" if "code" in data else ""
        if event.kind != "progress":
            severity = Severity.INFO if event.kind in ("connected", "synced") else Severity.WARNING
            self.log(severity, f"replication: {event.kind} {event.cause}".rstrip())
        self._show()
        self._news.set()
        self._complete.set()

    def _show(self) -> None:
        mine = self.engine.generation()
        value = Status.UP if mine.uptodate else Status.DOWN
        self.context.set_resource("rfs.uptodate", value, f"data {mine.data[:8] or 'none'}")

    # --- the mind -------------------------------------------------------------------------------

    async def _keep(self) -> None:
        """While this task lives, so does the agent: the lease is renewed and the other server hears a new tick."""
        before = time.monotonic()
        while True:
            now = time.monotonic()
            if now - before > self._config.pulse + SLEPT:
                self._awake = now
            before = now
            self._tick += 1
            self._renew()
            self._ask_witness()
            self._say()
            await asyncio.sleep(self._config.pulse)

    async def _live(self) -> None:
        told = ""
        while True:
            try:
                async with self._role:
                    await self._think()
            except Exception as error:  # the mind must go on: without it the lease ends
                text = f"{type(error).__name__}: {error}"
                if text != told:
                    self.log(Severity.ERROR, f"a decision could not be made or carried out: {text}")
                told = text
            self._news.clear()
            try:
                async with asyncio.timeout(self._config.pulse):
                    await self._news.wait()
            except TimeoutError:
                continue

    async def _think(self) -> None:
        if self._election is not None and not self._election.done():
            await self._elect(self._election)
        elif self._taking:
            # What was said with that decision stands until the engine says that it is done: the other server may have
            # been asleep meanwhile, and must not take its return for a reason to go on.
            if self._decided is not None and self.state in ROLES:
                self.context.change(self._decided.goal, self._decided.reason)
        elif self.state in ROLES:
            await self._react()
        elif self.leaving and self._decided is None:
            await self._give_back()  # it was granted for an election that has ended otherwise
        self._say()

    @property
    def _taking(self) -> bool:
        """Whether this server is about to become primary, and its state does not say so yet."""
        decided = self._decided is not None and self._decided.goal in SERVES
        return self.state not in SERVES and (decided or not self.leaving)

    async def _elect(self, election: asyncio.Future[State]) -> None:
        decision = await self._decide(roles.elect)
        if decision.goal is not State.WAIT:
            self._decided = decision
            self.log(Severity.INFO, f"{decision.goal}: {decision.reason}")
            if not election.done():
                election.set_result(decision.goal)
            return
        said = f"{decision.reason}; {decision.remedy}".rstrip("; ")
        if said != self._said:
            self._said = said
            self._tell(said)

    async def _react(self) -> None:
        if self.fenced and not self.silent and not (self.link is not None and self.link.answered(self._fenced_at)):
            return  # this server may have been asleep: what it knows of the other one is old
        if self._failing:
            await self._fail()
            return
        self._notice()
        decision = await self._decide(roles.react)
        if decision.outdate and not self._outdated_for and not self._unfit:  # its stop lets the primary go on, too
            await self._outdate()
        if decision.goal is self.state:
            await self._lift()
            self._exchange()
            return
        await self._turn(decision)

    async def _fail(self) -> None:
        """This server's own disk refuses the data, or the volume's processes are gone: they can be started again."""
        self._failing = False
        if self.state is State.SECOND and self._unfit:  # its data stay what they are: they may be the newest
            self.context.request("stop", "rfs", self._unfit, ())
        elif self.state is State.SECOND and self._refused:
            try:
                await self._outdate()
            except (SafekitError, OSError) as error:  # a server in STOP lets the primary go on, too
                self.log(Severity.WARNING, f"that this server is outdated cannot be noted: {error}")
            self.context.request("stop", "rfs", "the replicated data cannot be written here", ())
        else:
            what = "cannot be written or read here" if self._refused else "are served by no process any more"
            self.context.request("stopstart", "rfs", f"the replicated data {what}", ())

    def _notice(self) -> None:
        if self._missed and not self.silent and self.state in SERVES:
            self._addresses.announce()  # clients may have learned the other server's while the two were cut
        self._missed = self.silent
        if self.state is State.SECOND and self.peer is not None and self.peer.side.state in SERVES:
            self._began = None  # an exchange of roles is complete
        if not self.engine.replicates:
            self.connected = self._side() is not None and self.peer is not None and self.peer.side.state in ROLES
            self.frozen = self.state is State.PRIM and not self.connected

    async def _turn(self, decision: Decision) -> None:
        """Another role is due."""
        if self.state in SERVES and decision.goal in SERVES:
            if decision.goal is State.ALONE and (self.frozen or decision.new_data):
                await self.engine.alone(self._new)
                self._began, self.frozen, self._new = self.state, False, ""
                self.context.set_resource("rfs.degraded", Status.UP, decision.reason)
            await self._lift()
        elif self.state in SERVES:
            # The application is stopped next; no client and no write may be accepted meanwhile.
            await self._addresses.down()
            if self.fenced:
                await self.engine.release(force=True)
        self._decided = decision
        if self._said != decision.reason:
            self._said = decision.reason
            self.log(Severity.WARNING, f"{self.state} -> {decision.goal}: {decision.reason}")
        self.context.change(decision.goal, decision.reason)

    async def _outdate(self) -> None:
        """The primary goes on without this server: say so durably, before it does."""
        if self.peer is not None:
            await self.engine.outdate()
            self._outdated_for = self.peer.side.generation.data
            self._show()

    async def _lift(self) -> None:
        """After a fence this server has looked again and may go on: address and acknowledgements come back."""
        claimed = self.peer is not None and self.peer.side.claim != 0
        if not self.fenced or claimed or self._may_until() <= _boottime():
            return
        self.fenced = False
        self._renew()
        await self._addresses.up()
        self.log(Severity.WARNING, "the lease had ended and is renewed: writes are acknowledged again")

    def _exchange(self) -> None:
        """Begin the exchange of roles that the other server has asked for, once."""
        peer = self.peer
        if self.state is not State.PRIM or peer is None or peer.swap <= self._asked_swap:
            return
        self._asked_swap = peer.swap
        task = asyncio.create_task(self._swapped())
        task.add_done_callback(lambda t: t.cancelled() or t.exception())

    async def _swapped(self) -> None:
        try:
            await self.context.order("swap", "asked by the other server")
        except SafekitError as error:
            self.log(Severity.WARNING, f"swap: {error.problems[0].message}")

    async def _decide(self, look: Callable[..., Decision], me: Side | None = None) -> Decision:
        """Ask what follows; a decision that needs the witness's grant is asked again with its answer."""
        decision = self._with_claims(look(me or self.me(), self._side(), self.rules, silent=self.silent, granted=None))
        if not decision.new_data:
            self._new = ""
        elif not self._new:
            self._new = secrets.token_hex(8)
        if decision.lease and self._witness is not None:
            self._say()
            mine = self.engine.generation().data
            self._holds = self._new or mine
            state = self.state
            self._grant = await self._witness.acquire(self._holds, mine, known=decision.known)
            if self.state is not state:
                return Decision(self.state, "")  # the question was another state's; the next look gives the lease back
            granted = self._grant.granted
            if not granted and self.leaving:
                self._holds = ""
            decision = look(me or self.me(), self._side(), self.rules, silent=self.silent, granted=granted)
            if not granted and self._grant.reason:
                decision = replace(decision, reason=f"{decision.reason} ({self._grant.reason})")
            if granted and self.leaving and decision.goal not in SERVES:
                await self._give_back()  # the other server was heard again meanwhile
        return decision

    def _with_claims(self, decision: Decision) -> Decision:
        # Who is about to become primary says so first: the other one's right to go on by this one's word ends with it.
        claims = decision.claim or (self.state not in SERVES and (decision.lease or decision.goal in SERVES))
        self._claim = (self._claim or secrets.randbits(48) | 1) if claims else 0
        self._yields = self.peer.side.claim if self.peer is not None and decision.yields else 0
        return decision

    # --- what is known --------------------------------------------------------------------------

    @property
    def silent(self) -> bool:
        """Whether the other server, or its mind, has not been heard for the timeout. Own sleep does not count."""
        since = max(self._peer_at, self._began_to_listen, self._awake)
        heard_in_vain = self.link is None or self.link.silence() >= self._config.timeout
        return heard_in_vain or time.monotonic() - since >= self._config.timeout

    @property
    def rules(self) -> Rules:
        """What the configuration says of decisions."""
        service, nodes = self.context.config.service, self.context.cluster.nodes
        named = nodes.index(service.defaultprim) if service.defaultprim in nodes else -1
        rfs: Rfs | None = self.context.config.one("rfs")
        flushed = rfs is None or rfs.sync == "none"
        witness = self._witness is not None
        return Rules(witness, self._config.isolation, named, service.failover, flushed)

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
            outdated_for=self._outdated_for,
            claim=self._claim,
            yields=self._yields,
            began=self._began,
            wish=self.wish,
        )

    def _side(self) -> Side | None:
        if self.peer is None or self.silent:
            return None
        side, link = self.peer.side, self.link
        if side.outdated_for and (link is None or not link.answered(self._lost_at)):
            # It may have been said before the two were the same for the last time: only a later word counts.
            return replace(side, outdated_for="")
        return side

    def _say(self) -> None:
        if self.link is None:
            return
        resources = tuple(sorted(self.context.resources().items()))
        words = Situation(self.me(), self.swaps, resources, self._reason).words()
        self.link.say({**words, "tick": self._tick})

    # --- the lease ------------------------------------------------------------------------------

    def _may_until(self) -> float:
        """Instant of CLOCK_BOOTTIME in nanoseconds until which this server may be primary; infinite without witness."""
        if self._witness is None:
            return math.inf
        until = float(self._grant.until) if self._grant.granted else 0.0
        beat = self.link.last() if self.link is not None else None
        peer = self.peer
        if (
            beat is not None
            and beat.echo
            and peer is not None
            and peer.side.state not in SERVES
            and not peer.side.claim
        ):
            vouched = beat.echo + VOUCH * self._config.timeout * 1e9 - time.monotonic_ns() + _boottime()
            until = max(until, vouched)
        return until

    def _renew(self) -> None:
        if not self.fenced:
            until = min(_boottime() + SHARE * self._config.timeout * 1e9, self._may_until())
            self.engine.lease(int(until))

    def _ask_witness(self) -> None:
        """Keep the witness's lease while this server is primary, beside everything else."""
        if self._witness is None or not self._holds or (self._asking is not None and not self._asking.done()):
            return
        if self._grant.until - _boottime() < self._witness_lease * 1e9 * 2 / 3:
            self._asking = asyncio.create_task(self._ask(self._witness))

    async def _ask(self, witness: WitnessClient) -> None:
        grant = await witness.acquire(self._holds, self._holds)
        if grant.granted or grant.answered:
            self._grant = grant
        else:  # it was not heard: what it granted before holds until it ends
            self._grant = replace(self._grant, reason=grant.reason, answered=False)

    async def _give_back(self) -> None:
        """The other server need not wait for the end of a lease that is not needed any more."""
        held, self._holds = self._holds, ""
        if self._witness is not None and held and self._grant.granted:
            self._grant = Grant(granted=False)
            await self._witness.release()

    # --- for people -----------------------------------------------------------------------------

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
            "data": mine.data,
            "uptodate": mine.uptodate,
            "replicated": self.connected,
            "volumes": dict(self.engine.status()),
            "witness": self._witness_words(),
        }
        found["notes"] = notes(self.state, found["volumes"], found["witness"], same=self.connected)
        return found

    def _witness_words(self) -> str:
        if self._witness is None:
            return (
                "none: two servers that lose each other may both run" if self._config.isolation == "alone" else "none"
            )
        if self._grant.granted:
            left = max(0.0, (self._grant.until - _boottime()) / 1e9)
            return f"lease for {left:.1f} s" + ("" if self._grant.answered else "; it does not answer")
        return f"no lease{': ' + self._grant.reason if self._grant.reason else ''}"


def _boottime() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)
