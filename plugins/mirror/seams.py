"""How the parts of a mirror meet: what the module at work asks of replication, of the heart, of a witness.

The parts know nothing of each other: ``runtime.py`` brings them together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from .generation import Generation


@dataclass(frozen=True, slots=True)
class VolumeEvent:
    """What replication tells the module at work.

    :param kind: ``connected`` (a peer is there, resynchronisation begins), ``synced`` (both have the same, durably
        noted on both sides), ``lost`` (the peer is gone; on the primary nothing is acknowledged from here on until
        ``alone`` is called), ``fenced`` (the lease ended: nothing is acknowledged), ``failed`` (this server's own disk
        or image; ``cause`` says which), ``interrupted`` (a resynchronisation broke off and begins again),
        ``restarted`` (a process of its own died, and goes on), ``notice`` (what a person should know of this server),
        ``progress``.
    """

    kind: str
    cause: str = ""
    data: Mapping[str, Any] | None = None


class Engine(Protocol):
    """Keeps the replicated directories of one module. Engines are chosen by ``<rfs engine>``.

    All methods may be called again after they failed; each leaves things as they were or done.
    The generation is on stable storage before a method that changes it returns.

    :ivar replicates: False when there are no data to keep.
    :ivar port: of TCP, that the servers use between them; 0: none.
    """

    replicates: bool
    port: int

    def generation(self) -> Generation:
        """What this server has, as stored; asked at any time."""

    async def recover(self) -> None:
        """Take away what an earlier run left: mounts, loop devices, processes. Data stay."""

    async def serve(self, *, new: str = "") -> None:
        """Become the primary; :meth:`mount` follows. With data that the other server may have too, nothing is
        acknowledged before it answers, or :meth:`alone` is called.

        :param new: the identifier of the data from here on, when this server goes on without the other (a take-over, a
            first start); empty when it goes on with it or with data that it alone has.
        """

    async def mount(self) -> None:
        """Mount the directories; until then nothing is read or written. It needs what is written to be acknowledged."""

    async def receive(self, *, fullsync: bool = False, aside: bool = False) -> None:
        """Become the secondary: take what the primary sends, from now on and until :meth:`release`.

        :param fullsync: take everything anew, whatever this server has.
        :param aside: keep what this server has and the primary has not, before it is overwritten.
        """

    async def alone(self, new: str) -> None:
        """The primary goes on without the other; what waited for it is acknowledged now."""

    async def outdate(self) -> None:
        """This server's data are not the newest any more; durably noted."""

    async def release(self, *, force: bool = False) -> None:
        """Unmount, and serve or receive no more.

        :param force: what is not acknowledged yet fails, so that nothing hangs.
        """

    def lease(self, until: int) -> None:
        """The primary may acknowledge until this instant of CLOCK_BOOTTIME, in nanoseconds; then it fences itself.

        When it does, it also takes the addresses away that :meth:`guard` named.
        """

    def limit(self, bandwidth: int) -> None:
        """Bytes a second that a resynchronisation may take from now on; 0: no limit."""

    def guard(self, addresses: tuple[tuple[str, str], ...]) -> None:
        """Addresses (device, ``address/prefix``) that must not outlive the lease."""

    def status(self) -> Mapping[str, Any]:
        """What ``status`` shows: role, connected, synced, bytes to resynchronise, rate, time left, sizes."""

    def settled(self) -> None:
        """The module has been Ready: the directories' original content is not needed any more. Called in a thread."""

    def listen(self, told: Callable[[VolumeEvent], None]) -> None:
        """Be told what happens; called in the agent's event loop."""

    async def hand_over(self) -> Mapping[str, Any]:
        """Let go of everything as it is, and tell nothing more; plain values for :meth:`take_over` elsewhere."""

    async def take_over(self, left: Mapping[str, Any]) -> None:
        """Go on where another process of this server has let go. It must not wait for a disk; what has happened since,
        or that there is nothing to go on with, is told as at any other time."""


@dataclass(frozen=True, slots=True)
class Beat:
    """What the other server said last.

    :param at: monotonic nanoseconds of this server when it was received.
    :param says: its words, plain JSON values.
    :param echo: monotonic nanoseconds of this server when it sent what the other had heard last; 0 when none.
    """

    at: int
    says: Mapping[str, Any]
    echo: int


class HeartLink(Protocol):
    """Heartbeats with the one other server, over several LANs, authenticated and protected against replay."""

    def start(self, told: Callable[[Beat], None]) -> None:
        """Begin; ``told`` is called in the agent's event loop at the first beat and at each that says something new."""

    def say(self, words: Mapping[str, Any]) -> None:
        """What each heartbeat carries from now on (JSON, at most 30,000 bytes); one is sent at once."""

    def last(self) -> Beat | None:
        """The last one heard in this run, on any LAN."""

    def silence(self) -> float:
        """Seconds for which this server has listened in vain; its own pauses do not count."""

    def answered(self, since: int) -> bool:
        """Whether the other has answered what this server said after that monotonic instant, in nanoseconds."""

    def lans(self) -> Mapping[str, float]:
        """By LAN: seconds since the other was heard there; infinite when never."""

    def rejected(self) -> Mapping[str, int]:
        """How many datagrams were not believed, by reason."""

    def close(self) -> None:
        """Stop and close the sockets."""


@dataclass(frozen=True, slots=True)
class Grant:
    """A witness's answer.

    :param granted: whether this server holds the lease.
    :param until: CLOCK_BOOTTIME nanoseconds of this server at which it ends, counted from before it was asked.
    :param reason: why it was refused: who holds it, or which data are newer; or that the witness does not answer.
    :param answered: False when the witness did not answer: nothing is known.
    """

    granted: bool
    until: int = 0
    reason: str = ""
    answered: bool = True


class WitnessClient(Protocol):
    """What decides between two servers that have lost each other.

    :ivar proves: whether what it grants is a lease: at most one server holds one, and only with the newest data. What
        proves nothing may let both go on, and never grants with ``known``.
    """

    proves: bool

    async def acquire(self, data: str, previous: str, *, known: bool = False) -> Grant:
        """Take or renew the lease for these data. Granted when nobody else holds it, and when the newest data that
        the witness knows of are ``data`` or ``previous``; with ``known`` it must know of some, otherwise it grants
        the first that it hears of."""

    async def release(self) -> None:
        """Give it back, so that the other need not wait."""
