"""What a module does when it is asked for something: each verb and each action as plans of the automaton, in order.

Flows through it: a verb and its cause in; steps carried out, and what is to be remembered over a crash. This is the
``ModuleControl`` that actions get.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING

from safekit_py.core import automaton
from safekit_py.errors import Problem, SafekitError, StateError
from safekit_py.model.state import Severity, State
from safekit_py.runtime.requests import Verb
from safekit_py.runtime.steps import Steps

if TYPE_CHECKING:
    from safekit_py.runtime.runner import ModuleRunner


class Deeds:
    """Of one module.

    :param module: whose plans these are.
    :param steps: carries them out.
    :param reboot: reboots the server.
    """

    def __init__(self, module: ModuleRunner, steps: Steps, reboot: Callable[[], None]) -> None:
        self.name = module.name
        self._module, self._steps, self._reboot = module, steps, reboot

    def verbs(self) -> dict[Verb, Callable[[str], Awaitable[None]]]:
        """What is done for each verb."""
        return {
            Verb.START: self.resume,
            Verb.STOP: self.stop,
            Verb.FORCESTOP: self._forcestop,
            Verb.RESTART: self.restart,
            Verb.SWAP: self.swap,
            Verb.STOPSTART: self.stopstart,
            Verb.WAIT: self.wait,
        }

    async def resume(self, cause: str) -> None:
        """Start; after the agent was killed, what the earlier run may have left of the application is removed first."""
        module = self._module
        if module.mark.there:
            module.log(Severity.WARNING, "heart", "the earlier run did not end: the forced stop scripts come first")
            await self._down()
        module.reason = ""
        problems = tuple(module.type.requirements(module.config))
        if any(p.severity == "error" for p in problems):
            for problem in problems:
                module.log(Severity.ERROR, "heart", str(problem))
            module.reason = problems[0].message
            raise SafekitError(problems)
        module.memory.write(started=True)
        await self._begin()

    async def _begin(self) -> None:
        await self._steps.run(automaton.begin())
        await self._rise()

    async def _rise(self) -> None:
        await self._steps.run(automaton.rise(await self._steps.goal()))

    async def restart(self, cause: str) -> None:
        """Run the stop and start scripts; in WAIT there is nothing to stop, and the start goes on."""
        if self._module.state in automaton.RESTART:
            await self._steps.run(automaton.restart(self._module.state))
        else:
            await self._rise()

    async def stopstart(self, cause: str) -> None:
        """Stop and start again; with ``automatic_reboot``, an automatic one reboots the server."""
        module = self._module
        await self._steps.run(automaton.stop(module.state, "stopstart"))
        if (
            module.config.service.automatic_reboot
            and module.desk.current is not None
            and not module.desk.current.person
        ):
            module.log(Severity.CRITICAL, "heart", f"the server is rebooted (automatic_reboot): {cause}")
            self._reboot()
            return
        await self._begin()

    async def halt(self, cause: str) -> None:
        """Stop for a moment: another runner starts the module again."""
        await self._steps.run(automaton.stop(self._module.state, "stopstart"))

    async def wait(self, cause: str) -> None:
        """Stay in WAIT until no rule asks to wait."""
        self._module.reason = cause
        if self._module.state is not State.WAIT:
            await self._steps.run(automaton.wait(self._module.state))
        await self._rise()

    async def swap(self, cause: str) -> None:
        """Exchange the roles of the two servers: the primary begins, the secondary asks it to.

        :raises StateError: they are not PRIM and SECOND, both Ready.
        """
        roles, state = self._steps.roles, self._module.state
        if roles is None:
            raise StateError(no_roles(self._module, "swap"))
        await roles.command("swap" if state is State.SECOND else "may-swap", ("nowait",))
        if state is State.PRIM:
            await self._steps.run(automaton.change(State.PRIM, State.SECOND, "stopstart"))

    async def change(self, state: State, cause: str) -> None:
        """Take another role, or none: WAIT, and from there the one that is due then."""
        if state is State.WAIT:
            await self.wait(cause)
        elif (self._module.state, state) in automaton.SCRIPTS:
            await self._steps.run(automaton.change(self._module.state, state))
        else:
            await self.stopstart(cause)

    async def stop(self, cause: str) -> None:
        """Stop here."""
        await self._end(cause, force=False)

    def drained(self, limit: float) -> Callable[[str], Awaitable[None]]:
        """A stop that comes when the last client has left, or after ``limit`` seconds.

        :raises StateError: a module of this type knows nothing of its clients.
        """
        module = self._module
        if getattr(module.runtime, "drain", None) is None:
            text = f"{module.name} is a module of mode {module.config.service.mode}, which knows nothing of its clients"
            raise StateError(Problem("module.no-drain", text, "stop it without --drain"))
        if not limit >= 0:
            raise StateError(Problem("module.bad-drain", f"{limit:g} s is no time to wait", "give 0 or more seconds"))
        return partial(self._drained_stop, limit)

    async def _drained_stop(self, limit: float, cause: str) -> None:
        if limit and self._module.state in automaton.RESTART:
            await self._steps.drain(limit)
        await self.stop(cause)

    async def traffic(self, *, opened: bool) -> None:
        """A script of the module opens or closes its traffic.

        :raises StateError: the traffic of such a module opens and closes by itself, or nothing of it runs.
        """
        module = self._module
        gate = getattr(module.runtime, "traffic", None)
        if gate is None:
            text = f"the traffic of a module of mode {module.config.service.mode} opens and closes by itself"
            raise StateError(Problem("module.no-traffic", text, "open and close are for modules of mode farm"))
        if opened and (module.stopped or module.stopping):
            text = f"{module.name} {'is stopped' if module.stopped else 'is being stopped'}"
            raise StateError(Problem("module.stopped", text, f"start it first: safekit-py start {module.name}"))
        await gate(opened=opened)

    async def _forcestop(self, cause: str) -> None:
        await self._end(cause, force=True)

    async def _end(self, cause: str, *, force: bool) -> None:
        self._module.reason = cause
        await self._down(force=force)
        self._module.memory.write(started=False, reason=cause)

    async def give_up(self, reason: str) -> None:
        """Something that cannot be repaired here: stop, and say why."""
        self._module.log(Severity.ERROR, "heart", reason)
        self._module.reason = reason
        await self._down()

    async def _down(self, *, force: bool = False) -> None:
        """To STOP, also past what fails; what a run that was killed may have left is removed as from WAIT."""
        module = self._module
        left = module.state is State.STOP and module.mark.there
        await self._steps.run(automaton.stop(State.WAIT if left else module.state, force=force), firm=True)
        module.mark.clear()


def no_roles(module: ModuleRunner, verb: str) -> Problem:
    """A command of modules whose servers have roles was given to another module."""
    mode = module.config.service.mode
    text = f"{module.name} is a module of mode {mode}, whose servers have no roles"
    return Problem("module.no-roles", text, f"{verb} is for modules of mode mirror")
