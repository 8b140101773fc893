"""The control API of one agent, as one FastAPI application.

Every failure is an RFC 9457 problem document whose ``problems`` are the same findings that the CLI prints.
"""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
import time
from pathlib import Path
from typing import Annotated

from fastapi import Depends, FastAPI, Query, Request, Response
from fastapi.responses import JSONResponse

from safekit_py import __version__
from safekit_py.control import schemas
from safekit_py.errors import AccessError, ConfigError, NotFoundError, Problem, SafekitError, StateError
from safekit_py.model.state import Severity
from safekit_py.runtime.agent import Agent
from safekit_py.runtime.runner import ModuleRunner, Verb

STATUS = {NotFoundError: 404, StateError: 409, ConfigError: 422, AccessError: 403}
MAX_ARCHIVE = 1 << 30  # bytes of an uploaded archive


def create(agent: Agent) -> FastAPI:
    """The application for this agent."""
    app = FastAPI(title="safekit_py", version=__version__, redoc_url=None)

    @app.exception_handler(SafekitError)
    async def _failed(_: Request, error: SafekitError) -> Response:
        status = next((code for kind, code in STATUS.items() if isinstance(error, kind)), 500)
        body = {
            "type": f"urn:safekit:{error.code}",
            "title": error.problems[0].message,
            "status": status,
            "problems": [p.as_dict() for p in error.problems],
        }
        return JSONResponse(body, status, media_type="application/problem+json")

    _monitor(app, agent)
    _control(app, agent)
    _configure(app, agent)
    return app


def _items(problems: tuple[Problem, ...]) -> list[schemas.ProblemItem]:
    return [schemas.ProblemItem(**p.as_dict()) for p in problems]


def module_item(runner: ModuleRunner) -> schemas.ModuleItem:
    """What is shown of a module that is configured."""
    now = time.monotonic()
    return schemas.ModuleItem(
        name=runner.name,
        mode=runner.config.service.mode,
        state=runner.state,
        readiness=runner.readiness,
        age=now - runner.since,
        busy=runner.busy,
        reason=runner.reason,
        exit_code=runner.state.exit_code,
        loop=f"{runner.loop.count}/{runner.loop.maxloop}",
        resources=[
            schemas.ResourceItem(name=r.name, value=r.value, age=now - r.since, cause=r.cause)
            for r in runner.board.all()
        ],
        report=dict(runner.report()),
    )


def _broken_item(name: str, problems: tuple[Problem, ...]) -> schemas.ModuleItem:
    reason = str(problems[0]) if problems else ""
    return schemas.ModuleItem(name=name, state="NOT_CONFIGURED", reason=reason, problems=_items(problems))


def _monitor(app: FastAPI, agent: Agent) -> None:
    @app.get("/api/v1/status", tags=["monitor"])
    async def status() -> schemas.StatusDocument:
        """Every module of this server."""
        modules = [module_item(r) for r in agent.runners.values()]
        modules += [_broken_item(name, problems) for name, problems in agent.broken.items()]
        modules.sort(key=lambda m: m.name)
        return schemas.StatusDocument(server=agent.node, problems=_items(agent.cluster_problems), modules=modules)

    @app.get("/api/v1/modules/{name}", tags=["monitor"])
    async def module(name: str) -> schemas.ModuleItem:
        """One module."""
        if name in agent.broken:
            return _broken_item(name, agent.broken[name])
        return module_item(agent.runner(name))

    @app.get("/api/v1/modules/{name}/log", tags=["monitor"])
    async def log(
        name: str, lines: Annotated[int, Query(ge=1, le=20_000)] = 100, after: int = 0
    ) -> list[schemas.LogLine]:
        """The last lines of a module's log, oldest first; ``after`` a number for the ones since."""
        tail = agent.runner(name).store.tail(name, lines, after)
        return [
            schemas.LogLine(number=n, time=e.time, severity=e.severity, kind=e.kind, source=e.source, message=e.message)
            for n, e in tail
        ]

    @app.get("/api/v1/plugins", tags=["monitor"])
    async def plugins() -> list[schemas.PluginItem]:
        """Every plugin, its hooks, and what is wrong with it."""
        return [
            schemas.PluginItem(name=p.name, origin=p.origin, hooks=list(p.hooks), problems=_items(tuple(p.problems)))
            for p in agent.manager.plugins
        ]

    @app.get("/api/v1/cluster", tags=["monitor"])
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
        key = hashlib.sha256(b"fingerprint" + agent.key).hexdigest()[:16] if agent.key else ""
        return schemas.ClusterDocument(
            configured=bool(agent.cluster.nodes),
            key=key,
            signature=signature,
            nodes=nodes,
            problems=_items(agent.cluster_problems),
        )


def _control(app: FastAPI, agent: Agent) -> None:
    @app.post("/api/v1/modules/{name}/{verb}", tags=["control"])
    async def command(name: str, verb: str, wait: bool = False, identity: str | None = None) -> schemas.Done:
        """start, stop, restart, stopstart, forcestop or wait; with ``wait`` the answer comes when it is done."""
        if verb.upper() not in Verb.__members__:
            names = ", ".join(v.name.lower() for v in Verb)
            raise NotFoundError(Problem("command.unknown", f"{verb} is no command of a module", f"one of: {names}"))
        future = await agent.command(name, Verb[verb.upper()], identity)
        if wait:
            await asyncio.shield(future)
        return schemas.Done(done=future.done(), module=module_item(agent.runner(name)))

    @app.put("/api/v1/modules/{name}/log", tags=["control"])
    async def write(name: str, entry: schemas.LogEntry) -> schemas.Done:
        """Write a line to a module's log."""
        agent.runner(name).log(Severity(entry.severity), entry.source, entry.message)
        return schemas.Done(done=True)


def _macros(values: Annotated[list[str] | None, Query(alias="set")] = None) -> dict[str, str]:
    pairs = [v.partition("=") for v in values or ()]
    if any(not separator for _, separator, _ in pairs):
        raise ConfigError(Problem("config.bad-set", "a macro is set as NAME=VALUE", "--set VIP=10.0.0.50"))
    return {name: value for name, _, value in pairs}


def _configure(app: FastAPI, agent: Agent) -> None:
    @app.put("/api/v1/modules/{name}", tags=["configure"], status_code=201)
    async def install(
        name: str,
        request: Request,
        macros: Annotated[dict[str, str], Depends(_macros)],
        number: Annotated[int | None, Query(ge=0, lt=1024)] = None,
    ) -> schemas.Done:
        """Install a module from the archive in the body (application/zip)."""
        with tempfile.TemporaryDirectory(prefix="safekit-") as folder:
            archive = Path(folder) / f"{Path(name).name}.zip"
            with archive.open("xb") as stream:
                size = 0
                async for chunk in request.stream():
                    size += len(chunk)
                    if size > MAX_ARCHIVE:
                        raise ConfigError(
                            Problem("archive.too-large", f"the archive is larger than {MAX_ARCHIVE >> 20} MiB")
                        )
                    stream.write(chunk)
            problems = await agent.install(archive, name, macros, number)
        shown = module_item(agent.runners[name]) if name in agent.runners else _broken_item(name, agent.broken[name])
        return schemas.Done(done=True, problems=_items(problems), module=shown)

    @app.delete("/api/v1/modules/{name}", tags=["configure"])
    async def uninstall(name: str) -> schemas.Done:
        """Remove a stopped module; its log and what its application kept stay."""
        await agent.uninstall(name)
        return schemas.Done(done=True)

    @app.put("/api/v1/cluster/config", tags=["configure"])
    async def configure(request: Request, node: str | None = None) -> schemas.Done:
        """Take the cluster.xml in the body; ``node`` names this server where its host name does not."""
        source = await request.body()
        problems = await agent.configure_cluster(source, node)
        return schemas.Done(done=True, problems=_items(problems))

    @app.put("/api/v1/cluster/key", tags=["configure"])
    async def key(body: schemas.KeyBody) -> schemas.Done:
        """Take the cluster's key."""
        await agent.set_key(bytes.fromhex(body.key))
        return schemas.Done(done=True)
