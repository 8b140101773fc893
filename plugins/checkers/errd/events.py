"""Tells at once when one of a set of processes has ended, by a pidfd of each.

The kernel's proc connector would tell of every process of the machine that begins or ends, also where nobody cares, and
only in the machine's own network namespace. A pidfd tells of the one process, needs no rights, and works in containers.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable

from .model import Process


class Deaths:
    """The processes whose end is awaited.

    :param ended: is called in the event loop when one has ended.
    """

    def __init__(self, ended: Callable[[], None]) -> None:
        self._ended = ended
        self._open: dict[tuple[int, float], int] = {}  # process id and start -> file descriptor

    def __len__(self) -> int:
        """How many are awaited."""
        return len(self._open)

    def watch(self, processes: Iterable[Process]) -> bool:
        """Await the end of exactly these.

        :return: False when some cannot be awaited (the kernel is too old, or files are short): the next look tells.
        """
        wanted = {(each.pid, each.started) for each in processes}
        for key in self._open.keys() - wanted:
            self._close(key)
        complete = True
        for key in wanted - self._open.keys():
            try:
                descriptor = os.pidfd_open(key[0])
            except ProcessLookupError:
                asyncio.get_running_loop().call_soon(self._ended)  # between the look and now
            except OSError:
                complete = False
            else:
                self._open[key] = descriptor
                asyncio.get_running_loop().add_reader(descriptor, self._over, key)
        return complete

    def close(self) -> None:
        """Await none any more."""
        for key in tuple(self._open):
            self._close(key)

    def _over(self, key: tuple[int, float]) -> None:
        self._close(key)
        self._ended()

    def _close(self, key: tuple[int, float]) -> None:
        descriptor = self._open.pop(key)
        asyncio.get_running_loop().remove_reader(descriptor)
        os.close(descriptor)
