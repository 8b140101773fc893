"""Routes for maintenance: wait for a state, start with the server, automatic actions, checkers, the loop counter."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Annotated, Literal

from safekit_py.control import schemas
from safekit_py.control.access import Role
from safekit_py.control.items import module_item
from safekit_py.control.routing import Query, Routes
from safekit_py.core import boot as boot_rules
from safekit_py.errors import NotFoundError, Problem, StateError
from safekit_py.model.state import Readiness, Severity, State
from safekit_py.runtime.agent import Agent
from safekit_py.runtime.failover import label
from safekit_py.runtime.runner import ModuleRunner

Switch = Literal["on", "off"]


def router(agent: Agent) -> Routes:
    """The routes for this agent."""
    routes = Routes(prefix="/api/v1", tags=["maintenance"], changes=Role.CONTROL)

    @routes.get("/modules/{name}/wait")
    async def wait(
        name: str, state: str = "start", limit: Annotated[float | None, Query(gt=0, le=86_400)] = None
    ) -> schemas.Done:
        """Answer when the module has come to a state: a state's name, ``start`` (Ready) or ``stop`` (STOP)."""
        runner = agent.runner(name)
        try:
            async with asyncio.timeout(limit):
                await runner.until(_reached(runner, state))
        except TimeoutError:
            problem = Problem(
                "module.not-reached",
                f"{name} has not come to {state} in {limit:g} s; it is in {runner.state} {runner.readiness}",
                runner.reason or f"safekit-py status {name} -v says why",
            )
            raise StateError(problem) from None
        if state == "start" and runner.state is State.STOP:
            problem = Problem(
                "module.not-started", f"{name} is stopped: {runner.reason or 'nobody started it'}", f"start {name}"
            )
            raise StateError(problem)
        return schemas.Done(done=True, module=module_item(runner))

    @routes.get("/modules/{name}/boot")
    async def boot_status(name: str) -> schemas.BootItem:
        """Whether the module starts with the server, and who says so."""
        return _boot_item(agent.runner(name))

    @routes.put("/modules/{name}/boot/{switch}")
    async def boot(name: str, switch: Switch) -> schemas.BootItem:
        """Start the module with the server, or not; where userconfig.xml leaves it open."""
        runner = agent.runner(name)
        configured = runner.config.service.boot
        if configured != "ignore":
            problem = Problem(
                "module.boot-configured",
                f'userconfig.xml decides: <service boot="{configured}">',
                'write boot="ignore" there to decide by this command',
            )
            raise StateError(problem)
        runner.memory.write(boot=switch)
        return _boot_item(runner)

    @routes.put("/modules/{name}/failover/{switch}")
    async def failover(name: str, switch: Switch) -> schemas.Done:
        """Take the failover rules' actions, or only show them; remembered until it is switched back."""
        runner = agent.runner(name)
        runner.memory.write(failover=switch)
        runner.log(Severity.WARNING, "failover", f"automatic actions are switched {switch}")
        runner.failover.touch()
        return schemas.Done(done=True, module=module_item(runner))

    @routes.get("/modules/{name}/checkers")
    async def checkers(name: str) -> list[schemas.CheckerItem]:
        """Every checker of the configuration, whether it looks, and what it sees."""
        return _checkers(agent.runner(name))

    @routes.post("/modules/{name}/checkers/{verb}")
    async def switch_checkers(
        name: str, verb: Literal["on", "off", "enable", "disable"], resource: str = "*"
    ) -> list[schemas.CheckerItem]:
        """Switch checkers off or on by a pattern such as ``proc.*``; enable or disable those of class custom."""
        runner = agent.runner(name)
        matching = _matching(runner, resource)
        if verb in ("on", "off"):
            await runner.switch_checkers(resource, on=verb == "on")
        else:
            await runner.watch.enable(matching, on=verb == "enable")
        return _checkers(runner)

    @routes.post("/modules/{name}/script/{script}")
    async def tell(name: str, script: Literal["state", "level"]) -> schemas.Told:
        """What the module's script of that name prints; empty when it has none."""
        return schemas.Told(output=(await agent.runner(name).tell(script) or "").strip())

    @routes.get("/modules/{name}/loop")
    async def loop(name: str) -> schemas.LoopItem:
        """The loop counter."""
        return _loop(agent.runner(name))

    @routes.post("/modules/{name}/loop/{verb}")
    async def count(name: str, verb: Literal["inc", "reset"], identity: str = "incloop") -> schemas.LoopItem:
        """Count an automatic action that a script takes, or begin anew."""
        runner = agent.runner(name)
        runner.count_one(identity) if verb == "inc" else runner.count_anew()
        return _loop(runner)

    return routes


def _reached(runner: ModuleRunner, state: str) -> Callable[[], bool]:
    if state == "stop":
        return lambda: runner.stopped
    if state == "start":
        return lambda: runner.readiness is Readiness.READY or runner.stopped
    if state not in State.__members__:
        known = ", ".join(State.__members__)
        raise NotFoundError(Problem("module.unknown-state", f"{state} is no state", f"one of: {known}"))
    return lambda: runner.state.value == state and (runner.readiness is Readiness.READY or state in ("STOP", "WAIT"))


def _boot_item(runner: ModuleRunner) -> schemas.BootItem:
    configured, command = runner.config.service.boot, runner.memory.now.boot
    return schemas.BootItem(boot=boot_rules.effective(configured, command), configured=configured, command=command)


def _checkers(runner: ModuleRunner) -> list[schemas.CheckerItem]:
    running = {entry.checker.resource: entry.state for entry in runner.watch.entries()}
    causes = {each.name: each.cause for each in runner.board.all()}
    return [
        schemas.CheckerItem(
            resource=each.resource,
            when=each.when,
            action=each.action,
            rule=label(each),
            value=runner.board.get(each.resource),
            cause=causes.get(each.resource, ""),
            state=running.get(each.resource, "stopped"),
        )
        for each in sorted(runner.checkers, key=lambda c: c.resource)
    ]


def _matching(runner: ModuleRunner, pattern: str) -> list[str]:
    found = [each.resource for each in runner.checkers if fnmatchcase(each.resource, pattern)]
    if not found:
        known = ", ".join(sorted(each.resource for each in runner.checkers)) or "none"
        raise NotFoundError(
            Problem("checker.none", f"no checker of {runner.name} is named {pattern}", f"its checkers: {known}")
        )
    return found


def _loop(runner: ModuleRunner) -> schemas.LoopItem:
    now = time.monotonic()
    counter = runner.loop
    return schemas.LoopItem(
        count=counter.count,
        maxloop=counter.maxloop,
        interval=counter.interval,
        elapsed=counter.elapsed(now),
        allowed=counter.allows(now),
    )
