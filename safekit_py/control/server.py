"""Serves the control API on the agent's UNIX socket, to callers whose uid the kernel vouches for."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.h11_impl import H11Protocol

from safekit_py.control.access import Role, members, role_of, trusted
from safekit_py.model.paths import Paths
from safekit_py.runtime.commandlog import Peer

PEER_GROUPS = 59  # SO_PEERGROUPS, which the socket module does not name
MOST_GROUPS = 200  # getsockopt takes at most 1,024 bytes
DENIED = (
    b"HTTP/1.1 403 Forbidden\r\nContent-Type: application/problem+json\r\nConnection: close\r\n"
    b"Content-Length: %d\r\n\r\n%s"
)
DENIED_BODY = (
    b'{"type":"urn:safekit:access.denied","title":"denied","status":403,"problems":[{"code":"access.denied",'
    b'"message":"only root and members of the group safekit may control this server",'
    b'"remedy":"use sudo, or have an administrator put you into the group","file":"","line":0,"severity":"error"}]}'
)


def peer(connection: socket.socket) -> Peer:
    """The process at the other end of a UNIX socket, from the kernel."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    pid, uid, _ = struct.unpack("3i", raw)
    return Peer(uid, pid)


def groups(connection: socket.socket) -> tuple[int, ...]:
    """The groups of that process, its own first."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    try:
        others = connection.getsockopt(socket.SOL_SOCKET, PEER_GROUPS, MOST_GROUPS * struct.calcsize("I"))
    except OSError:  # it is in more groups than fit
        others = b""
    return (struct.unpack("3i", raw)[2], *struct.unpack(f"{len(others) // struct.calcsize('I')}I", others))


class LocalProtocol(H11Protocol):
    """HTTP over the UNIX socket; a caller without a role gets one answer: no."""

    _denied: Any = None

    def connection_made(self, transport: Any) -> None:
        """Ask the kernel who calls, before anything is read."""
        connection = transport.get_extra_info("socket")
        caller = peer(connection)
        role = role_of(caller, () if trusted(caller) else groups(connection), members())
        if role > Role.NOBODY:
            # Of every call's scope; no header gets there.
            self.app_state = {**self.app_state, "peer": caller, "role": role}
            super().connection_made(transport)
        else:
            self._denied = transport

    def data_received(self, data: bytes) -> None:
        """A denied caller's bytes are not parsed. It is answered only now: closing a socket that holds unread bytes
        would reset it, and the answer would be lost."""
        if self._denied is None:
            super().data_received(data)
        elif not self._denied.is_closing():
            self._denied.write(DENIED % (len(DENIED_BODY), DENIED_BODY))
            self._denied.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Only a connection that was accepted has anything to end."""
        if self._denied is None:
            super().connection_lost(exc)


def listen(paths: Paths, place: Path | None = None) -> socket.socket:
    """The agent's socket, or one at another place. Everybody may connect and is then told whether they may go on."""
    place = place or paths.socket
    paths.run.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        place.unlink()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(place))
    place.chmod(0o666)
    listener.listen(64)
    return listener


class Server(uvicorn.Server):
    """Signals are the agent's matter."""

    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        """Capture none."""
        yield


async def serve(app: Starlette, listener: socket.socket, until: asyncio.Event) -> None:
    """Serve until the event is set."""
    config = uvicorn.Config(
        app,
        http=LocalProtocol,
        ws="none",
        lifespan="off",
        loop="asyncio",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=2,
    )
    server = Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    await until.wait()
    server.should_exit = True
    await task
