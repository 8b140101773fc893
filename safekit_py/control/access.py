"""Who calls the agent, and what they may: the one place where roles are decided.

Flows through it: the process at the other end of the UNIX socket, as the kernel names it, and a request's head in; a
``Caller`` with a role out. Invariant: nobody gets a role above that of the process that called. Only root, and the
agent's own user, can speak for somebody else, and so a forged head gives nothing to anybody.
"""

from __future__ import annotations

import enum
import grp
import os
import re
from collections.abc import Awaitable, Callable, Collection, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import Headers

from safekit_py.control.problems import document
from safekit_py.errors import AccessError, Problem
from safekit_py.runtime.commandlog import Peer

VARIABLE = "SAFEKIT_GROUP"  # environment: the group whose members have the role Control
GROUP = "safekit"
USER, ROLE, VIA = "x-safekit-user", "x-safekit-role", "x-safekit-via"  # heads in which root speaks for somebody
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@ -]{0,63}")
REMEDY = "ask an administrator for a higher role"


class Role(enum.IntEnum):
    """What a caller may; each role may what those below it may."""

    NOBODY = 0
    MONITOR = 1  # look
    CONTROL = 2  # start, stop, switch
    ADMIN = 3  # install, configure, give access

    @property
    def word(self) -> str:
        """Its name for people and in files."""
        return self.name.lower()


ROLES = {each.word: each for each in Role}


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls.

    :param name: of a user, a token or a server that root speaks for; empty for the process itself.
    :param via: how root knows them: for the command log.
    """

    role: Role = Role.NOBODY
    name: str = ""
    via: str = ""

    @property
    def known(self) -> str:
        """The name, or ``local`` for a process of this server."""
        return self.name or "local"


def members() -> frozenset[int]:
    """The ids of the group whose members have the role Control; empty when there is no such group."""
    try:
        return frozenset({grp.getgrnam(os.environ.get(VARIABLE, GROUP)).gr_gid})
    except KeyError:
        return frozenset()


def trusted(peer: Peer) -> bool:
    """Whether the process is root's or the agent's own user's."""
    return peer.uid in (0, os.geteuid())


def role_of(peer: Peer, groups: Collection[int], allowed: Collection[int]) -> Role:
    """The role of a local process.

    :param groups: those that it is in.
    :param allowed: those whose members have the role Control.
    """
    if trusted(peer):
        return Role.ADMIN
    return Role.CONTROL if peer.uid >= 0 and set(groups) & set(allowed) else Role.NOBODY


def caller(peer: Peer, role: Role, heads: Mapping[str, str]) -> Caller:
    """Who a request is of.

    :param role: of the process.
    :param heads: of the request, names in lower case.
    :raises AccessError: it speaks for somebody else and may not, or does not say for whom.
    """
    if not any(name in heads for name in (USER, ROLE, VIA)):
        return Caller(role)
    name, word, via = heads.get(USER, ""), heads.get(ROLE, ""), heads.get(VIA, "")
    if not trusted(peer) or word not in ROLES or not NAME.fullmatch(name) or len(via) > 128:
        raise AccessError(
            Problem("access.bad-caller", "this call speaks for somebody else, and may not or is incomplete", REMEDY)
        )
    return Caller(min(role, ROLES[word]), name, via)


def demand(who: Caller, least: Role) -> None:
    """Refuse a caller below a role.

    :raises AccessError: it is below.
    """
    if who.role < least:
        have = f"{who.name or 'this caller'} has the role {who.role.word}"
        raise AccessError(Problem("access.role", f"this needs the role {least.word}, and {have}", REMEDY))


Scope = MutableMapping[str, Any]
App = Callable[[Scope, Any, Any], Awaitable[None]]


class Access:
    """The middleware that finds out who calls; the others find it as ``state["caller"]``."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        """One call."""
        if scope["type"] == "http":
            state = scope.setdefault("state", {})
            try:
                heads = Headers(scope=scope)
                if repeated(heads):
                    raise AccessError(Problem("access.bad-caller", "a head about the caller stands twice", REMEDY))
                state["caller"] = caller(state.get("peer", Peer()), state.get("role", Role.NOBODY), heads)
            except AccessError as error:
                await document(error)(scope, receive, send)
                return
        await self._app(scope, receive, send)


def repeated(heads: Headers) -> bool:
    """Whether a head about the caller stands twice: then two readers could take different ones."""
    return any(len(heads.getlist(name)) > 1 for name in (USER, ROLE, VIA))


class Allowed:
    """An application for callers of a role: looking needs ``looks``, all else ``changes``."""

    def __init__(self, app: App, looks: Role, changes: Role) -> None:
        self._app, self._looks, self._changes = app, looks, changes

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        """One call."""
        least = self._looks if scope.get("method") in ("GET", "HEAD") else self._changes
        try:
            demand(scope["state"]["caller"], least)
        except AccessError as error:
            await document(error)(scope, receive, send)
            return
        await self._app(scope, receive, send)
