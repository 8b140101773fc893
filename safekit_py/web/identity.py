"""Who calls over the network: by a token, a session or a server's certificate.

Flows through it: a request's head and the connection's certificate in; a name, a role and how they are known out, or a
refusal. Accounts are read again whenever their file has changed, so what is revoked ends at once. Invariant: a call
that presents something wrong is refused, also where something else in it would be right.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from typing import Any

import argon2
from argon2.exceptions import Argon2Error, InvalidHashError

from safekit_py.control.access import NAME, ROLE, ROLES, USER, Caller, Role
from safekit_py.errors import AccessError, Problem
from safekit_py.runtime import accounts
from safekit_py.runtime.accounts import Accounts, Token
from safekit_py.runtime.clock import wall
from safekit_py.web.certificates import NODES
from safekit_py.web.limits import Failures
from safekit_py.web.sessions import Session, Sessions

LOGIN = "POST /login with user and password, or send Authorization: Bearer TOKEN"
LOOKS = {"GET", "HEAD"}
OF_ADDRESS, OF_USER, WINDOW = 5, 20, 60.0  # failed logins within so many seconds
log = logging.getLogger("safekit.web")


class UnknownError(AccessError):
    """It is not known who calls: 401 and not 403."""


class TooOftenError(AccessError):
    """Too many logins failed: 429.

    :param wait: seconds until the next may be tried.
    """

    def __init__(self, problem: Problem, wait: float) -> None:
        super().__init__(problem)
        self.wait = wait


class Identity:
    """Says who calls.

    :param path: of the file of tokens and users.
    :param cookie: name of the session's cookie.
    """

    def __init__(self, path: Path, cookie: str) -> None:
        self._path, self.cookie = path, cookie
        self.sessions = Sessions()
        self._accounts, self._mark = Accounts(), (0, 0, 0)
        self._by_address = Failures(OF_ADDRESS, WINDOW)
        self._by_user = Failures(OF_USER, WINDOW)
        self._hasher = argon2.PasswordHasher.from_parameters(argon2.profiles.RFC_9106_LOW_MEMORY)
        self._nobody = self._hasher.hash("nobody")  # so that an unknown user costs as long as a known one
        self._one = asyncio.Lock()  # a login takes 64 MB: one at a time

    def accounts(self) -> Accounts:
        """Tokens and users, as the file has them now.

        :raises SystemProblem: it is damaged.
        """
        try:
            found = self._path.stat()
            mark = (found.st_ino, found.st_mtime_ns, found.st_size)
        except OSError:
            mark = (0, 0, 0)
        if mark != self._mark:
            self._accounts = accounts.load(self._path)
            self._mark = mark
        return self._accounts

    def of(self, method: str, heads: Mapping[str, str], address: str, certificate: Mapping[str, Any] | None) -> Caller:
        """The caller of a request.

        :param heads: names in lower case.
        :param certificate: of the connection, checked against the authority.
        :raises UnknownError: nothing, or something wrong, says who it is.
        :raises AccessError: a session's call that changes something lacks its proof.
        """
        if "authorization" in heads:
            kind, _, presented = heads["authorization"].partition(" ")
            token = self.accounts().token(presented.strip(), wall()) if kind.lower() == "bearer" else None
            if token is None or token.role not in ROLES:
                text = "the token is unknown, revoked or expired"
                raise UnknownError(Problem("access.bad-token", text, "safekit-py token create makes a new one"))
            return Caller(ROLES[token.role], token.name, f"https {address} token {token.ident}")
        if cookie := self.presented(heads):
            session, role = self.session(cookie)
            if method not in LOOKS and not session.confirmed(heads.get("x-csrf-token", "")):
                text = "a session's call that changes something must repeat the session's csrf text"
                raise AccessError(Problem("access.no-csrf", text, "send it as X-CSRF-Token; GET /session tells it"))
            return Caller(role, session.user, f"https {address} session")
        if node := node_of(certificate):
            return _for_somebody(heads, node, address)
        raise UnknownError(Problem("access.nobody", "this call does not say who it is from", LOGIN))

    def joining(self, presented: str, address: str) -> Token:
        """The token with which a server joins the cluster.

        :raises TooOftenError: too many wrong ones came from this address lately.
        :raises UnknownError: it is none, is used or has expired.
        """
        now = time.monotonic()
        if (wait := self._by_address.wait(address, now)) > 0:
            text = f"too many wrong tokens; the next may be tried in {wait:.0f} s"
            raise TooOftenError(Problem("access.too-often", text, "wait; then check the token"), wait)
        token = self.accounts().token(presented, wall())
        if token is None or token.role != accounts.JOIN:
            self._by_address.failed(address, now)
            text = "the token is unknown, used or expired"
            raise UnknownError(Problem("join.bad-token", text, "safekit-py cluster token makes a new one there"))
        return token

    def presented(self, heads: Mapping[str, str]) -> str:
        """The session that a request's cookie names, or empty."""
        try:
            found = SimpleCookie(heads.get("cookie", "")).get(self.cookie)
        except CookieError:
            return ""
        return found.value if found else ""

    def session(self, cookie: str) -> tuple[Session, Role]:
        """The session and the role of its user now.

        :raises UnknownError: there is none, it has run out, or the user's password has changed.
        """
        session = self.sessions.find(cookie, time.monotonic())
        user = self.accounts().user(session.user) if session else None
        if session is None or user is None or user.hash != session.proof:
            self.sessions.end(cookie)
            raise UnknownError(Problem("access.no-session", "the session has ended", LOGIN))
        return session, ROLES[user.role]

    async def login(self, name: str, password: str, address: str) -> tuple[str, Session, Role]:
        """A new session: its cookie, the session, and the user's role.

        :raises TooOftenError: too many logins failed lately.
        :raises UnknownError: user or password is wrong.
        """
        async with self._one:
            now = time.monotonic()
            wait = max(self._by_address.wait(address, now), self._by_user.wait(name, now))
            if wait > 0:
                text = f"too many logins failed; the next may be tried in {wait:.0f} s"
                raise TooOftenError(Problem("access.too-often", text, "wait; then check user and password"), wait)
            user = self.accounts().user(name)
            good = await asyncio.to_thread(self._verified, user.hash if user else self._nobody, password)
            shown = name if accounts.NAME.fullmatch(name) else "?"
            if user is None or not good:
                self._by_address.failed(address, now)
                self._by_user.failed(name, now)
                log.warning("login of %s from %s refused", shown, address)
                raise UnknownError(Problem("access.bad-login", "user or password is wrong", "check both"))
            self._by_address.good(address)
            log.info("login of %s from %s", shown, address)
            cookie, session = self.sessions.begin(user.name, user.hash, time.monotonic())
            return cookie, session, ROLES[user.role]

    def _verified(self, stored: str, password: str) -> bool:
        try:
            return self._hasher.verify(stored, password)
        except (Argon2Error, InvalidHashError):
            return False


def _for_somebody(heads: Mapping[str, str], node: str, address: str) -> Caller:
    """A server calls: for itself, or for somebody in whose name and role it says it does.

    :raises AccessError: it says so in part only.
    """
    if USER not in heads and ROLE not in heads:
        return Caller(Role.ADMIN, node, f"https {address} server's certificate")
    name, word = heads.get(USER, ""), heads.get(ROLE, "")
    if word not in ROLES or not NAME.fullmatch(name):
        raise AccessError(Problem("access.bad-caller", "the server calls for somebody, but does not say for whom", ""))
    return Caller(ROLES[word], name, f"https {address} server {node}")


def node_of(certificate: Mapping[str, Any] | None) -> str:
    """The server's name in a certificate that the cluster's authority gave to a server; else empty."""
    subject = {name: value for part in (certificate or {}).get("subject", ()) for name, value in part}
    return str(subject.get("commonName", "")) if subject.get("organizationName") == NODES else ""
