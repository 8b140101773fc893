"""The route by which changes are followed: server-sent events, one for each line of a module's log."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from starlette.responses import Response, StreamingResponse

from safekit_py.control.access import Role
from safekit_py.control.plain import encoded
from safekit_py.control.routing import Routes
from safekit_py.errors import Problem, StateError
from safekit_py.model.event import Event
from safekit_py.runtime.agent import Agent

MOST = 64  # callers that follow at a time
WAITING = 256  # events that a slow reader may be behind; then its stream ends, and it can begin anew
ALIVE = 15.0  # seconds of silence after which a comment is sent, so that a dead connection is found


def router(agent: Agent) -> Routes:
    """The route for this agent."""
    routes = Routes(prefix="/api/v1", tags=["history"], changes=Role.CONTROL)
    open_now: set[object] = set()

    async def stream() -> AsyncIterator[bytes]:
        queue: asyncio.Queue[Event] = asyncio.Queue(WAITING)
        behind = asyncio.Event()

        def listener(event: Event) -> None:
            if queue.full():
                behind.set()
            else:
                queue.put_nowait(event)

        mark = object()
        open_now.add(mark)
        agent.listeners.add(listener)
        try:
            yield b"event: hello\ndata: {}\n\n"
            while not behind.is_set():
                try:
                    event = await asyncio.wait_for(queue.get(), ALIVE)
                except TimeoutError:
                    yield b": alive\n\n"
                else:
                    yield b"event: log\ndata: " + encoded(event) + b"\n\n"
        finally:
            agent.listeners.discard(listener)
            open_now.discard(mark)

    @routes.get("/events", gives="text/event-stream")
    async def events() -> Response:
        """What happens from now on, as text/event-stream: ``hello`` at once, then ``log`` for each event."""
        if len(open_now) >= MOST:
            raise StateError(Problem("events.too-many", f"{MOST} callers follow already", "close one, or ask again"))
        return StreamingResponse(stream(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})

    return routes
