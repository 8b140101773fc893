"""Routes of one module's configuration: activate, look at, compare, restore, take back; and what could be installed."""

from __future__ import annotations

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
        return module_item(agent.runners[name]) if name in agent.runners else broken_item(name, agent.broken[name])

    def done(name: str, outcome: Outcome) -> schemas.ConfigurationDone:
        return schemas.ConfigurationDone(text=outcome.text, problems=items(outcome.problems), module=shown(name))

    @routes.get("")
    async def available() -> list[schemas.AvailableItem]:
        """Archives and folders in the modules' folder that are not installed."""
        return [
            schemas.AvailableItem(name=a.name, path=str(a.path), remedy=a.remedy, problems=items(a.problems))
            for a in agent.configurations.reload.shelf.all()
        ]

    @routes.put("/{name}")
    async def configure(name: str, apply: bool = False) -> schemas.ConfigurationDone:
        """Make the edited configuration the active one; ``apply`` stops and starts a running module where needed."""
        return done(name, await agent.configurations.configure(name, apply=apply))

    @routes.post("/{name}/update")
    async def update(name: str) -> schemas.ConfigurationDone:
        """Take now what a running module can take."""
        return done(name, await agent.configurations.update(name))

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
    async def restore(name: str, number: int, apply: bool = False) -> schemas.ConfigurationDone:
        """Put the module's files back as they were, and make their configuration active."""
        return done(name, await agent.installation.restore(name, number, apply=apply))

    @routes.delete("/{name}")
    async def deconfigure(name: str) -> schemas.Done:
        """Stop a module and take its configuration back; its files stay."""
        await agent.configurations.deconfigure(name)
        return schemas.Done(done=True, module=shown(name))

    return routes
