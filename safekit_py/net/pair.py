"""Heartbeats of two servers with each other over one or more LANs, each with the sender's whole situation as words.

Flows through it: this server's words in; datagrams out, once a pulse on every LAN and at once when the words change;
the other's datagrams in, as they arrive; calls of ``PairListener`` out, in the heartbeat thread.

What is safe to conclude:

- ``Heard.at`` says when something came in. It may have waited on the way, or in a queue while this process stood still,
  and this process's other threads need not live: the heartbeat thread goes on without them.
- ``Heard.echo`` says when this server sent the words that the other had heard last. Repetitions of words do not count:
  so who wants the echo to go on must say something new, such as a count that its own decisions keep up. An echo not
  before an instant shows that the other spoke after that instant. Nothing else shows it, least of all after a pause.
- ``Heard.says`` and ``Heard.echo`` belong together: the other said these words when it had heard that. While newer
  words of it are not whole yet, ``at`` goes on and ``echo`` does not.
- After ``say`` has returned, no beat goes out with older words. So the older words were never said with an echo of
  words heard later than those that ``last`` shows then: whoever takes back a promise says so first and looks next.
- Silence is counted only while this server listens: a pause of its own is not the other's silence.

A datagram that is not believed is counted by its reason and changes nothing. The sockets are connected, so the kernel
drops whatever does not come from the other's address; those who forge that address are read within a bound each pulse.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from safekit_py.model.keys import Keyring
from safekit_py.net import wire, words
from safekit_py.net.link import Link
from safekit_py.net.peer import GREETINGS, Peers
from safekit_py.net.pulse import RealtimeThread

REPEAT = 100_000_000  # ns: pieces that the other has not confirmed come again so often, or once a pulse
BURST = 64  # datagrams read before others have their turn
AWAY, AWAY_PULSES = 1_000_000_000, 3  # ns, pulses: a LAN that was silent for longer may have been down
IDLE = 1_000_000_000  # ns between two looks while there is no LAN
SHARE = 4  # reading a LAN may take one part in so many of its pulse: then it waits for the next


@dataclass(frozen=True, slots=True)
class Heard:
    """What the other said last.

    :param at: this server's monotonic clock when it came in.
    :param echo: this server's monotonic clock when it sent the words that the other had heard last; 0 for none in this
        run.
    """

    at: int
    says: Mapping[str, Any]
    echo: int


@dataclass(frozen=True, slots=True)
class PairListener:
    """Called in the heartbeat thread: it must be quick and must not raise.

    :param on_words: the other's words are new, or its boot is.
    :param on_sent: a beat went out on at least one LAN; the clock just before it did.
    :param on_lan: the other is heard on a LAN for the first time, or again after the LAN was silent.
    """

    on_words: Callable[[Heard], None]
    on_sent: Callable[[int], None]
    on_lan: Callable[[str], None]


class Pair:
    """This server and the other one.

    :param group: ``wire.group_id`` of what the two do together.
    :param me: this server's number; ``other`` the other's.
    :param boot: random and not 0; new each time.
    :param thread: must have been given to run this with ``thread.start``.
    """

    def __init__(
        self,
        me: int,
        other: int,
        *,
        keys: Keyring,
        group: bytes,
        boot: int,
        thread: RealtimeThread,
        listener: PairListener,
    ) -> None:
        self._other, self._thread, self._listener = other, thread, listener
        self._peers = Peers(keys=keys, group=group, me=me, boot=boot, others=(other,))
        self._links: tuple[Link, ...] = ()
        self._saying = threading.Lock()  # held while a beat is made and sent, and while the words change
        self._mine: list[bytes] = []  # pieces of this server's words; none before the first
        self._version = self._confirmed = 0
        self._last: Heard | None = None
        self._says: Mapping[str, Any] | None = None  # of the other's present boot
        self._assembler = words.Assembler()
        self._their_sent = self._echo = 0
        self._silent_since = self._ran = time.monotonic_ns()
        self.sent = 0
        self.due = self._ran

    # --- called from any thread -----------------------------------------------------------------

    @property
    def last(self) -> Heard | None:
        """The last that was heard, on any LAN; of a new boot not before its words are whole."""
        return self._last

    def silence(self) -> float:
        """Seconds for which this server has listened in vain on every LAN; a pause of its own does not count."""
        return max(0, self._ran - self._silent_since) / 1e9

    def lans(self) -> dict[str, float]:
        """By LAN: seconds since the other was heard there; infinite when never."""
        now = time.monotonic_ns()
        return {link.name: (now - link.heard) / 1e9 if link.heard else math.inf for link in self._links}

    def snapshot(self) -> dict[str, Any]:
        """Counters, as plain values."""
        return {
            "rejected": dict(self._peers.rejected),
            "send_errors": {link.name: link.send_errors for link in self._links},
            "version": self._version,
            "confirmed": self._confirmed,
        }

    def say(self, situation: Mapping[str, Any]) -> None:
        """What each beat carries from now on, as JSON; one goes out at once. No beat goes out before the first words.

        :raises ValueError: it is longer than ``words.MAX_WORDS`` or too deeply nested; TypeError: it is no JSON.
        """
        pieces = words.pieces_of(words.pack(situation))
        with self._saying:
            if pieces != self._mine:
                self._mine, self._version = pieces, self._version + 1
                for link in self._links:
                    link.repeat = 0
        self._thread.order(lambda: self._beat(self._links, time.monotonic_ns()))

    def add(self, link: Link) -> None:
        """Use one more LAN from now on."""
        self._thread.order(lambda: self._add(link))

    # --- called in the heartbeat thread ---------------------------------------------------------

    def pulse(self, now: int) -> None:
        """Send what is due, and read where reading was held back."""
        step = min((link.pulse for link in self._links), default=IDLE)
        if now > self._ran + 2 * step:  # this server stood still
            self._silent_since += now - self._ran - step
        self._ran = now
        self._peers.begin()
        due = tuple(link for link in self._links if link.due <= now)
        for link in due:
            link.due = max(link.due + link.pulse, now)
            link.spent = 0
            self._watch(link)
        self._beat(due, now)
        self.due = min((link.due for link in self._links), default=now + IDLE)

    def leave(self, _now: int) -> None:
        """Say the last words once more, for nothing of this server will repeat them."""
        self._confirmed = 0
        for link in self._links:
            link.repeat = 0
        self._beat(self._links, time.monotonic_ns())

    def close(self) -> None:
        """Close the sockets."""
        for link in self._links:
            self._thread.unwatch(link.socket)
            link.close()

    def _add(self, link: Link) -> None:
        self._links += (link,)
        self.due = link.due = time.monotonic_ns()

    def _beat(self, links: tuple[Link, ...], now: int) -> None:
        if not self._mine:  # nothing to say yet
            return
        with self._saying:
            out = sum(self._send(link, now) for link in links)
        if out:
            self.sent = now
            self._listener.on_sent(now)

    def _send(self, link: Link, now: int) -> bool:
        """One heartbeat on one LAN; whether it went out."""
        pieces: list[tuple[int, bytes]] = []
        if self._confirmed != self._version and now + link.pulse // 2 >= link.repeat:  # at the nearest pulse
            pieces = list(enumerate(self._mine))
            link.repeat = now + REPEAT
        boot, before = self._peers.boot_of(self._other), link.sent
        for part, piece in pieces or [(0, b"")]:
            saying = words.Saying(
                time.monotonic_ns(),
                boot,
                self._their_sent,
                self._version,
                self._assembler.have,
                part,
                len(pieces),
                piece,
            )
            self._peers.send(link, words.BEAT, words.encode(saying), (self._other,))
        return link.sent != before

    def _watch(self, link: Link) -> None:
        if not link.watched and link.ready():
            link.watched = True
            self._thread.watch(link.socket, lambda: self._readable(link))

    def _readable(self, link: Link) -> None:
        """Read a burst. In a flood what is genuine waits in the socket, and the next pulse has its share for it."""
        began = time.monotonic_ns()
        for _ in range(BURST):
            try:
                data = link.receive()
            except BlockingIOError:
                break
            except OSError:  # the echo of an earlier send: the other does not listen
                continue
            try:
                self._datagram(link, data)
            except wire.Rejected as rejected:
                self._peers.rejected[rejected.reason] += 1
        link.spent += time.monotonic_ns() - began
        if link.spent > link.pulse // SHARE:
            self._thread.unwatch(link.socket)
            link.watched = False

    def _datagram(self, link: Link, data: bytes) -> None:
        datagram = self._peers.open(link, data)
        if datagram.kind != words.BEAT and datagram.kind not in GREETINGS:
            raise wire.Rejected("malformed")
        saying = words.decode(datagram.payload) if datagram.kind == words.BEAT else None
        if self._peers.admit(link, datagram, echo=None if saying is None else saying.boot):
            self._new_boot()
        now = time.monotonic_ns()
        if not link.heard or now - link.heard > max(AWAY, AWAY_PULSES * link.pulse):
            self._listener.on_lan(link.name)
        link.heard = self._silent_since = now
        if saying is not None:
            self._take(saying, now)

    def _new_boot(self) -> None:
        """What was known of the other's last run is void; it is told this server's words without delay."""
        self._assembler, self._says = words.Assembler(), None
        self._their_sent = self._echo = self._confirmed = 0
        self.due = time.monotonic_ns()
        for link in self._links:
            link.due, link.repeat = self.due, 0

    def _take(self, saying: words.Saying, now: int) -> None:
        new = self._assembler.add(saying)
        if new is not None:
            self._says, self._their_sent = new, max(self._their_sent, saying.sent)
        if saying.boot == self._peers.boot:
            if saying.have == self._version:
                self._confirmed = saying.have
            if saying.version == self._assembler.have:
                self._echo = max(self._echo, saying.echo)
        if self._says is not None:
            self._last = Heard(now, self._says, self._echo)
            if new is not None:
                self._listener.on_words(self._last)
