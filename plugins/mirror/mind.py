"""The mind of a mirror module: one task that makes all decisions about its role, one at a time.

It looks at what the two servers say, asks ``roles`` what follows, and does it or asks the engine for another role.
While it lives the agent does: it renews the lease, and the other server hears a new tick with each of its beats.
"""

from __future__ import annotations

import asyncio
import math
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from safekit_py.api import SafekitError, Severity, State, Status

from . import roles
from .lease import boottime
from .roles import SERVES, Decision, Side

if TYPE_CHECKING:
    from .runtime import MirrorRuntime

SLEPT = 0.5  # seconds between two looks at the clock, beyond the pulse, that mean that this server was asleep
ROLES = (*SERVES, State.SECOND)


@dataclass(frozen=True, slots=True)
class Thoughts:
    """What a mind has on its mind.

    :param tick: how often it has said that it lives.
    :param missed: the other server was silent.
    :param was_alone: this one was ALONE, and has not exchanged roles since.
    :param asked_swap: the other server's exchange that was begun last.
    """

    tick: int
    missed: bool
    was_alone: bool
    asked_swap: int


class Mind:
    """Of one module."""

    def __init__(self, module: MirrorRuntime) -> None:
        self._module = module
        self.tick = 0
        self._awake = 0.0
        self._kept = math.inf  # when keep() ran last
        self._missed = False  # the other server was silent
        self._was_alone = False  # and has not exchanged roles since
        self.asked_swap = 0  # the other server's exchange that was begun last

    @property
    def thoughts(self) -> Thoughts:
        """For a mind that goes on in its place."""
        return Thoughts(self.tick, self._missed, self._was_alone, self.asked_swap)

    def take(self, thoughts: Thoughts) -> None:
        """Go on in another mind's place, as one that has just woken: the time until now was nobody's silence."""
        self.tick, self.asked_swap = thoughts.tick, thoughts.asked_swap
        self._missed, self._was_alone = thoughts.missed, thoughts.was_alone
        self._awake = time.monotonic()

    @property
    def awake(self) -> float:
        """Monotonic seconds: since when this server has not been asleep.

        One that wakes may have to decide before ``keep`` has noticed it: what comes from the volume wakes it, too.
        """
        now = time.monotonic()
        return now if now - self._kept > self._module.config.pulse + SLEPT else self._awake

    async def keep(self) -> None:
        """While this task lives, so does the agent: the lease is renewed and the other server hears a new tick."""
        module = self._module
        while True:
            self._awake, self._kept = self.awake, time.monotonic()
            self.tick += 1
            module.renew()
            module.lease.keep()
            module.say()
            await asyncio.sleep(module.config.pulse)

    async def live(self) -> None:
        """Decide at each news, and at least once a pulse."""
        module = self._module
        told = ""
        while True:
            try:
                async with module.role:
                    await self._think()
            except Exception as error:  # the mind must go on: without it the lease ends
                text = f"{type(error).__name__}: {error}"
                if text != told:
                    module.log(Severity.ERROR, f"a decision could not be made or carried out: {text}")
                told = text
            module.news.clear()
            try:
                async with asyncio.timeout(module.config.pulse):
                    await module.news.wait()
            except TimeoutError:
                continue

    async def _think(self) -> None:
        module = self._module
        if module.election is not None and not module.election.done():
            await self._elect(module.election)
        elif self._taking:
            # What was said with that decision stands until the engine says that it is done: the other server may have
            # been asleep meanwhile, and must not take its return for a reason to go on.
            if module.decided is not None and module.state in ROLES:
                module.context.change(module.decided.goal, module.decided.reason)
        elif module.state in ROLES and module.decided is not None and module.decided.goal is State.WAIT:
            await self._give_way()  # the lease may have ended since
            module.context.change(State.WAIT, module.decided.reason)
        elif module.state in ROLES:
            await self._react()
        elif module.leaving and module.decided is None:
            await module.lease.give_back()  # it was granted for an election that has ended otherwise
        module.say()

    @property
    def _taking(self) -> bool:
        """Whether this server is about to become primary, and its state does not say so yet."""
        module = self._module
        decided = module.decided is not None and module.decided.goal in SERVES
        return module.state not in SERVES and (decided or not module.leaving)

    @property
    def _alone_unsaid(self) -> bool:
        """Whether the data are served alone, and another command, as a restart, kept the state from saying so."""
        module = self._module
        decided = module.decided is not None and module.decided.goal is State.ALONE
        return module.state is State.PRIM and decided and not module.frozen and not module.connected

    async def _elect(self, election: asyncio.Future[State]) -> None:
        module = self._module
        decision = await self.decide(roles.elect)
        if decision.goal is not State.WAIT:
            module.decided = decision
            module.log(Severity.INFO, f"{decision.goal}: {decision.reason}")
            if not election.done():
                election.set_result(decision.goal)
            return
        said = f"{decision.reason}; {decision.remedy}".rstrip("; ")
        if said != module.said:
            module.said = said
            module.tell(said)

    async def _react(self) -> None:
        module = self._module
        if (
            module.fenced
            and not module.silent
            and not (module.link is not None and module.link.answered(module.fenced_at))
        ):
            return  # this server may have been asleep: what it knows of the other one is old
        if module.failing:
            await self._fail()
            return
        self._notice()
        state = module.state
        decision = await self.decide(roles.react)
        if module.state is not state:
            return  # a witness may take long to answer
        if decision.outdate and not module.outdated_for and not module.unfit:  # its stop lets the primary go on, too
            await self.outdate()
        if decision.goal is module.state:
            await self._lift()
            self._exchange()
            if module.decided is not None and self._alone_unsaid:
                module.context.change(State.ALONE, module.decided.reason)
            return
        await self._turn(decision)

    async def _fail(self) -> None:
        """This server's own disk refuses the data, or the volume's processes are gone: they can be started again."""
        module = self._module
        module.failing = False
        if module.state is State.SECOND and module.unfit:  # its data stay what they are: they may be the newest
            module.context.request("stop", "rfs", module.unfit, ())
        elif module.state is State.SECOND and module.refused:
            try:
                await self.outdate()
            except (SafekitError, OSError) as error:  # a server in STOP lets the primary go on, too
                module.log(Severity.WARNING, f"that this server is outdated cannot be noted: {error}")
            module.context.request("stop", "rfs", "the replicated data cannot be written here", ())
        else:
            what = "cannot be written or read here" if module.refused else "are served by no process any more"
            module.context.request("stopstart", "rfs", f"the replicated data {what}", ())

    def _notice(self) -> None:
        module = self._module
        if self._missed and not module.silent and module.state in SERVES:
            module.addresses.announce()  # clients may have learned the other server's while the two were cut
        self._missed = module.silent
        if module.state is not State.PRIM:
            self._was_alone = module.state is State.ALONE
        if module.state is State.SECOND and module.peer is not None and module.peer.side.state in SERVES:
            module.began = None  # an exchange of roles is complete
        if not module.engine.replicates:
            side = module.side()
            module.connected = side is not None and side.state in ROLES
            module.frozen = module.state is State.PRIM and not module.connected

    async def _turn(self, decision: Decision) -> None:
        """Another role is due."""
        module = self._module
        if module.state in SERVES and decision.goal in SERVES:
            if decision.goal is State.ALONE and (module.frozen or decision.new_data):
                await module.engine.alone(module.new)
                module.began, module.frozen, module.new = module.state, False, ""
                module.context.set_resource("rfs.degraded", Status.UP, decision.reason)
            await self._lift()
        else:
            await self._give_way()
        module.decided = decision
        if module.said != decision.reason:
            module.said = decision.reason
            module.log(Severity.WARNING, f"{module.state} -> {decision.goal}: {decision.reason}")
        module.context.change(decision.goal, decision.reason)

    async def _give_way(self) -> None:
        """The application of a primary is stopped next: no client is let in, and no write may keep it waiting."""
        module = self._module
        if module.state in SERVES:
            await module.addresses.down()
            if module.fenced:
                await module.engine.release(force=True)

    async def outdate(self) -> None:
        """The primary goes on without this server: say so durably, before it does."""
        module = self._module
        if module.peer is not None:
            await module.engine.outdate()
            module.outdated_for = module.peer.side.generation.data
            module.show()

    async def _lift(self) -> None:
        """After a fence this server has looked again and may go on: address and acknowledgements come back."""
        module = self._module
        claimed = module.peer is not None and module.peer.side.claim != 0
        if not module.fenced or claimed or module.may_until() <= boottime():
            return
        module.fenced = False
        module.renew()
        await module.addresses.up()
        module.log(Severity.WARNING, "the lease had ended and is renewed: writes are acknowledged again")

    def _exchange(self) -> None:
        """Begin an exchange of roles, once: the other server asks for it, or it is named as primary and is back."""
        module = self._module
        peer = module.peer
        if module.state is not State.PRIM or peer is None:
            return
        if peer.swap > self.asked_swap:
            self.asked_swap = peer.swap
            cause = "asked by the other server"
        elif self._was_alone and roles.returns(module.me(), module.side(), module.rules):
            cause = f"defaultprim names {module.other}, which is back"
        else:
            return
        self._was_alone = False
        task = asyncio.create_task(self._swapped(cause))
        task.add_done_callback(lambda t: t.cancelled() or t.exception())

    async def _swapped(self, cause: str) -> None:
        try:
            await self._module.context.order("swap", cause)
        except SafekitError as error:
            self._module.log(Severity.WARNING, f"swap: {error.problems[0].message}")

    async def decide(self, look: Callable[..., Decision], me: Side | None = None) -> Decision:
        """Ask what follows; a decision that needs the witness's grant is asked again with its answer."""
        module = self._module
        seen = (me or module.me(), module.side(), module.rules)
        decision = self._with_claims(look(*seen, silent=module.silent, granted=None))
        if not decision.new_data:
            module.new = ""
        elif not module.new:
            module.new = secrets.token_hex(8)
        if not decision.lease or module.lease.witness is None:
            return decision
        module.say()
        mine, state = module.engine.generation().data, module.state
        grant = await module.lease.acquire(module.new or mine, mine, known=decision.known)
        if module.state is not state:
            return Decision(module.state, "")  # the question was another state's; the next look gives the lease back
        if not grant.granted and module.leaving:
            module.lease.forget()
        seen = (me or module.me(), module.side(), module.rules)
        decision = look(*seen, silent=module.silent, granted=grant.granted)
        if not grant.granted and grant.reason:
            decision = replace(decision, reason=f"{decision.reason} ({grant.reason})")
        if grant.granted and module.leaving and decision.goal not in SERVES:
            await module.lease.give_back()  # the other server was heard again meanwhile
        return decision

    def _with_claims(self, decision: Decision) -> Decision:
        module = self._module
        # Who is about to become primary says so first: the other one's right to go on by this one's word ends with it.
        claims = decision.claim or (module.state not in SERVES and (decision.lease or decision.goal in SERVES))
        module.claim = (module.claim or secrets.randbits(48) | 1) if claims else 0
        module.yields = module.peer.side.claim if module.peer is not None and decision.yields else 0
        return decision
