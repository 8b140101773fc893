"""Values of the engine as documents of the API."""

from __future__ import annotations

import time

from safekit_py.control import schemas
from safekit_py.core.boot import effective
from safekit_py.errors import Problem
from safekit_py.runtime.runner import ModuleRunner


def items(problems: tuple[Problem, ...]) -> list[schemas.ProblemItem]:
    """Findings."""
    return [schemas.ProblemItem(**p.as_dict()) for p in problems]


def module_item(runner: ModuleRunner) -> schemas.ModuleItem:
    """What is shown of a module that is configured."""
    now = time.monotonic()
    return schemas.ModuleItem(
        name=runner.name,
        mode=runner.config.service.mode,
        state=runner.state,
        readiness=runner.readiness,
        age=now - runner.since,
        busy=runner.busy,
        reason=runner.reason,
        exit_code=runner.state.exit_code,
        loop=f"{runner.loop.count}/{runner.loop.maxloop}",
        starts=runner.starts,
        failover=runner.failover_on,
        suspended=list(runner.watch.off),
        boot=effective(runner.config.service.boot, runner.memory.now.boot),
        resources=resource_items(runner),
        report=dict(runner.report()),
        pending=items(runner.pending),
    )


def resource_items(runner: ModuleRunner) -> list[schemas.ResourceItem]:
    """The resources of a module."""
    now = time.monotonic()
    return [
        schemas.ResourceItem(name=r.name, value=r.value, age=now - r.since, cause=r.cause) for r in runner.board.all()
    ]


def broken_item(name: str, problems: tuple[Problem, ...]) -> schemas.ModuleItem:
    """What is shown of a module that cannot run."""
    reason = str(problems[0]) if problems else ""
    return schemas.ModuleItem(name=name, state="NOT_CONFIGURED", reason=reason, problems=items(problems))
