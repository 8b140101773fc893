"""Routes to who may call over the network: tokens and users. Only administrators see them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from safekit_py.config import durations
from safekit_py.control import schemas
from safekit_py.control.access import Role
from safekit_py.control.routing import Routes
from safekit_py.errors import ConfigError, Problem
from safekit_py.runtime import accounts
from safekit_py.runtime.accounts import Accounts
from safekit_py.runtime.agent import Agent
from safekit_py.runtime.clock import wall

NEVER = "never"


def lasting(text: str) -> float | None:
    """Seconds that a token lasts; None for ever.

    :raises ConfigError: it is neither a duration nor ``never``.
    """
    if text == NEVER:
        return None
    try:
        found = durations.parse(text, "s")
    except ValueError as error:
        raise ConfigError(Problem("access.bad-expiry", str(error), f"90d, 12h, or {NEVER}")) from None
    return found


def router(agent: Agent) -> Routes:
    """The routes for this agent."""
    routes = Routes(prefix="/api/v1/access", tags=["access"], changes=Role.ADMIN, looks=Role.ADMIN)
    changing = asyncio.Lock()

    async def change(how: Callable[[Accounts], Accounts]) -> None:
        async with changing:
            now = await asyncio.to_thread(accounts.load, agent.paths.access)
            await asyncio.to_thread(accounts.save, agent.paths.access, how(now))

    @routes.get("/tokens")
    async def tokens() -> list[schemas.TokenItem]:
        """Every token, without its secret, which is kept nowhere."""
        found = await asyncio.to_thread(accounts.load, agent.paths.access)
        now = wall()
        return [_item(each, now) for each in found.tokens]

    @routes.post("/tokens")
    async def create(body: schemas.TokenBody) -> schemas.TokenMade:
        """Make a token; the answer is the only place where its secret stands."""
        made: list[tuple[accounts.Token, str]] = []

        def adding(now: Accounts) -> Accounts:
            changed, token, secret = now.created(body.name, body.role, wall(), lasting(body.expires))
            made.append((token, secret))
            return changed

        await change(adding)
        ((token, secret),) = made
        return schemas.TokenMade(token=_item(token, wall()), secret=secret)

    @routes.delete("/tokens/{ident}")
    async def revoke(ident: str) -> schemas.Done:
        """Make a token worthless, at once."""
        await change(lambda now: now.revoked(ident))
        return schemas.Done(done=True)

    @routes.get("/users")
    async def users() -> list[schemas.UserItem]:
        """Every user."""
        found = await asyncio.to_thread(accounts.load, agent.paths.access)
        return [schemas.UserItem(name=each.name, role=each.role) for each in found.users]

    @routes.put("/users/{name}")
    async def user(name: str, body: schemas.UserBody) -> schemas.Done:
        """Add a user, or change role or password; what is empty stays. Sessions of the user end."""
        await change(lambda now: now.with_user(name, body.role, body.hash))
        return schemas.Done(done=True)

    @routes.delete("/users/{name}")
    async def remove(name: str) -> schemas.Done:
        """Remove a user; the sessions end at once."""
        await change(lambda now: now.without_user(name))
        return schemas.Done(done=True)

    return routes


def _item(token: accounts.Token, now: float) -> schemas.TokenItem:
    over = bool(token.expires) and token.expires <= now
    return schemas.TokenItem(
        ident=token.ident, name=token.name, role=token.role, made=token.made, expires=token.expires, expired=over
    )
