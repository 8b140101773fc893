"""Flushes of several volumes' images: in place when one small write is dirty, else in a thread.

In place it is sooner done: that is for an application that writes, flushes and waits. With several of them the thread
lets the process serve the others meanwhile, and what comes while a flush runs shares the next one. A large flush would
keep a process silent for seconds that the other server waits to hear.

Invariant: a flush that ends well has all on disk that was written before it was asked for. So after one has failed all
others fail: the kernel forgets what it could not write, and the next flush of the same file would say that all is well.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Sequence

from .request import Image

LITTLE = 8 << 20  # bytes written since the last flush
ALONE = 1  # writes since then: with more, others wait for this process, and the thread lets it serve them meanwhile
Done = Callable[[OSError | None], None]


class Flusher:
    """Of one process; ``fd`` becomes readable when ``finish`` has something to do."""

    def __init__(self, images: Sequence[Image]) -> None:
        self._images = images
        # Bytes by volume. An earlier process may have written and died: the first flush is of all, and may be long.
        self._dirty: dict[int, int] = dict.fromkeys(range(len(images)), LITTLE + 1)
        self._writes = 0  # since the last flush began
        self._waiting: list[Done] = []
        self._running: list[Done] = []
        self.running = False  # a flush, in the thread
        self._thread: threading.Thread | None = None
        self._orders: queue.SimpleQueue[Sequence[int] | None] = queue.SimpleQueue()
        self._failed: OSError | None = None  # the first that went wrong
        self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def wrote(self, volume: int, size: int) -> None:
        """So much was written."""
        self._dirty[volume] = self._dirty.get(volume, 0) + size
        self._writes += 1

    def flush(self, done: Sequence[Done]) -> None:
        """Bring all that was written to the disk, then call these, with the error if there was one."""
        if self.running:
            self._waiting += done
            return
        alone = self._writes <= ALONE and sum(self._dirty.values()) <= LITTLE
        volumes, self._dirty, self._writes = list(self._dirty), {}, 0
        if alone:
            self._sync(volumes)
            for each in done:
                each(self._failed)
            return
        self._running, self.running = list(done), True
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, daemon=True)
            self._thread.start()
        self._orders.put(volumes)

    def _sync(self, volumes: Sequence[int]) -> None:
        if self._failed is None:
            try:
                for volume in volumes:
                    self._images[volume].sync()
            except OSError as error:
                self._failed = error

    def _work(self) -> None:
        while (volumes := self._orders.get()) is not None:
            self._sync(volumes)
            os.eventfd_write(self.fd, 1)

    def finish(self) -> None:
        """A flush in the thread has ended."""
        if not self.running:
            return
        os.eventfd_read(self.fd)
        self.running = False
        done, self._running = self._running, []
        for each in done:
            each(self._failed)
        if self._waiting and not self.running:
            waiting, self._waiting = self._waiting, []
            self.flush(waiting)

    def close(self) -> None:
        """Wait for the thread, if it runs: it must not touch descriptors that are others' by then. Nobody is told."""
        if self._thread is not None:
            self._orders.put(None)
            self._thread.join()
        os.close(self.fd)
