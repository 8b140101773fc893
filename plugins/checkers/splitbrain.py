"""Checker ``<splitbrain>``: is this server cut off? It is when none of the witnesses answers an echo request.

``splitbrain.<ident>`` says whether a witness answers. ``splitbrain.uptodate`` is what the rule ``splitbrain_failure``
looks at: whether this server may take the module over. It stays up: without roles every server may, and a mirror asks
the hosts itself when it has to decide.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from safekit_py.api import CheckerType, Element, ModuleContext, Status, hookimpl

from .ping import NotPermitted, PingChecker
from .ping_element import PingCheck
from .splitbrain_element import ELEMENT, UPTODATE, SplitbrainCheck

INTERVAL = 10.0  # seconds between two looks
TIMEOUT = 5.0  # seconds that one look may take
SLACK = 10.0  # seconds that a busy machine may add before the checker counts as hanging


class WitnessChecker:
    """Asks all witnesses at the same time; nothing follows from it alone."""

    def __init__(self, check: SplitbrainCheck) -> None:
        self.config = check
        self.resource = f"splitbrain.{check.ident}"
        self.when = check.when
        self.action = "noaction"
        self.limit = 2 * (INTERVAL + TIMEOUT) + SLACK
        self._witnesses = [
            PingChecker(PingCheck(each, check.when, "noaction", each, INTERVAL, TIMEOUT)) for each in check.witnesses
        ]

    async def run(self, report: Callable[[str, str], None]) -> None:
        """Look until cancelled."""
        while True:
            report(*await self.look())
            await asyncio.sleep(INTERVAL)

    async def look(self) -> tuple[str, str]:
        """The resource's value, and why: up as soon as one witness answers."""
        tasks = [asyncio.create_task(self._ask(each)) for each in self._witnesses]
        failures: list[str] = []
        try:
            for done in asyncio.as_completed(tasks):
                witness, failure = await done
                if not failure:
                    return Status.UP, f"{witness} answers"
                failures.append(failure)
        except NotPermitted as error:
            return Status.UNKNOWN, str(error)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return Status.DOWN, "; ".join(sorted(failures))

    @staticmethod
    async def _ask(witness: PingChecker) -> tuple[str, str]:
        return witness.config.addr, await witness.look()


class UptodateChecker:
    """Whether this server may take the module over."""

    def __init__(self, check: SplitbrainCheck) -> None:
        self.config = check
        self.resource = f"splitbrain.{UPTODATE}"
        self.rule = "splitbrain_failure"
        self.when = check.when
        self.action = "wait"

    async def run(self, report: Callable[[str, str], None]) -> None:
        """Say so, until cancelled."""
        report(Status.UP, "without roles every server may; a mirror asks when it decides")
        await asyncio.Event().wait()


def _create(context: ModuleContext) -> Iterable[WitnessChecker | UptodateChecker]:
    check = context.config.one("check/splitbrain")
    return [] if check is None else [WitnessChecker(check), UptodateChecker(check)]


@hookimpl
def safekit_elements() -> Iterable[Element]:
    """``<splitbrain>`` below ``<check>``."""
    return (ELEMENT,)


@hookimpl
def safekit_checkers() -> Iterable[CheckerType]:
    """The checkers."""
    return (CheckerType("splitbrain", _create),)
