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
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from .. import generation as gen
from ..generation import Generation
from .comparing import Comparing, Verified
from .flusher import Flusher
from .frames import Frame, Kind
from .image import ImageFile
from .link import Link
from .local import perform
from .owed import Flush, Owed
from .request import Request, Session
from .stream import forward
from .warm import Warm
from .zones import ZONE, ZoneMap, zones_of

LARGE = 64 << 10  # bytes of a write that the secondary gets before it is done here: both disks work at the same time


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
        self.failing = False
        self.link: Link | None = None
        self._begun = False  # the secondary takes the stream: HELLO is done
        self._said = False  # that it is synced; its word is awaited
        self.session_id = ""  # of the present pair of equal images, as both remember it
        self._number = 0
        self._synced_at = 0  # the number behind which the secondary is the same
        self._held: deque[Request] = deque()  # not done yet
        self._owed = Owed(session, self._cool)
        self._comparing = Comparing(images, maps)
        self._warm = Warm(maps)

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
    def fenced(self) -> bool:
        """The lease has ended: nothing is answered."""
        return self._owed.fenced

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
            elif self._held or self.mode == "frozen" or self._owed.fenced:
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
            link = self.link
            if link is not None and self._begun:
                # In synced mode the kernel's memory stays as it is until the answer; else it is used again at once.
                forward(link, number, request, copy=self.mode != "synced")
                sent = True
                if now:
                    self._push()
            perform(self.images[volume], request)
        except OSError as found:
            error = found.errno or errno.EIO
            self._warm.torn.update((volume, zone) for zone in zones)
            self._broken(found)
        else:
            last = self._warm.last
            at = time.monotonic()
            for zone in zones:
                last[volume, zone] = (number, at)
            self.flusher.wrote(volume, request.size if request.kind == "write" else 0)
        if self.mode != "synced" or (error and not sent):
            self._owed.answer(request, error)
            if error and self._follows:
                self.fail()
            return
        self._owed.wait(number, request, error)  # a failed one too: what is in the stream is still in its memory
        if error:
            # Nothing more goes to the secondary: what a file system does after an error is not what a power cut leaves.
            self.fail()

    @property
    def _follows(self) -> bool:
        """Whether the secondary gets every write."""
        return self.link is not None and self._begun

    def _flush(self, request: Request | None) -> Flush:
        self._number += 1
        both = self._follows and self.mode == "synced"
        made = self._owed.flush(request, self._number, there=not both)
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
            else:
                self._owed.flushed(flushes)

        self.flusher.flush([done])

    def _refused(self, flushes: Sequence[Flush], error: OSError) -> None:
        """What was written may be on no disk, and the kernel has forgotten it: nothing may follow it."""
        if not self.failing:
            self._broken(error)
        self._owed.refuse(flushes, error.errno or errno.EIO)
        self.fail()

    def _broken(self, error: OSError) -> None:
        self._tell("failed", f"the image on this server: {error.strerror or error}", {"errno": error.errno or 0})

    # --- the lease and the agent ----------------------------------------------------------------

    def fence(self) -> None:
        """The lease has ended: answer nothing; and let the secondary see that."""
        self._owed.fenced = True
        if self.link is not None:
            self.lost("the lease has ended")

    def lift(self) -> None:
        """A new lease: answer what waits."""
        self._owed.lift()
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
        self._owed.release(None)
        self._owed.flushed_there(None)
        self._go_on()

    def _go_on(self) -> None:
        if self.mode != "frozen" and not self._owed.fenced and self._held:
            held, self._held = list(self._held), deque()
            self.take(held)

    def fail(self) -> None:
        """Everything that waits fails, and all that comes: this server gives the data up by force."""
        self._failed()
        self.failing, self._owed.fenced = True, False
        if self.link is not None:  # what waits to be sent lies in memory that is used again after the answer
            self.lost("the data are given up by force")
        held, self._held = list(self._held), deque()
        self._owed.fail(held)

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
        said = {"generation": self.generation.as_dict(), "volumes": [image.size for image in self.images]}
        asked = {"session": self.session_id, "sync": self._options.get("sync", "none")}
        self.link.say(Kind.HELLO, {**said, **asked})

    def take_frames(self, frames: Iterable[Frame]) -> None:
        """What the secondary said.

        :raises ConnectionError: it gives up.
        """
        for frame in frames:
            kind = frame.kind
            if kind is Kind.ACK:
                if self.mode != "frozen":
                    self._owed.release(frame.number)
            elif kind is Kind.FLUSHED:
                if self.mode != "frozen":
                    self._owed.release(frame.number)
                self._owed.flushed_there(frame.number)
            elif kind in (Kind.HASHES, Kind.FINES, Kind.THERE):
                self._comparing.take(frame)
            elif kind is Kind.HELLO:
                self._hello(frame.words())
            elif kind is Kind.SYNCED_OK:
                self._synced()
            elif kind is Kind.EJECT:
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
            for number, request in self._owed.pending:
                forward(link, number, request, copy=self.mode != "synced")
            self._said = True
            self._say_synced()
            return
        relation = gen.compare(self.generation, theirs)
        full = bool(said.get("fullsync")) or not (relation.kind in ("same", "mine", "diverged") and relation.by_map)
        zones = self._comparing.marked(None if full else said["marks"])
        link.frame(Kind.BEGIN)
        progress = self._comparing.resynchronise(link, zones, self._options)
        self._tell("connected", f"{len(zones)} zones to compare", progress)

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
        self._owed.release(self._synced_at)
        self._said = False
        self._owed.flushed_there(self._synced_at)
        self._tell("synced", "", {**self._comparing.ended(), "session": self.session_id})
        self._go_on()

    def lost(self, cause: str) -> None:
        """The connection is gone."""
        link, self.link = self.link, None
        self._begun = False
        if link is not None:
            link.close()
        if self.mode == "synced":
            self.mode = "frozen"
        self._comparing.lost(cause)

    def verify(self, done: Verified) -> None:
        """Compare everything while both go on.

        :param done: is called with what was found, or with the reason why it was not completed.
        :raises OSError: the two are not synced, or are being compared already.
        """
        if self.link is None or self.mode != "synced":
            raise OSError(errno.EBUSY, "the two servers are not synchronised")
        self._comparing.verify(self.link, done)

    def limit(self, bandwidth: int) -> None:
        """What a resynchronisation may take, in bytes a second; 0: no limit."""
        self._comparing.limit(bandwidth)

    # --- time -----------------------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """Whether a resynchronisation has something to do now."""
        return self._comparing.busy

    def tick(self, now: float) -> None:
        """Go on with what takes time."""
        if not self._said and self._comparing.caught_up(now):
            self._said = True
            self._say_synced()
        self._comparing.step(now)
        if self.mode == "synced" and not self._owed.fenced and self._warm.due(now) and not self._owed.flushes_own:
            flush = self._flush(None)
            self._push()
            self._sync([flush])

    def _cool(self, number: int) -> None:
        """Both disks have everything up to this number: its cold zones are the same."""
        if self.mode != "synced" or self.link is None:
            return
        for volume, zone in self._warm.cold(time.monotonic(), number):
            self.maps[volume].clear((zone,))
            self.link.frame(Kind.CLEAR, volume=volume, offset=zone * ZONE)

    def report(self) -> Mapping[str, Any]:
        """For people."""
        found: dict[str, Any] = {
            "mode": "fenced" if self.fenced else self.mode,
            "connected": self.link is not None and self._begun,
            "marked": sum(len(each.marked) for each in self.maps) * ZONE,
            "waiting": len(self._owed) + len(self._held),
            "sent": self.link.sent if self.link is not None else 0,
            "unsent": self.link.waiting if self.link is not None else 0,
        }
        if self._comparing.catch is not None:
            found["resynchronisation"] = self._comparing.catch.progress()
        return found
