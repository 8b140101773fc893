"""Routes of one module's configuration: activate, look at, compare, restore, take back; and what could be installed."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from starlette.requests import Request

from safekit_py.control import schemas
from safekit_py.control.access import Role
from safekit_py.control.items import broken_item, items, module_item
from safekit_py.control.routing import Routes
from safekit_py.runtime.agent import Agent
from safekit_py.runtime.configurations import Outcome


def router(agent: Agent) -> Routes:
    """The routes for this agent."""
    routes = Routes(prefix="/api/v1/configurations", tags=["configure"], changes=Role.ADMIN)

    def shown(name: str) -> schemas.ModuleItem:
        return (
            module_item(agent.runners[name]) if name in agent.runners else broken_item(name, agent.broken.get(name, ()))
        )

    async def done(
        request: Request, command: str, name: str, work: Callable[[], Coroutine[Any, Any, Outcome]], *, wait: bool
    ) -> schemas.ConfigurationDone:
        """The answer when it is done, or with ``wait=False`` at once."""
        operation = agent.operations.carry_out(name, command, request.state.caller.known, work)
        outcome = await operation.result() if wait else Outcome("begun")
        return schemas.ConfigurationDone(
            text=outcome.text,
            problems=items(outcome.problems),
            module=shown(name),
            operation=operation.ident,
        )

    @routes.get("")
    async def available() -> list[schemas.AvailableItem]:
        """Archives and folders in the modules' folder that are not installed."""
        return [
            schemas.AvailableItem(name=a.name, path=str(a.path), remedy=a.remedy, problems=items(a.problems))
            for a in agent.configurations.reload.shelf.all()
        ]

    @routes.put("/{name}")
    async def configure(
        name: str, request: Request, apply: bool = False, wait: bool = True
    ) -> schemas.ConfigurationDone:
        """Make the edited configuration the active one; ``apply`` stops and starts a running module where needed.

        With ``wait=false`` the answer comes at once, and ``operation`` follows the command.
        """
        return await done(request, "config", name, lambda: agent.configurations.configure(name, apply=apply), wait=wait)

    @routes.post("/{name}/update")
    async def update(name: str, request: Request, wait: bool = True) -> schemas.ConfigurationDone:
        """Take now what a running module can take; ``wait`` as above."""
        return await done(request, "update", name, lambda: agent.configurations.update(name), wait=wait)

    @routes.get("/{name}")
    async def information(name: str) -> schemas.ConfigurationDocument:
        """What is active, what the files say, and what is kept."""
        found = await agent.configurations.information(name)
        versions = [
            schemas.VersionItem(
                number=v.number, time=v.time, cause=v.cause, signature=v.signature, active=v == found.active
            )
            for v in found.versions
        ]
        return schemas.ConfigurationDocument(
            name=name, edited=found.edited, differs=found.differs, versions=versions, pending=items(found.pending)
        )

    @routes.get("/{name}/diff", role=Role.CONTROL)
    async def difference(name: str, number: int | None = None) -> schemas.DifferenceDocument:
        """What makes the module's files of a configuration; without a number, of the active one."""
        return schemas.DifferenceDocument(diff=await agent.configurations.difference(name, number))

    @routes.get("/{name}/files", role=Role.CONTROL)
    async def files(name: str) -> schemas.FilesDocument:
        """The module's files as they are now, edited ones included."""
        signature, found = await agent.configurations.files(name)
        return schemas.FilesDocument(signature=signature, files=found)

    @routes.post("/{name}/versions/{number}")
    async def restore(
        name: str, number: int, request: Request, apply: bool = False, wait: bool = True
    ) -> schemas.ConfigurationDone:
        """Put the module's files back as they were, and make their configuration active; ``wait`` as above."""
        back = partial(agent.installation.restore, name, number, apply=apply)
        return await done(request, "config restore", name, back, wait=wait)

    @routes.delete("/{name}")
    async def deconfigure(name: str) -> schemas.Done:
        """Stop a module and take its configuration back; its files stay."""
        await agent.configurations.deconfigure(name)
        return schemas.Done(done=True, module=shown(name))

    return routes
