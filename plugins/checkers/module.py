"""Checker ``<module>``: this module depends on another one; resource ``module.<ident>``, down: it waits.

A module of this server is asked of the agent itself, without a network; one of another server by HTTP, of that agent's
health answers. When the other application has been started anew while this one runs, this one is stopped and started:
what it held of the other (connections, sessions) is gone.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from safekit_py.api import (
    CheckerType,
    Element,
    ModuleConfig,
    ModuleContext,
    Problem,
    State,
    Status,
    hookimpl,
)

from .module_element import ELEMENT, ModuleCheck
from .module_health import NoAnswer, ask
from .names import Name, Unresolved

LOOK = 1.0  # seconds between two looks at a module of this server, which cost nothing
SLACK = 10.0  # seconds that a busy machine may add before the checker counts as hanging
IDENTITY = "modulecheck"  # who asks for the action
SERVES = (State.UP, State.PRIM, State.ALONE)
DOWN = (State.STOP, State.WAIT)


class Restarts:
    """Notices when the other application was started anew while this one runs. Pure."""

    def __init__(self) -> None:
        self._start: tuple[str, int] | None = None

    def look(self, own: str, found: Mapping[str, Any]) -> bool:
        """Whether it was, since it was last seen ready.

        :param own: the state of this module; empty when it is not known.
        :param found: what is known of the other one; see ``ModuleContext.ask``.
        """
        if not ready(found):
            return False  # what it is when it is ready again counts
        before, self._start = self._start, (found.get("agent", ""), found["starts"])
        # An application that does not run now will find the other one as it is then.
        return own not in (*DOWN, "") and before not in (None, self._start)


class ModuleChecker:
    """Looks at another module."""

    def __init__(self, context: ModuleContext, check: ModuleCheck) -> None:
        self._context, self._check = context, check
        self.config = check
        self.resource = check.resource
        self.rule = "module_failure"
        self.when = check.when
        self.action = "wait"
        self.interval = min(check.interval, LOOK) if check.local else check.interval
        self.limit = 2 * (check.interval + check.timeout) + SLACK
        self._name = Name(check.addr)

    async def run(self, report: Callable[[str, str], None]) -> None:
        """Look until cancelled."""
        restarts = Restarts()
        while True:
            found, failure = await self.look()
            report(*judge(self._check, found, failure))
            own = str(self._context.ask(self._context.name).get("state", ""))
            if restarts.look(own, found):
                self._context.request("stopstart", IDENTITY, f"{self._check.name} was started anew", ())
            await asyncio.sleep(self.interval)

    async def look(self) -> tuple[Mapping[str, Any], str]:
        """What is known of the other module, and why it is not known, in words."""
        check = self._check
        if check.local:
            return self._context.ask(check.name), ""
        where = f"{check.addr}:{check.port}"
        try:
            async with asyncio.timeout(check.timeout):
                address = await self._name.address()
                return await ask(address, check.port, check.name, secure=check.addr if check.secure else ""), ""
        except TimeoutError:
            return {}, f"no answer from {where} in {check.timeout:g} s"
        except Unresolved as error:
            return {}, str(error)
        except NoAnswer as error:
            return {}, f"{where}: {error}"
        except ssl.SSLError as error:
            return {}, f"{where}: {(error.reason or str(error)).lower().replace('_', ' ')}"
        except OSError as error:
            reason = os.strerror(error.errno).lower() if error.errno else "not reachable"
            return {}, f"{reason} by {where}"


def ready(found: Mapping[str, Any]) -> bool:
    """Whether the other module can be used."""
    return found.get("state") in SERVES and found.get("readiness") == "Ready"


def judge(check: ModuleCheck, found: Mapping[str, Any], failure: str) -> tuple[str, str]:
    """The resource's value, and why."""
    where = "this server" if check.local else check.addr
    if failure:
        return Status.DOWN, failure
    if not found:
        return Status.DOWN, f"{where} has no module {check.name} that can run"
    state = f"{found['state']} {found['readiness']}".strip()
    return Status.UP if ready(found) else Status.DOWN, f"{check.name} is {state} on {where}"


def _create(context: ModuleContext) -> Iterable[ModuleChecker]:
    return [ModuleChecker(context, check) for check in context.config.all("check/module")]


def _check(config: ModuleConfig) -> Iterable[Problem]:
    """Two of them must not set one resource."""
    seen: set[str] = set()
    for check in config.all("check/module"):
        if check.resource in seen:
            text = f"two <module> would set the resource {check.resource}"
            yield Problem("module.watched-twice", text, "give one of them an ident of its own")
        seen.add(check.resource)


@hookimpl
def safekit_elements() -> Iterable[Element]:
    """``<module>`` below ``<check>``."""
    return (ELEMENT,)


@hookimpl
def safekit_checkers() -> Iterable[CheckerType]:
    """The checker."""
    return (CheckerType("module", _create, _check),)
