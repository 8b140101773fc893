"""Routes that show the plugins, and those that plugins bring."""

from __future__ import annotations

from starlette.routing import Route

from safekit_py.control import schemas
from safekit_py.control.access import Allowed, Role
from safekit_py.control.items import items
from safekit_py.control.mounted import Mounted
from safekit_py.control.routing import Routes
from safekit_py.errors import NotFoundError, Problem
from safekit_py.runtime.agent import Agent
from safekit_py.runtime.faults import Loaded
from safekit_py.runtime.view import ServerView

PREFIX = "/api/v1/plugins"


def router(agent: Agent) -> Routes:
    """The routes for this agent."""
    routes = Routes(prefix=PREFIX, tags=["monitor"], changes=Role.ADMIN)

    @routes.get("")
    async def plugins() -> list[schemas.PluginItem]:
        """Every plugin, its hooks, how often it failed, and what is wrong with it."""
        return [plugin_item(entry) for entry in agent.manager.plugins]

    @routes.get("/{name}")
    async def plugin(name: str) -> schemas.PluginItem:
        """One plugin, with all that it brings."""
        from safekit_py.control.figures import wrong  # noqa: PLC0415 - see routes/metrics.py

        agent.manager.ask_all(ServerView(agent), check=wrong)
        entry = agent.manager.entry(name)
        if entry is None:
            known = ", ".join(each.name for each in agent.manager.plugins)
            raise NotFoundError(Problem("plugin.not-found", f"there is no plugin {name}", f"there are: {known}"))
        return plugin_item(entry)

    return routes


def brought(agent: Agent) -> Route:
    """The route below which plugins have theirs. They are asked for them here, once."""
    mounted = Mounted(agent.manager, agent.manager.routes(ServerView(agent)), PREFIX)
    allowed = Allowed(mounted, looks=Role.MONITOR, changes=Role.ADMIN)
    return Route(f"{PREFIX}/{{plugin}}/{{path:path}}", allowed)


def plugin_item(entry: Loaded) -> schemas.PluginItem:
    """What is shown of a plugin."""
    return schemas.PluginItem(
        name=entry.name,
        origin=entry.origin,
        version=entry.version,
        hooks=list(entry.hooks),
        brings={kind: list(names) for kind, names in entry.brings.items()},
        faults=entry.faults,
        last=entry.last,
        problems=items(tuple(entry.problems)),
    )
