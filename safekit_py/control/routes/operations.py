"""Routes to long commands that were given: how far each is, and how it ended."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Annotated

from safekit_py.control import schemas
from safekit_py.control.access import Role
from safekit_py.control.items import items
from safekit_py.control.routing import Query, Routes
from safekit_py.runtime.agent import Agent
from safekit_py.runtime.clock import wall
from safekit_py.runtime.operations import Operation

MAX_WAIT = 60.0  # seconds that a call waits for the end


def router(agent: Agent) -> Routes:
    """The routes for this agent."""
    routes = Routes(prefix="/api/v1", tags=["control"], changes=Role.CONTROL)

    @routes.get("/operations")
    async def all_() -> list[schemas.OperationItem]:
        """The last ones, the oldest first."""
        return [_item(each, agent) for each in agent.operations.last()]

    @routes.get("/operations/{ident}")
    async def one(ident: str, wait: Annotated[float, Query(ge=0, le=MAX_WAIT)] = 0) -> schemas.OperationItem:
        """One operation; with ``wait`` the answer comes at its end, or after so many seconds."""
        found = agent.operations.find(ident)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(found.over.wait(), wait)
        return _item(found, agent)

    return routes


def _item(each: Operation, agent: Agent) -> schemas.OperationItem:
    runner = agent.runners.get(each.module)
    running = each.ended is None
    return schemas.OperationItem(
        ident=each.ident,
        module=each.module,
        command=each.command,
        user=each.user,
        state=each.state,
        began=each.began,
        seconds=round((each.ended or wall()) - each.began, 3),
        progress=runner.reason if running and runner is not None else "",
        problems=items(each.problems),
    )
