"""The route that monitoring collects: figures in the text format of Prometheus."""

from __future__ import annotations

from starlette.responses import Response

from safekit_py.control.access import Role
from safekit_py.control.routing import Routes
from safekit_py.runtime.agent import Agent
from safekit_py.runtime.view import ServerView


def router(agent: Agent) -> Routes:
    """The route for this agent."""
    routes = Routes(prefix="/api/v1", tags=["monitor"], changes=Role.CONTROL)

    @routes.get("/metrics", gives="text/plain")
    async def metrics() -> Response:
        """States, resources, plugins and what plugins count, for Prometheus."""
        # Loaded at the first look: an agent that nobody monitors does not pay for it.
        from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest  # noqa: PLC0415
        from prometheus_client.registry import CollectorRegistry  # noqa: PLC0415

        from safekit_py.control.figures import Figures  # noqa: PLC0415

        registry = CollectorRegistry(auto_describe=False)
        registry.register(Figures(ServerView(agent), agent.manager, agent.runners, agent.notified))
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return routes
