"""The route for commands of modules whose servers have roles: prim, second, swap, and those of replicated data."""

from __future__ import annotations

from starlette.requests import Request

from safekit_py.control import schemas
from safekit_py.control.access import Role
from safekit_py.control.items import module_item
from safekit_py.control.routing import Routes
from safekit_py.runtime.agent import Agent


def router(agent: Agent) -> Routes:
    """The route for this agent."""
    routes = Routes(prefix="/api/v1", tags=["roles"], changes=Role.CONTROL)

    @routes.post("/modules/{name}/role/{verb}")
    async def command(
        name: str, verb: str, request: Request, order: schemas.RoleOrder, wait: bool = True
    ) -> schemas.RoleDone:
        """Carry a command out; with ``look`` among its arguments only say what it would do and discard.

        With ``wait=false`` the answer comes at once, and ``operation`` follows the command.
        """
        runner, arguments = agent.runner(name), tuple(order.arguments)
        ident = ""
        if "look" in arguments:
            found = dict(await runner.command(verb, arguments))
        else:
            operation = agent.operations.carry_out(
                name, verb, request.state.caller.known, lambda: runner.command(verb, arguments)
            )
            ident = operation.ident
            found = dict(await operation.result()) if wait else {}
        text, discards = str(found.pop("text", "")), str(found.pop("discards", ""))
        return schemas.RoleDone(
            text=text,
            discards=discards,
            data=found,
            module=module_item(agent.runner(name)),
            operation=ident,
        )

    return routes
