"""The control API of one agent, as one FastAPI application.

Every failure is an RFC 9457 problem document whose ``problems`` are the same findings that the CLI prints.
"""

from __future__ import annotations

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

from safekit_py import __version__
from safekit_py.control.routes import cluster, configure, control, failover, maintenance, monitor
from safekit_py.errors import AccessError, ConfigError, NotFoundError, SafekitError, StateError
from safekit_py.runtime.agent import Agent

STATUS = {NotFoundError: 404, StateError: 409, ConfigError: 422, AccessError: 403}
ROUTES = (monitor, control, maintenance, failover, configure, cluster)


def create(agent: Agent) -> FastAPI:
    """The application for this agent."""
    app = FastAPI(title="safekit_py", version=__version__, redoc_url=None)

    @app.exception_handler(SafekitError)
    async def _failed(_: Request, error: SafekitError) -> Response:
        status = next((code for kind, code in STATUS.items() if isinstance(error, kind)), 500)
        body = {
            "type": f"urn:safekit:{error.code}",
            "title": error.problems[0].message,
            "status": status,
            "problems": [p.as_dict() for p in error.problems],
        }
        return JSONResponse(body, status, media_type="application/problem+json")

    for part in ROUTES:
        app.include_router(part.router(agent))
    return app
