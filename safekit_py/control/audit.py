"""Writes every call that changes something into the command log, before it is carried out and with its result.

Flows through it: calls in, the same calls out. Who calls stands in the connection's state, where the server puts what
the kernel says of the socket; nothing that a client sends can get there. Bodies are never looked at: one holds a key.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from safekit_py.control.access import Caller
from safekit_py.runtime.commandlog import CommandLog, Peer, now, who

FAILED = 400  # from this status of HTTP on
LOOKS = {"GET", "HEAD", "OPTIONS"}
PREFIX = "/api/v1/"
MASK = "***"
SECRET = re.compile(r"pass|pwd|secret|token|credential|private|key$|(^|[_-])key[_-]", re.IGNORECASE)

# Commands whose names do not follow from the path; NAME stands for any module.
NAMES = {
    "PUT modules/NAME": "module install",
    "DELETE modules/NAME": "module uninstall",
    "PUT configurations/NAME": "config",
    "DELETE configurations/NAME": "deconfig",
    "PUT cluster/key": "cluster genkey",
    "DELETE cluster/key": "cluster delkey",
    "PUT cluster/config": "cluster config",
    "DELETE cluster/config": "cluster deconfig",
    "DELETE cluster/lock": "cluster unlock",
    "POST access/tokens": "token create",
    "POST modules/NAME/loop/inc": "incloop",
    "POST modules/NAME/loop/reset": "resetloop",
}
OF_MODULES = ("modules", "configurations")  # the second word of these paths is a module
WORDS = {"versions": ("config", "restore"), "resources": ("set", "-r"), "checkers": ("checker",)}
SILENT = {
    "PUT modules/NAME/log",  # a line in a log is its own record
    "POST modules/NAME/script/state",  # these only ask
    "POST modules/NAME/script/level",
}

Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Any, Send], Awaitable[None]]


@dataclass(slots=True)
class Note:
    """What the record of a call should know; a route finds it as ``request.state.note``.

    :param unchanged: the call changed nothing and need not be kept.
    """

    peer: Peer = field(default_factory=Peer)
    unchanged: bool = False


def masked(name: str, value: str) -> str:
    """The value, or a mask where its name looks like a secret's."""
    return MASK if SECRET.search(name) else value


def described(method: str, path: str, query: str) -> tuple[str, str, str, str]:
    """Command, module, arguments and identity of a call; an empty command for one that is not recorded."""
    words = path.removeprefix(PREFIX).strip("/").split("/")
    module = words[1] if words[0] in OF_MODULES and len(words) > 1 else ""
    shape = "/".join([words[0], "NAME", *words[2:]] if module else words)
    if f"{method} {shape}" in SILENT:
        return "", "", "", ""
    rest = words[2:] if module else words
    rest = [*WORDS.get(rest[0], rest[:1]), *rest[1:]] if rest else []
    command = NAMES.get(f"{method} {shape}") or " ".join((["delete"] if method == "DELETE" else []) + rest)
    arguments, identity = [], ""
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name == "identity":
            identity = value
        elif name == "set":
            macro, _, text = value.partition("=")
            arguments.append(f"--set {macro}={masked(macro, text)}")
        else:
            arguments.append(f"{name}={masked(name, value)}")
    return command, module, " ".join(arguments), identity


class Audit:
    """The middleware."""

    def __init__(self, app: App, log: CommandLog) -> None:
        self._app, self._log = app, log

    async def __call__(self, scope: Scope, receive: Any, send: Send) -> None:
        """One call."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        note = state["note"] = Note(state.get("peer", Peer()))
        command = ""
        if scope["method"] not in LOOKS:
            query = scope["query_string"].decode("latin-1")
            command, module, arguments, identity = described(scope["method"], scope["path"], query)
        if not command:
            await self._app(scope, receive, send)
            return
        caller = dict(await asyncio.to_thread(who, note.peer))
        acting: Caller = state.get("caller", Caller())
        if acting.name:  # root's process speaks for somebody
            caller |= {"user": acting.name, "uid": -1, "program": acting.via}
        number = self._log.begin(now(command, module=module, arguments=arguments, identity=identity, **caller))
        answer = _Answer(send)
        try:
            await self._app(scope, receive, answer)
        finally:
            if note.unchanged:
                self._log.drop(number)
            else:
                self._log.end(number, answer.result())


class _Answer:
    """Hands an answer on and keeps what its result is."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._status, self._body = 500, b""

    async def __call__(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
        elif self._status >= FAILED and not self._body:
            self._body = message.get("body", b"")
        await self._send(message)

    def result(self) -> str:
        """``ok``, or ``refused`` with the code of the first finding, else with HTTP's."""
        if self._status < FAILED:
            return "ok"
        try:
            return f"refused: {json.loads(self._body)['problems'][0]['code']}"
        except (ValueError, LookupError, TypeError):
            return f"refused: {self._status}"
