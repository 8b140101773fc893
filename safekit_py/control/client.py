"""The client of the control API: what the CLI speaks through.

Flows through it: a method, a path and values in; one HTTP request over the agent's UNIX socket; the answer's JSON, or
the agent's findings as an error. It stands on the standard library alone, because every command waits for its import.
"""

from __future__ import annotations

import contextlib
import http.client
import json as encoding
import socket
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from safekit_py.errors import (
    AccessError,
    ConfigError,
    NotFoundError,
    Problem,
    SafekitError,
    StateError,
    SystemProblem,
)
from safekit_py.model.paths import Paths

ERRORS = {403: AccessError, 404: NotFoundError, 409: StateError, 422: ConfigError, 502: SystemProblem}
BASE = "/api/v1"
WRITING = 10.0  # seconds that the agent may take to accept a connection, or a piece of what is sent


class Client:
    """Calls the agent of this server. Each call has a connection of its own, so that no call meets one gone stale.

    :param node: the server whose agent is called instead, through this server's web process.
    """

    def __init__(self, paths: Paths, node: str = "") -> None:
        self._socket = paths.web_socket if node else paths.socket
        self._base = f"/nodes/{quote(node, safe='')}{BASE}" if node else BASE
        self._node = node

    def call(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        json: Any = None,
        content: bytes | Iterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """One call; the answer's JSON.

        :param path: below ``/api/v1``; what is special in a URL is quoted here, ``%`` excepted.
        :param params: the query; a list is repeated, a truth value is ``true`` or ``false``, None is left out.
        :param json: the body, as plain values.
        :param content: the body, as bytes or as pieces of unknown length; not together with ``json``.
        :raises SafekitError: what the agent answered, or that it does not run.
        """
        given = dict(headers or {})
        if json is not None:
            content = encoding.dumps(json).encode()
            given["Content-Type"] = "application/json"
        target = quote(f"{self._base}{path}", safe="/%:@!$&'()*+,;=~") + _query(params or {})
        try:
            status, answer = self._exchange(method, target, content, given)
        except (OSError, http.client.HTTPException) as error:
            raise SystemProblem(self._silent(error)) from error
        if 200 <= status < 300:
            return encoding.loads(answer)
        raise failure(status, answer)

    def _silent(self, error: Exception) -> Problem:
        if self._node:
            return Problem(
                "web.not-running",
                f"the web process, which reaches other servers, does not answer on {self._socket} ({error})",
                "it runs beside the agent when this server has a certificate: safekit-py cluster init or join",
            )
        return Problem(
            "agent.not-running",
            f"no agent answers on {self._socket} ({error})",
            "start it: systemctl start safekit-py, or in the foreground: safekit-py agent",
        )

    def _exchange(
        self, method: str, target: str, content: bytes | Iterable[bytes] | None, headers: dict[str, str]
    ) -> tuple[int, bytes]:
        with contextlib.closing(_Connection(self._socket)) as connection:
            connection.connect()
            # An agent that refuses a long body answers and closes before it has read it all: the answer counts.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.request(method, target, body=content, headers={**headers, "Connection": "close"})
            # Long commands (a stop script may take minutes) end by their own time limits, so reading has none.
            connection.sock.settimeout(None)
            response = connection.getresponse()
            return response.status, response.read()


class _Connection(http.client.HTTPConnection):
    """HTTP over a UNIX socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("agent")
        self._path = path

    def connect(self) -> None:
        """Connect to the socket; the host's name is only for the header."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(WRITING)
        self.sock.connect(str(self._path))


def _query(params: Mapping[str, Any]) -> str:
    pairs = [
        (name, str(each).lower() if isinstance(each, bool) else each)
        for name, value in params.items()
        for each in (value if isinstance(value, list | tuple) else [value])
        if each is not None
    ]
    return f"?{urlencode(pairs)}" if pairs else ""


def failure(status: int, answer: bytes) -> SafekitError:
    """What an answer that is none says went wrong."""
    return ERRORS.get(status, SafekitError)(_problems(status, answer))


def _problems(status: int, answer: bytes) -> list[Problem]:
    text = answer.decode(errors="replace")
    try:
        body = encoding.loads(text)
    except ValueError:
        body = {}
    if isinstance(body, dict) and body.get("problems"):
        return [Problem.from_dict(p) for p in body["problems"]]
    detail = body.get("detail", text) if isinstance(body, dict) else text
    return [Problem("agent.refused", f"the agent answered {status}: {detail}")]
