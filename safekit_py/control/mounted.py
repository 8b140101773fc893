"""Plugins' routes below ``/api/v1/plugins/NAME``: each plugin's in an application of its own.

Flows through it: a request for a plugin in, its answer out. An exception becomes a problem document with the code
``plugin.failed``, and is counted as the plugin's; the agent's own routes do not notice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from safekit_py.control.problems import document, handler
from safekit_py.errors import NotFoundError, Problem, SafekitError
from safekit_py.runtime.faults import failed
from safekit_py.runtime.guard import PluginStalled
from safekit_py.runtime.plugins import Manager

if TYPE_CHECKING:
    from fastapi import APIRouter, FastAPI


class Mounted:
    """The routes of all plugins.

    :param prefix: the path below which each has its name.
    """

    def __init__(self, manager: Manager, routers: dict[str, list[APIRouter]], prefix: str) -> None:
        self._manager, self._prefix = manager, prefix
        self._apps: dict[str, ASGIApp] = {}
        for plugin, given in routers.items():
            try:
                self._apps[plugin] = _application(plugin, given)
            except Exception as error:  # a path without a slash, two routes of one name …
                manager.fault(plugin, "safekit_routes", error)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        name = str(scope["path_params"]["plugin"])
        app = self._apps.get(name)
        if app is None:
            known = ", ".join(sorted(self._apps)) or "none"
            problem = Problem("plugin.no-routes", f"no plugin {name} has routes", f"plugins with routes: {known}")
            await document(NotFoundError(problem))(scope, receive, send)
            return
        begun = False

        async def passing(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        inner = {**scope, "root_path": f"{scope.get('root_path', '')}{self._prefix}/{name}"}
        part = f"{scope['method']} {scope['path']}"
        try:
            await self._manager.shield(name).task(part, app(inner, receive, passing))
        except Exception as error:
            found = error.problems if isinstance(error, SafekitError) else _said(name, part, error)
            if not begun:
                await document(SafekitError(found))(scope, receive, send)


def _said(name: str, part: str, error: Exception) -> Problem:
    if isinstance(error, PluginStalled):
        return Problem("plugin.failed", str(error), "report it to the plugin's author")
    return failed(name, part, error)


class _Quiet:
    """Leaves exceptions to :class:`Mounted`: FastAPI's own outermost layer would answer before it sees them."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        held: list[Message] = []

        async def holding(message: Message) -> None:
            # An answer of status 500 may be that layer's: it is held back until the exception has had its chance.
            if held or (message["type"] == "http.response.start" and message["status"] == 500):
                held.append(message)
            else:
                await send(message)

        await self._app(scope, receive, holding)
        for message in held:
            await send(message)


def _application(plugin: str, routers: list[APIRouter]) -> ASGIApp:
    from fastapi import FastAPI  # noqa: PLC0415 - costs 17 MB: only where a plugin brings routes

    app = FastAPI(title=f"plugin {plugin}", redoc_url=None, exception_handlers={SafekitError: handler})
    for router in routers:
        app.include_router(router)
    return _Quiet(app)
