"""Routes of the cluster's configuration: take it, remove it, lock it against change; rotate its keys."""

from __future__ import annotations

from functools import partial

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

    @routes.get("/key")
    async def keys() -> schemas.KeysDocument:
        """The keys' numbers and fingerprints, and who holds and uses which; never the keys."""
        return _keys(agent)

    @routes.post("/key/rotate")
    async def rotate(body: schemas.RotateBody) -> schemas.KeysDocument:
        """Make a new key, or hold those of another server's key file too, while modules run."""
        await agent.change_keys(partial(agent.keys.take, body.key) if body.key else agent.keys.rotate)
        return _keys(agent)

    @routes.post("/key/drop")
    async def drop(force: bool = False) -> schemas.KeysDocument:
        """Forget all keys but the newest, when nobody needs them any more; with ``force`` also before."""
        await agent.change_keys(partial(agent.keys.drop, force=force))
        return _keys(agent)

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


def _keys(agent: Agent) -> schemas.KeysDocument:
    return schemas.KeysDocument(
        file=str(agent.paths.cluster_key),
        keys=[schemas.KeyItem(number=key.number, fingerprint=key.fingerprint) for key in agent.keys.live.ring.keys],
        users=[
            schemas.KeyUserItem(
                name=each.name, holds=list(each.holds), signs=each.signs, gets=each.gets, awaited=each.awaited
            )
            for each in agent.keys.users()
        ],
    )
