"""Routes that change what is installed and configured."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import Annotated

from starlette.requests import Request

from safekit_py.control import schemas
from safekit_py.control.access import Role
from safekit_py.control.items import broken_item, items, module_item
from safekit_py.control.routing import Query, Routes
from safekit_py.errors import ConfigError, Problem, SystemProblem
from safekit_py.runtime.agent import Agent
from safekit_py.runtime.membership import CERTIFICATES, Membership

MAX_ARCHIVE = 1 << 30  # bytes of an uploaded archive


def _macros(values: list[str] | None) -> dict[str, str]:
    pairs = [v.partition("=") for v in values or ()]
    if any(not separator for _, separator, _ in pairs):
        raise ConfigError(Problem("config.bad-set", "a macro is set as NAME=VALUE", "--set VIP=10.0.0.50"))
    return {name: value for name, _, value in pairs}


async def _take(request: Request, archive: Path) -> None:
    """The body into a new file.

    :raises ConfigError: it is too large.
    """
    with archive.open("xb") as stream:
        size = 0
        async for chunk in request.stream():
            size += len(chunk)
            if size > MAX_ARCHIVE:
                raise ConfigError(Problem("archive.too-large", f"the archive is larger than {MAX_ARCHIVE >> 20} MiB"))
            stream.write(chunk)


def router(agent: Agent) -> Routes:
    """The routes for this agent."""
    routes = Routes(prefix="/api/v1", tags=["configure"], changes=Role.ADMIN)

    @routes.put("/modules/{name}", status_code=201, takes="application/zip")
    async def install(
        name: str,
        request: Request,
        values: Annotated[list[str] | None, Query(alias="set")] = None,
        number: Annotated[int | None, Query(ge=0, lt=1024)] = None,
        apply: bool = False,
        check: bool = False,
        wait: bool = True,
    ) -> schemas.Done:
        """Install a module from the archive in the body (application/zip); with ``apply`` also while it runs.

        With ``check`` nothing changes, and the answer is what it would be. With ``wait=false`` the answer comes when
        the archive is here, and ``operation`` follows the rest.
        """
        macros = _macros(values)
        with contextlib.ExitStack() as stack:
            archive = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="safekit-"))) / "module.zip"
            await _take(request, archive)
            if check:
                problems = await agent.installation.install(archive, name, macros, number, apply=apply, check=True)
                return schemas.Done(done=False, problems=items(problems))

            async def carry_out() -> tuple[Problem, ...]:
                with kept:  # the archive is needed to the end, and no longer
                    return await agent.installation.install(archive, name, macros, number, apply=apply, check=False)

            operation = agent.operations.carry_out(name, "module install", request.state.caller.known, carry_out)
            kept = stack.pop_all()
        if not wait:
            return schemas.Done(done=False, operation=operation.ident)
        problems = await operation.result()
        shown = module_item(agent.runners[name]) if name in agent.runners else broken_item(name, agent.broken[name])
        return schemas.Done(done=True, problems=items(problems), module=shown, operation=operation.ident)

    @routes.delete("/modules/{name}")
    async def uninstall(name: str) -> schemas.Done:
        """Remove a stopped module; its log and what its application kept stay."""
        await agent.installation.uninstall(name)
        return schemas.Done(done=True)

    @routes.put("/cluster/config", takes="application/xml")
    async def configure(
        request: Request, node: str | None = None, check: bool = False, expect: str = ""
    ) -> schemas.Done:
        """Take the cluster.xml in the body; ``node`` names this server where its host name does not.

        With ``check`` nothing changes, and the answer is what it would be. ``expect`` is the SHA-256 that the present
        file must have.
        """
        source = await request.body()
        problems = await agent.configure_cluster(source, node, check=check, expect=expect)
        return schemas.Done(done=not check, problems=items(problems))

    @routes.get("/cluster/config", role=Role.CONTROL)
    async def cluster_xml() -> schemas.TextDocument:
        """The cluster.xml of this server."""
        return schemas.TextDocument(text=agent.cluster_source())

    @routes.put("/cluster/membership")
    async def become_member(body: schemas.MembershipBody, replace: bool = False) -> schemas.Done:
        """Take all that makes this server one of a cluster, or nothing; ``replace`` also where it is one already."""
        certificates = {name: text for name, text in body.certificates.items() if name in CERTIFICATES}
        found = Membership(body.cluster.encode(), body.node, body.key, certificates)
        try:
            problems = await agent.become_member(found, replace=replace)
        except OSError as error:
            text = f"the files cannot be written, and are as they were: {error}"
            raise SystemProblem(Problem("cluster.not-stored", text, "make room on the disk, and ask again")) from error
        return schemas.Done(done=True, problems=items(problems))

    @routes.put("/cluster/key")
    async def key(body: schemas.KeyBody) -> schemas.Done:
        """Take the cluster's keys."""
        await agent.set_key(body.key)
        return schemas.Done(done=True)

    return routes
