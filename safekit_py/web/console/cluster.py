"""What the console knows of the cluster: each server's modules, asked for at once, and news of their changes.

Flows through it: calls of the API, here and at other servers, in the name and role of whoever looks, in; plain values
for the pages out. A server that does not answer is one value among the others, so that a page never waits for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import httpx

from safekit_py.control.access import Caller, Role
from safekit_py.errors import Problem, SafekitError, SystemProblem
from safekit_py.web.peers import Peers

LIMIT = 2.5  # seconds that a page waits for a server
WAITING = 64  # changes that a browser may be behind; more are the same news
ALIVE = 3.0  # seconds without news after which a browser is told that this server is there
PAUSE = 2.0  # seconds before a server's events are asked for again
WATCHER = Caller(Role.MONITOR, "safekit", "console")

Call = Callable[[dict[str, Any], Caller, str, bytes, bytes | None], Awaitable[tuple[int, bytes]]]


@dataclass(slots=True)
class Server:
    """One server of the cluster, as the console sees it.

    :param modules: its modules by name; empty also when it does not answer.
    :param why: why it does not answer; empty: it does.
    """

    name: str
    this: bool = False
    modules: dict[str, dict[str, Any]] = field(default_factory=dict)
    why: str = ""
    problems: list[dict[str, Any]] = field(default_factory=list)


class Cluster:
    """All servers, through the web process's own connections.

    :param call: one call at a server: the server, who calls, method, path below /api/v1, body; status and answer.
    :param peers: knows the servers of cluster.xml.
    :param follow: a server's stream of events, as lines.
    """

    def __init__(
        self, call: Call, peers: Peers, follow: Callable[[dict[str, Any], Caller], AsyncIterator[str]]
    ) -> None:
        self._call, self._peers, self._follow = call, peers, follow
        self._queues: set[asyncio.Queue[str]] = set()
        self._followers: dict[str, asyncio.Task[None]] = {}

    async def nodes(self) -> list[dict[str, Any]]:
        """The servers of cluster.xml; without one, this server alone."""
        found = await self._peers.nodes()
        return found or [{"name": "this server", "addresses": {}, "this": True}]

    async def node(self, name: str) -> dict[str, Any]:
        """The server of this name.

        :raises NotFoundError: there is none.
        """
        for node in await self.nodes():
            if node["name"] == name:
                return node
        return await self._peers.find(name)

    async def ask(self, node: dict[str, Any], who: Caller, path: str, method: str = "GET", body: Any = None) -> Any:
        """One call's answer.

        :raises SafekitError: what the server answered, or that it does not.
        """
        data = None if body is None else json.dumps(body).encode()
        try:
            async with asyncio.timeout(LIMIT if method == "GET" else None):
                status, answer = await self._call(node, who, method, path.encode(), data)
        except (TimeoutError, httpx.HTTPError) as error:
            text = f"{node['name']} does not answer ({type(error).__name__})"
            raise SystemProblem(Problem("node.unreachable", text, "does its agent run?")) from error
        found = json.loads(answer) if answer else None
        if status >= 400:
            problems = [Problem.from_dict(each) for each in (found or {}).get("problems", ())]
            raise SafekitError(problems or Problem("agent.refused", f"{node['name']} answered {status}"))
        return found

    async def servers(self, who: Caller) -> list[Server]:
        """Every server with its modules."""

        async def one(node: dict[str, Any]) -> Server:
            server = Server(node["name"], node["this"])
            try:
                found = await self.ask(node, who, "/status")
            except SafekitError as error:
                server.why = error.problems[0].message
                return server
            server.modules = {module["name"]: module for module in found["modules"]}
            server.problems = found["problems"]
            return server

        return list(await asyncio.gather(*map(one, await self.nodes())))

    # --- news -----------------------------------------------------------------------------------

    async def news(self) -> AsyncIterator[str]:
        """The names of servers on which something has changed, as it happens; empty from time to time."""
        queue: asyncio.Queue[str] = asyncio.Queue(WAITING)
        self._queues.add(queue)
        for node in await self.nodes():
            if node["name"] not in self._followers or self._followers[node["name"]].done():
                self._followers[node["name"]] = asyncio.create_task(self._watch(node))
        try:
            while True:
                try:
                    yield await asyncio.wait_for(queue.get(), ALIVE)
                except TimeoutError:
                    yield ""
        finally:
            self._queues.discard(queue)

    async def _watch(self, node: dict[str, Any]) -> None:
        """Follow a server's events as long as anybody looks."""
        lost = False
        while self._queues:
            with contextlib.suppress(httpx.HTTPError, SafekitError, OSError):
                async for line in self._follow(node, WATCHER):
                    if line.startswith("event:"):
                        self._tell(node["name"])
                        lost = False
                    if not self._queues:
                        return
            if not lost:  # it has gone: once, not each time that it is tried
                self._tell(node["name"])
                lost = True
            await asyncio.sleep(PAUSE)

    def _tell(self, name: str) -> None:
        for queue in self._queues:
            if not queue.full():
                queue.put_nowait(name)

    async def close(self) -> None:
        """End what follows events."""
        for task in self._followers.values():
            task.cancel()
        await asyncio.gather(*self._followers.values(), return_exceptions=True)


def stamp() -> str:
    """The time of day for people."""
    return time.strftime("%H:%M:%S")
