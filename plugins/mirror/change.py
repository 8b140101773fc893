"""Takes a role of a mirror module, and gives it up: data and address, in the order that lets nobody else have them too.

Called with the lock of the module's role held, as decided by ``mind``.
"""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from safekit_py.api import Problem, SafekitError, Severity, State, StateError

from . import roles
from .roles import Decision

if TYPE_CHECKING:
    from .runtime import MirrorRuntime

PATIENCE = 5.0  # seconds beyond the timeout for the other server's word when the data are to be unmounted


class RoleChange:
    """Of one module."""

    def __init__(self, module: MirrorRuntime) -> None:
        self._module = module

    async def serve(self, state: State, decided: Decision | None) -> None:
        """Become the primary: data, then the address."""
        module = self._module
        new = module.new if decided is not None and decided.new_data else ""
        module.began = module.state if module.state in (State.PRIM, State.SECOND) else State.ALONE
        await module.engine.release()
        last = module.peer.side.generation if module.peer is not None else None
        if why := roles.refusal(module.me(), module.side(), last):
            raise _not_agreed(why)
        module.frozen = module.fenced = module.failing = module.connected = False
        module.leaving, module.outdated_for = False, ""
        module.say()  # replication may reach the other server before the next heartbeat does
        module.lost_at = time.monotonic_ns()
        module.renew()
        await module.engine.serve(new=new)
        module.new = ""
        if module.engine.generation().shared:
            await self._agree()
        await module.engine.mount()
        await module.addresses.up()
        module.engine.guard(module.addresses.guarded())
        module.log(Severity.INFO, f"the data are served and the address is here ({state})")

    async def _agree(self) -> None:
        """The other server has the same data, or may have gone on from them: it must answer, or be known to be gone.

        :raises SafekitError: neither: this server cannot be primary now.
        """
        module = self._module
        while not module.connected:
            module.frozen = True
            decision = await module.mind.decide(roles.react, replace(module.me(), state=State.PRIM, frozen=True))
            if decision.goal is State.ALONE:
                try:
                    await module.engine.alone(module.new)
                except SafekitError:  # it refuses when the other server has just come back
                    await asyncio.sleep(module.config.pulse)
                    if not module.connected:
                        raise
                    continue
                module.new, module.frozen = "", False
                return
            if decision.goal is not State.PRIM:
                await module.engine.release(force=True)
                raise _not_agreed(decision.reason)
            await asyncio.sleep(module.config.pulse)
        module.frozen = False

    async def receive(self, decided: Decision | None) -> None:
        """Become the secondary."""
        module = self._module
        await module.addresses.down()
        module.engine.guard(())
        await self.release()
        await module.lease.give_back()
        module.connected, module.leaving, module.unfit = False, True, ""
        module.began = module.state if module.state is State.PRIM else None
        aside = decided is not None and decided.aside
        await module.engine.receive(fullsync=module.fullsync or (decided is not None and decided.fullsync), aside=aside)
        if decided is not None and decided.outdate:
            await module.mind.outdate()

    async def release(self) -> None:
        """Unmount in order. What the secondary was lost with is acknowledged first, or given up with force."""
        module = self._module
        if module.fenced:
            await module.engine.release(force=True)
            return
        task = asyncio.create_task(module.engine.release())
        end = time.monotonic() + module.config.timeout + PATIENCE
        while not (await asyncio.wait({task}, timeout=module.config.pulse))[0]:
            if module.frozen and not await self._thaw() and time.monotonic() > end:
                module.log(
                    Severity.WARNING, "writes that were never acknowledged are given up: the other server is silent"
                )
                await module.engine.release(force=True)
                end = math.inf
        try:
            await task
        except SafekitError as error:
            module.log(Severity.WARNING, f"the data are taken away by force: {error.problems[0].message}")
            await module.engine.release(force=True)

    async def _thaw(self) -> bool:
        """Go on without the other server, if that may be, so that the data can be unmounted."""
        module = self._module
        side = replace(module.me(), state=State.PRIM, frozen=True, connected=False)
        if (await module.mind.decide(roles.react, side)).goal is not State.ALONE:
            return False
        try:
            await module.engine.alone(module.new)
        except SafekitError:  # the disk here has refused data, or the other server has just come back
            return False
        module.new, module.frozen = "", False
        return True


def _not_agreed(why: str) -> StateError:
    return StateError(Problem("mirror.not-agreed", f"it cannot be primary: {why}", "start it"))
