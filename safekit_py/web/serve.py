"""Serves the web application on TCP, by TLS, until the agent ends.

Flows through it: connections in, each with an end where it says nothing; its certificate goes with every call.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import resource
import signal
import socket
import ssl
import sys
from pathlib import Path
from typing import Any

import h11
import psutil
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from safekit_py.control import health
from safekit_py.control import server as local
from safekit_py.control.health import Places
from safekit_py.control.server import LocalProtocol, Server
from safekit_py.errors import Problem, SystemProblem
from safekit_py.model.paths import Paths
from safekit_py.web import certificates
from safekit_py.web.app import Web
from safekit_py.web.kept import STATE

PORT = 9453
DEFAULT: Places = (("0.0.0.0", PORT), ("::", PORT))  # noqa: S104 - administrators call from anywhere; who, is asked
MOST = 256  # connections at a time
MOST_EACH = 64  # of them from one address: nobody alone keeps all others out
HANDSHAKE = 5.0  # seconds in which a connection must have agreed on TLS; until then it is none of those above
MOST_FILES = 4096  # open files, where the system allows so many: connections before their handshake are files too
HEAD_LIMIT = 20.0  # seconds in which a connection must have sent a request's head
LARGEST_HEAD = 32768  # bytes
LOOK = 1.0  # seconds between two looks at the certificate
NICE = 5  # the agent and the applications come first
MOST_ASKED, LONGEST_ASKED = 4, 2048  # requests for a state that a connection remembers, bytes of each
END = b"\r\n\r\n"  # of a request's head
SPECIAL = (b"content-length", b"transfer-encoding", b"expect", b"upgrade")
QUIET = logging.getLogger("safekit.web.http")  # what is wrong with a stranger's request is none of the log's matter
QUIET.disabled = True


class Loop(asyncio.SelectorEventLoop):
    """The event loop; uvicorn cannot be told how long a handshake may take, and asyncio waits a minute."""

    async def create_server(self, *arguments: Any, **options: Any) -> Any:
        """A server, whose clients have little time to agree on TLS."""
        if options.get("ssl") is not None:
            options.setdefault("ssl_handshake_timeout", HANDSHAKE)
        return await super().create_server(*arguments, **options)


class Protocol(H11Protocol):
    """HTTP with a limit of connections, and an end for those that send no request.

    Who reads a state over and over sends the same bytes each time. Those that were parsed once on this connection are
    not parsed again: the application says who calls, and has the answer's bytes as long as they are fresh.
    """

    _timer: asyncio.TimerHandle | None = None

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.logger = QUIET
        self._asked: dict[bytes, Any] = {}  # by the bytes of a request for a state, what they mean

    def connection_made(self, transport: Any) -> None:
        """Take it, unless there are too many."""
        address = (transport.get_extra_info("peername") or ("",))[0]
        each = sum((getattr(protocol, "client", None) or ("",))[0] == address for protocol in self.connections)
        if len(self.connections) >= MOST or each >= MOST_EACH:
            transport.abort()
            return
        self._wait(transport)
        known = {"certificate": transport.get_extra_info("peercert"), "abort": transport.abort}
        self.app_state = {**self.app_state, **known}
        super().connection_made(transport)

    def _wait(self, transport: Any) -> None:
        self._timer = self.loop.call_later(HEAD_LIMIT, transport.abort)

    def data_received(self, data: bytes) -> None:
        """What came on a connection that was not taken is not read; a request's head ends the wait for it."""
        if self._timer is None:
            return
        rests = self._rests()
        if rests and (scope := self._asked.get(data)) and (answer := self.config.app.again(scope)):  # type: ignore[union-attr]
            self.transport.write(answer)
            self.on_response_complete()
            return
        super().data_received(data)
        if rests and data not in self._asked and self.scope is not None and repeatable(data, self.scope):
            while len(self._asked) >= MOST_ASKED:
                del self._asked[next(iter(self._asked))]
            self._asked[data] = self.scope
        if self.cycle is not None and not self.cycle.response_complete:
            self._timer.cancel()

    def _rests(self) -> bool:
        """Whether nothing is under way here, so that what comes next is the beginning of a request."""
        idle = self.conn.our_state is h11.IDLE and self.conn.their_state is h11.IDLE and not self.conn.trailing_data[0]
        return idle and not self.flow.write_paused and not self.transport.is_closing()

    def on_response_complete(self) -> None:
        """The next request's head has its time again."""
        super().on_response_complete()
        if self._timer is not None and not self.transport.is_closing():
            self._timer.cancel()
            self._wait(self.transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Only one that was taken has anything to end."""
        if self._timer is not None:
            self._timer.cancel()
            super().connection_lost(exc)


def repeatable(data: bytes, scope: Any) -> bool:
    """Whether these bytes are all of one request for a state, and nothing in it asks for more than its answer."""
    return (
        len(data) <= LONGEST_ASKED
        and data.endswith(END)
        and data.count(END) == 1
        and (scope["method"], scope["http_version"]) == ("GET", "1.1")
        and STATE.fullmatch(scope["path"]) is not None
        and all(value.lower() == b"keep-alive" for name, value in scope["headers"] if name == b"connection")
        and not any(name in SPECIAL for name, _ in scope["headers"])
    )


def own_names() -> list[str]:
    """The names and addresses under which this server is called."""
    found = {each.address.partition("%")[0] for cards in psutil.net_if_addrs().values() for each in cards
             if each.family in (socket.AF_INET, socket.AF_INET6)}  # fmt: skip
    return sorted({socket.gethostname(), "localhost", *found})


def listen(places: Places) -> list[socket.socket]:
    """The sockets.

    :raises SystemProblem: none of the places can be had.
    """
    found, why = [], ""
    for host, port in places:
        try:
            found.append(health.bound(host, port))
        except OSError as error:
            why = f"{host} port {port}: {(error.strerror or str(error)).lower()}"
    if not found:
        remedy = "SAFEKIT_WEB=ADDRESS:PORT in the agent's environment sets another one, SAFEKIT_WEB=off none"
        raise SystemProblem(Problem("web.no-port", f"nobody can call this server over the network on {why}", remedy))
    return found


async def _serve(paths: Paths, places: Places, *, secure: bool, child: bool) -> None:
    until = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, until.set)
    if child:
        loop.add_reader(sys.stdin.fileno(), until.set)  # the agent never writes: readable is its end
    web = Web(paths, secure=secure, port=places[0][1])
    encrypted: dict[str, Any] = {}
    if secure:
        node = paths.node_name.read_text().strip() if paths.node_name.exists() else socket.gethostname()
        certificate, key = certificates.prepare(paths.tls, node, own_names())
        encrypted = {
            "ssl_certfile": str(certificate),
            "ssl_keyfile": str(key),
            "ssl_ca_certs": str(paths.tls / "ca.crt"),
            "ssl_cert_reqs": ssl.CERT_OPTIONAL,  # servers have one; a wrong one ends the connection
        }
    shared: dict[str, Any] = {
        "ws": "none",
        "lifespan": "off",
        "loop": "asyncio",
        "log_config": None,
        "access_log": False,
        "server_header": False,
        "timeout_graceful_shutdown": 1,
    }
    config = uvicorn.Config(
        web,
        http=Protocol,
        proxy_headers=False,  # whoever calls, calls from where the connection comes from
        h11_max_incomplete_event_size=LARGEST_HEAD,
        timeout_keep_alive=15,
        **shared,
        **encrypted,
    )
    config.load()
    servers = [Server(config)]
    tasks = [asyncio.create_task(servers[0].serve(sockets=listen(places)))]
    if secure:
        _choose_certificate(config, paths, node)
        # This server's own commands come by a UNIX socket: they need no token to reach other servers.
        servers.append(Server(uvicorn.Config(web, http=LocalProtocol, **shared)))
        tasks.append(asyncio.create_task(servers[1].serve(sockets=[local.listen(paths, paths.web_socket)])))
    ends: list[asyncio.Task[Any]] = [asyncio.create_task(until.wait())]
    if child and secure:
        ends.append(asyncio.create_task(_changed(paths.tls / "server.crt")))
    await asyncio.wait((*tasks, *ends), return_when=asyncio.FIRST_COMPLETED)
    for server in servers:
        server.should_exit = True
    await asyncio.gather(*tasks)
    await web.close()


async def _changed(path: Path) -> None:
    """Until a certificate is replaced: the agent then starts this process anew."""
    before = path.stat().st_mtime_ns
    for _ in itertools.count():
        await asyncio.sleep(LOOK)
        if not path.exists() or path.stat().st_mtime_ns != before:
            return


def _choose_certificate(config: uvicorn.Config, paths: Paths, node: str) -> None:
    """Show other servers the cluster's certificate where clients are shown an administrator's own."""
    if not (paths.tls / "own.crt").exists():
        return
    inward = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(paths.tls / "ca.crt"))
    inward.verify_mode = ssl.CERT_OPTIONAL
    inward.load_cert_chain(paths.tls / "server.crt", paths.tls / "server.key")

    def chosen(connection: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        if name == certificates.inward(node):
            connection.context = inward

    assert config.ssl is not None, "the configuration is loaded"
    config.ssl.sni_callback = chosen


def run(paths: Paths, places: Places, *, secure: bool, child: bool) -> None:
    """Serve until told to stop.

    :param child: end when stdin does.
    :raises SystemProblem: no place to listen, or no certificate.
    """
    os.nice(NICE)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for noisy in ("uvicorn", "uvicorn.error", "asyncio", "httpx", "httpcore"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        limit = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    with asyncio.Runner(loop_factory=Loop) as runner:
        runner.run(_serve(paths, places, secure=secure, child=child))
