"""Checker ``<tcp>``: connects to a port at an interval; resource ``tcp.<ident>``.

After the application's start it looks every ``EAGER`` seconds until the port has answered once, so that clients are let
in as soon as it can serve. Silence counts as a failure only after a whole interval.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import Callable, Iterable

from safekit_py.api import CheckerType, Element, ModuleContext, Status, hookimpl

from .tcp_element import ELEMENT, TcpCheck

EAGER = 0.2  # seconds


class TcpChecker:
    """Connects, and closes at once."""

    def __init__(self, check: TcpCheck) -> None:
        self._check = check
        self.resource = f"tcp.{check.ident}"
        self.when = check.when
        self.action = check.action

    async def run(self, report: Callable[[str, str], None]) -> None:
        """Look until cancelled."""
        clock = asyncio.get_running_loop().time
        began, answered = clock(), False
        while True:
            failure = await self.look()
            if not failure:
                answered = True
                report(Status.UP, f"{self._check.addr}:{self._check.port} answers")
            elif answered or clock() - began >= self._check.interval:
                answered = True
                report(Status.DOWN, failure)
            await asyncio.sleep(self._check.interval if answered else min(EAGER, self._check.interval))

    async def look(self) -> str:
        """Connect once; empty when it worked, else what went wrong, in words."""
        where = f"{self._check.addr}:{self._check.port}"
        try:
            async with asyncio.timeout(self._check.timeout):
                _, writer = await asyncio.open_connection(self._check.addr, self._check.port)
        except TimeoutError:
            return f"no answer from {where} in {self._check.timeout:g} s"
        except socket.gaierror:
            return f"the host name of {where} cannot be resolved"
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
