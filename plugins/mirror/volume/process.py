"""The volume process: one loop that serves the kernel, talks to the other server's volume process, and obeys the agent.

Flows through it: requests of FUSE, frames of the replication connection, commands of the agent (JSON lines on the
control socket), and time. One thread does everything but large flushes.

The keeper starts it again when it dies. What it was doing stands in ``session.json``; generation and maps are the truth
about the data. The kernel asks again for what was not answered.
"""

from __future__ import annotations

import errno
import json
import select
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from .. import generation as gen
from ..generation import Generation
from .callers import Answer, Callers
from .contact import Caller, Contact, Doorway
from .fence import Fence
from .flusher import Flusher
from .fuse import Session
from .image import ImageFile, create
from .keyfile import KeyFile
from .link import Names
from .poller import Poller
from .serving import Primary
from .shared import OLD
from .start import Start
from .store import known, store
from .taking import Secondary
from .zones import ZoneMap

TICK = 0.05  # seconds between two looks at the time
NOT_YET = 0.005  # seconds between two looks whether the volumes are mounted


class Process:
    """One module's volume process."""

    def __init__(self, start: Start) -> None:
        self.start, self.folder = start, Path(start.folder)
        options = dict(start.options)
        self.names = Names(start.module, KeyFile(Path(options["key"])).ring, options["me"], options["peer"])
        self.options, self.timeout = options, float(options.get("timeout", 3.0))
        self.generation = known(self.folder)
        self.primary: Primary | None = None
        self.secondary: Secondary | None = None
        self.session: Session | None = None
        self.images: list[ImageFile] = []
        self.maps: list[ZoneMap] = []
        self.flusher: Flusher | None = None
        self.contact: Contact | None = None
        self.fence = Fence(self.folder)
        self.poller = Poller()
        self.callers: Callers | None = None
        self.failure: dict[str, Any] | None = None  # in this role: what was told of it
        self._ticked = 0.0

    # --- the loop -------------------------------------------------------------------------------

    def run(self) -> None:
        """Until the keeper ends it."""
        self.callers = Callers(socket.socket(fileno=self.start.listen), self.poller, self._do)
        if self.start.again:
            self._resume()
        on = self.poller.on
        while True:
            busy = self.primary is not None and self.primary.busy
            for fd, event in self.poller.wait(0 if busy else TICK):
                if fd in on:
                    on[fd](event)
            now = time.monotonic()
            if busy or now - self._ticked >= TICK:
                self._tick(now)

    def _tick(self, now: float) -> None:
        self._ticked = now
        if self.primary is not None:
            self._lease()
            try:
                self.primary.tick(now)
            except OSError as error:  # what makes both the same could not be noted here; it is tried again
                self._lost(error.strerror or str(error))
        if self.contact is not None:
            self.contact.tick(now)

    # --- the kernel -----------------------------------------------------------------------------

    def _fuse(self, event: int) -> None:
        session, primary = self.session, self.primary
        if session is None or primary is None:
            return
        if event & select.POLLERR:  # not mounted yet, or not any more
            time.sleep(NOT_YET)
        try:
            requests = session.read()
        except ConnectionError:
            self.poller.forget(session.fd)
            self.session = None
            return
        self._lease()
        try:
            primary.take(requests)
        except ConnectionError as error:
            self._lost(str(error))
        if self.contact is not None:
            self.contact.send()
        self._throttle()

    def _throttle(self) -> None:
        """Read no more from the kernel while too much waits to be sent, or all memory is taken."""
        if self.session is None or self.primary is None:
            return
        wanted = self.primary.wants_more and not self.session.full
        self.poller.modify(self.session.fd, select.POLLIN if wanted else 0)

    def _lease(self) -> None:
        fence = self.fence
        if self.primary is None or fence.closed or time.clock_gettime_ns(time.CLOCK_BOOTTIME) <= fence.until:
            return
        fence.closed = True
        self.primary.fence()
        if self.contact is not None:
            self.contact.leave()
        fence.take_away()
        self._tell("fenced", "the lease has ended", {})

    def _lost(self, cause: str) -> None:
        if self.contact is not None:
            self.contact.lost(cause)

    # --- roles ----------------------------------------------------------------------------------

    def _open(self, sizes: Sequence[int]) -> tuple[list[ImageFile], list[ZoneMap], Flusher]:
        """Open images and maps; a secondary's are made, or grow, to the primary's sizes."""
        self._close_images()
        for volume, size in zip(self.start.volumes, sizes, strict=True):
            path = self.folder / f"{volume.name}.img"
            if not path.exists():
                create(path, size)
                (self.folder / f"{volume.name}.map").unlink(missing_ok=True)
            image = ImageFile(path)
            if image.size < size:
                image.resize(size)
            self.images.append(image)
            self.maps.append(ZoneMap(self.folder / f"{volume.name}.map", image.size))
        self.flusher = Flusher(self.images)
        self.poller.watch(self.flusher.fd, lambda _: self._flushed())
        return self.images, self.maps, self.flusher

    def _flushed(self) -> None:
        self._lease()
        try:
            if self.flusher is not None:
                self.flusher.finish()
        except OSError as error:  # the secondary's disk refuses
            self._lost(str(error))
        if self.contact is not None:
            self.contact.send()

    def _close_images(self) -> None:
        if self.flusher is not None:
            self.poller.forget(self.flusher.fd)
            self.flusher.close()
        for image, marks in zip(self.images, self.maps, strict=True):
            image.close()
            marks.close()
        self.images, self.maps, self.flusher = [], [], None

    def _store(self, generation: Generation) -> None:
        store(self.folder, generation)
        self.generation = generation

    def _serve(self, new: str, *, again: Mapping[str, Any] | None = None) -> None:
        self._idle()
        sizes = [(self.folder / f"{each.name}.img").stat().st_size for each in self.start.volumes]
        images, maps, flusher = self._open(sizes)
        if again is None:
            mine = self.generation
            made = gen.promoted(mine)
            if new:
                made = gen.alone(mine, new) if mine.data else gen.first(new)
            self._store(made)
        self.session = Session(self.start.fuse, self.start.volumes, resend=again is not None, told=self._resends)
        self.primary = primary = Primary(
            self.session, images, maps, flusher, self.generation,
            store=self._noted, tell=self._tell, failed=self._failed, options=self.options,
        )  # fmt: skip
        if again is None:
            self.start.shared.failed = False
        elif self.start.shared.failed:
            primary.fail()
        if self.generation.shared:
            primary.mode = "frozen"  # the other may have the same: it must answer, or the agent say ``alone``
        self.contact = Caller(self.primary, silent=lambda: primary.silent, **self._other)
        if again is not None:
            primary.session_id = str(again.get("session", ""))
            if not primary.failing:
                self.contact.away("the volume process died")
        self.poller.watch(self.session.fd, self._fuse)

    @property
    def _other(self) -> dict[str, Any]:
        """How to reach the other server, for any role."""
        mine, peer = ((str(host), int(port)) for host, port in (self.options["address"], self.options["peer_address"]))
        return {
            "names": self.names, "mine": mine, "peer": peer, "timeout": self.timeout,
            "poller": self.poller, "tell": self._tell, "taken": self._throttle,
        }  # fmt: skip

    def _failed(self) -> None:
        self.start.shared.failed = True

    def _resends(self, can: bool) -> None:
        self.start.shared.learnt(can)
        if self.start.shared.resends is False:
            self._tell("notice", OLD, {})

    def _noted(self, generation: Generation) -> None:
        self._store(generation)
        self._remember()

    def _receive(self, *, fullsync: bool, aside: str) -> None:
        self._idle()
        self.secondary = secondary = Secondary(
            self.generation,
            open_images=self._open,
            store=self._noted,
            tell=self._tell,
            aside=self.folder / "aside" / aside if aside else None,
            fullsync=fullsync,
        )
        self.contact = Doorway(secondary, refuses=lambda: secondary.broken, **self._other)

    def _idle(self) -> None:
        """No role."""
        contact, self.contact = self.contact, None
        if contact is not None:
            contact.close()
        if self.session is not None:
            self.poller.forget(self.session.fd)
            self.session = None
        self.primary = self.secondary = self.failure = None
        self.fence.closed = False
        self._close_images()

    def _remember(self) -> None:
        """What a worker that is started again must know. Losing it costs a comparison, no data."""
        role = "primary" if self.primary is not None else "secondary" if self.secondary is not None else ""
        session = (self.primary or self.secondary).session_id if role else ""  # type: ignore[union-attr]
        values = {"role": role, "session": session, "guarded": self.fence.guarded}
        if self.secondary is not None:
            aside, full = self.secondary.asked
            values |= {"aside": aside.name if aside is not None else "", "fullsync": full}
        with suppress(OSError):
            path = self.folder / ".session.new"
            path.write_text(json.dumps(values))
            path.rename(self.folder / "session.json")

    def _resume(self) -> None:
        """Go on where a worker that died was."""
        try:
            known = json.loads((self.folder / "session.json").read_text())
        except (OSError, ValueError):
            return
        self.fence.guard(known.get("guarded", []))
        self.fence.inherit()
        if known.get("role") == "primary" and self.start.mounted:
            self._serve("", again=known)
        elif known.get("role") == "secondary":
            self._receive(fullsync=bool(known.get("fullsync")), aside=str(known.get("aside") or ""))

    # --- the agent ------------------------------------------------------------------------------

    def _do(self, verb: str, order: Mapping[str, Any], later: Answer) -> Mapping[str, Any] | None:
        if verb == "verify":
            assert self.primary is not None, "only the primary compares"
            self.primary.verify(later)
            return None
        verbs: dict[str, Callable[[Mapping[str, Any]], None]] = {
            "status": lambda _: None,
            "lease": self._renew,
            "guard": lambda o: self.fence.guard(o["addresses"]),
            "serve": self._begin,
            "receive": lambda o: self._receive(fullsync=bool(o.get("fullsync")), aside=str(o.get("aside", ""))),
            "alone": self._alone,
            "outdate": lambda _: self._outdate(),
            "release": lambda o: self._release(force=bool(o.get("force"))),
            "limit": lambda o: self._limit(int(o["bandwidth"])),
            "resize": lambda o: self._resize(int(o["volume"]), int(o["size"])),
        }
        if verb not in verbs:
            raise OSError(errno.ENOSYS, f"there is no command {verb}")
        verbs[verb](order)
        if verb not in ("lease", "status", "limit"):
            self._remember()
        role = self.primary or self.secondary
        return {
            "role": "primary" if self.primary else "secondary" if self.secondary else "",
            "generation": self._present().as_dict(),
            "resends": self.start.shared.resends,
            "failure": self.failure,
            **(role.report() if role is not None else {}),
        }

    def _limit(self, bandwidth: int) -> None:
        self.options["bandwidth"] = bandwidth
        if self.primary is not None:
            self.primary.limit(bandwidth)

    def _renew(self, order: Mapping[str, Any]) -> None:
        self.fence.renew(int(order["until"]))
        if self.fence.closed and time.clock_gettime_ns(time.CLOCK_BOOTTIME) < self.fence.until:
            self.fence.closed = False
            if self.primary is not None:
                self.primary.lift()

    def _begin(self, order: Mapping[str, Any]) -> None:
        self.fence.until = max(self.fence.until, int(order.get("until", 0)))
        self._serve(str(order.get("new", "")))

    def _alone(self, order: Mapping[str, Any]) -> None:
        assert self.primary is not None, "it is no primary"
        self._lease()  # the order may have waited here longer than the lease lasted
        self.primary.alone(str(order["new"]))
        if self.contact is not None:
            self.contact.expected()

    def _outdate(self) -> None:
        if self.secondary is not None:
            if self.secondary.synced:  # only a resynchronisation makes it up to date again
                self._lost("the primary goes on without this server")
            self.secondary.outdate()
        else:
            self._store(gen.outdated(self.generation))

    def _release(self, *, force: bool) -> None:
        if self.primary is not None:
            if force:
                self.primary.fail()
                if self.contact is not None:
                    self.contact.leave()
                return
            if self.primary.failing:
                raise OSError(errno.EIO, "the disk of this server has refused data")
            if self.primary.mode == "frozen":
                raise OSError(errno.EBUSY, "what is not acknowledged waits for the other server")
            for image in self.images:
                image.sync()
            self._store(gen.demoted(self.generation))
        self._idle()

    def _resize(self, volume: int, size: int) -> None:
        assert self.primary is not None, "only the primary can grow"
        assert self.session is not None
        self.images[volume].resize(size)
        self.maps[volume].resize(size)
        self.session.resize(volume, size)
        self._lost("the volume grows")  # the secondary grows when it is greeted anew

    def _present(self) -> Generation:
        """The generation as it is; on a disk that refuses to note it, the stored one may claim more."""
        role = self.primary or self.secondary
        return role.generation if role is not None else self.generation

    def _tell(self, kind: str, cause: str, data: Mapping[str, Any]) -> None:
        if kind == "synced":
            if self.contact is not None:
                self.contact.synced()
            self._remember()
        elif kind == "failed":
            self.failure = {"cause": cause, "data": dict(data)}
        words = {"event": kind, "cause": cause, "data": dict(data), "generation": self._present().as_dict()}
        if self.callers is not None:
            self.callers.tell(words)


def run(start: Start) -> None:
    """The worker, as the keeper calls it."""
    Process(start).run()
