"""Answers to load balancers, and to the module checkers of other servers, over TCP: is this module ready here?

Flows through it: requests of anybody in; the state of one module, or this server's name, out. Nothing else can be seen,
and nothing changed.

- ``GET /health/NAME``: 200 when the module is UP, PRIM or ALONE Ready here, else 503; its state as JSON either way;
- ``GET /var/modules/NAME/ready.txt``: 200 or 404, SafeKit's path for load balancers;
- ``GET /mosaic``: which server of a farm answers, tile by tile (``control.mosaic``).

Who asks is not known and may be hostile: a request has a largest size, a connection a longest life, and there is a most
of them, so that the agent's own files never run short.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import secrets
import socket
from ipaddress import ip_address
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from uvicorn.protocols.http.h11_impl import H11Protocol

from safekit_py.control import mosaic
from safekit_py.control.server import Server
from safekit_py.errors import Problem
from safekit_py.model.state import Readiness, State
from safekit_py.runtime.agent import Agent

VARIABLE = "SAFEKIT_HEALTH"  # environment: ADDRESS:PORT, or off
Places = tuple[tuple[str, int], ...]  # addresses and ports
PORT = 9010  # of SafeKit's web service
DEFAULT: Places = (("0.0.0.0", PORT), ("::", PORT))  # noqa: S104 - whoever depends on a module may ask from anywhere
LARGEST = 4096  # bytes of a request's head
LIFETIME = 10.0  # seconds of a connection
MOST = 64  # connections at a time
SERVES = (State.UP, State.PRIM, State.ALONE)
AGENT = secrets.token_hex(4)  # tells whoever compares ``starts`` that they are counted anew
log = logging.getLogger("safekit.health")
QUIET = logging.getLogger("safekit.health.http")  # what is wrong with a stranger's request is none of the log's matter
QUIET.disabled = True


def answer(agent: Agent, name: str) -> dict[str, Any] | None:
    """What is told of a module; None when there is none of that name."""
    if name in agent.broken:
        return {"module": name, "state": "NOT_CONFIGURED", "readiness": "", "ready": False, "starts": 0, "agent": AGENT}
    runner = agent.runners.get(name)
    if runner is None:
        return None
    ready = runner.state in SERVES and runner.readiness is Readiness.READY
    return {
        "module": name,
        "state": runner.state.value,
        "readiness": runner.readiness.value,
        "ready": ready,
        "starts": runner.starts,
        "agent": AGENT,
    }


def answers(agent: Agent) -> list[Route]:
    """The routes; they ask nobody who calls."""

    async def health(request: Request) -> Response:
        found = answer(agent, request.path_params["module"])
        if found is None:
            return PlainTextResponse("no such module\n", 404)
        return JSONResponse(found, 200 if found["ready"] else 503, headers={"Cache-Control": "no-store"})

    async def ready(request: Request) -> Response:
        found = answer(agent, request.path_params["module"])
        good = found is not None and found["ready"]
        text, status = ("ready\n", 200) if good else ("not ready\n", 404)
        return PlainTextResponse(text, status, headers={"Cache-Control": "no-store"})

    return [Route("/health/{module}", health), Route("/var/modules/{module}/ready.txt", ready)]


def create(agent: Agent) -> Starlette:
    """The application for this agent."""
    app = Starlette(routes=[*answers(agent), *mosaic.routes(agent)])
    app.router.redirect_slashes = False  # an answer holds nothing that the caller made up
    return app


class GuardedProtocol(H11Protocol):
    """HTTP with an end: a connection is closed after its lifetime, and one too many at once."""

    _timer: asyncio.TimerHandle | None = None

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.logger = QUIET

    def connection_made(self, transport: Any) -> None:
        """Take it, unless there are too many."""
        if len(self.connections) >= MOST:
            transport.abort()
            return
        self._timer = self.loop.call_later(LIFETIME, transport.abort)
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """What came on a connection that was not taken is not read."""
        if self._timer is not None:
            super().data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Only one that was taken has anything to end."""
        if self._timer is not None:
            self._timer.cancel()
            super().connection_lost(exc)


def addresses(text: str, default: Places = DEFAULT) -> Places:
    """Where to listen, by the value of a variable; none for ``off``, the default for an empty one.

    :raises ValueError: it is neither that nor ADDRESS:PORT.
    """
    if text == "off":
        return ()
    if not text:
        return default
    host, _, port = text.rpartition(":")
    found = ip_address(host.strip("[]"))
    if not 0 < int(port) < 65536:
        raise ValueError(port)
    return ((str(found), int(port)),)


def listen() -> list[socket.socket]:
    """The sockets; what cannot be is said in the agent's log, and the agent goes on."""
    text = os.environ.get(VARIABLE, "")
    try:
        wanted = addresses(text)
    except ValueError:
        remedy = "write ADDRESS:PORT, as 10.0.0.1:9010, or off"
        log.warning("%s", Problem("health.bad-address", f"{VARIABLE}={text} cannot be used", remedy))
        return []
    found = []
    for host, port in wanted:
        try:
            found.append(bound(host, port))
        except OSError as error:
            if wanted is DEFAULT and error.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
                continue  # a server without IPv6, or without IPv4
            message = f"load balancers get no answer on {host} port {port}: {(error.strerror or str(error)).lower()}"
            remedy = f"{VARIABLE}=ADDRESS:PORT in the agent's environment sets another one, {VARIABLE}=off none"
            log.warning("%s", Problem("health.no-port", message, remedy))
    return found


def bound(host: str, port: int) -> socket.socket:
    """A listening socket of TCP; one of IPv6 takes only that.

    :raises OSError: the address or the port cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol named, asyncio switches Nagle's algorithm off, which would hold each answer up for 40 ms.
    made = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if ":" in host:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind((host, port))
        made.listen(MOST)
    except OSError:
        made.close()
        raise
    return made


async def serve(agent: Agent, until: asyncio.Event) -> None:
    """Answer until the event is set."""
    sockets = listen()
    if not sockets:
        return
    config = uvicorn.Config(
        create(agent),
        http=GuardedProtocol,
        ws="none",
        lifespan="off",
        loop="asyncio",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        h11_max_incomplete_event_size=LARGEST,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=1,
    )
    server = Server(config)
    task = asyncio.create_task(server.serve(sockets=sockets))
    waiting = asyncio.create_task(until.wait())
    await asyncio.wait((task, waiting), return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    server.should_exit = True
    with contextlib.suppress(Exception):  # the agent's stop must not fail with it
        await task
