"""The control API of one agent, as one FastAPI application.

Every failure is an RFC 9457 problem document whose ``problems`` are the same findings that the CLI prints.
"""

from __future__ import annotations

from fastapi import FastAPI

from safekit_py import __version__
from safekit_py.control.audit import Audit
from safekit_py.control.problems import handler
from safekit_py.control.routes import (
    cluster,
    configuration,
    configure,
    control,
    failover,
    history,
    maintenance,
    metrics,
    monitor,
    plugins,
    role,
    support,
)
from safekit_py.errors import SafekitError
from safekit_py.runtime.agent import Agent
from safekit_py.runtime.commandlog import CommandLog

ROUTES = (
    history,
    support,
    monitor,
    control,
    role,
    maintenance,
    failover,
    configure,
    configuration,
    cluster,
    plugins,
    metrics,
)


def create(agent: Agent) -> FastAPI:
    """The application for this agent."""
    app = FastAPI(title="safekit_py", version=__version__, redoc_url=None, exception_handlers={SafekitError: handler})
    app.state.commands = CommandLog(agent.paths.var / "commands.db")
    app.add_middleware(Audit, log=app.state.commands)
    for part in ROUTES:
        app.include_router(part.router(agent))
    return app
