"""The keys that this server holds now, and what it has heard of the others': shared by all that signs and verifies.

Flows through it: a new ring from the agent in, taken by every heartbeat thread with its next datagram; who has signed
with which key in, from the threads that heard it; both out to whoever decides when an old key goes.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping

from safekit_py.core.keys import Heard, choose
from safekit_py.model.keys import Key, Keyring, Ring, Who, first


class Keys:
    """See ``Keyring``; one for an agent."""

    def __init__(self, ring: Ring | None = None) -> None:
        self.ring = Ring() if ring is None else ring
        self._holds: dict[Who, tuple[bytes, ...]] = {}
        self._asks: dict[Who, Callable[[], Awaitable[None]]] = {}
        self._signed: dict[tuple[Who, bytes], tuple[float, float]] = {}

    @classmethod
    def of(cls, secret: bytes) -> Keys:
        """Those of a cluster whose key has never changed."""
        return cls(first(secret))

    def heard(self, who: Who, holds: tuple[bytes, ...]) -> None:
        """Somebody has sent what is authentic and fresh."""
        now = time.monotonic()
        self._holds[who] = holds
        before = self._signed.get((who, holds[0]))
        self._signed[who, holds[0]] = (now if before is None else before[0], now)

    def expect(self, who: Who, ask: Callable[[], Awaitable[None]]) -> None:
        """Somebody besides the cluster's servers verifies."""
        self._holds.setdefault(who, ())
        self._asks[who] = ask

    async def ask(self) -> None:
        """Have those say which keys they hold that do not say it by themselves."""
        for each in tuple(self._asks.values()):
            await each()

    def holds(self, who: Who) -> tuple[bytes, ...]:
        """The names of the keys that somebody has said it holds; none before it was heard."""
        return self._holds.get(who, ())

    def known(self) -> dict[Who, Heard]:
        """All that was heard, by who said it."""
        signed = self._signed.copy()  # the threads go on meanwhile
        return {
            who: Heard(holds, {name: when for (whose, name), when in signed.items() if whose == who})
            for who, holds in self._holds.copy().items()
        }

    def forget(self) -> None:
        """Nothing was heard yet: another cluster's keys have taken the place of these."""
        self._holds, self._signed, self._asks = {}, {}, {}


class Signer:
    """Chooses the key that signs for each of the other servers of one group.

    What they hold is remembered group by group: a datagram that another group admits says nothing of the order in which
    this one's are heard.
    """

    def __init__(self, keys: Keyring) -> None:
        self._keys = keys
        self._holds: dict[int, tuple[bytes, ...]] = {}
        self._attempts: dict[tuple[int, int], int] = {}

    def heard(self, server: int, holds: tuple[bytes, ...]) -> None:
        """A server has sent what is authentic and fresh; see ``Keyring.heard``."""
        self._holds[server] = holds
        self._keys.heard(server, holds)

    def left(self) -> dict[int, tuple[bytes, ...]]:
        """What each server holds, as far as it has said so."""
        return dict(self._holds)

    def resume(self, holds: Mapping[int, tuple[bytes, ...]]) -> None:
        """Go on with what an earlier process was told."""
        for server, names in holds.items():
            self.heard(server, names)

    def key(self, ring: Ring, lan: int, server: int) -> Key:
        """The key for what a server is sent on a LAN."""
        if len(ring.keys) == 1:
            return ring.newest
        attempt = self._attempts[lan, server] = self._attempts.get((lan, server), -1) + 1
        return choose(ring, self._holds.get(server, ()), attempt)
