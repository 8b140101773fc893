"""Flushes of several volumes' images: in place when little is dirty, in a thread when it may take long.

A thread costs every small flush two changes of thread; without one, a large flush would keep a process silent for
seconds that the other server waits to hear. Requests that come while a flush runs share the next one.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence

from .request import Image

LITTLE = 8 << 20  # bytes written since the last flush
Done = Callable[[OSError | None], None]


class Flusher:
    """Of one process; ``fd`` becomes readable when ``finish`` has something to do."""

    def __init__(self, images: Sequence[Image]) -> None:
        self._images = images
        self._dirty: dict[int, int] = {}  # bytes by volume
        self._waiting: list[Done] = []
        self._running: list[Done] = []
        self._thread: threading.Thread | None = None
        self._error: OSError | None = None
        self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def wrote(self, volume: int, size: int) -> None:
        """So much was written."""
        self._dirty[volume] = self._dirty.get(volume, 0) + size

    def flush(self, done: Sequence[Done]) -> None:
        """Bring all that was written to the disk, then call these, with the error if there was one."""
        if self._thread is not None:
            self._waiting += done
        elif sum(self._dirty.values()) <= LITTLE:
            volumes, self._dirty = list(self._dirty), {}
            error = self._sync(volumes)
            for each in done:
                each(error)
        else:
            self._running = list(done)
            volumes, self._dirty = list(self._dirty), {}
            self._thread = threading.Thread(target=self._work, args=(volumes,), daemon=True)
            self._thread.start()

    def _sync(self, volumes: Sequence[int]) -> OSError | None:
        try:
            for volume in volumes:
                self._images[volume].sync()
        except OSError as error:
            return error
        return None

    def _work(self, volumes: Sequence[int]) -> None:
        self._error = self._sync(volumes)
        os.eventfd_write(self.fd, 1)

    def finish(self) -> None:
        """A flush in the thread has ended."""
        if self._thread is None:
            return
        os.eventfd_read(self.fd)
        self._thread.join()
        self._thread = None
        done, self._running = self._running, []
        for each in done:
            each(self._error)
        if self._waiting:
            waiting, self._waiting = self._waiting, []
            self.flush(waiting)
