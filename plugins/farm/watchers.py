"""``check="on"``: is the interface up, is the virtual address still on it?

Resources ``intf.<device or address>`` (down: the module waits until it is up again) and ``ip.<address>`` (down:
stopstart). Both ask the kernel by a system call a second; a netlink library would cost the agent more memory than all
of this.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import socket
import struct
from collections.abc import Callable, Iterable
from ipaddress import IPv4Address

from safekit_py.api import ModuleContext, SafekitError, Status

from . import placing
from .model import Interface, Vip

INTERVAL = 1.0  # seconds between two looks
SIOCGIFFLAGS = 0x8913
IFF_UP, IFF_RUNNING = 0x1, 0x40


class InterfaceWatcher:
    """The device is up and has a carrier."""

    when = "pre"
    action = "wait"

    def __init__(self, interface: Interface) -> None:
        self._interface = interface
        self.resource = f"intf.{interface.name or interface.addresses[0].addr}"

    async def run(self, report: Callable[[str, str], None]) -> None:
        """Watch until cancelled."""
        name = self._interface.name
        while name is None:
            try:
                name = (await placing.devices((self._interface,)))[0].name
            except SafekitError as error:
                report(Status.DOWN, error.problems[0].message)
                await asyncio.sleep(INTERVAL)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as asking:
            while True:
                failure = interface_failure(asking, name)
                report(Status.DOWN if failure else Status.UP, failure or f"{name} is up")
                await asyncio.sleep(INTERVAL)


class AddressWatcher:
    """The virtual address is still there; somebody may have removed it by hand."""

    when = "both"
    action = "stopstart"

    def __init__(self, address: IPv4Address) -> None:
        self._address = address
        self.resource = f"ip.{address}"

    async def run(self, report: Callable[[str, str], None]) -> None:
        """Watch until cancelled."""
        while True:
            failure = address_failure(self._address)
            report(Status.DOWN if failure else Status.UP, failure or "the address is there")
            await asyncio.sleep(INTERVAL)


def interface_failure(asking: socket.socket, name: str) -> str:
    """What is wrong with a device, or empty."""
    try:
        answer = fcntl.ioctl(asking, SIOCGIFFLAGS, struct.pack("16s16x", name.encode()))
    except OSError as error:
        return f"{name}: {(error.strerror or str(error)).lower()}"
    flags = struct.unpack_from("H", answer, 16)[0]
    if not flags & IFF_UP:
        return f"{name} is set down"
    return "" if flags & IFF_RUNNING else f"{name} has no carrier"


def address_failure(address: IPv4Address) -> str:
    """What is wrong with an address that should be local, or empty: a socket can be bound to local addresses only."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as trial:
        try:
            trial.bind((str(address), 0))
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL:
                return f"{address} is on no interface any more"
    return ""


def interfaces(context: ModuleContext) -> Iterable[InterfaceWatcher]:
    """One for each interface with ``check="on"``."""
    vip: Vip = context.config.one("vip") or Vip()
    return [InterfaceWatcher(i) for i in vip.interfaces if i.check and i.addresses]


def addresses(context: ModuleContext) -> Iterable[AddressWatcher]:
    """One for each virtual address with ``check="on"``."""
    vip: Vip = context.config.one("vip") or Vip()
    return [AddressWatcher(a.addr) for i in vip.interfaces for a in i.addresses if a.check]
