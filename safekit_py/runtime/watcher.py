"""Watches the folder of the modules: what has come to rest there is handed on, by name.

The file system's events (watchdog) are a hint that a look is worth while, and nothing more: a look by stat every
``RESCAN`` seconds is the truth, so an event that is lost, a queue that overflows, a thread that dies or a folder that
is deleted and made again cost time and nothing else. What a look means is decided in ``safekit_py.core.settle``.

Each folder is watched by itself: watchdog's watch of a whole tree loses its thread when two folders of the tree are
exchanged, as an installation does.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import stat
import time
from collections.abc import Callable, Hashable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from safekit_py.bundle.install import NAME
from safekit_py.bundle.names import USERCONFIG
from safekit_py.core.settle import Settler

if TYPE_CHECKING:
    from watchdog.events import FileSystemEvent
    from watchdog.observers.api import BaseObserver, ObservedWatch

log = logging.getLogger("safekit.agent")

RESCAN = 5.0  # seconds between two looks when nothing hints at a change
PACE = 0.05  # seconds between two looks at least: a storm of changes costs no more than this
JOIN = 1.0  # seconds that the threads of a watch get to end
HINTS = frozenset({"created", "deleted", "modified", "moved", "closed"})  # a look itself makes "opened" events
ARCHIVE = ".zip"
CONF = "conf"

Identity = tuple[int, int]


def look(folder: Path) -> dict[str, Hashable]:
    """Every module and every archive in the folder, and how it is on the disk. Nothing is opened but folders.

    :return: by ``NAME`` of a module's folder, or ``NAME.zip``. The modules' own editors may leave any other file.
    """
    found: dict[str, Hashable] = {}
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if NAME.fullmatch(entry.name):
                seen = _entry(Path(entry.path, USERCONFIG))
                if seen is not None:
                    found[entry.name] = seen
            elif entry.name.endswith(ARCHIVE) and not entry.name.startswith("."):
                seen = _entry(Path(entry.path))
                if seen is not None:
                    found[entry.name] = seen
    return found


def _entry(path: Path) -> Hashable:
    try:
        status = path.stat()
    except OSError:
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


class Watcher:
    """One folder.

    :param settled: is called in the event loop with each name that has come to rest, also one that is gone.
    :param expected: the names that should be there: one that is not is handed on, also when no look has ever seen it.
    """

    def __init__(
        self, folder: Path, settled: Callable[[str], None], expected: Callable[[], Iterable[str]] = tuple
    ) -> None:
        self._folder, self._settled, self._expected = folder, settled, expected
        self._settler = Settler()
        self._hint = asyncio.Event()
        self._hinted = False  # one hint is enough until the next look: a storm must not fill the event loop
        self._observer: BaseObserver | None = None
        self._watches: dict[Path, tuple[Identity, ObservedWatch]] = {}
        self._complained = False
        self._task: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Begin; every file that is there is handed on once."""
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.create_task(self._work(), name="watcher of the modules")

    async def stop(self) -> None:
        """End the watch and its threads."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await asyncio.to_thread(self._unwatch)

    def again(self, name: str) -> None:
        """Hand this one on once more at the next look; for one that could not be taken."""
        self._settler = self._settler.again(name)

    @property
    def watching(self) -> bool:
        """Whether the file system's events are heard, as far as can be told."""
        return self._alive() and {path: of for path, (of, _) in self._watches.items()} == self._wanted()

    def _alive(self) -> bool:
        threads = [self._observer, *self._observer.emitters] if self._observer is not None else []
        return bool(threads) and all(each.is_alive() for each in threads)

    async def _work(self) -> None:
        while True:
            if not self.watching:
                await asyncio.to_thread(self._watch)
            self._hinted = False
            self._hint.clear()
            self._settler, ready, due = self._settler.look(time.monotonic(), self._looks())
            for name in ready:
                try:
                    self._settled(name)
                except Exception:  # a fault with one file must not end the watch over the others
                    log.exception("%s in %s", name, self._folder)
            await asyncio.sleep(PACE)
            left = RESCAN if due is None else max(0.0, due - time.monotonic())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(left, RESCAN)):
                    await self._hint.wait()

    def dispatch(self, event: FileSystemEvent) -> None:
        """An event of the file system, in the thread of the watch."""
        if not self._hinted and event.event_type in HINTS and self._loop is not None:
            self._hinted = True
            with contextlib.suppress(RuntimeError):  # the event loop has ended
                self._loop.call_soon_threadsafe(self._hint.set)

    def _looks(self) -> dict[str, Hashable]:
        return {**dict.fromkeys(self._expected()), **look(self._folder)}

    def _wanted(self) -> dict[Path, Identity]:
        """The folders in which something may change, and which they are: one that was made again is another."""
        found = {}
        with contextlib.suppress(OSError), os.scandir(self._folder) as entries:
            folders = [Path(entry.path, CONF) for entry in entries if NAME.fullmatch(entry.name)]
            for path in (self._folder, *folders):
                with contextlib.suppress(OSError):
                    status = path.stat()
                    if stat.S_ISDIR(status.st_mode):
                        found[path] = (status.st_dev, status.st_ino)
        return found

    def _watch(self) -> None:
        """Hear the events of each folder, as far as the system lets us; without them a change is seen at a rescan."""
        if not self._alive():
            self._unwatch()
        try:
            observer = self._observer = self._observer or _observe()
            wanted = self._wanted()
            for path in [path for path, (of, _) in self._watches.items() if wanted.get(path) != of]:
                observer.unschedule(self._watches.pop(path)[1])
            for path in wanted.keys() - self._watches.keys():
                with contextlib.suppress(FileNotFoundError):  # it went between two looks
                    self._watches[path] = wanted[path], observer.schedule(self, str(path))  # type: ignore[arg-type]
        except Exception as error:  # inotify's limits, and whatever else a system or the library may refuse
            if not self._complained:
                log.warning("changes in %s are seen after up to %g s: %s", self._folder, RESCAN, error)
                self._complained = True

    def _unwatch(self) -> None:
        observer, self._observer, self._watches = self._observer, None, {}
        if observer is not None:
            try:
                observer.stop()
                observer.join(JOIN)
            except Exception as error:  # a library that lost count of its watches must not keep an agent from ending
                log.info("the watch over %s ended: %r", self._folder, error)


def _observe() -> BaseObserver:
    from watchdog.observers import Observer  # noqa: PLC0415 - half a megabyte, only for an agent

    # What goes wrong in its threads is what the rescan is for; its own words would only alarm.
    logging.getLogger("watchdog").setLevel(logging.CRITICAL)
    observer = Observer()
    observer.start()
    return observer
