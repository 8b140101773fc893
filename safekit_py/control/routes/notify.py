"""Routes of notifications: whom to tell, a test, and what could not be sent."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Annotated, Any

from safekit_py.control import notifications, schemas
from safekit_py.control.access import Role
from safekit_py.control.routing import Query, Routes, said
from safekit_py.errors import ConfigError, NotFoundError, Problem, SafekitError
from safekit_py.notices import unsent
from safekit_py.runtime.agent import Agent
from safekit_py.runtime.files import write_atomically


@dataclass(kw_only=True, slots=True)
class NotifyBody:
    """A notify.xml."""

    xml: str = said(max_length=1 << 20)
    file: str = said("its name, for the findings", "notify.xml", max_length=1024)


@dataclass(kw_only=True, slots=True)
class TargetItem:
    """Whom to tell."""

    name: str
    tag: str
    least: str = said("the level from which on it is told", "")
    modules: list[str] = said("patterns of the modules that it is told about", [])
    sent: int = said("since the process that sends began", 0)
    held: int = said("not sent, because there were too many", 0)
    failed: int = said("not sent after all attempts", 0)
    waiting: int = 0
    last: str = said("why the last attempt failed; empty when it did not", "")


@dataclass(kw_only=True, slots=True)
class NotifyDocument:
    """Whom this server tells, and how that goes."""

    configured: bool
    targets: list[TargetItem] = said(default=[])
    problems: list[schemas.ProblemItem] = said("warnings", [])


@dataclass(kw_only=True, slots=True)
class UnsentItem:
    """A notice that could not be sent."""

    time: float = said("when it was given up, seconds since the epoch")
    target: str
    why: str
    notice: dict[str, Any]


def router(agent: Agent) -> Routes:
    """The routes for this agent."""
    routes = Routes(prefix="/api/v1/notify", tags=["notify"], changes=Role.ADMIN)

    @routes.get("")
    async def show() -> NotifyDocument:
        """The targets of this server, and what became of their notices."""
        if not agent.paths.notify_xml.exists():
            return NotifyDocument(configured=False)
        data = await asyncio.to_thread(agent.paths.notify_xml.read_bytes)
        found = await notifications.ask(agent, "check", str(agent.paths.notify_xml), data=data)
        return _document(agent, found)

    @routes.put("")
    async def configure(body: NotifyBody) -> NotifyDocument:
        """Take a notify.xml; an invalid one changes nothing."""
        found = await _checked(agent, body)
        await asyncio.to_thread(write_atomically, agent.paths.notify_xml, body.xml.encode(), 0o600)
        return _document(agent, found)

    @routes.post("/check")
    async def check(body: NotifyBody) -> NotifyDocument:
        """Check a notify.xml, and change nothing."""
        return _document(agent, await _checked(agent, body))

    @routes.delete("")
    async def forget() -> schemas.Done:
        """Tell nobody any more."""
        agent.paths.notify_xml.unlink(missing_ok=True)
        return schemas.Done(done=True)

    @routes.post("/test/{name}", role=Role.CONTROL)
    async def test(name: str) -> schemas.Done:
        """Send one notice to a target now, past its queue; refused when it is not taken."""
        found = await notifications.ask(agent, "test", name)
        if problems := tuple(Problem.from_dict(each) for each in found["problems"]):
            missing = problems[0].code in ("notify.none", "notify.unknown-target")
            raise (NotFoundError if missing else SafekitError)(problems)
        return schemas.Done(done=True)

    @routes.get("/unsent")
    async def given_up(count: Annotated[int, Query(ge=1, le=1000)] = 20) -> list[UnsentItem]:
        """The last notices that could not be sent, the newest last."""
        found = await asyncio.to_thread(unsent.read, agent.paths.notify / "unsent.log", count)
        return [UnsentItem(**each) for each in found]

    return routes


async def _checked(agent: Agent, body: NotifyBody) -> dict[str, Any]:
    found = await notifications.ask(agent, "check", body.file, data=body.xml.encode())
    problems = tuple(Problem.from_dict(each) for each in found["problems"])
    if any(each.severity == "error" for each in problems):
        raise ConfigError(problems)
    return found


def _document(agent: Agent, found: dict[str, Any]) -> NotifyDocument:
    items = []
    for each in found["targets"]:
        counts = {key: value for key, value in agent.notified.get(each["name"], {}).items() if key != "tag"}
        items.append(TargetItem(**each, **counts))
    return NotifyDocument(
        configured=True, targets=items, problems=[schemas.ProblemItem(**each) for each in found["problems"]]
    )
