"""The client of the control API: what the CLI speaks through."""

from __future__ import annotations

from typing import Any

import httpx

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

ERRORS = {403: AccessError, 404: NotFoundError, 409: StateError, 422: ConfigError}


class Client:
    """Calls the agent of this server."""

    def __init__(self, paths: Paths) -> None:
        self._socket = paths.socket
        transport = httpx.HTTPTransport(uds=str(paths.socket))
        # Long commands (a stop script may take minutes) end by their own time limits, so reading has none.
        timeout = httpx.Timeout(10.0, read=None)
        self._http = httpx.Client(transport=transport, base_url="http://agent/api/v1", timeout=timeout)

    def call(self, method: str, path: str, **arguments: Any) -> Any:
        """One call; the answer's JSON.

        :raises SafekitError: what the agent answered, or that it does not run.
        """
        try:
            response = self._http.request(method, path, **arguments)
        except (httpx.ConnectError, httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError) as error:
            raise SystemProblem(
                Problem(
                    "agent.not-running",
                    f"no agent answers on {self._socket} ({error})",
                    "start it: systemctl start safekit-py, or in the foreground: safekit-py agent",
                )
            ) from error
        if response.is_success:
            return response.json()
        raise ERRORS.get(response.status_code, SafekitError)(_problems(response))


def _problems(response: httpx.Response) -> list[Problem]:
    try:
        body = response.json()
    except ValueError:
        body = {}
    if isinstance(body, dict) and body.get("problems"):
        return [Problem.from_dict(p) for p in body["problems"]]
    detail = body.get("detail", response.text) if isinstance(body, dict) else response.text
    return [Problem("agent.refused", f"the agent answered {response.status_code}: {detail}")]
