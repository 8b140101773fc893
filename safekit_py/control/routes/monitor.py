"""Routes that only look: status, one module, the cluster."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any

from safekit_py.control import schemas
from safekit_py.control.access import Role
from safekit_py.control.items import broken_item, items, module_item
from safekit_py.control.routing import Query, Routes
from safekit_py.runtime import identity
from safekit_py.runtime.agent import Agent
from safekit_py.runtime.clock import wall
from safekit_py.runtime.shield import ShieldedRuntime


def router(agent: Agent) -> Routes:
    """The routes for this agent."""
    routes = Routes(prefix="/api/v1", tags=["monitor"], changes=Role.CONTROL)

    @routes.get("/status")
    async def status() -> schemas.StatusDocument:
        """Every module of this server."""
        modules = [module_item(r) for r in agent.runners.values()]
        modules += [broken_item(name, problems) for name, problems in agent.broken.items()]
        modules.sort(key=lambda m: m.name)
        # A server that runs modules of its own alone needs no cluster.
        problems = () if agent.runners and not agent.broken else agent.cluster_problems
        return schemas.StatusDocument(server=agent.name, problems=items(problems), modules=modules)

    @routes.get("/modules/{name}")
    async def module(name: str) -> schemas.ModuleItem:
        """One module."""
        if name in agent.broken:
            return broken_item(name, agent.broken[name])
        return module_item(agent.runner(name))

    @routes.get("/module-ids")
    async def module_ids() -> dict[str, int]:
        """The number of every installed module."""
        return {name: identity.module_id(agent.paths, name) for name in sorted({*agent.runners, *agent.broken})}

    @routes.get("/modules/{name}/explain/{what}")
    async def explain(
        name: str, what: str, words: Annotated[list[str] | None, Query(alias="word")] = None
    ) -> dict[str, Any]:
        """What only a module of its type can tell, as a farm ``show`` and ``trace``."""
        runtime = agent.runner(name).runtime
        assert isinstance(runtime, ShieldedRuntime), "the engine makes no other"
        return dict(runtime.explain(what, tuple(words or ())))

    @routes.get("/modules/{name}/ports")
    async def ports(name: str) -> list[schemas.PortItem]:
        """The ports that a module uses between the servers."""
        return [schemas.PortItem(**each) for each in agent.runner(name).report().get("ports", ())]

    @routes.get("/cluster")
    async def cluster() -> schemas.ClusterDocument:
        """The cluster's servers, as this one hears them through its farm modules."""
        source = agent.paths.cluster_xml
        signature = hashlib.sha256(source.read_bytes()).hexdigest()[:16] if source.exists() else ""
        groups = {r.name: dict(r.report().get("servers", {})) for r in agent.runners.values()}
        nodes = [
            schemas.ClusterNode(
                name=node,
                addresses={
                    lan.name: addr for lan in agent.cluster.lans if (addr := agent.cluster.address(node, lan.name))
                },
                this=node == agent.node,
                groups={module: servers[node] for module, servers in groups.items() if node in servers},
            )
            for node in agent.cluster.nodes
        ]
        ring = agent.keys.live.ring
        return schemas.ClusterDocument(
            configured=bool(agent.cluster.nodes),
            key=ring.newest.fingerprint if ring.keys else "",
            signature=signature,
            locked=agent.cluster_lock,
            now=wall(),
            nodes=nodes,
            problems=items(agent.cluster_problems),
        )

    return routes
