"""Until when the primary may acknowledge, and what is taken away when that is past.

The lease stands in a file too, for the worker that follows this one, should it die: it must not go on longer, nor stop
before.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from ...vip.netlink_drop import drop


class Fence:
    """Of one process.

    :ivar until: CLOCK_BOOTTIME nanoseconds. The process compares it with the clock at each request.
    :ivar closed: it is past, and has not been renewed.
    :ivar guarded: addresses that must not outlive the lease: device, ``address/prefix``.
    """

    def __init__(self, folder: Path) -> None:
        self._file = os.open(folder / "lease", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self.until, self.closed = 0, False
        self.guarded: list[tuple[str, str]] = []

    def renew(self, until: int) -> None:
        """The agent's word."""
        self.until = until
        os.pwrite(self._file, until.to_bytes(8, "little"), 0)

    def inherit(self) -> None:
        """What the agent told the worker before."""
        self.until = int.from_bytes(os.pread(self._file, 8, 0), "little")

    def guard(self, addresses: Iterable[Iterable[object]]) -> None:
        """These addresses from now on."""
        self.guarded = [(str(device), str(address)) for device, address in addresses]

    def take_away(self) -> None:
        """The addresses, by the kernel's own protocol; one that is not there is nothing."""
        for device, address in self.guarded:
            with suppress(OSError):
                drop(device, address)
