"""Who of the other servers of a group is believed: seal and check of datagrams, replays, greetings of new boots.

Flows through it: datagrams from the network in, those that are authentic and fresh out; greetings and questions to
servers that have not proved themselves. What a datagram says is the business of whoever uses this.

The rules are those of ``core.replay``. A first boot of a server proves itself by echoing this server's boot. A later
boot must besides send back a number, for its echo may have been held back on the way since before the present boot.
"""

from __future__ import annotations

import collections
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from safekit_py.core import replay
from safekit_py.core.keys import choose
from safekit_py.model.keys import Keyring
from safekit_py.net import wire
from safekit_py.net.keys import Signer

GREETINGS = (wire.HELLO, wire.ASK, wire.ANSWER)


class Way(Protocol):
    """One LAN as this sees it."""

    index: int
    counter: int

    def send(self, data: bytes, server: int) -> None:
        """Send to a server; one that has no address there, or a link that is down, does not matter."""


@dataclass(frozen=True, slots=True)
class Trust:
    """Who is believed, and what they hold; values only."""

    guards: Mapping[int, replay.Guard]
    asked: Mapping[int, int]
    holds: Mapping[int, tuple[bytes, ...]]


class Peers:
    """The other servers of one group.

    :param keys: those that this server holds, shared by all its groups.
    :param group: ``wire.group_id``.
    :param me: this server's number.
    :param boot: random and not 0; new each time.
    :param others: the numbers of the other servers.
    """

    def __init__(self, *, keys: Keyring, group: bytes, me: int, boot: int, others: Iterable[int]) -> None:
        self._keys, self._signer = keys, Signer(keys)
        self._group, self.me, self.boot = group, me, boot
        self._guards = dict.fromkeys(others, replay.Guard())
        self._greeted: set[tuple[int, int, int]] = set()
        self._asked: dict[int, int] = {}  # the number that a server's next boot must send back
        self.rejected: collections.Counter[str] = collections.Counter()

    def left(self) -> Trust:
        """All that was learnt of the others, for the one that goes on with this boot."""
        return Trust(dict(self._guards), dict(self._asked), self._signer.left())

    def resume(self, trust: Trust) -> None:
        """Go on with what an earlier process of the same boot has learnt: what it admitted is not admitted again."""
        self._guards |= {server: guard for server, guard in trust.guards.items() if server in self._guards}
        self._asked = dict(trust.asked)
        self._signer.resume(trust.holds)

    def boot_of(self, server: int) -> int:
        """The boot that is believed of a server, 0 before the first."""
        return self._guards[server].boot

    def begin(self) -> None:
        """A pulse begins: each boot that has not proved itself may be greeted once more."""
        self._greeted.clear()

    def open(self, lan: Way, data: bytes) -> wire.Datagram:
        """Check a datagram as far as that is possible without reading what it says.

        :raises wire.Rejected: with the first reason that applies.
        """
        datagram = wire.unseal(self._keys.ring, self._group, data)
        if datagram.sender not in self._guards or datagram.lan != lan.index:
            raise wire.Rejected("sender")
        return datagram

    def admit(self, lan: Way, datagram: wire.Datagram, *, echo: int | None) -> bool:
        """Judge an opened datagram; a greeting is answered here.

        :param echo: the boot of this server that it repeats; None for a greeting, and where it repeats none.
        :return: whether it is the first one of a new boot.
        :raises wire.Rejected: it is not fresh, or its boot not proved.
        """
        sender, before = datagram.sender, self._guards[datagram.sender]
        word = wire.decode_hello(datagram.payload) if datagram.kind in GREETINGS else None
        guard, verdict = replay.admit(
            before, datagram.boot, datagram.counter, lan.index, echoes=self._proves(datagram, word, echo)
        )
        if verdict == replay.UNPROVEN:
            self._greet(lan, datagram)
        if verdict != replay.ADMITTED:
            raise wire.Rejected(verdict)
        self._guards[sender] = guard
        self._signer.heard(sender, datagram.keys)
        if guard.boot != before.boot:
            self._asked.pop(sender, None)
        if datagram.kind == wire.ASK and word is not None and word[0] == self.me:
            self.send(lan, wire.ANSWER, wire.encode_hello(sender, word[1]), (sender,))
        return guard.boot != before.boot

    def send(self, lan: Way, kind: int, payload: bytes, to: Iterable[int]) -> None:
        """Seal a payload and send it to some servers on one LAN, to each with a key that it holds."""
        datagram, ring = self._next(lan, kind, payload), self._keys.ring
        sealed: dict[bytes, bytes] = {}
        for server in to:
            key = self._signer.key(ring, lan.index, server)
            if key.name not in sealed:
                sealed[key.name] = wire.seal(ring, self._group, datagram, key)
            lan.send(sealed[key.name], server)

    def _next(self, lan: Way, kind: int, payload: bytes) -> wire.Datagram:
        lan.counter += 1
        return wire.Datagram(kind, self.me, lan.index, self.boot, lan.counter, payload)

    def _proves(self, datagram: wire.Datagram, word: tuple[int, int] | None, echo: int | None) -> bool:
        """Whether the datagram proves that its boot is the sender's present one.

        This server's boot in it shows that it is younger than this server. That is not enough to replace a boot that is
        known: it may have been held back on the way since before that one. So a later boot is asked for a number.
        """
        if self._guards[datagram.sender].boot not in (0, datagram.boot):
            asked = self._asked.get(datagram.sender)
            return datagram.kind == wire.ANSWER and asked is not None and word == (self.me, asked)
        if word is None:
            return echo == self.boot
        return datagram.kind == wire.HELLO and word == (self.me, self.boot)

    def _greet(self, lan: Way, unproven: wire.Datagram) -> None:
        """Answer a boot that has not proved itself, once a pulse: it will echo this server's boot, or was a replay.

        The answer is signed with a key that the datagram names: a server that was started again may hold others than
        before. A replay gains no more by it than an answer that nobody understands.
        """
        sender, boot = unproven.sender, unproven.boot
        if (lan.index, sender, boot) in self._greeted:  # a replayed boot must not use up the answer to the real one
            return
        self._greeted.add((lan.index, sender, boot))
        words = [(wire.HELLO, boot)]
        if self._guards[sender].boot not in (0, boot):
            words.append((wire.ASK, self._asked.setdefault(sender, secrets.randbits(64))))
        ring = self._keys.ring
        for kind, number in words:
            datagram = self._next(lan, kind, wire.encode_hello(sender, number))
            lan.send(wire.seal(ring, self._group, datagram, choose(ring, unproven.keys)), sender)
