"""How a server joins the cluster: it shows a token, and gets what makes it a member.

Flows through it: a token, the joining server's name, addresses and public key in; the new cluster.xml to every server
of the cluster, and then to the joining one, with the cluster's key, its authority and a certificate. The token carries
the authority's fingerprint, so the joining server knows whom it talks to before it says anything.

Invariant: cluster.xml is the new one on all servers or the old one on all; and a token lets in one server, once.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import httpx

from safekit_py.config import servers
from safekit_py.control.access import ROLE, USER, VIA, Role
from safekit_py.errors import ConfigError, Problem, SafekitError, StateError
from safekit_py.model.paths import Paths
from safekit_py.runtime.accounts import Token
from safekit_py.runtime.clock import wall
from safekit_py.web import certificates
from safekit_py.web.peers import Peers, UnreachableError

LARGEST = 65536  # bytes of a request to join
REMEDY = "join with safekit-py cluster join"
log = logging.getLogger("safekit.web")


@dataclass(frozen=True, slots=True)
class Request:
    """What a joining server says of itself.

    :param addresses: by LAN.
    :param names: other addresses and host names under which its clients may call it.
    :param wish: a request for a certificate, as PEM.
    :param stage: ``look`` at the cluster, ``check`` that it can join, ``join``.
    """

    node: str
    addresses: Mapping[str, str]
    names: tuple[str, ...]
    wish: str
    stage: str

    @classmethod
    def of(cls, found: Any) -> Request:
        """From a body.

        :raises ConfigError: it is none.
        """
        try:
            node, addresses, names = found["node"], found["addresses"], found["names"]
            wish, stage = found["wish"], found["stage"]
            texts = [node, wish, stage, *addresses, *addresses.values(), *names]
            if not all(isinstance(each, str) and len(each) < 8192 for each in texts) or len(texts) > 1000:
                raise TypeError
        except (LookupError, TypeError, AttributeError):
            raise ConfigError(Problem("join.bad-request", "this is no request to join a cluster", REMEDY)) from None
        if stage not in ("look", "check", "join"):
            raise ConfigError(Problem("join.bad-request", "a request is to look, check or join", REMEDY))
        return cls(node, addresses, tuple(names), wish, stage)


class Joining:
    """Of the cluster that this server is one of.

    :param agent: the client of this server's agent.
    """

    def __init__(self, paths: Paths, agent: httpx.AsyncClient, peers: Peers) -> None:
        self._paths, self._agent, self._peers = paths, agent, peers
        self._one = asyncio.Lock()

    def authority(self) -> bytes:
        """The certificate of the cluster's authority, for anybody.

        :raises StateError: this server has none.
        """
        try:
            return (self._paths.tls / "ca.crt").read_bytes()
        except OSError:
            text = "this server has no certificate authority"
            raise StateError(Problem("join.no-authority", text, "safekit-py cluster init makes one")) from None

    async def answer(self, token: Token, address: str, found: Request) -> dict[str, Any]:
        """What a joining server is told.

        :param token: it was checked, and is not used yet.
        :raises SafekitError: it cannot join; nothing has changed.
        """
        async with self._one:
            heads = {USER: "join", ROLE: Role.ADMIN.word, VIA: f"https {address} token {token.ident}"}
            source = str((await self._local("GET", "/cluster/config", heads))["text"])
            if not source:
                text, remedy = "the server that was called is in no cluster", "safekit-py cluster init makes one there"
                raise StateError(Problem("join.no-cluster", text, remedy))
            if found.stage == "look":
                return {"cluster": source, "now": wall()}
            new = servers.added(source.encode(), found.node, found.addresses).decode()
            await self._all("check", source, new, heads)
            if found.stage == "check":
                return {"cluster": new, "now": wall()}
            return await self._join(token, heads, source, new, found)

    async def _join(
        self, token: Token, heads: Mapping[str, str], source: str, new: str, found: Request
    ) -> dict[str, Any]:
        known = {
            address for node in await self._peers.nodes() for address in (node["name"], *node["addresses"].values())
        }
        names = [each for each in (*found.addresses.values(), *found.names) if each not in known]
        tls = self._paths.tls
        certificate = await asyncio.to_thread(certificates.granted, tls, found.node, names, found.wish.encode())
        answer = {
            "cluster": new,
            "node": found.node,
            "key": self._paths.cluster_key.read_text(),
            "certificates": {
                "ca.crt": (tls / "ca.crt").read_text(),
                "ca.key": (tls / "ca.key").read_text(),
                "server.crt": certificate.decode(),
            },
        }
        if new != source:
            await self._all("take", source, new, heads)
        try:
            await self._local("DELETE", f"/access/tokens/{token.ident}", heads)
        except SafekitError:  # somebody has used or revoked it meanwhile
            if new != source:
                await self._all("take", new, source, heads)
            raise
        log.info("%s has joined the cluster with the token %s", found.node, token.ident)
        return answer

    async def _all(self, how: str, old: str, new: str, heads: Mapping[str, str]) -> None:
        """Have each server check or take a new cluster.xml in the place of the old one.

        :raises SafekitError: one refuses; those that had taken it have the old one again.
        """
        nodes = await self._peers.nodes()
        taken: list[dict[str, Any]] = []

        async def put(node: dict[str, Any], before: str, after: str) -> None:
            digest = hashlib.sha256(before.encode()).hexdigest()
            query = f"?expect={digest}" + ("&check=true" if how == "check" else "")
            try:
                if node["this"]:
                    await self._local("PUT", f"/cluster/config{query}", heads, after.encode())
                else:
                    await self._remote(node, f"/cluster/config{query}", heads, after.encode())
            except UnreachableError as error:
                text = f"{error.problems[0].message}; a server that does not take the new cluster.xml would stand alone"
                remedy = "start its agent and join then; or take it out of cluster.xml first"
                raise UnreachableError(Problem("join.server-missing", text, remedy)) from error
            except SafekitError as error:
                raise StateError([_said_by(node["name"], problem) for problem in error.problems]) from error
            taken.append(node)

        # One after the other, and this server last: where it ends half-way, this one still knows the old state.
        try:
            for node in sorted(nodes, key=lambda each: bool(each["this"])):
                await put(node, old, new)
        except SafekitError:
            for node in list(taken) if how == "take" else ():
                try:
                    await put(node, new, old)
                except SafekitError as error:
                    log.warning("%s keeps the new cluster.xml: %s", node["name"], error)
            raise

    async def _local(self, method: str, path: str, heads: Mapping[str, str], body: bytes | None = None) -> Any:
        answer = await self._agent.request(method, f"/api/v1{path}", headers=dict(heads), content=body)
        return _read(answer.status_code, answer.content)

    async def _remote(self, node: dict[str, Any], path: str, heads: Mapping[str, str], body: bytes) -> Any:
        passed = [(name, value) for name, value in heads.items() if name != VIA]
        answer = await self._peers.send(node, self._peers.request("PUT", f"/api/v1{path}".encode(), passed, body))
        try:
            return _read(answer.status_code, await answer.aread())
        finally:
            await answer.aclose()


def _said_by(name: str, problem: Problem) -> Problem:
    return replace(problem, message=f"{name}: {problem.message}")


def _read(status: int, content: bytes) -> Any:
    found = json.loads(content)
    if 200 <= status < 300:
        return found
    raise StateError([Problem.from_dict(each) for each in found["problems"]])
