"""Checker ``<ping>``: does a host answer an echo request? Resource ``ping.<ident>``, down: the module waits.

One look sends a request a second until one is answered or the timeout is over: a single lost packet means nothing.
Datagram sockets for ICMP are taken where they are permitted, for there the kernel sorts the answers; else raw ones.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from collections.abc import Callable, Iterable
from ipaddress import ip_address

from icmplib import AsyncSocket, ICMPRequest, ICMPv4Socket, ICMPv6Socket
from icmplib.exceptions import ICMPError, ICMPLibError, SocketPermissionError
from icmplib.utils import unique_identifier

from safekit_py.api import CheckerType, Element, ModuleContext, Status, hookimpl

from .names import Name, Unresolved
from .ping_element import ELEMENT, PingCheck

PAUSE = 1.0  # seconds between two requests of one look
SLACK = 10.0  # seconds that a busy machine may add before the checker counts as hanging
NEVER = 1e9  # seconds: the library counts by the wall clock, which may step; our own timeouts are monotonic


class NotPermitted(Exception):
    """This process may not send echo requests; the text says what would let it."""


class PingChecker:
    """Sends echo requests."""

    def __init__(self, check: PingCheck) -> None:
        self.config = check
        self.resource = f"ping.{check.ident}"
        self.rule = f"p_{check.ident}"
        self.when = check.when
        self.action = check.action
        self.limit = 2 * (check.interval + check.timeout) + SLACK
        self._name = Name(check.addr)

    async def run(self, report: Callable[[str, str], None]) -> None:
        """Look until cancelled."""
        while True:
            try:
                failure = await self.look()
            except NotPermitted as error:
                report(Status.UNKNOWN, str(error))
            else:
                report(Status.DOWN if failure else Status.UP, failure or f"{self.config.addr} answers")
            await asyncio.sleep(self.config.interval)

    async def look(self) -> str:
        """Ask for at most the timeout; empty when the host answered, else what went wrong, in words.

        :raises NotPermitted: it cannot be asked.
        """
        said = ""

        def note(failure: str) -> None:
            nonlocal said
            said = failure

        try:
            async with asyncio.timeout(self.config.timeout):
                address = await self._name.address()
                await self._ask(address, note)
        except TimeoutError:
            silence = f"no answer from {self.config.addr} in {self.config.timeout:g} s"
            return f"{silence}: {said}" if said else silence
        except Unresolved as error:
            return str(error)
        return ""

    async def _ask(self, address: str, note: Callable[[str], None]) -> None:
        """Return when the host has answered; what goes wrong meanwhile is noted."""
        while True:
            try:
                with _socket(address) as icmp:
                    # Connected, it hears this host only, and the kernel's own word when there is no way to it.
                    icmp.sock.connect((address, 0))
                    return await _exchange(icmp, address)
            except ICMPError as error:
                note(re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", type(error).__name__).lower())
            except (ICMPLibError, OSError) as error:
                below = error.__context__ if isinstance(error.__context__, OSError) else error
                note((getattr(below, "strerror", None) or str(below)).lower())
            await asyncio.sleep(PAUSE)


async def _exchange(icmp: AsyncSocket, address: str) -> None:
    """Send a request a second until one of them is answered."""
    identifier, sequence = unique_identifier(), 0
    while True:
        request = ICMPRequest(address, identifier, sequence & 0xFFFF)
        icmp.send(request)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PAUSE):
                # The kernel puts its own number in place of ours on a datagram socket; the library keeps track.
                while (reply := await icmp.receive(None, NEVER)).id != request.id:
                    pass
                reply.raise_for_status()
                return
        sequence += 1


def _socket(address: str) -> AsyncSocket:
    """A socket for echo requests.

    :raises NotPermitted: neither kind may be opened.
    """
    kind = ICMPv4Socket if ip_address(address).version == 4 else ICMPv6Socket
    for privileged in (False, True):
        with contextlib.suppress(SocketPermissionError):
            return AsyncSocket(kind(None, privileged))
    group = os.getegid()
    raise NotPermitted(
        f"echo requests are not permitted: give the agent CAP_NET_RAW, or set net.ipv4.ping_group_range to a range "
        f"that contains its group, {group}"
    )


def _create(context: ModuleContext) -> Iterable[PingChecker]:
    return [PingChecker(check) for check in context.config.all("check/ping")]


@hookimpl
def safekit_elements() -> Iterable[Element]:
    """``<ping>`` below ``<check>``."""
    return (ELEMENT,)


@hookimpl
def safekit_checkers() -> Iterable[CheckerType]:
    """The checker."""
    return (CheckerType("ping", _create),)
