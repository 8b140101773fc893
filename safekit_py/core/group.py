"""The words of the membership protocol: view numbers, messages, events, commands. Values only."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from safekit_py.core import overlay
from safekit_py.core.buckets import Table
from safekit_py.core.trail import Trail

MAX_SERVERS = 250  # as many as the data plane holds
MAX_GROUPS = 16
MAX_INFO = 64  # bytes of data-plane addresses that a server announces


class Number(NamedTuple):
    """A view's number: totally ordered, never used twice.

    :param epoch: counts up; above every epoch that the coordinator had seen.
    :param coordinator: who published it.
    :param boot: that server's boot id.
    """

    epoch: int
    coordinator: int
    boot: int


NO_NUMBER = Number(0, 0, 0)


@dataclass(frozen=True, slots=True)
class Settings:
    """What all servers of a group share, and who this one is. Times are nanoseconds.

    :param nodes: the numbers of all servers of the group, this one included.
    :param groups: how many bucket tables a view holds.
    :param slost: pulses without a server before it counts as lost.
    :param mlost: pulses without the coordinator before it counts as lost, and the time a new server listens.

    Computed from them, once, since they are asked for some hundred times in a pulse:

    - ``sparse``: whether the group is so large that not everybody sends to everybody in each pulse;
    - ``near``: those to whom this server sends in every pulse;
    - ``far_lost_after``: silence about a server that is no neighbour after which it counts as lost without a vote. By
      then everybody's turn has come twice: one lost datagram loses nobody.
    """

    me: int
    nodes: tuple[int, ...]
    groups: int
    pulse: int = 35_000_000
    slost: int = 5
    mlost: int = 5
    sparse: bool = field(init=False, repr=False, compare=False)
    near: frozenset[int] = field(init=False, repr=False, compare=False)
    far_lost_after: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        turns = max(self.slost, self.mlost) + 2 * overlay.period(self.nodes)
        object.__setattr__(self, "sparse", overlay.sparse(self.nodes))
        object.__setattr__(self, "near", overlay.neighbours(self.nodes, self.me))
        object.__setattr__(self, "far_lost_after", turns * self.pulse)

    @property
    def lost_after(self) -> int:
        """Silence after which a server counts as lost."""
        return self.slost * self.pulse

    @property
    def coordinator_lost_after(self) -> int:
        """Silence after which the coordinator counts as lost."""
        return self.mlost * self.pulse

    @property
    def lease(self) -> int:
        """How long this server may go on after its last heartbeat: less than what it takes the others to miss it."""
        return min(self.slost, self.mlost) * self.pulse * 3 // 4


@dataclass(frozen=True, slots=True)
class Member:
    """A server in a view: its power in each group, and its data plane's addresses."""

    server: int
    powers: tuple[int, ...]
    info: bytes = b""


@dataclass(frozen=True, slots=True)
class View:
    """Who is in the group and who owns what, from the coordinator to all.

    :param trails: for each table who may still hold connections of its buckets; none at all: nobody.
    :param cause: what changed, in a few words.
    """

    number: Number
    members: tuple[Member, ...]
    tables: tuple[Table, ...]
    cause: str = ""
    trails: tuple[Trail, ...] = ()

    def has(self, server: int) -> bool:
        """Whether the server is a member."""
        return any(m.server == server for m in self.members)

    def trail(self, group: int) -> Trail:
        """The trail of a group."""
        return self.trails[group] if group < len(self.trails) else Trail()

    def holders(self) -> frozenset[int]:
        """Every server that may hold connections of buckets that are not its own."""
        return frozenset(server for trail in self.trails for server in trail.holders())


class Known(NamedTuple):
    """The freshest that a server knows of another one.

    :param accused: it is a neighbour, and has not been heard of for too long.
    :param abreast: the view of whoever says this, or a later one, is in force there.
    """

    server: int
    boot: int
    beat: int
    history: bool
    leaving: bool
    ready: bool
    accused: bool = False
    abreast: bool = False


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """What each server tells every other, each pulse.

    :param beat: counts the pulses of this boot.
    :param number: the view it holds.
    :param powers: what it is ready to take in each group; 0 while its traffic is shut.
    :param hears: bit n is set when it hears server n itself.
    :param known: every server it holds for alive; in a large group its neighbours, and some of the others in turn.
    :param history: it holds a view, and has listened long enough to coordinate.
    :param doubt: it was away and trusts itself only after an answer: its own answers prove nothing.
    :param settled: the epoch of a view since whose installation it holds no connection but in its own buckets; 0: none.
    """

    beat: int
    number: Number
    leaving: bool
    powers: tuple[int, ...]
    info: bytes
    hears: int
    known: tuple[Known, ...]
    history: bool = False
    doubt: bool = False
    settled: int = 0


Message = Heartbeat | View


@dataclass(frozen=True, slots=True)
class Tick:
    """A pulse has passed on this server's clock."""

    now: int


@dataclass(frozen=True, slots=True)
class Look:
    """Between two pulses: somebody's time may be over. All that has arrived has been given before."""

    now: int


@dataclass(frozen=True, slots=True)
class Received:
    """An authentic, fresh message of a boot that proved to be alive."""

    now: int
    sender: int
    boot: int
    message: Message


@dataclass(frozen=True, slots=True)
class SetPowers:
    """This server is ready for these shares from now on."""

    now: int
    powers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class SetInfo:
    """This server's data plane has these addresses from now on."""

    now: int
    info: bytes


@dataclass(frozen=True, slots=True)
class SetSettled:
    """This server holds no connection but in its own buckets, counted while the view of this epoch was in force."""

    now: int
    epoch: int


@dataclass(frozen=True, slots=True)
class Leave:
    """This server leaves the group for good."""

    now: int


Event = Tick | Look | Received | SetPowers | SetInfo | SetSettled | Leave


@dataclass(frozen=True, slots=True)
class Send:
    """Send the message; ``to`` None means every other server.

    :param urgent: they should read it now and not at their next pulse.
    """

    to: tuple[int, ...] | None
    message: Message
    urgent: bool = False


@dataclass(frozen=True, slots=True)
class Install:
    """This view is in force.

    :param owning: whether this server may take what the view gives it.
    :param waiting: members that have not said yet that the view is in force there: they may still take what it gives to
        this server and did not before. Another ``Install`` follows when there is none any more.
    """

    view: View
    owning: bool
    waiting: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Lease:
    """This server may take new connections until then."""

    until: int


@dataclass(frozen=True, slots=True)
class Note:
    """A line for the log."""

    text: str


Command = Send | Install | Lease | Note
