"""Routes that change what a module does."""

from __future__ import annotations

import asyncio

from starlette.requests import Request

from safekit_py.control import schemas
from safekit_py.control.access import Role
from safekit_py.control.items import module_item
from safekit_py.control.routing import Routes
from safekit_py.errors import NotFoundError, Problem, StateError
from safekit_py.model.state import Severity
from safekit_py.runtime.agent import Agent
from safekit_py.runtime.runner import Verb

COMMANDS = ("start", "stop", "restart", "stopstart", "forcestop", "wait")


def router(agent: Agent) -> Routes:
    """The routes for this agent."""
    routes = Routes(prefix="/api/v1", tags=["control"], changes=Role.CONTROL)

    @routes.post("/modules/{name}/{verb}")
    async def command(
        name: str,
        verb: str,
        request: Request,
        wait: bool = False,
        identity: str | None = None,
        drain: float | None = None,
    ) -> schemas.Done:
        """start, stop, restart, stopstart, forcestop or wait; with ``wait`` the answer comes when it is done.

        A stop with ``drain`` gives new clients to the other servers and waits that many seconds for the rest to leave.
        /operations/{operation} of the answer tells how it goes on, and how it ended.
        """
        if verb not in COMMANDS:
            names = ", ".join(COMMANDS)
            raise NotFoundError(Problem("command.unknown", f"{verb} is no command of a module", f"one of: {names}"))
        if drain is not None and verb != "stop":
            raise StateError(Problem("command.no-drain", f"{verb} waits for no clients", "only stop takes drain"))
        future = await agent.command(name, Verb[verb.upper()], identity, drain)
        operation = agent.operations.begin(name, verb, request.state.caller.known, future)
        if wait:
            await asyncio.shield(future)
        item = module_item(agent.runner(name))
        return schemas.Done(done=future.done(), module=item, operation=operation.ident)

    @routes.post("/modules/{name}/traffic/{word}")
    async def traffic(name: str, word: str) -> schemas.Done:
        """open or close the traffic, as a script of the module does; only with scriptcontrol="on"."""
        if word not in ("open", "close"):
            raise NotFoundError(Problem("command.unknown", f"{word} is no word for traffic", "open or close"))
        await agent.runner(name).deeds.traffic(opened=word == "open")
        return schemas.Done(done=True, module=module_item(agent.runner(name)))

    @routes.post("/shutdown")
    async def shutdown() -> list[schemas.ModuleItem]:
        """Stop every module of this server; the answer comes when all are stopped."""
        await agent.stop_all("asked by an administrator (shutdown)", person=True)
        return [module_item(runner) for _, runner in sorted(agent.runners.items())]

    @routes.put("/modules/{name}/log")
    async def write(name: str, entry: schemas.LogEntry) -> schemas.Done:
        """Write a line to a module's log."""
        agent.runner(name).log(Severity(entry.severity), entry.source, entry.message)
        return schemas.Done(done=True)

    return routes
