"""The secondary's side: what the primary sends is done on the images here, in its order.

Invariants: a zone is marked on disk before it is written; the generation says that this server is not up to date from
before the first byte of a resynchronisation until the primary's word that everything was sent, and then only after all
of it is on disk here.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import zstandard

from safekit_py.api import Problem

from .. import generation as gen
from ..generation import Generation
from .catchup import fine, there
from .flusher import Flusher
from .frames import Frame, Kind, WireError
from .hashes import PIECE, digests, hole
from .image import ImageFile
from .link import Link
from .request import LARGEST
from .zones import ZONE, ZoneMap, zones_of


class Secondary:
    """The volumes of one module on their secondary.

    :ivar frozen: nothing waits here for the other server.
    :ivar failing: see ``broken``.
    :param open_images: makes the images fit the primary's sizes; returns images and maps.
    """

    frozen = failing = False

    def __init__(
        self,
        generation: Generation,
        *,
        open_images: Callable[[Sequence[int]], tuple[Sequence[ImageFile], Sequence[ZoneMap], Flusher]],
        store: Callable[[Generation], None],
        tell: Callable[[str, str, Mapping[str, Any]], None],
        aside: Path | None,
        fullsync: bool,
    ) -> None:
        self.generation, self._open, self._store, self._tell = generation, open_images, store, tell
        self._fullsync, self._aside = fullsync, aside
        self._asides: dict[int, int] = {}
        self.images: Sequence[ImageFile] = ()
        self.maps: Sequence[ZoneMap] = ()
        self.flusher: Flusher | None = None
        self.link: Link | None = None
        self.session_id = ""
        self._sync = "none"
        self._seen = self._said = 0
        self._flushes, self._to_disk = 0, False  # of what came together: the last flush's number
        self.received = 0
        self.synced = False
        self.broken = False  # the disk or the data here refuse: nothing more is taken until the agent says so
        self._zstd = zstandard.ZstdDecompressor()

    @property
    def same(self) -> bool:
        """Both had the same data while the primary was there."""
        return self.synced

    @property
    def asked(self) -> tuple[Path | None, bool]:
        """Where to keep what is overwritten, and whether everything is to come anew; both end with the first sync."""
        return self._aside, self._fullsync

    def connected(self, link: Link) -> None:
        """The primary has connected; its numbers begin anew when its process does."""
        self.link = link
        self._seen = self._said = 0

    def greet(self) -> None:
        """The primary speaks first."""

    def take_frames(self, frames: Iterable[Frame]) -> None:
        """What the primary sent; acknowledged once for all that came together.

        :raises ConnectionError: it makes no sense, or this server's disk refuses it.
        """
        link = self.link
        assert link is not None
        self._flushes, self._to_disk = 0, False
        for frame in frames:
            try:
                self._take(link, frame)
            except OSError as error:
                if isinstance(error, ConnectionError):
                    raise
                self._eject(link, f"{error.strerror or error}")
        if self._flushes:
            self._flush(link, self._flushes, disk=self._to_disk)
        if self._seen > self._said:
            self._said = self._seen
            link.frame(Kind.ACK, number=self._seen)
        link.flush()

    def _take(self, link: Link, frame: Frame) -> None:
        kind = frame.kind
        if kind in (Kind.WRITE, Kind.DISCARD, Kind.ZERO):
            image = self._image(frame)
            if kind is Kind.WRITE and len(frame.payload) != frame.size:
                raise WireError(f"a write of {frame.size} bytes with {len(frame.payload)}")
            self._mark(frame)
            self._keep_aside(image, frame)
            if kind is Kind.WRITE:
                image.write(frame.offset, frame.payload)
                self._wrote(frame.volume, frame.size)
            else:
                (image.discard if kind is Kind.DISCARD else image.zero)(frame.offset, frame.size)
                self._wrote(frame.volume, 0)
            self._seen = max(self._seen, frame.number)
        elif kind is Kind.FLUSH:
            # One for all that came together, after all that came with them.
            self._flushes = frame.number
            self._to_disk = self._to_disk or bool(frame.size) or self._sync != "second"
        elif kind in (Kind.ASK, Kind.HOLES, Kind.FINE):
            self._compare(link, frame)
        elif kind in (Kind.FILL, Kind.FILL_ZSTD, Kind.HOLE):
            self._fill(frame)
        elif kind is Kind.CLEAR:
            self.maps[self._checked(frame)].clear(zones_of(frame.offset, frame.size))
        elif kind is Kind.BEGIN:
            self._begin()
        elif kind is Kind.SYNCED:
            self._end(link, frame.words())
        elif kind is Kind.HELLO:
            self._hello(link, frame.words())
        else:
            raise WireError(f"a primary says nothing like {kind.name}")

    def _compare(self, link: Link, frame: Frame) -> None:
        """What the primary wants to know of a range."""
        image, offset, size = self._image(frame), frame.offset, frame.size
        if frame.kind is Kind.ASK:
            link.frame(Kind.HASHES, volume=frame.volume, offset=offset, payload=digests(image, offset, size))
        elif frame.kind is Kind.HOLES:
            link.frame(Kind.THERE, volume=frame.volume, offset=offset, payload=there(image, offset, size))
        else:
            link.frame(Kind.FINES, volume=frame.volume, offset=offset, payload=fine(image, offset, frame.payload))

    def _checked(self, frame: Frame) -> int:
        if frame.volume >= len(self.images):
            raise WireError(f"there is no volume {frame.volume}")
        return frame.volume

    def _image(self, frame: Frame) -> ImageFile:
        image = self.images[self._checked(frame)]
        if frame.offset + frame.size > image.size:
            raise WireError("a range beyond the end of the volume")
        return image

    def _mark(self, frame: Frame) -> None:
        self.maps[frame.volume].mark(zones_of(frame.offset, frame.size))

    def _wrote(self, volume: int, size: int) -> None:
        if self.flusher is not None:
            self.flusher.wrote(volume, size)

    def _flush(self, link: Link, number: int, *, disk: bool) -> None:
        self._seen = max(self._seen, number)
        if not disk:
            self._flushed(link, number)

        def done(error: OSError | None) -> None:
            if self.link is not link:
                return
            if error is not None:
                self._eject(link, f"{error.strerror or error}")
            elif disk:
                self._flushed(link, number)

        if self.flusher is not None:
            self.flusher.flush([done])

    def _flushed(self, link: Link, number: int) -> None:
        self._said = max(self._said, number)  # it says that everything before it was taken, too
        link.frame(Kind.FLUSHED, number=number)
        link.flush()

    # --- resynchronisation ----------------------------------------------------------------------

    def _hello(self, link: Link, said: Mapping[str, Any]) -> None:
        sizes = [int(size) for size in said["volumes"]]
        theirs = Generation.from_dict(said["generation"])
        self._sync = str(said.get("sync", "none"))
        relation = gen.compare(self.generation, theirs)
        allowed = relation.kind in ("none", "same", "theirs") or self._fullsync
        if not allowed and not (self._aside is not None and relation.kind == "diverged"):
            self._refuse(link, relation.kind)
        resume = bool(said.get("session")) and said.get("session") == self.session_id
        if not resume:
            self.session_id = ""
        self.images, self.maps, self.flusher = self._open(sizes)
        link.say(
            Kind.HELLO,
            {
                "generation": self.generation.as_dict(),
                "marks": [_bits(each) for each in self.maps],
                "session": self.session_id,
                "resume": resume,
                "fullsync": self._fullsync,
            },
        )

    def _begin(self) -> None:
        self.synced = False
        self._set(gen.resyncing(self.generation))
        self.received = 0
        self._tell("connected", "resynchronisation begins", {})

    def _fill(self, frame: Frame) -> None:
        image = self._image(frame)
        self._mark(frame)
        self._keep_aside(image, frame)
        if frame.kind is Kind.HOLE:
            image.discard(frame.offset, frame.size)
        else:
            data = frame.payload if frame.kind is Kind.FILL else self._unpacked(frame)
            if len(data) != frame.size:
                raise WireError(f"a range of {frame.size} bytes with {len(data)}")
            image.write(frame.offset, data)
        self._wrote(frame.volume, frame.size)
        self.received += frame.size

    def _unpacked(self, frame: Frame) -> bytes:
        if frame.size > LARGEST:
            raise WireError("a range that is too large")
        try:
            return self._zstd.decompress(bytes(frame.payload), max_output_size=frame.size)
        except zstandard.ZstdError as error:
            raise WireError(f"a range that cannot be unpacked: {error}") from None

    def _keep_aside(self, image: ImageFile, frame: Frame) -> None:
        """What only this server has is kept before it is overwritten, at the same place of a sparse file; the first
        content of a page is the one that counts, whatever overwrites it."""
        if self._aside is None:
            return
        if frame.volume not in self._asides:
            self._aside.mkdir(parents=True, exist_ok=True)
            name = self._aside / f"{image.path.stem}.blocks"
            self._asides[frame.volume] = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fd, new = self._asides[frame.volume], []
        for at in range(frame.offset // PIECE * PIECE, frame.offset + frame.size, PIECE):
            if not _has(fd, at) and not hole(image, at, PIECE):
                os.pwrite(fd, image.read(at, PIECE), at)
                new.append(f"{image.path.stem} {at} {PIECE}\n")
        if new:
            with (self._aside / "list").open("a") as stream:
                stream.writelines(new)

    def _end(self, link: Link, said: Mapping[str, Any]) -> None:
        """Everything that differed has come: it is on disk before this server says that it is up to date."""
        flusher = self.flusher
        if flusher is None:
            raise WireError("the end of what did not begin")
        theirs, session = Generation.from_dict(said["generation"]), str(said["session"])
        for fd in self._asides.values():
            os.fsync(fd)

        def done(error: OSError | None) -> None:
            if self.link is not link:
                return
            if error is not None:
                self._eject(link, f"{error.strerror or error}")
            for fd in self._asides.values():
                os.close(fd)
            self._asides, self._aside, self._fullsync = {}, None, False
            self._set(gen.synced(self.generation, theirs))
            self.session_id, self.synced = session, True
            link.say(Kind.SYNCED_OK, {})
            link.flush()
            self._tell("synced", "", {"received": self.received, "session": self.session_id})

        for volume in range(len(self.images)):
            flusher.wrote(volume, 0)
        flusher.flush([done])

    def _set(self, generation: Generation) -> None:
        self._store(generation)
        self.generation = generation

    def outdate(self) -> None:
        """The primary goes on without this server. It knows so from here on even when it cannot be noted.

        :raises OSError: it could not.
        """
        self.session_id, self.synced = "", False
        self.generation = gen.outdated(self.generation)
        self._store(self.generation)

    def _eject(self, link: Link, cause: str) -> NoReturn:
        """The disk here refuses: this server is not up to date from here on, and the primary must know."""
        if self.generation.data and self.generation.uptodate:
            try:
                self.outdate()
            except OSError as error:
                cause = f"{cause}; and that could not be noted: {error.strerror}"
        self._part(link, cause, {"errno": errno.EIO})

    def _refuse(self, link: Link, kind: str) -> NoReturn:
        """The primary's data do not follow those of this server, which nobody has given up: they stay as they are."""
        problem = _unfit(kind)
        self._part(link, problem.message, {"code": problem.code, "remedy": problem.remedy})

    def _part(self, link: Link, cause: str, data: Mapping[str, Any]) -> NoReturn:
        self.broken = True
        try:
            link.say(Kind.EJECT, {"cause": cause})
            link.flush()
        finally:
            self._tell("failed", cause, data)
        raise ConnectionError(cause)

    def lost(self, cause: str) -> None:
        """The connection is gone; the session can be resumed if only the primary's process died."""
        link, self.link = self.link, None
        if link is not None:
            link.close()
        self.synced = False

    def report(self) -> Mapping[str, Any]:
        """For people."""
        return {
            "mode": "synced" if self.synced else "waiting",
            "connected": self.link is not None and self.link.proven,
            "marked": sum(len(each.marked) for each in self.maps) * ZONE,
            "received": self.received,
        }


def _unfit(kind: str) -> Problem:
    """Why data of the primary are not taken, by how this server's stand to them."""
    remedy = "safekit-py secondforce -m NAME here takes the primary's; NAME is the module's"
    if kind == "unrelated":
        return Problem("volume.unrelated", "the data of this server and the primary's have nothing in common", remedy)
    if kind == "diverged":
        return Problem("volume.diverged", "this server and the primary have gone on without each other", remedy)
    return Problem("volume.newer-here", "this server has newer data than the primary", remedy)


def _has(fd: int, offset: int) -> bool:
    """Whether something was written there."""
    try:
        return os.lseek(fd, offset, os.SEEK_DATA) == offset
    except OSError:  # nothing is behind it
        return False


def _bits(each: ZoneMap) -> str:
    found = bytearray((each.count + 7) // 8)
    for zone in each.marked:
        found[zone >> 3] |= 1 << (zone & 7)
    return found.hex()
