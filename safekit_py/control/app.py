"""The control API of one agent, as one Starlette application.

Flows through it: a request in; the arguments that the operation's signature asks for; its document out, as JSON. Every
failure is an RFC 9457 problem document whose ``problems`` are the same findings that the CLI prints.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from safekit_py.control import health, routes
from safekit_py.control.access import Access, Role, demand
from safekit_py.control.audit import Audit
from safekit_py.control.binding import Binding
from safekit_py.control.plain import encoded
from safekit_py.control.problems import handler, refused
from safekit_py.control.routes import plugins
from safekit_py.control.routing import JSON, Operation
from safekit_py.errors import Problem, SafekitError, SystemProblem
from safekit_py.runtime.agent import Agent
from safekit_py.runtime.commandlog import CommandLog

DOCUMENT = [sys.executable, "-m", "safekit_py.control.document"]
DOCUMENT_LIMIT = 60.0  # seconds


def create(agent: Agent) -> Starlette:
    """The application for this agent."""
    log = CommandLog(agent.paths.var / "commands.db")
    served = [_route(each) for part in routes.ALL for each in part.router(agent).operations]
    app = Starlette(
        routes=[*served, plugins.brought(agent), *health.answers(agent), Route("/openapi.json", _document)],
        middleware=[Middleware(Access), Middleware(Audit, log=log)],
        exception_handlers={SafekitError: handler, HTTPException: refused},
    )
    app.state.commands = log
    return app


def _route(operation: Operation) -> Route:
    binding = Binding(operation.endpoint)

    async def answer(request: Request) -> Response:
        demand(request.state.caller, operation.role)
        found = await operation.endpoint(**await binding.arguments(request))
        return found if isinstance(found, Response) else Response(encoded(found), operation.status, media_type=JSON)

    return Route(operation.path, answer, methods=[operation.method])


async def _document(request: Request) -> Response:
    """The OpenAPI document, by a child: what makes it is larger than the agent."""
    demand(request.state.caller, Role.MONITOR)
    done = await asyncio.to_thread(
        subprocess.run, DOCUMENT, capture_output=True, check=False, timeout=DOCUMENT_LIMIT, stdin=subprocess.DEVNULL
    )
    if done.returncode:
        last = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        remedy = "pip install fastapi: only this document needs it"
        raise SystemProblem(Problem("api.no-document", f"the API's document cannot be made: {last}", remedy))
    return Response(done.stdout, media_type=JSON)
