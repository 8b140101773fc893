"""The route for commands of modules whose servers have roles: prim, second, swap, and those of replicated data."""

from __future__ import annotations

from safekit_py.control import schemas
from safekit_py.control.access import Role
from safekit_py.control.items import module_item
from safekit_py.control.routing import Routes
from safekit_py.runtime.agent import Agent


def router(agent: Agent) -> Routes:
    """The route for this agent."""
    routes = Routes(prefix="/api/v1", tags=["roles"], changes=Role.CONTROL)

    @routes.post("/modules/{name}/role/{verb}")
    async def command(name: str, verb: str, order: schemas.RoleOrder) -> schemas.RoleDone:
        """Carry a command out; with ``look`` among its arguments only say what it would do and discard."""
        found = dict(await agent.runner(name).command(verb, tuple(order.arguments)))
        text, discards = str(found.pop("text", "")), str(found.pop("discards", ""))
        return schemas.RoleDone(text=text, discards=discards, data=found, module=module_item(agent.runner(name)))

    return routes
