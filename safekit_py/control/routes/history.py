"""Routes to what is remembered: a module's log, its resources and their past, and the commands of this server."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Literal

from starlette.requests import Request

from safekit_py.control import schemas
from safekit_py.control.access import Role
from safekit_py.control.audit import Note
from safekit_py.control.items import resource_items
from safekit_py.control.records import ChangeItem, EventItem, OrderedItem
from safekit_py.control.routing import Query, Routes
from safekit_py.errors import ConfigError, NotFoundError, Problem
from safekit_py.model.state import Severity
from safekit_py.runtime.agent import Agent
from safekit_py.runtime.commandlog import CommandLog, who
from safekit_py.runtime.runner import ModuleRunner
from safekit_py.runtime.store import EventLog

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*\.[A-Za-z0-9_.:%/-]+")
LONGEST_NAME = 128
LONGEST_VALUE = 64
MOST = 500  # resources of one module that commands may make
OURS = {"heart", "farm", "rfs", "usersetting"}  # classes that only the engine and the module types set
LOOK = 0.5  # seconds between two looks at the log of a module that has no runner
MAX_WAIT = 60.0  # seconds that a call waits for news

Lines = Annotated[int, Query(ge=1, le=20_000)]


def router(agent: Agent) -> Routes:
    """The routes for this agent."""
    routes = Routes(prefix="/api/v1", tags=["history"], changes=Role.CONTROL)

    @routes.get("/modules/{name}/log")
    async def log(
        name: str,
        lines: Lines = 100,
        after: Annotated[int | None, Query(ge=0)] = None,
        severity: Severity = Severity.DEBUG,
        wait: Annotated[float, Query(ge=0, le=MAX_WAIT)] = 0,
    ) -> list[EventItem]:
        """The last lines of a module's log, oldest first; with ``after`` the first lines since that number.

        With ``wait``, and when there are none yet, the answer comes with the first one, or after so many seconds.
        """
        end = asyncio.get_running_loop().time() + wait
        while True:
            with opened(agent, name) as store:
                found = (
                    store.tail(name, lines, 0, severity) if after is None else store.since(name, after, lines, severity)
                )
                last, closing = store.last, store.closed  # closed: the agent is about to end, and answers at once
            left = end - asyncio.get_running_loop().time()
            if found or left <= 0 or closing:
                return [EventItem.of(number, event) for number, event in found]
            if name in agent.runners:
                await agent.runners[name].store.news(last, left)
            else:
                await asyncio.sleep(min(LOOK, left))

    @routes.get("/modules/{name}/resources")
    async def resources(name: str) -> list[schemas.ResourceItem]:
        """Every resource of a module."""
        return resource_items(agent.runner(name))

    @routes.get("/modules/{name}/resources/{resource:path}")
    async def resource(name: str, resource: str) -> schemas.ResourceItem:
        """One resource of a module."""
        found = resource_items(agent.runner(name))
        for item in found:
            if item.name == resource:
                return item
        known = ", ".join(item.name for item in found) or "none"
        raise NotFoundError(Problem("resource.unknown", f"{name} has no resource {resource}", f"there are: {known}"))

    @routes.get("/modules/{name}/history")
    async def history(name: str, resource: str = "", lines: Lines = 100) -> list[ChangeItem]:
        """The last changes of one resource, or of all, oldest first."""
        with opened(agent, name) as store:
            return [ChangeItem.of(change) for change in store.changes(resource, lines)]

    @routes.put("/modules/{name}/resources/{resource:path}")
    async def set_resource(
        name: str,
        resource: str,
        value: str,
        request: Request,
        log: Literal["changes", "never", "always"] = "changes",
        identity: str = "",
    ) -> schemas.ResourceItem:
        """Set a resource; ``log`` says whether the module's log gets a line."""
        runner = agent.runner(name)
        check_resource(runner, resource, value)
        note: Note = request.state.note
        cause = f"set by {identity or (await asyncio.to_thread(who, note.peer))['user']}"
        before = runner.board.get(resource)
        note.unchanged = before == value and log != "always"
        runner.board.set(resource, value, cause, log={"changes": None, "never": False, "always": True}[log])
        if log == "never" and before != value:
            runner.store.change(resource, value, before, cause)
        return next(item for item in resource_items(runner) if item.name == resource)

    @routes.get("/commands")
    async def commands(request: Request, lines: Lines = 100, module: str = "") -> list[OrderedItem]:
        """The last commands that changed something on this server, oldest first, and who gave them."""
        kept: CommandLog = request.app.state.commands
        return [OrderedItem.of(number, ordered) for number, ordered in kept.tail(lines, module)]

    return routes


@contextmanager
def opened(agent: Agent, name: str) -> Iterator[EventLog]:
    """The log of a module; also of one whose configuration is broken, as its log may tell why."""
    if name not in agent.broken:
        yield agent.runner(name).store
        return
    store = EventLog(agent.paths.module_var(name) / "log.db")
    try:
        yield store
    finally:
        store.close()


def check_resource(runner: ModuleRunner, name: str, value: str) -> None:
    """Refuse a resource or a value that no command may set.

    :raises ConfigError: the findings, all at once.
    """
    found = []
    kind = name.partition(".")[0]
    if len(name) > LONGEST_NAME or not NAME.fullmatch(name):
        message = f"{name[:LONGEST_NAME]!r} cannot be a resource's name"
        found.append(Problem("resource.bad-name", message, "write class.id, for instance custom.database"))
    elif kind in OURS:
        message = f"{name} belongs to the product: only it knows its value"
        found.append(Problem("resource.reserved", message, "take a class of your own, for instance custom"))
    elif len(runner.board.all()) >= MOST and runner.board.get(name) == "unknown":
        message = f"{runner.name} has {MOST} resources already"
        found.append(Problem("resource.too-many", message, "use fewer names: one for each thing that is watched"))
    if not value or len(value) > LONGEST_VALUE or not value.isprintable():
        message = f"{value[:LONGEST_VALUE]!r} cannot be a resource's value"
        remedy = f"write init, up, down, unknown, or at most {LONGEST_VALUE} characters in one line"
        found.append(Problem("resource.bad-value", message, remedy))
    if found:
        raise ConfigError(found)
