"""The primary's side: what the kernel asks is done here and on the secondary, and answered when the promise holds.

A write, in one step: its zones are marked on disk if they were not, its frame is put into the stream, it is done on the
image. It is answered when the secondary has acknowledged it. A flush is answered when both disks have it.

``mode`` is one of

- ``alone``: there is no secondary, or one that is being resynchronised: answered when it is done here;
- ``synced``: both images are the same: answered when it is done on both;
- ``frozen``: the secondary was lost: nothing is answered until the agent says ``alone``, or until it is back.

Past the lease nothing is answered in any mode (``fenced``). When this server's disk has refused data that the
secondary may have, or a flush, everything fails from there on (``failing``), and nothing more is sent.

Invariant: no write or flush is answered in ``synced`` or ``frozen`` that the secondary has not; no write is answered
alone before a generation of its own is stored.
"""

from __future__ import annotations

import errno
import math
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any

from .. import generation as gen
from ..generation import Generation
from .catchup import CatchUp
from .flusher import Flusher
from .frames import Frame, Kind, head
from .image import ImageFile
from .link import Link
from .local import perform
from .request import Request, Session
from .zones import ZONE, ZoneMap, zones_of

KINDS = {"write": Kind.WRITE, "discard": Kind.DISCARD, "zero": Kind.ZERO}
PART = 1 << 30  # bytes of one discard on the wire
LARGE = 64 << 10  # bytes of a write that the secondary gets before it is done here: both disks work at the same time
COLD = 10.0  # seconds after its last write that a zone of a synced volume is unmarked, after a flush of both
MANY = 8192  # zones that are unmarked at a time


class Flush:
    """A flush that is under way."""

    __slots__ = ("here", "number", "request", "there")

    def __init__(self, request: Request | None, number: int, *, there: bool) -> None:
        self.request, self.number = request, number
        self.here, self.there = False, there


class Primary:
    """The volumes of one module on their primary.

    :param store: keeps a generation on stable storage.
    :param tell: tells the agent: kind, cause, data.
    :param failed: is called when nothing may be acknowledged any more, before anything is answered so.
    """

    def __init__(
        self,
        session: Session,
        images: Sequence[ImageFile],
        maps: Sequence[ZoneMap],
        flusher: Flusher,
        generation: Generation,
        *,
        store: Callable[[Generation], None],
        tell: Callable[[str, str, Mapping[str, Any]], None],
        failed: Callable[[], None],
        options: Mapping[str, Any],
    ) -> None:
        self._session, self.images, self.maps, self.flusher = session, images, maps, flusher
        self.generation, self._store, self._tell, self._options = generation, store, tell, options
        self._failed = failed
        self.mode = "alone"
        self.fenced = self.failing = False
        self.link: Link | None = None
        self.catch: CatchUp | None = None
        self._check: tuple[CatchUp, Callable[[Mapping[str, Any] | OSError], None]] | None = None
        self._begun = False  # the secondary takes the stream: HELLO is done
        self._said = False  # that it is synced; its word is awaited
        self.session_id = ""  # of the present pair of equal images, as both remember it
        self._number = 0
        self._synced_at = 0  # the number behind which the secondary is the same
        self._pending: deque[tuple[int, Request]] = deque()  # done here, not yet acknowledged there
        self._errors: dict[int, int] = {}  # by number, of those that failed here
        self._flushes: list[Flush] = []
        self._held: deque[Request] = deque()  # not done yet
        self._unanswered: list[tuple[Request, int]] = []  # done, and held back by the fence
        self._last: dict[tuple[int, int], tuple[int, float]] = {}  # by zone: number and time of its last write
        self._torn: set[tuple[int, int]] = set()  # zones with a write that failed: what they hold is not known
        self._look_at = 0.0  # when cold zones are looked for

    # --- the kernel's requests ------------------------------------------------------------------

    @property
    def same(self) -> bool:
        """The secondary has the same data, or had them when it was lost."""
        return self.mode in ("synced", "frozen")

    @property
    def frozen(self) -> bool:
        """What is not acknowledged waits for the secondary."""
        return self.mode == "frozen"

    @property
    def silent(self) -> bool:
        """The secondary must hear nothing of this server."""
        return self.fenced or self.failing

    @property
    def wants_more(self) -> bool:
        """Whether more requests should be read."""
        return self.link is None or not self.link.full

    def take(self, requests: Sequence[Request]) -> None:
        """Do what the kernel asks."""
        flushes: list[Flush] = []
        for request in requests:
            if self.failing:
                self._session.answer(request, errno.EIO)
            elif request.kind == "read":
                self._read(request)
            elif self._held or self.mode == "frozen" or self.fenced:
                self._held.append(request)
            elif request.kind == "flush":
                flushes.append(self._flush(request))
            else:
                self._write(request, now=len(requests) == 1 or request.size >= LARGE)
        self._push()
        self._sync(flushes)

    def _push(self) -> None:
        """Send what waits; that the connection is gone is found by whoever looks at it next, and stops nothing here."""
        if self.link is not None:
            with suppress(ConnectionError):
                self.link.flush()

    def _read(self, request: Request) -> None:
        try:
            found = self.images[request.volume].read(request.offset, request.size)
        except OSError as error:
            self._broken(error)
            self._session.answer(request, error.errno or errno.EIO)
        else:
            self._session.answer(request, 0, found)

    def _write(self, request: Request, *, now: bool) -> None:
        """A write, or what else changes the image.

        :param now: let the secondary begin with it at once, and not with others that follow.
        """
        zones, volume = zones_of(request.offset, request.size), request.volume
        self._number += 1
        number, error, sent = self._number, 0, False
        try:
            self.maps[volume].mark(zones)
            if self._follows:
                self._forward(number, request)
                sent = True
                if now:
                    self._push()
            perform(self.images[volume], request)
        except OSError as found:
            error = found.errno or errno.EIO
            self._torn.update((volume, zone) for zone in zones)
            self._broken(found)
        else:
            at = time.monotonic()
            for zone in zones:
                self._last[volume, zone] = (number, at)
            self.flusher.wrote(volume, request.size if request.kind == "write" else 0)
        if self.mode != "synced" or (error and not sent):
            self._answer(request, error)
            if error and self._follows:
                self.fail()
            return
        if error:  # it waits too: what is in the stream is still in the request's memory
            self._errors[number] = error
        self._pending.append((number, request))
        if error:
            # Nothing more goes to the secondary: what a file system does after an error is not what a power cut leaves.
            self.fail()

    @property
    def _follows(self) -> bool:
        """Whether the secondary gets every write."""
        return self.link is not None and self._begun

    def _forward(self, number: int, request: Request) -> None:
        link = self.link
        assert link is not None
        kind = KINDS[request.kind]
        if request.data is not None:
            # In synced mode the kernel's memory stays as it is until the answer; else it is used again at once.
            data = request.data if self.mode == "synced" else bytes(request.data)
            link.put(head(kind, request.volume, len(data), request.size, number, request.offset), data)
            return
        end = request.offset + request.size
        for at in range(request.offset, end, PART):
            size = min(PART, end - at)
            # Only the last part has the number: what is acknowledged is there as a whole.
            link.put(head(kind, request.volume, 0, size, number if at + size == end else 0, at))

    def _flush(self, request: Request | None) -> Flush:
        self._number += 1
        both = self._follows and self.mode == "synced"
        made = Flush(request, self._number, there=not both)
        self._flushes.append(made)
        if both and self.link is not None:
            # One of this side's own is for the disk there, whatever ``sync`` says: zones are unmarked after it.
            self.link.frame(Kind.FLUSH, number=self._number, size=0 if request is not None else 1)
        return made

    def _sync(self, flushes: Sequence[Flush]) -> None:
        if not flushes:
            return

        def done(error: OSError | None) -> None:
            if error is not None:
                self._refused(flushes, error)
                return
            for flush in flushes:
                flush.here = True
            self._settle()

        self.flusher.flush([done])

    def _refused(self, flushes: Sequence[Flush], error: OSError) -> None:
        """What was written may be on no disk, and the kernel has forgotten it: nothing may follow it."""
        if not self.failing:
            self._broken(error)
        for flush in flushes:
            self._finish(flush, error.errno or errno.EIO)
        self.fail()

    def _settle(self) -> None:
        """Answer the flushes that are done on both sides."""
        for flush in [each for each in self._flushes if each.here and each.there]:
            self._finish(flush, 0)

    def _finish(self, flush: Flush, error: int) -> None:
        if flush in self._flushes:
            self._flushes.remove(flush)
            if flush.request is not None:
                self._answer(flush.request, error)
            elif not error:
                self._cool(flush.number)

    def _answer(self, request: Request, error: int = 0) -> None:
        if self.fenced and not error:
            self._unanswered.append((request, error))
        else:
            self._session.answer(request, error)

    def _broken(self, error: OSError) -> None:
        self._tell("failed", f"the image on this server: {error.strerror or error}", {"errno": error.errno or 0})

    # --- the lease and the agent ----------------------------------------------------------------

    def fence(self) -> None:
        """The lease has ended: answer nothing; and let the secondary see that."""
        self.fenced = True
        if self.link is not None:
            self.lost("the lease has ended")

    def lift(self) -> None:
        """A new lease: answer what waits."""
        self.fenced = False
        waiting, self._unanswered = self._unanswered, []
        for request, error in waiting:
            self._session.answer(request, error)
        self._go_on()

    def alone(self, new: str) -> None:
        """Go on without the secondary; the generation is stored before anything is answered.

        :raises OSError: the two are the same, or just becoming so again; ask anew when that is known. Or this server's
            disk has refused data: it is not the one to go on.
        """
        if self.failing:
            raise OSError(errno.EIO, "the disk of this server has refused data")
        if self.link is not None and (self._said or self.mode == "synced"):
            raise OSError(errno.EBUSY, "the secondary is there and has everything, or is just being told so")
        self.session_id = ""  # before it is stored: a process that follows this one must not resume
        self._set(gen.alone(self.generation, new))
        self.mode = "alone"
        self._release_pending(None)
        for flush in self._flushes:
            flush.there = True
        self._settle()
        self._go_on()

    def _release_pending(self, upto: int | None) -> None:
        while self._pending and (upto is None or self._pending[0][0] <= upto):
            number, request = self._pending.popleft()
            self._answer(request, self._errors.pop(number, 0))

    def _go_on(self) -> None:
        if self.mode != "frozen" and not self.fenced and self._held:
            held, self._held = list(self._held), deque()
            self.take(held)

    def fail(self) -> None:
        """Everything that waits fails, and all that comes: this server gives the data up by force."""
        self._failed()
        self.failing, self.fenced = True, False
        if self.link is not None:  # what waits to be sent lies in memory that is used again after the answer
            self.lost("the data are given up by force")
        for request in [*(r for _, r in self._pending), *self._held, *(r for r, _ in self._unanswered)]:
            self._session.answer(request, errno.EIO)
        self._pending.clear()
        self._held.clear()
        self._unanswered = []
        for flush in list(self._flushes):
            self._finish(flush, errno.EIO)

    def _set(self, generation: Generation) -> None:
        self._store(generation)
        self.generation = generation

    # --- the secondary --------------------------------------------------------------------------

    def connected(self, link: Link) -> None:
        """A connection to the secondary has been made."""
        self.link, self._begun, self._said = link, False, False

    def greet(self) -> None:
        """The other side has proved itself: say what this one has."""
        assert self.link is not None
        self.link.say(
            Kind.HELLO,
            {
                "generation": self.generation.as_dict(),
                "volumes": [image.size for image in self.images],
                "session": self.session_id,
                "sync": self._options.get("sync", "none"),
            },
        )

    def take_frames(self, frames: Iterable[Frame]) -> None:
        """What the secondary said."""
        for frame in frames:
            self.take_frame(frame)

    def take_frame(self, frame: Frame) -> None:
        """Something that the secondary said."""
        if frame.kind is Kind.ACK:
            if self.mode != "frozen":
                self._release_pending(frame.number)
        elif frame.kind is Kind.FLUSHED:
            if self.mode != "frozen":
                self._release_pending(frame.number)
            for flush in self._flushes:
                if flush.number <= frame.number:
                    flush.there = True
            self._settle()
        elif frame.kind in (Kind.HASHES, Kind.FINES, Kind.THERE):
            for each in (self.catch, self._check[0] if self._check else None):
                if each is not None:
                    each.take(frame)
        elif frame.kind is Kind.HELLO:
            self._hello(frame.words())
        elif frame.kind is Kind.SYNCED_OK:
            self._synced()
        elif frame.kind is Kind.EJECT:
            raise ConnectionError(f"the secondary gives up: {frame.words().get('cause', '')}")

    def _hello(self, said: Mapping[str, Any]) -> None:
        link = self.link
        assert link is not None
        theirs = Generation.from_dict(said["generation"])
        self._begun = True
        known = self.session_id and said.get("session") == self.session_id
        if known and said.get("resume") and theirs.data == self.generation.data:
            # Only this process or the connection died: nothing can differ but what was not acknowledged. That is sent
            # again here, or asked for again by the kernel.
            for number, request in self._pending:
                self._forward(number, request)
            self._said = True
            self._say_synced()
            return
        relation = gen.compare(self.generation, theirs)
        full = bool(said.get("fullsync")) or not (relation.kind in ("same", "mine", "diverged") and relation.by_map)
        zones: set[tuple[int, int]] = set()
        for volume, each in enumerate(self.maps):
            if full:
                zones |= {(volume, zone) for zone in range(each.count)}
            else:
                marks = bytes.fromhex(said["marks"][volume])
                other = {n for n in range(each.count) if n >> 3 < len(marks) and marks[n >> 3] >> (n & 7) & 1}
                zones |= {(volume, zone) for zone in each.marked | other}
        for volume, each in enumerate(self.maps):
            each.mark(zone for v, zone in zones if v == volume)
        link.frame(Kind.BEGIN)
        rate, compression = int(self._options.get("bandwidth", 0)), str(self._options.get("compression", "auto"))
        self.catch = CatchUp(link, self.images, zones, rate=rate, compression=compression)
        self._tell("connected", f"{len(zones)} zones to compare", self.catch.progress())

    def _say_synced(self) -> None:
        """Everything that differed is in the stream: from here on the secondary has what is answered."""
        assert self.link is not None
        self._set(gen.sharing(self.generation))
        self.session_id = self.session_id or secrets.token_hex(8)
        if self.mode == "alone":
            self.mode = "synced"
        self._number += 1
        self._synced_at = self._number
        self.link.say(Kind.SYNCED, {"generation": self.generation.as_dict(), "session": self.session_id})

    def _synced(self) -> None:
        if self.mode == "frozen":
            self.mode = "synced"
        self._release_pending(self._synced_at)
        for flush in self._flushes:
            if flush.number <= self._synced_at:
                flush.there = True
        self._said = False
        self._settle()
        found = self.catch.progress() if self.catch is not None else {}
        self.catch = None
        self._tell("synced", "", {**found, "session": self.session_id})
        self._go_on()

    def lost(self, cause: str) -> None:
        """The connection is gone."""
        link, self.link = self.link, None
        check, self._check = self._check, None
        self.catch, self._begun = None, False
        if link is not None:
            link.close()
        if self.mode == "synced":
            self.mode = "frozen"
        if check is not None:
            check[1](OSError(errno.ECONNABORTED, f"the other server was lost: {cause}"))

    def verify(self, done: Callable[[Mapping[str, Any] | OSError], None]) -> None:
        """Compare everything while both go on.

        :param done: is called with what was found, or with the reason why it was not completed.
        :raises OSError: the two are not synced.
        """
        if self.link is None or self.mode != "synced" or self._check is not None:
            raise OSError(errno.EBUSY, "the two servers are not synchronised, or are being compared already")
        zones = [(volume, zone) for volume, each in enumerate(self.maps) for zone in range(each.count)]
        self._check = (CatchUp(self.link, self.images, zones, repair=False), done)

    # --- time -----------------------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """Whether a resynchronisation has something to do now."""
        if self.catch is None and self._check is None:
            return False
        return any(each is not None and each.busy for each in (self.catch, self._check[0] if self._check else None))

    def tick(self, now: float) -> None:
        """Go on with what takes time."""
        if self.catch is not None and not self._said:
            self.catch.step(now)
            if self.catch.complete:
                self._said = True
                self._say_synced()
        if self._check is not None:
            check, done = self._check
            check.step(now)
            if check.complete:
                self._check = None
                done({"different": check.different, "ranges": check.ranges[:1000]})
        if self.mode == "synced" and not self.fenced and now >= self._look_at:
            self._look_at = now + COLD / 10
            self._cold(now)

    def _cold(self, now: float) -> None:
        """Zones that have not been written for a while are flushed on both sides and unmarked."""
        if not any(each.request is None for each in self._flushes) and next(self._marked(now - COLD), None):
            flush = self._flush(None)
            self._push()
            self._sync([flush])

    def _cool(self, number: int) -> None:
        """Both disks have everything up to this number: its cold zones are the same."""
        if self.mode != "synced" or self.link is None:
            return
        for volume, zone in list(islice(self._marked(time.monotonic() - COLD / 2, number), MANY)):
            self._last.pop((volume, zone), None)
            self.maps[volume].clear((zone,))
            self.link.frame(Kind.CLEAR, volume=volume, offset=zone * ZONE)

    def _marked(self, before: float, number: int | None = None) -> Iterator[tuple[int, int]]:
        """Marked zones that were not written since then, nor by a write of that number or a later one."""
        for volume, each in enumerate(self.maps):
            for zone in each.marked:
                last, at = self._last.get((volume, zone), (0, -math.inf))
                if at < before and (number is None or last < number) and (volume, zone) not in self._torn:
                    yield volume, zone

    def report(self) -> Mapping[str, Any]:
        """For people."""
        found: dict[str, Any] = {
            "mode": "fenced" if self.fenced else self.mode,
            "connected": self.link is not None and self._begun,
            "marked": sum(len(each.marked) for each in self.maps) * ZONE,
            "waiting": len(self._pending) + len(self._held) + len(self._flushes) + len(self._unanswered),
        }
        if self.catch is not None:
            found["resynchronisation"] = self.catch.progress()
        return found
