"""The cluster's keys on this server: the key file and the ring that everything here signs and verifies with.

Flows through it: orders of an administrator, and a key file that was changed by hand, in; the file and the live ring
changed, while modules run; which servers hold and use what out. An old key is dropped by itself when ``core.keys``
says that nobody needs it any more.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from safekit_py.core import keys
from safekit_py.errors import Problem, SafekitError, StateError
from safekit_py.model.keys import MAX_KEYS, SECRET, Key, Ring, Who, parse, render
from safekit_py.model.paths import Paths
from safekit_py.net.keys import Keys
from safekit_py.runtime.files import write_atomically

log = logging.getLogger("safekit.agent")
LOOK = 1.0  # seconds between two looks at the file and at who signs with what
SETTLED = 2.0  # seconds without the old keys after which a person may drop them; no datagram is older
ASK = 5  # looks between two questions to a witness, during a rotation


@dataclass(frozen=True, slots=True)
class User:
    """Somebody else who signs and verifies.

    :param name: of a server, or what a witness is called.
    :param holds: numbers of the keys that it holds, from the oldest; none when it was not heard.
    :param signs: the number of the one it signed with last; 0 when it was not heard.
    :param gets: the number of the one that signs what this server sends it.
    :param awaited: the old keys stay for its sake.
    """

    name: str
    holds: tuple[int, ...]
    signs: int
    gets: int
    awaited: bool


class ClusterKeys:
    """One for an agent.

    :param others: the cluster's other servers, name by number.
    :ivar live: what everything here signs and verifies with.
    """

    def __init__(self, paths: Paths, others: Callable[[], Mapping[int, str]]) -> None:
        self.live = Keys()
        self._path, self._others = paths.cluster_key, others
        self._seen: tuple[int, int] = (0, 0)  # inode and last change of the file as it was last read or written
        self._changing = threading.Lock()  # of file and ring together
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Look from now on whether the file was changed, and whether an old key may go."""
        self._task = asyncio.create_task(self._watch(), name="cluster keys")

    async def stop(self) -> None:
        """Look no more."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    # --- while no module runs -------------------------------------------------------------------

    def load(self) -> None:
        """Take what the file holds in the place of everything before.

        :raises StateError: there is none, it is not a key file, or others may read it; then there is no key.
        """
        self.live.ring = Ring()
        self.live.forget()
        self.live.ring = self._read()

    @staticmethod
    def check(text: str) -> None:
        """Refuse what is no content of a key file.

        :raises StateError: it is none.
        """
        _parsed(text, "the file")

    def replace(self, text: str) -> None:
        """Write another key file; ``load`` takes it.

        :raises StateError: it is none.
        """
        self._write(_parsed(text, "the file"))

    def delete(self) -> None:
        """Forget the keys; ``load`` takes note."""
        self._path.unlink(missing_ok=True)

    # --- while modules run ----------------------------------------------------------------------

    def rotate(self) -> None:
        """Make a new key, which signs for a server as soon as that says that it holds it too.

        :raises StateError: ``cluster.no-key``, ``cluster.key-many``.
        """
        with self._changing:
            self._change(keys.rotated(self._ring, secrets.token_bytes(SECRET)), "a new one was made")

    def take(self, text: str) -> None:
        """Hold the keys of another server's file too.

        :raises StateError: ``cluster.no-key``, ``cluster.bad-key``, ``cluster.key-foreign``, ``cluster.key-many``.
        """
        with self._changing:
            self._change(self._merged(_parsed(text, "the file")), "those of a file were taken")

    def drop(self, *, force: bool) -> None:
        """Forget the old keys now.

        :param force: also those that somebody may still need: it is not understood here until it has the newest.
        :raises StateError: ``cluster.no-key``, ``cluster.key-needed``.
        """
        with self._changing:
            ring = self._ring
            needed = [each.name for each in self.users(SETTLED) if each.awaited]
            if needed and len(ring.keys) > 1 and not force:
                file = str(self._path)
                remedy = (
                    f"copy {file} there, and: safekit-py cluster key rotate --from FILE; --force drops them even so"
                )
                message = f"the old keys may still be needed by {', '.join(needed)}"
                raise StateError(Problem("cluster.key-needed", message, remedy, file))
            self._change(keys.dropped(ring), "the old ones were dropped")

    def users(self, quiet: float = keys.QUIET) -> list[User]:
        """Everybody else who signs and verifies, as last heard.

        :param quiet: seconds for which the newest key must have been used alone.
        """
        ring, known = self.live.ring, self.live.known()
        if not ring.keys:
            return []
        names: dict[Who, str] = {who: who for who in known if isinstance(who, str)}
        names.update(self._others().items())
        heard = {who: known.get(who, keys.Heard()) for who in names}
        awaited = keys.awaited(ring, heard, time.monotonic(), quiet)

        def numbers(those: tuple[bytes, ...]) -> tuple[int, ...]:
            return tuple(ring.named[name].number for name in those if name in ring.named)

        return [
            User(
                names[who],
                tuple(sorted(numbers(each.holds))),
                (*numbers(each.holds[:1]), 0)[0],
                keys.choose(ring, each.holds).number,
                len(ring.keys) > 1 and who in awaited,
            )
            for who, each in heard.items()
        ]

    # --- the rest -------------------------------------------------------------------------------

    @property
    def _ring(self) -> Ring:
        if not self.live.ring.keys:
            remedy = "safekit-py cluster genkey on one server, then cluster genkey --from FILE on the others"
            raise StateError(Problem("cluster.no-key", "the cluster has no key", remedy, str(self._path)))
        return self.live.ring

    def _change(self, ring: Ring, why: str) -> None:
        if len(ring.keys) > MAX_KEYS:
            message = f"there would be {len(ring.keys)} keys at a time, and {MAX_KEYS} are the most"
            remedy = "bring the last rotation to its end first: safekit-py cluster key show"
            raise StateError(Problem("cluster.key-many", message, remedy, str(self._path)))
        if ring != self.live.ring:
            self._write(ring)  # before it is used: a crash must not lose a key that another server counts on
            self.live.ring = ring
            log.info("cluster key: %s; here are now %s", why, ", ".join(map(_said, ring.keys)))

    def _merged(self, theirs: Ring) -> Ring:
        try:
            return keys.merged(self._ring, theirs)
        except ValueError:
            remedy = "take the file of a server of this cluster; another cluster's key: genkey --from FILE --force"
            message = "the file's keys do not descend from this cluster's first one"
            raise StateError(Problem("cluster.key-foreign", message, remedy)) from None

    def _write(self, ring: Ring) -> None:
        write_atomically(self._path, render(ring).encode(), 0o600)
        self._seen = self._look()

    def _look(self) -> tuple[int, int]:
        try:
            found = self._path.stat()
        except OSError:
            return 0, 0
        return found.st_ino, found.st_ctime_ns

    def _read(self) -> Ring:
        path, self._seen = self._path, self._look()
        try:
            if path.stat().st_mode & 0o077:
                raise StateError(
                    Problem("cluster.key-readable", "others may read the cluster key", f"chmod 600 {path}", str(path))
                )
            text = path.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            remedy = "safekit-py cluster genkey on one server, then cluster genkey --from FILE on the others"
            raise StateError(Problem("cluster.no-key", "the cluster has no key", remedy, str(path))) from None
        return _parsed(text, str(path))

    async def _watch(self) -> None:
        for look in itertools.count():
            await asyncio.sleep(LOOK)
            try:
                if len(self.live.ring.keys) > 1 and look % ASK == 0:
                    await self.live.ask()
                if self._look() not in (self._seen, (0, 0)) and self.live.ring.keys:
                    await asyncio.to_thread(self._take_file)
                if len(self.live.ring.keys) > 1 and not any(each.awaited for each in self.users()):
                    await asyncio.to_thread(self.drop, force=False)
            except SafekitError as error:
                log.warning("cluster key: %s", error)
            except OSError as error:
                log.warning("cluster key: the file %s: %s", self._path, error.strerror or error)

    def _take_file(self) -> None:
        """Take what somebody else has written. What is needed still stays, so the file may be written once more."""
        with self._changing:
            found = self._read()
            self._change(self._merged(found), "the file was changed")
            if found != self.live.ring:
                self._write(self.live.ring)


def _said(key: Key) -> str:
    return f"{key.number} ({key.fingerprint})"


def _parsed(text: str, where: str) -> Ring:
    try:
        return parse(text)
    except ValueError:
        remedy = "copy it anew from another server; safekit-py cluster genkey makes one"
        raise StateError(Problem("cluster.bad-key", f"{where} does not hold a cluster's keys", remedy)) from None
