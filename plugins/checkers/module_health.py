"""Asks another server's agent for the health of a module there: one HTTP request, one answer.

Flows through it: address, port and module in; ``state``, ``readiness``, ``starts`` and ``agent`` (who counts them) out,
or why there is no answer. What the other side may send is bounded.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import h11

HEAD = 16 * 1024  # bytes of an answer's head
BODY = 4096  # bytes of an answer


class NoAnswer(Exception):
    """The other server did not say how its module is; the text says why."""


async def ask(address: str, port: int, module: str, *, secure: str = "") -> Mapping[str, Any]:
    """What the server says of its module; empty when it has none of that name. It may take as long as the caller lets.

    :param secure: the host name that its certificate must have; empty: plain HTTP.
    :raises NoAnswer: it says something else.
    :raises OSError: it cannot be reached.
    """
    context = ssl.create_default_context() if secure else None
    reader, writer = await asyncio.open_connection(address, port, ssl=context, server_hostname=secure or None)
    try:
        connection = h11.Connection(h11.CLIENT, HEAD)
        host = f"[{address}]" if ":" in address else address
        request = h11.Request(
            method="GET",
            target=f"/health/{module}",
            headers=[("Host", f"{secure or host}:{port}"), ("Connection", "close"), ("Accept", "application/json")],
        )
        writer.write(connection.send(request) or b"")
        writer.write(connection.send(h11.EndOfMessage()) or b"")
        status, body = await _answer(connection, reader)
    except h11.ProtocolError as error:
        raise NoAnswer(f"its answer is no HTTP: {error}") from error
    finally:
        writer.transport.abort()  # all has been read, and nobody waits for a slow end
    return read(status, body, module)


async def _answer(connection: h11.Connection, reader: asyncio.StreamReader) -> tuple[int, bytes]:
    status, body = 0, b""
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await reader.read(BODY))
        elif isinstance(event, h11.Response):
            status = event.status_code
        elif isinstance(event, h11.Data):
            body += bytes(event.data)
            if len(body) > BODY:
                raise NoAnswer("its answer is too long")
        elif isinstance(event, h11.EndOfMessage):
            return status, body


def read(status: int, body: bytes, module: str) -> Mapping[str, Any]:
    """What an answer says.

    :raises NoAnswer: nothing of this module's state.
    """
    if status == HTTPStatus.NOT_FOUND:
        return {}
    try:
        found = json.loads(body)
        if status in (HTTPStatus.OK, HTTPStatus.SERVICE_UNAVAILABLE) and found["module"] == module:
            return {
                "state": str(found["state"]),
                "readiness": str(found["readiness"]),
                "starts": int(found["starts"]),
                "agent": str(found.get("agent", "")),
            }
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    raise NoAnswer(f"its answer, with status {status}, says nothing of a module")
