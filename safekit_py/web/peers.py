"""Passes calls on to the cluster's other servers, over mutual TLS, in the name and role of whoever called here.

Flows through it: a server's name in; that server's addresses, as the agent of this one knows them, and a client that
proves by certificate which server calls out. Invariant: the other end must show a certificate that the cluster's
authority gave to the server of that name, so nobody else is told a command, whatever an address leads to.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from pathlib import Path
from typing import Any

import httpx

from safekit_py import __version__
from safekit_py.control.access import Caller, Role
from safekit_py.errors import NotFoundError, Problem, SystemProblem
from safekit_py.web import certificates

CONNECT = 2.0  # seconds for each address
FRESH = 2.0  # seconds in which the servers' addresses are not asked for again
PROBE = 3.0  # seconds that a server may take to say that it is there
# A server that has died answers no packet: what is sent to it ends after this, and so does the wait for its answer.
ALIVE = [
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 3000),  # ms
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 5),  # s
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 2),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 2),
]
SELF = Caller(Role.MONITOR, "safekit", "web process")


class UnreachableError(SystemProblem):
    """Another server does not answer: 502."""


class Peers:
    """The other servers.

    :param tls: the folder of certificates.
    :param agent: the client of this server's agent.
    :param port: where the web processes of all servers listen.
    """

    def __init__(self, tls: Path, agent: httpx.AsyncClient, port: int) -> None:
        self._tls, self._agent, self._port = tls, agent, port
        self._client: httpx.AsyncClient | None = None
        self._mark: tuple[float, ...] = ()
        self._nodes: list[dict[str, Any]] = []
        self._read = -FRESH
        self._good: dict[str, str] = {}  # by server, the address that answered last

    async def nodes(self) -> list[dict[str, Any]]:
        """The servers of cluster.xml: ``name``, ``addresses`` by LAN, and whether it is ``this`` one."""
        if time.monotonic() - self._read >= FRESH:
            heads = {"x-safekit-user": SELF.name, "x-safekit-role": SELF.role.word, "x-safekit-via": SELF.via}
            answer = await self._agent.get("/api/v1/cluster", headers=heads)
            answer.raise_for_status()
            self._nodes, self._read = answer.json()["nodes"], time.monotonic()
        return self._nodes

    async def find(self, name: str) -> dict[str, Any]:
        """The server of this name.

        :raises NotFoundError: cluster.xml names none.
        """
        for node in await self.nodes():
            if node["name"] == name:
                return node
        known = ", ".join(node["name"] for node in self._nodes) or "none"
        raise NotFoundError(Problem("node.unknown", f"cluster.xml has no server {name}", f"it has: {known}"))

    async def send(self, node: dict[str, Any], request: httpx.Request) -> httpx.Response:
        """Send a request without a body of unknown content to the first of a server's addresses that answers.

        :raises UnreachableError: none does, or not as that server.
        """
        name = node["name"]
        client = self._connected()
        addresses = list(dict.fromkeys([self._good.get(name), *node["addresses"].values()]))
        why = "it has no address"
        for address in filter(None, addresses):
            request.url = request.url.copy_with(host=address)
            request.extensions["sni_hostname"] = certificates.inward(name)
            try:
                answer = await client.send(request, stream=True)
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                why = f"{address}: {_reason(error)}"
                continue
            except httpx.TransportError as error:
                self._good.pop(name, None)
                text = f"the connection to {name} broke ({_reason(error)}); whether it did what was asked is not known"
                raise UnreachableError(Problem("node.unreachable", text, "look at its state, and ask again")) from error
            self._good[name] = address
            return answer
        self._good.pop(name, None)
        remedy = "does its agent run, is its port open, is its certificate of this cluster? safekit-py doctor there"
        raise UnreachableError(Problem("node.unreachable", f"{name} does not answer ({why})", remedy))

    def request(self, method: str, target: bytes, heads: list[tuple[str, str]], content: Any) -> httpx.Request:
        """A request for :meth:`send`."""
        url = httpx.URL(scheme="https", host="unknown", port=self._port).copy_with(raw_path=target)
        return self._connected().build_request(method, url, headers=heads, content=content)

    async def seen(self) -> list[dict[str, Any]]:
        """Every server, whether it answers now, of which version, and after how many milliseconds."""

        async def one(node: dict[str, Any]) -> dict[str, Any]:
            found = {key: node[key] for key in ("name", "addresses", "this")}
            if node["this"]:
                return found | {"answers": True, "version": __version__, "milliseconds": 0.0, "why": ""}
            began = time.monotonic()
            try:
                async with asyncio.timeout(PROBE):
                    answer = await self.send(node, self.request("GET", b"/api/v1/process", [], None))
                    await answer.aread()
                    await answer.aclose()
            except (SystemProblem, httpx.HTTPError, TimeoutError) as error:
                why = error.problems[0].message if isinstance(error, SystemProblem) else _reason(error)
                return found | {"answers": False, "version": "", "milliseconds": None, "why": why}
            took = round((time.monotonic() - began) * 1000, 1)
            if answer.status_code != 200:
                why = f"it answers {answer.status_code}"
                return found | {"answers": False, "version": "", "milliseconds": took, "why": why}
            return found | {"answers": True, "version": answer.json()["version"], "milliseconds": took, "why": ""}

        return list(await asyncio.gather(*map(one, await self.nodes())))

    def _connected(self) -> httpx.AsyncClient:
        """The client, made anew when a certificate has changed."""
        files = [self._tls / name for name in ("ca.crt", "server.crt", "server.key")]
        try:
            mark = tuple(path.stat().st_mtime for path in files)
        except OSError as error:
            remedy = "safekit-py cluster init makes them; a server that joins gets them"
            problem = Problem("cert.missing", f"this server has no certificate: {error.filename}", remedy)
            raise SystemProblem(problem) from error
        if self._client is None or mark != self._mark:
            context = ssl.create_default_context(cafile=str(files[0]))
            context.minimum_version = ssl.TLSVersion.TLSv1_3
            context.load_cert_chain(files[1], files[2])
            timeout = httpx.Timeout(
                30.0, connect=CONNECT, read=None, pool=None
            )  # long commands end by their own limits
            limits = httpx.Limits(max_connections=None, keepalive_expiry=10)  # sooner than the other end's
            transport = httpx.AsyncHTTPTransport(verify=context, limits=limits, socket_options=ALIVE)
            self._client, self._mark = httpx.AsyncClient(transport=transport, timeout=timeout), mark
        return self._client

    async def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.aclose()


def _reason(error: BaseException) -> str:
    text = str(error) or type(error).__name__
    return "no answer in time" if isinstance(error, TimeoutError | httpx.TimeoutException) else text
