"""A thread of its own for all that must go on while the agent is busy: heartbeats out, what others send in.

Flows through it: the clock, once a pulse of each participant; orders of other threads, one after the other; sockets
that a participant watches. The thread asks for real-time priority, so that a busy agent is not taken for a dead one.
"""

from __future__ import annotations

import collections
import contextlib
import logging
import os
import selectors
import socket
import threading
import time
from collections.abc import Callable
from typing import Protocol

log = logging.getLogger("safekit.pulse")
PRIORITY = 10  # of SCHED_FIFO, where permitted
STOP_LIMIT = 5.0  # seconds to wait for a participant's end


class Pulsed(Protocol):
    """What a thread may run. All but ``due`` is called in the thread."""

    due: int

    def pulse(self, now: int) -> None:
        """``due`` is reached; it must be set to a later instant of the monotonic clock, in nanoseconds."""

    def leave(self, now: int) -> None:
        """It is about to end: last words."""

    def close(self) -> None:
        """Give everything back."""


class RealtimeThread:
    """Runs its participants; started with the first order and then there as long as the process."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._selector.register(self._wake, selectors.EVENT_READ, None)
        self._members: list[Pulsed] = []
        self._orders: collections.deque[Callable[[], None]] = collections.deque()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def start(self, member: Pulsed) -> None:
        """Run it from now on."""

        def order() -> None:
            self._members.append(member)
            member.due = time.monotonic_ns()

        self.order(order)

    def stop(self, member: Pulsed) -> None:
        """Let it say its last words, and close it; returns when it is called no more."""
        done = threading.Event()

        def order() -> None:
            try:
                if member in self._members:
                    self._members.remove(member)
                    member.leave(time.monotonic_ns())
            finally:
                member.close()
                done.set()

        self.order(order)
        done.wait(STOP_LIMIT)

    def order(self, order: Callable[[], None]) -> None:
        """Have something done in the thread, after all that was ordered before."""
        with self._lock:
            self._orders.append(order)
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="pulse", daemon=True)
                self._thread.start()
        os.eventfd_write(self._wake, 1)

    # --- called in the thread -------------------------------------------------------------------

    def watch(self, watched: socket.socket, readable: Callable[[], None]) -> None:
        """Call ``readable`` whenever something can be read."""
        self._selector.register(watched, selectors.EVENT_READ, readable)

    def unwatch(self, watched: socket.socket) -> None:
        """No longer; one that is not watched is fine."""
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(watched)

    def _run(self) -> None:
        with contextlib.suppress(OSError):  # not permitted everywhere: then at the agent's own priority
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(PRIORITY))
        while True:
            now = time.monotonic_ns()
            for member in self._members:
                if member.due <= now:
                    try:
                        member.pulse(now)
                    except Exception:  # one participant's fault must not silence the others
                        log.exception("the heartbeat of a group failed")
            due = min((member.due for member in self._members), default=None)
            timeout = None if due is None else max(0, due - time.monotonic_ns()) / 1e9
            for key, _ in self._selector.select(timeout):
                if key.data is None:
                    self._obey()
                else:
                    self._call(key.data)

    def _obey(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._wake)
        while self._orders:
            self._call(self._orders.popleft())

    @staticmethod
    def _call(call: Callable[[], None]) -> None:
        try:
            call()
        except Exception:  # nor must an order that fails
            log.exception("an order to a group failed")
