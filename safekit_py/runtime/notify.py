"""systemd's notification protocol (sd_notify(3)): one datagram to $NOTIFY_SOCKET, and the watchdog's signs of life.

The signs come from the agent's event loop: one that hangs gives none, and systemd ends the agent and starts it again.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable

EVERY = 2.0  # seconds between two looks at what the status says


def notify(*assignments: str) -> None:
    """Tell systemd, for instance ``READY=1``; does nothing outside of systemd."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        sender.sendto("\n".join(assignments).encode(), address)


def watchdog() -> float | None:
    """Seconds within which systemd wants a sign of life (WatchdogSec); None: it wants none."""
    told = os.environ.get("WATCHDOG_USEC", "")
    return int(told) / 1e6 if told.isdigit() and int(told) else None


async def signs_of_life(status: Callable[[], str], until: asyncio.Event) -> None:
    """Tell systemd that this event loop turns, twice in the time that it allows, and the status when that changes."""
    if not os.environ.get("NOTIFY_SOCKET"):
        return
    limit, told = watchdog(), ""
    pause = EVERY if limit is None else min(limit / 2, EVERY)
    while not until.is_set():
        words = [] if limit is None else ["WATCHDOG=1"]
        if (text := status()) != told:
            told = text
            words.append(f"STATUS={text}")
        if words:
            notify(*words)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(until.wait(), pause)
