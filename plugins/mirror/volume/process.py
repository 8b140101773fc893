"""The volume process: one loop that serves the kernel, talks to the other server's volume process, and obeys the agent.

Flows through it: requests of FUSE, frames of the replication connection, commands of the agent (JSON lines on the
control socket), and time. One thread does everything but large flushes.

The keeper starts it again when it dies. What it was doing stands in ``session.json``; generation and maps are the truth
about the data. The kernel asks again for what was not answered.
"""

from __future__ import annotations

import errno
import json
import os
import select
import socket
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from safekit_py.api import SafekitError

from ...vip.netlink_drop import drop
from .. import generation as gen
from ..generation import Generation
from .door import Door
from .flusher import Flusher
from .frames import Frame
from .fuse import Session
from .image import ImageFile, create
from .link import Link, Names
from .serving import Primary
from .shared import OLD
from .start import Start
from .store import known, store
from .taking import Secondary
from .zones import ZoneMap

WAKEFUL = 0.0003  # seconds: fdatasync on both servers was measured 1.4 times as often a second with it
TICK = 0.05  # seconds between two looks at the time
GRACE = 0.7  # seconds that a connection may be away before the agent is told: a process that died comes back in less
AGAIN, LONGEST = 0.1, 2.0  # seconds between two attempts to connect; more after each resynchronisation that breaks off
NOT_YET = 0.005  # seconds between two looks whether the volumes are mounted
LINE = 1 << 20  # bytes of one command at most


class Process:
    """One module's volume process."""

    def __init__(self, start: Start) -> None:
        self.start, self.folder = start, Path(start.folder)
        options = dict(start.options)
        key = bytes.fromhex(Path(options["key"]).read_text().strip())
        self.names = Names(start.module, key, options["me"], options["peer"])
        self.options, self.timeout = options, float(options.get("timeout", 3.0))
        self.generation = known(self.folder)
        self.primary: Primary | None = None
        self.secondary: Secondary | None = None
        self.session: Session | None = None
        self.images: list[ImageFile] = []
        self.maps: list[ZoneMap] = []
        self.flusher: Flusher | None = None
        self.link: Link | None = None
        self._greeted = False
        self.until = 0  # of the lease, CLOCK_BOOTTIME
        self._lease_file = os.open(self.folder / "lease", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self.guarded: list[tuple[str, str]] = []
        self._fenced = False
        self._poll = select.poll()
        self._on: dict[int, Callable[[int], None]] = {}
        self._callers: dict[int, tuple[socket.socket, bytes]] = {}
        self._door: Door | None = None
        self._connect_at = self._ticked = 0.0
        self._awake = False  # something has just happened
        self._lost_at: float | None = None  # when the connection went, until the agent is told
        self._lost_cause = ""
        self._pause = AGAIN  # until the next attempt to connect

    # --- the loop -------------------------------------------------------------------------------

    def run(self) -> None:
        """Until the keeper ends it."""
        control = socket.socket(fileno=self.start.listen)
        control.setblocking(False)
        self._watch(control.fileno(), lambda _: self._accept(control))
        if self.start.again:
            self._resume()
        while True:
            busy = self.primary is not None and self.primary.busy
            events = self._wait(busy=busy)
            for fd, event in events:
                if fd in self._on:
                    self._on[fd](event)
            now = time.monotonic()
            if busy or now - self._ticked >= TICK:
                self._tick(now)

    def _wait(self, *, busy: bool) -> list[tuple[int, int]]:
        """What has happened. After something did, it looks again and again for a moment before it sleeps.

        Most work is a chain of small steps here, there and in the kernel; to wake up a sleeping processor for each of
        them would take longer than the steps do.
        """
        events = self._poll.poll(0)
        if not events and self._awake:
            end = time.monotonic() + WAKEFUL
            while not events and time.monotonic() < end:
                os.sched_yield()  # whoever has work goes first
                events = self._poll.poll(0)
        if not events and not busy:
            events = self._poll.poll(TICK * 1000)
        self._awake = bool(events)
        return events

    def _watch(self, fd: int, run: Callable[[int], None], events: int = select.POLLIN) -> None:
        self._on[fd] = run
        self._poll.register(fd, events)

    def _forget(self, fd: int) -> None:
        if self._on.pop(fd, None) is not None:
            with suppress(KeyError):
                self._poll.unregister(fd)

    def _tick(self, now: float) -> None:
        self._ticked = now
        if self.primary is not None:
            self._lease()
            try:
                self.primary.tick(now)
            except OSError as error:  # what makes both the same could not be noted here; it is tried again
                self._lost(error.strerror or str(error))
        if self._door is not None:
            self._door.tick(now)
            if self.secondary is not None and self.secondary.broken:
                self._shut()
        try:
            if self.link is not None:
                self.link.tick(now)
                self._send()
            elif self.primary is not None and not (self._fenced or self.primary.failing) and now >= self._connect_at:
                self._connect(now)
        except ConnectionError as error:
            self._lost(str(error))
        if self._lost_at is not None and now - self._lost_at > GRACE:
            self._lost_at = None
            frozen = self.primary is not None and self.primary.mode == "frozen"
            self._tell("lost", self._lost_cause, {"frozen": frozen})

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
            self._forget(session.fd)
            self.session = None
            return
        self._lease()
        try:
            primary.take(requests)
        except ConnectionError as error:
            self._lost(str(error))
        self._send()
        self._throttle()

    def _throttle(self) -> None:
        """Read no more from the kernel while too much waits to be sent, or all memory is taken."""
        if self.session is None or self.primary is None:
            return
        wanted = self.primary.wants_more and not self.session.full
        self._poll.modify(self.session.fd, select.POLLIN if wanted else 0)

    def _lease(self) -> None:
        if self.primary is None or self._fenced or time.clock_gettime_ns(time.CLOCK_BOOTTIME) <= self.until:
            return
        self._fenced = True
        self.primary.fence()
        self._unlink()
        for device, address in self.guarded:
            with suppress(OSError):
                drop(device, address)
        self._tell("fenced", "the lease has ended", {})

    # --- the other server -----------------------------------------------------------------------

    def _connect(self, now: float) -> None:
        self._connect_at = now + AGAIN
        host, port = self.options["peer_address"]
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        connection = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        connection.setblocking(False)
        try:
            with suppress(OSError):
                connection.bind((self.options["address"][0], 0))
            connection.connect((host, int(port)))
        except BlockingIOError:
            pass
        except OSError:
            connection.close()
            return
        self._join(connection)

    def _listen(self) -> None:
        host, port = self.options["address"]
        self._door = Door(
            (host, int(port)), self.options["peer_address"][0], self.names, self.timeout,
            watch=self._watch, forget=self._forget, enter=self._enter,
        )  # fmt: skip

    def _shut(self) -> None:
        door, self._door = self._door, None
        if door is not None:
            door.close()

    def _enter(self, link: Link, frames: Iterable[Frame]) -> None:
        """The primary has connected; what it said already is taken."""
        if self.secondary is None or self.secondary.broken:
            link.close()
            return
        if self.link is not None:  # all that the old connection brought is taken first
            self._peer(select.POLLIN)
            self._lost("the primary has connected anew")
        self.link, self._greeted = link, True
        self.secondary.connected(link)
        self._watch(link.socket.fileno(), self._peer, select.POLLIN | select.POLLOUT)
        self._take(frames)

    def _join(self, connection: socket.socket) -> None:
        self.link, self._greeted = Link(connection, self.names, self.timeout), False
        role = self.primary or self.secondary
        assert role is not None
        role.connected(self.link)
        self._watch(connection.fileno(), self._peer, select.POLLIN | select.POLLOUT)

    def _peer(self, event: int) -> None:
        link = self.link
        if link is None:
            return
        self._take(link.read() if event & (select.POLLIN | select.POLLHUP | select.POLLERR) else ())

    def _take(self, frames: Iterable[Frame]) -> None:
        link = self.link
        assert link is not None
        try:
            if self.primary is not None:
                for frame in frames:
                    self.primary.take_frame(frame)
            elif self.secondary is not None:
                self.secondary.take_frames(frames)
            if link.proven and not self._greeted and self.link is link:
                self._greeted = True
                if self.primary is not None:
                    self.primary.greet()
            self._send()
        except (OSError, SafekitError, ValueError, TypeError, LookupError, AttributeError) as error:
            # What another version or anybody without the key says must not end this process.
            self._lost(str(error) if isinstance(error, OSError | SafekitError) else f"{type(error).__name__}: {error}")
        self._throttle()

    def _send(self) -> None:
        link = self.link
        if link is None:
            return
        try:
            link.flush()
        except ConnectionError as error:
            self._lost(str(error))
            return
        fd = link.socket.fileno()
        if fd < 0:  # the primary has failed, and has closed it
            self._unlink()
            return
        self._poll.modify(fd, select.POLLIN | (select.POLLOUT if link.waiting else 0))

    def _unlink(self) -> None:
        link, self.link = self.link, None
        if link is not None:  # which may be closed already, and its descriptor's number not known any more
            for fd in [number for number, run in self._on.items() if run == self._peer]:
                self._forget(fd)

    def _lost(self, cause: str) -> None:
        link = self.link
        if link is None:
            return
        was = link.proven and self._greeted
        self._unlink()
        role = self.primary or self.secondary
        synced = (self.primary is not None and self.primary.mode in ("synced", "frozen")) or (
            self.secondary is not None and self.secondary.synced
        )
        if role is not None:
            role.lost(cause)
        link.close()
        self._connect_at = 0.0 if was and synced else time.monotonic() + self._pause
        if was and not synced:
            self._pause = min(2 * self._pause, LONGEST)
            self._tell("interrupted", cause, {})
        failing = self.primary is not None and self.primary.failing  # then the agent knows already, and gives way
        if synced and not failing and self._lost_at is None:
            self._lost_at, self._lost_cause = time.monotonic(), cause

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
        self._watch(self.flusher.fd, lambda _: self._flushed())
        return self.images, self.maps, self.flusher

    def _flushed(self) -> None:
        self._lease()
        try:
            if self.flusher is not None:
                self.flusher.finish()
        except OSError as error:  # the secondary's disk refuses
            self._lost(str(error))
        self._send()

    def _close_images(self) -> None:
        if self.flusher is not None:
            self._forget(self.flusher.fd)
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
        self.primary = Primary(
            self.session, images, maps, flusher, self.generation,
            store=self._noted, tell=self._tell, failed=self._failed, options=self.options,
        )  # fmt: skip
        if again is None:
            self.start.shared.failed = False
        elif self.start.shared.failed:
            self.primary.fail()
        if self.generation.shared:
            self.primary.mode = "frozen"  # the other may have the same: it must answer, or the agent say ``alone``
        if again is not None:
            self.primary.session_id = str(again.get("session", ""))
            if not self.primary.failing:
                self._lost_at, self._lost_cause = time.monotonic(), "the volume process died"
        self._watch(self.session.fd, self._fuse)

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
        self.secondary = Secondary(
            self.generation,
            open_images=self._open,
            store=self._noted,
            tell=self._tell,
            aside=self.folder / "aside" / aside if aside else None,
            fullsync=fullsync,
        )
        self._listen()

    def _idle(self) -> None:
        """No role."""
        if self.link is not None:
            link, role = self.link, self.primary or self.secondary
            self._unlink()
            if role is not None:
                role.lost("this server gives up its role")
            link.close()
        self._shut()
        if self.session is not None:
            self._forget(self.session.fd)
            self.session = None
        self.primary = self.secondary = None
        self._lost_at = None
        self._fenced = False
        self._close_images()

    def _remember(self) -> None:
        """What a worker that is started again must know. Losing it costs a comparison, no data."""
        role = "primary" if self.primary is not None else "secondary" if self.secondary is not None else ""
        session = (self.primary or self.secondary).session_id if role else ""  # type: ignore[union-attr]
        values = {"role": role, "session": session, "guarded": self.guarded}
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
        self.guarded = [(str(d), str(a)) for d, a in known.get("guarded", [])]
        self.until = int.from_bytes(os.pread(self._lease_file, 8, 0), "little")
        if known.get("role") == "primary" and self.start.mounted:
            self._serve("", again=known)
        elif known.get("role") == "secondary":
            self._receive(fullsync=bool(known.get("fullsync")), aside=str(known.get("aside") or ""))

    # --- the agent ------------------------------------------------------------------------------

    def _accept(self, control: socket.socket) -> None:
        with suppress(OSError):
            caller, _ = control.accept()
            caller.setblocking(False)
            self._callers[caller.fileno()] = (caller, b"")
            self._watch(caller.fileno(), lambda _: self._hear(caller))

    def _hear(self, caller: socket.socket) -> None:
        fd = caller.fileno()
        try:
            data = caller.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        *lines, rest = (self._callers[fd][1] + data).split(b"\n")
        if not data or len(rest) > LINE:
            self._drop(fd)
            return
        self._callers[fd] = (caller, rest)
        for line in lines:
            self._order(caller, line)

    def _drop(self, fd: int) -> None:
        self._forget(fd)
        caller, _ = self._callers.pop(fd)
        caller.close()

    def _order(self, caller: socket.socket, line: bytes) -> None:
        number: Any = None
        try:
            order = json.loads(line)
            number = order.pop("id", None)
            verb = order.pop("do")
            if verb == "verify":
                assert self.primary is not None, "only the primary compares"
                self.primary.verify(lambda found: self._reply(caller, _verified(number, found)))
                return
            found = self._do(verb, order)
        except OSError as error:
            self._reply(caller, {"id": number, "error": error.strerror or str(error), "errno": error.errno})
        except SafekitError as error:
            self._reply(caller, {"id": number, "error": error.problems[0].message, "code": error.problems[0].code})
        except (ValueError, LookupError, TypeError, AttributeError, AssertionError) as error:
            self._reply(caller, {"id": number, "error": f"{type(error).__name__}: {error}"})
        else:
            if number is not None:
                self._reply(caller, {"id": number, "ok": found})

    def _do(self, verb: str, order: Mapping[str, Any]) -> Mapping[str, Any]:
        verbs: dict[str, Callable[[Mapping[str, Any]], None]] = {
            "status": lambda _: None,
            "lease": self._renew,
            "guard": self._guard,
            "serve": self._begin,
            "receive": lambda o: self._receive(fullsync=bool(o.get("fullsync")), aside=str(o.get("aside", ""))),
            "alone": self._alone,
            "outdate": lambda _: self._outdate(),
            "release": lambda o: self._release(force=bool(o.get("force"))),
            "resize": lambda o: self._resize(int(o["volume"]), int(o["size"])),
        }
        if verb not in verbs:
            raise OSError(errno.ENOSYS, f"there is no command {verb}")
        verbs[verb](order)
        if verb not in ("lease", "status"):
            self._remember()
        role = self.primary or self.secondary
        return {
            "role": "primary" if self.primary else "secondary" if self.secondary else "",
            "generation": self._present().as_dict(),
            "resends": self.start.shared.resends,
            **(role.report() if role is not None else {}),
        }

    def _renew(self, order: Mapping[str, Any]) -> None:
        self.until = int(order["until"])
        # For the worker that follows this one, should it die: it must not go on longer, nor stop before.
        os.pwrite(self._lease_file, self.until.to_bytes(8, "little"), 0)
        if self._fenced and time.clock_gettime_ns(time.CLOCK_BOOTTIME) < self.until:
            self._fenced = False
            if self.primary is not None:
                self.primary.lift()

    def _guard(self, order: Mapping[str, Any]) -> None:
        self.guarded = [(str(device), str(address)) for device, address in order["addresses"]]

    def _begin(self, order: Mapping[str, Any]) -> None:
        self.until = max(self.until, int(order.get("until", 0)))
        self._serve(str(order.get("new", "")))

    def _alone(self, order: Mapping[str, Any]) -> None:
        assert self.primary is not None, "it is no primary"
        self._lease()  # the order may have waited here longer than the lease lasted
        self.primary.alone(str(order["new"]))
        self._lost_at = None

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
                self._unlink()
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
        if self.link is not None:  # the secondary grows when it is greeted anew
            self._lost("the volume grows")

    def _reply(self, caller: socket.socket, words: Mapping[str, Any]) -> None:
        fd = caller.fileno()
        if fd < 0:
            return
        try:
            caller.sendall(json.dumps(words).encode() + b"\n")
        except OSError:  # it is gone, or does not read
            self._drop(fd)

    def _present(self) -> Generation:
        """The generation as it is; on a disk that refuses to note it, the stored one may claim more."""
        role = self.primary or self.secondary
        return role.generation if role is not None else self.generation

    def _tell(self, kind: str, cause: str, data: Mapping[str, Any]) -> None:
        if kind == "synced":
            self._lost_at, self._pause = None, AGAIN
            self._remember()
        words = {"event": kind, "cause": cause, "data": dict(data), "generation": self._present().as_dict()}
        for caller, _ in list(self._callers.values()):
            self._reply(caller, words)


def _verified(number: Any, found: Mapping[str, Any] | OSError) -> Mapping[str, Any]:
    if isinstance(found, OSError):
        return {"id": number, "error": found.strerror, "errno": found.errno}
    return {"id": number, "ok": found}


def run(start: Start) -> None:
    """The worker, as the keeper calls it."""
    Process(start).run()
