"""Routes to long commands that were given: how far each is, and how it ended; also as a stream."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Annotated

from starlette.responses import Response, StreamingResponse

from safekit_py.control import schemas
from safekit_py.control.access import Role
from safekit_py.control.items import items
from safekit_py.control.plain import encoded
from safekit_py.control.routing import Query, Routes
from safekit_py.errors import Problem, StateError
from safekit_py.runtime.agent import Agent
from safekit_py.runtime.clock import wall
from safekit_py.runtime.operations import Operation

MAX_WAIT = 60.0  # seconds that a call waits for the end
MOST = 64  # callers that follow one at a time
LOOK = 0.25  # seconds between two looks at what a module does; an end is told at once
ALIVE = 60  # looks without news after which a comment is sent, so that a dead connection is found


def router(agent: Agent) -> Routes:
    """The routes for this agent."""
    routes = Routes(prefix="/api/v1", tags=["control"], changes=Role.CONTROL)
    open_now: set[object] = set()

    async def stream(operation: Operation) -> AsyncIterator[bytes]:
        mark = object()
        open_now.add(mark)
        told, quiet = None, 0
        try:
            while True:
                item = _item(operation, agent)
                shown = replace(item, seconds=0.0)  # time that passes is no news
                if shown != told:
                    told, quiet = shown, 0
                    yield b"event: operation\ndata: " + encoded(item) + b"\n\n"
                elif (quiet := quiet + 1) % ALIVE == 0:
                    yield b": alive\n\n"
                if operation.ended is not None:
                    return
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(operation.over.wait(), LOOK)
        finally:
            open_now.discard(mark)

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

    @routes.get("/operations/{ident}/events", gives="text/event-stream")
    async def events(ident: str) -> Response:
        """Its changes as text/event-stream: ``operation`` now and at each change; the stream ends as it does."""
        operation = agent.operations.find(ident)
        if len(open_now) >= MOST:
            raise StateError(Problem("events.too-many", f"{MOST} callers follow already", "close one, or ask again"))
        heads = {"Cache-Control": "no-store"}
        return StreamingResponse(stream(operation), media_type="text/event-stream", headers=heads)

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
        progress=" ".join(filter(None, (runner.state, runner.readiness, runner.reason))) if running and runner else "",
        text=each.text,
        problems=items(each.problems),
    )
