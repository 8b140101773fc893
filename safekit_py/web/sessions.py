"""Sessions of people who have logged in. Pure: the time is an argument; nothing is on disk.

Invariant: an identity that was ended, or has run out, is never accepted again. The table holds digests, so that who
reads this process's dump cannot act with what stands there.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass, replace

IDLE = 30 * 60.0  # seconds without a call after which a session ends
LIFE = 12 * 3600.0  # seconds after which it ends in any case
MOST = 1000  # at a time; past it the oldest ends


@dataclass(frozen=True, slots=True)
class Session:
    """One login.

    :param proof: the hash of the password it was made with: a new password ends it.
    :param csrf: what a call that changes something must repeat in a head.
    """

    user: str
    proof: str
    csrf: str
    born: float
    seen: float

    def confirmed(self, csrf: str) -> bool:
        """Whether a call repeats the right text."""
        return hmac.compare_digest(self.csrf.encode(), csrf.encode(errors="replace"))


class Sessions:
    """All of them."""

    def __init__(self) -> None:
        self._open: dict[str, Session] = {}

    def begin(self, user: str, proof: str, now: float) -> tuple[str, Session]:
        """A new one: what the cookie holds, and the session."""
        while len(self._open) >= MOST:
            del self._open[next(iter(self._open))]
        cookie = secrets.token_urlsafe(32)
        session = Session(user, proof, secrets.token_urlsafe(32), now, now)
        self._open[_digest(cookie)] = session
        return cookie, session

    def find(self, cookie: str, now: float) -> Session | None:
        """The session of a cookie; None when there is none or it has run out."""
        key = _digest(cookie)
        session = self._open.get(key)
        if session is None:
            return None
        if now - session.seen >= IDLE or now - session.born >= LIFE:
            del self._open[key]
            return None
        self._open[key] = session = replace(session, seen=now)
        return session

    def end(self, cookie: str) -> None:
        """End one."""
        self._open.pop(_digest(cookie), None)


def _digest(cookie: str) -> str:
    return hashlib.sha256(cookie.encode(errors="replace")).hexdigest()
