"""Routes of the cluster's configuration: take it, remove it, lock it against change."""

from __future__ import annotations

from safekit_py.control import schemas
from safekit_py.control.access import Role
from safekit_py.control.routing import Routes
from safekit_py.runtime.agent import Agent


def router(agent: Agent) -> Routes:
    """The routes for this agent."""
    routes = Routes(prefix="/api/v1/cluster", tags=["configure"], changes=Role.ADMIN)

    @routes.delete("/config")
    async def deconfigure() -> schemas.Done:
        """Forget cluster.xml; refused while a module runs."""
        await agent.deconfigure_cluster()
        return schemas.Done(done=True)

    @routes.delete("/key")
    async def forget_key() -> schemas.Done:
        """Forget the cluster's key; refused while a module runs."""
        await agent.set_key(None)
        return schemas.Done(done=True)

    @routes.put("/lock")
    async def lock(body: schemas.LockBody) -> schemas.Done:
        """Refuse every change of cluster.xml and key until it is unlocked."""
        agent.lock_cluster(body.reason)
        return schemas.Done(done=True)

    @routes.delete("/lock")
    async def unlock() -> schemas.Done:
        """Allow changes again."""
        agent.lock_cluster(None)
        return schemas.Done(done=True)

    return routes
