"""Checker ``<tcp>``: connects to a port at an interval; resource ``tcp.<ident>``.

After the application's start it looks every ``EAGER`` seconds until the port has answered once, so that clients are let
in as soon as it can serve. Silence counts as a failure only after a whole interval.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
from collections.abc import Callable, Iterable

from safekit_py.api import CheckerType, Element, ModuleContext, Status, hookimpl

from .names import Name, Unresolved
from .tcp_element import ELEMENT, TcpCheck

EAGER = 0.2  # seconds
SLACK = 10.0  # seconds that a busy machine may add before the checker counts as hanging


class TcpChecker:
    """Connects, and closes at once."""

    def __init__(self, check: TcpCheck) -> None:
        self.config = check
        self.resource = f"tcp.{check.ident}"
        self.rule = f"t_{check.ident}"
        self.when = check.when
        self.action = check.action
        self.limit = 2 * (check.interval + check.timeout) + SLACK
        self._name = Name(check.addr)

    async def run(self, report: Callable[[str, str], None]) -> None:
        """Look until cancelled."""
        clock = asyncio.get_running_loop().time
        began, answered = clock(), False
        while True:
            failure = await self.look()
            if not failure:
                answered = True
                report(Status.UP, f"{self.config.addr}:{self.config.port} answers")
            elif answered or clock() - began >= self.config.interval:
                answered = True
                report(Status.DOWN, failure)
            await asyncio.sleep(self.config.interval if answered else min(EAGER, self.config.interval))

    async def look(self) -> str:
        """Connect once; empty when it worked, else what went wrong, in words."""
        where = f"{self.config.addr}:{self.config.port}"
        try:
            async with asyncio.timeout(self.config.timeout):
                _, writer = await asyncio.open_connection(await self._name.address(), self.config.port)
        except TimeoutError:
            return f"no answer from {where} in {self.config.timeout:g} s"
        except Unresolved as error:
            return str(error)
        except OSError as error:
            reason = (
                os.strerror(error.errno).lower() if error.errno and error.errno in errno.errorcode else "not reachable"
            )
            return f"{reason} by {where}"
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        return ""


def _create(context: ModuleContext) -> Iterable[TcpChecker]:
    return [TcpChecker(check) for check in context.config.all("check/tcp")]


@hookimpl
def safekit_elements() -> Iterable[Element]:
    """``<tcp>`` below ``<check>``."""
    return (ELEMENT,)


@hookimpl
def safekit_checkers() -> Iterable[CheckerType]:
    """The checker."""
    return (CheckerType("tcp", _create),)
