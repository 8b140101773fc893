"""A small model of two servers, their disks, the network between them and a witness, for an exhaustive exploration.

Everything that can happen next in a state is an event; the decisions are those of the real ``roles`` and
``generation``. What is left out is time: a timeout may pass whenever the rules of the leases let it, so every order of
events that real clocks could bring is there, and more.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from safekit_py.plugins.mirror import generation as gen
from safekit_py.plugins.mirror.generation import Generation
from safekit_py.plugins.mirror.roles import SERVES, Decision, Rules, Side, elect, react, refusal

from safekit_py.api import Readiness, State

S = State
NOTHING = Generation()
STALE = "stale"  # what a server knows of the other after a sleep, until it hears it or times out


@dataclass(frozen=True)
class Server:
    """One server: what is on its disk, what is in its memory, and what it last heard of the other."""

    generation: Generation = NOTHING
    image: tuple[int, ...] = ()  # numbers of the writes that are in it
    up: bool = True
    asleep: bool = False
    state: State = S.WAIT
    frozen: bool = False
    fenced: bool = False
    connected: bool = False
    leaving: bool = True
    outdated_for: str = ""
    claim: int = 0
    yields: int = 0
    began: State | None = None
    wish: str = ""
    heard: Side | str | None = None
    silent: bool = False
    vouched: bool = False  # the other has said that it hears this one, less than a timeout ago
    step: int = 0  # of a resynchronisation: 1 begun, 2 the primary has noted that it shares
    taking: tuple[Decision, str] | None = None  # it is becoming primary: the decision, and the identifier it begins
    last: Generation | None = None  # what the other had when it was heard last
    behind: bool = False  # it has heard of newer data since it was the same as the other

    @property
    def serves(self) -> bool:
        return self.up and self.state in SERVES

    @property
    def acknowledges(self) -> bool:
        return self.serves and not self.frozen and not self.fenced


@dataclass(frozen=True)
class World:
    servers: tuple[Server, Server]
    links: tuple[bool, bool] = (True, True)  # what 0 sends arrives, what 1 sends arrives
    acknowledged: tuple[int, ...] = ()
    ids: int = 1  # data identifiers that were used
    holder: int = -1  # of the witness's lease
    granted_for: str = ""
    reach: tuple[bool, bool] = (True, True)
    aside: tuple[int, ...] = ()  # writes that were kept aside
    spent: tuple[int, int, int] = (0, 0, 0)  # crashes and sleeps, cuts, writes

    def put(self, number: int, server: Server) -> "World":
        servers = list(self.servers)
        servers[number] = server
        return replace(self, servers=(servers[0], servers[1]))

    def with_(self, number: int, **changes: object) -> "World":
        return self.put(number, replace(self.servers[number], **changes))


@dataclass(frozen=True)
class Model:
    rules: Rules
    budget: tuple[int, int, int] = (2, 2, 2)
    one_way: bool = True
    found: list[str] = field(default_factory=list, compare=False)

    def side(self, world: World, number: int) -> Side:
        s = world.servers[number]
        return Side(
            number, s.state, Readiness.READY, s.generation, True, s.frozen or s.fenced, s.connected, s.leaving,
            s.outdated_for, s.claim, s.yields, s.began, s.wish,
        )  # fmt: skip

    def events(self, world: World) -> Iterator[tuple[str, World]]:
        for number in (0, 1):
            yield from self._of_server(world, number)
        yield from self._of_network(world)

    def _spend(self, world: World, what: int) -> World | None:
        if world.spent[what] >= self.budget[what]:
            return None
        spent = list(world.spent)
        spent[what] += 1
        return replace(world, spent=(spent[0], spent[1], spent[2]))

    def _of_network(self, world: World) -> Iterator[tuple[str, World]]:
        if all(world.links):
            if spent := self._spend(world, 1):
                yield "cut", replace(spent, links=(False, False))
                if self.one_way:
                    yield "cut 0->1", replace(spent, links=(False, True))
                    yield "cut 1->0", replace(spent, links=(True, False))
        else:
            yield "heal", replace(world, links=(True, True))
        if self.rules.witness:
            for number in (0, 1):
                reach = list(world.reach)
                reach[number] = not reach[number]
                changed = replace(world, reach=(reach[0], reach[1]))
                if world.reach[number] and (spent := self._spend(changed, 1)):
                    yield f"witness cut from {number}", spent
                elif not world.reach[number]:
                    yield f"witness back for {number}", changed
            holder = world.holder
            if holder >= 0:
                s = world.servers[holder]
                # The holder renews while it lives and reaches the witness. Before the lease ends it fences itself,
                # unless the other server's word lets it go on.
                renews = s.up and not s.asleep and world.reach[holder] and (s.serves or s.taking)
                if not renews and (not s.acknowledges or self._vouched(world, holder)):
                    yield "the lease ends", replace(world, holder=-1)

    @staticmethod
    def _vouched(world: World, number: int) -> bool:
        """Whether the other server's word lets this one go on: it hears this one and is no primary."""
        s = world.servers[number]
        return s.vouched and isinstance(s.heard, Side) and s.heard.state not in SERVES and not s.heard.claim

    def _of_server(self, world: World, number: int) -> Iterator[tuple[str, World]]:
        s, other = world.servers[number], world.servers[1 - number]
        if not s.up:
            yield f"boot {number}", world.with_(number, up=True)
            return
        if spent := self._spend(world, 0):
            off = Server(generation=s.generation, image=s.image, up=False)
            yield f"crash {number}", spent.put(number, off)
            if not s.asleep and (s.serves or s.taking):
                yield f"sleep {number}", spent.with_(number, asleep=True)
        if s.asleep:
            yield f"wake {number}", world.with_(number, asleep=False, heard=STALE, silent=False)
        if self._loses_its_lease(world, number):
            yield f"fence {number}", world.with_(number, fenced=True)
        yield from self._beats(world, number)
        if s.vouched:
            yield f"the word to {number} ends", world.with_(number, vouched=False)
        if not s.asleep:
            yield from self._silence(world, number)
            if s.taking:
                yield from self._take(world, number, *s.taking)
            elif s.heard != STALE:
                yield from self._think(world, number)
        if s.connected and not (other.up and all(world.links) and other.connected):
            yield f"link lost {number}", world.with_(number, connected=False, frozen=s.frozen or s.serves)
        elif s.connected and not s.asleep and s.fenced:
            yield f"link closed {number}", world.with_(number, connected=False, frozen=True)
        if s.acknowledges:
            yield from self._writes(world, number)
            yield from self._resync(world, number)

    def _loses_its_lease(self, world: World, number: int) -> bool:
        s = world.servers[number]
        if s.fenced or s.asleep:
            return s.asleep and not s.fenced
        return s.serves and self.rules.witness and world.holder != number and not self._vouched(world, number)

    def _beats(self, world: World, number: int) -> Iterator[tuple[str, World]]:
        """Heartbeats of this server, as the other one hears them."""
        s, other = world.servers[number], world.servers[1 - number]
        if s.asleep or not world.links[number] or not other.up or other.asleep:
            return
        said, hears = self.side(world, number), isinstance(s.heard, Side)
        if other.heard != said or hears != other.vouched:
            behind = gen.compare(other.generation, s.generation).kind == "theirs"
            yield (
                f"beat {number}",
                world.with_(
                    1 - number,
                    heard=said,
                    silent=False,
                    vouched=hears,
                    behind=other.behind or behind,
                    last=s.generation,
                ),
            )

    def _silence(self, world: World, number: int) -> Iterator[tuple[str, World]]:
        """The timeout passes: the other one is off, cut, or asleep; then its lease has ended before."""
        s, other = world.servers[number], world.servers[1 - number]
        if s.silent or (other.up and not other.asleep and world.links[1 - number]):
            return
        if other.asleep and other.acknowledges:
            return
        # This server's word to the other one ends before this timeout, and with it what lived on it alone.
        if other.vouched or (self.rules.witness and other.acknowledges and world.holder != 1 - number):
            return
        yield f"silence {number}", world.with_(number, heard=None, silent=True)

    def _writes(self, world: World, number: int) -> Iterator[tuple[str, World]]:
        s, other = world.servers[number], world.servers[1 - number]
        spent = self._spend(world, 2)
        if spent is None:
            return
        write = len(world.acknowledged) + len(world.aside) + 1
        if s.connected:
            if other.up and other.connected and all(world.links):
                done = spent.with_(number, image=(*s.image, write)).with_(1 - number, image=(*other.image, write))
                yield f"write {number}", replace(done, acknowledged=(*world.acknowledged, write))
        elif s.state is S.ALONE:
            done = spent.with_(number, image=(*s.image, write))
            yield f"write {number}", replace(done, acknowledged=(*world.acknowledged, write))

    def _resync(self, world: World, number: int) -> Iterator[tuple[str, World]]:
        s, other = world.servers[number], world.servers[1 - number]
        if s.connected or not (other.up and other.state is S.SECOND and all(world.links)) or other.asleep:
            return
        if other.step == 0 or other.generation.uptodate:
            kept = tuple(w for w in other.image if w not in s.image)
            begun = world.with_(1 - number, generation=gen.resyncing(other.generation), step=1)
            yield f"resync begins {number}", replace(begun, aside=tuple(sorted({*world.aside, *kept})))
        elif other.step == 1:
            shared = world.with_(number, generation=gen.sharing(s.generation))
            yield f"resync shares {number}", shared.with_(1 - number, step=2)
        elif s.generation.shared:
            same = gen.synced(other.generation, s.generation)
            done = world.with_(
                1 - number, generation=same, image=s.image, connected=True, step=0, outdated_for="", behind=False
            )
            yield f"resync ends {number}", done.with_(number, connected=True, frozen=False)

    def _acquire(self, world: World, number: int, data: str, previous: str, known: bool) -> tuple[bool, World]:
        if not world.reach[number] or world.holder not in (-1, number) or (known and not world.granted_for):
            return False, world
        if world.granted_for not in ("", data, previous):
            return False, world
        return True, replace(world, holder=number, granted_for=data)

    def _think(self, world: World, number: int) -> Iterator[tuple[str, World]]:
        s = world.servers[number]
        peer = s.heard if isinstance(s.heard, Side) else None
        me = self.side(world, number)
        look = elect if s.state is S.WAIT else react
        decision = look(me, peer, self.rules, silent=s.silent, granted=None)
        rises = s.state not in SERVES and (decision.lease or decision.goal in SERVES)
        claim = (s.claim or 1 + number) if decision.claim or rises else 0
        yields = peer.claim if peer is not None and decision.yields else 0
        world = world.with_(number, claim=claim, yields=yields)
        new = s.generation.data
        if decision.new_data:
            new, world = f"d{world.ids}", replace(world, ids=world.ids + 1)
        if decision.lease:
            granted, world = self._acquire(world, number, new, s.generation.data, decision.known)
            decision = look(me, peer, self.rules, silent=s.silent, granted=granted)
        after = self._done(world, number, decision, new)
        if after.servers != world.servers or world.servers[number] != s:
            yield f"think {number}: {s.state} -> {decision.goal} {decision.reason}", after

    def _done(self, world: World, number: int, decision: Decision, new: str) -> World:
        s = world.servers[number]
        goal = decision.goal
        if decision.outdate and isinstance(s.heard, Side) and not s.outdated_for:
            world = world.with_(number, generation=gen.outdated(s.generation), outdated_for=s.heard.generation.data)
            s = world.servers[number]
        may = not self.rules.witness or world.holder == number or self._vouched(world, number)
        if goal is s.state:
            return world.with_(number, fenced=False) if s.fenced and s.serves and may else world
        if goal in SERVES and s.state in SERVES:
            if goal is S.ALONE:
                made = gen.alone(s.generation, new)
                return world.with_(
                    number, state=goal, generation=made, frozen=False, fenced=s.fenced and not may, began=s.state
                )
            return world.with_(number, state=goal)
        if goal in SERVES:
            return world.with_(number, taking=(decision, new))
        released = world.with_(
            number, state=goal, leaving=True, claim=0, yields=0, connected=False, frozen=False, fenced=False, step=0,
            generation=gen.demoted(s.generation), began=None,
        )  # fmt: skip
        return replace(released, holder=-1) if released.holder == number else released

    def _take(self, world: World, number: int, decision: Decision, new: str) -> Iterator[tuple[str, World]]:
        """What was decided is done; or it is not, for something has failed, and the right to it is given back."""
        s = world.servers[number]
        given = world.with_(number, state=S.WAIT, taking=None, claim=0, yields=0, began=None, step=0)
        yield f"give up {number}", replace(given, holder=-1) if given.holder == number else given
        if refusal(self.side(world, number), s.heard if isinstance(s.heard, Side) else None, s.last):
            return
        self._check_rise(world, number)
        made = gen.promoted(s.generation)
        if decision.new_data:
            made = gen.alone(s.generation, new) if s.generation.data else gen.first(new)
        may = not self.rules.witness or world.holder == number or self._vouched(world, number)
        yield (
            f"take {number}: {decision.goal}",
            world.with_(
                number, state=decision.goal, generation=made, leaving=False, claim=0, yields=0, wish="",
                outdated_for="", frozen=False, fenced=not may, connected=False,
                began=s.state if s.state is S.SECOND else S.ALONE, step=0, taking=None, behind=False,
            ),
        )  # fmt: skip

    def _check_rise(self, world: World, number: int) -> None:
        """What a server must have that becomes primary by itself."""
        s = world.servers[number]
        if s.wish:
            return
        if not s.generation.uptodate:
            self.found.append(f"server {number} becomes primary and is not up to date")
        if s.behind:
            self.found.append(f"server {number} becomes primary and has heard of newer data")
        safe = self.rules.witness or self.rules.isolation == "wait"
        lost = [w for w in world.acknowledged if w not in s.image]
        if lost and safe:
            self.found.append(f"server {number} becomes primary without the acknowledged writes {lost}")
        elsewhere = world.servers[1 - number].image
        if gone := [w for w in lost if w not in elsewhere and w not in world.aside]:
            self.found.append(f"the acknowledged writes {gone} are nowhere")

    def check(self, world: World) -> None:
        """The invariants of a state."""
        safe = self.rules.witness or self.rules.isolation == "wait"
        if safe and all(s.acknowledges for s in world.servers):
            self.found.append("two servers acknowledge")
