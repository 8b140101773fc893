"""Flushes of several volumes' images: in place when little is dirty, in a thread when it may take long.

A thread costs every small flush two changes of thread; without one, a large flush would keep a process silent for
seconds that the other server waits to hear. Requests that come while a flush runs share the next one.

Invariant: a flush that ends well has all on disk that was written before it was asked for. So after one has failed all
others fail: the kernel forgets what it could not write, and the next flush of the same file would say that all is well.
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
        # Bytes by volume. An earlier process may have written and died: the first flush is of all, and may be long.
        self._dirty: dict[int, int] = dict.fromkeys(range(len(images)), LITTLE + 1)
        self._waiting: list[Done] = []
        self._running: list[Done] = []
        self._thread: threading.Thread | None = None
        self._failed: OSError | None = None  # the first that went wrong
        self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    @property
    def running(self) -> bool:
        """Whether a flush runs in the thread."""
        return self._thread is not None

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
        if self._failed is None:
            try:
                for volume in volumes:
                    self._images[volume].sync()
            except OSError as error:
                self._failed = error
        return self._failed

    def _work(self, volumes: Sequence[int]) -> None:
        self._sync(volumes)
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
            each(self._failed)
        if self._waiting:
            waiting, self._waiting = self._waiting, []
            self.flush(waiting)

    def close(self) -> None:
        """Wait for the thread, if it runs: it must not touch descriptors that are others' by then. Nobody is told."""
        if self._thread is not None:
            self._thread.join()
        os.close(self.fd)
