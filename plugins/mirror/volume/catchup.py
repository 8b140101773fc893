"""The primary makes the secondary's image like its own while both go on: what differs is found by checksums and sent.

Each comparison is exact: the primary hashes a range in the instant in which it asks for the other's hashes, and the
question travels in the one ordered stream, behind every write that is in the primary's hashes. What is read to be sent
is put into the stream in the same step, so the stream's order is the image's order.
"""

from __future__ import annotations

import struct
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import zstandard

from .frames import Frame, Kind, WireError, head
from .hashes import BLOCK, PIECE, WIDTH, data_from, different, digests, zeros
from .image import ImageFile
from .link import Link
from .zones import ZONE

WINDOW = 4  # zones that are asked for at a time
GAIN = 0.9  # of the size that compression must reach
NUMBER = struct.Struct("<H")
FAR = struct.Struct("<I")
HOLES = 256  # zones without data that are asked for at once
EACH = 0.02  # seconds of work before other things get their turn


class CatchUp:
    """One resynchronisation, or one verification.

    :param zones: volume and zone of what may differ.
    :param repair: send what differs; else it is only noted.
    :param rate: bytes a second; 0: no limit.
    """

    def __init__(
        self,
        link: Link,
        images: Sequence[ImageFile],
        zones: Iterable[tuple[int, int]],
        *,
        repair: bool = True,
        rate: int = 0,
        compression: str = "auto",
    ) -> None:
        self._link, self._images, self._repair, self.rate = link, images, repair, rate
        self._zones = deque(sorted(zones))
        self.total, self.done = len(self._zones), 0
        self._asked: dict[tuple[int, int], bytes] = {}
        self._holes: dict[tuple[int, int], int] = {}  # zones that are asked for by what they begin with
        self._fine: dict[tuple[int, int], tuple[list[int], bytes]] = {}
        self._there: set[tuple[int, int]] = set()  # zones with data on the other side only
        self.sent = self.different = 0
        self.ranges: list[tuple[int, int, int]] = []  # of a verification: volume, offset, size
        self._zstd = None if compression == "off" else zstandard.ZstdCompressor(level=1)
        self._began = time.monotonic()
        self._spent_at, self._spent = self._began, 0.0

    @property
    def complete(self) -> bool:
        """Whether all was compared and everything that differed is in the stream."""
        return not self._zones and not self._waits

    @property
    def busy(self) -> bool:
        """Whether there is something to do now, without waiting for the other side."""
        window = 1 if self.rate else WINDOW  # what a zone brings is not known before: a slow network gets one at a time
        return bool(self._zones) and self._waits < window and not self._link.full and self._granted()

    @property
    def _waits(self) -> int:
        return len(self._asked) + len(self._fine) + len(self._holes)

    def step(self, now: float) -> None:
        """Ask for some more."""
        end = now + EACH
        while self.busy and time.monotonic() < end:
            volume, zone = self._zones.popleft()
            image = self._images[volume]
            offset = zone * ZONE
            size = min(ZONE, image.size - offset)
            if size <= 0:
                self.done += 1
            elif (volume, zone) not in self._there and data_from(image, offset) >= offset + size:
                self._ask_for_holes(volume, zone)
            else:
                self._asked[volume, offset] = digests(image, offset, size)
                self._link.frame(Kind.ASK, volume=volume, offset=offset, size=size)

    def _ask_for_holes(self, volume: int, zone: int) -> None:
        """Large volumes are mostly holes: as many zones as follow each other without data here are one question."""
        image = self._images[volume]
        end = min(data_from(image, zone * ZONE), image.size)
        count = 1
        while count < HOLES and self._zones and self._zones[0] == (volume, zone + count):
            if min((zone + count + 1) * ZONE, image.size) > end:
                break
            self._zones.popleft()
            count += 1
        offset = zone * ZONE
        self._holes[volume, offset] = count
        size = min(count * ZONE, image.size - offset)
        self._link.frame(Kind.HOLES, volume=volume, offset=offset, size=size)

    def _granted(self) -> bool:
        """Whether the bandwidth limit lets more go."""
        if not self.rate:
            return True
        now = time.monotonic()
        self._spent = max(0.0, self._spent - (now - self._spent_at) * self.rate)
        self._spent_at = now
        return self._spent < self.rate * 0.1

    def take(self, frame: Frame) -> None:
        """An answer of the other side."""
        key = (frame.volume, frame.offset)
        if frame.kind is Kind.HASHES and key in self._asked:
            self._hashes(key, self._asked.pop(key), bytes(frame.payload))
        elif frame.kind is Kind.THERE and key in self._holes:
            count, first = self._holes.pop(key), frame.offset // ZONE
            found = {first + zone for zone in _numbers(FAR, frame.payload) if zone < count}
            self.done += count - len(found)
            again = [(frame.volume, zone) for zone in sorted(found)]
            self._there.update(again)
            self._zones.extendleft(reversed(again))
        elif frame.kind is Kind.FINES and key in self._fine:
            blocks, mine = self._fine.pop(key)
            self._fines(key, blocks, mine, bytes(frame.payload))

    def _hashes(self, key: tuple[int, int], mine: bytes, theirs: bytes) -> None:
        volume, offset = key
        blocks = list(different(mine, theirs))
        if not blocks:
            self.done += 1
            return
        image, own = self._images[volume], []
        for block in blocks:
            at = offset + block * BLOCK
            own.append(digests(image, at, min(BLOCK, image.size - at), PIECE))
        self._fine[key] = (blocks, b"".join(own))
        asked = b"".join(NUMBER.pack(block) for block in blocks)
        self._link.frame(Kind.FINE, volume=volume, offset=offset, payload=asked)

    def _fines(self, key: tuple[int, int], blocks: list[int], mine: bytes, theirs: bytes) -> None:
        volume, offset = key
        each = BLOCK // PIECE
        start = length = 0
        for number in different(mine, theirs):
            block, piece = blocks[number // each], number % each
            at = offset + block * BLOCK + piece * PIECE
            if length and at == start + length and length < BLOCK:
                length += PIECE
                continue
            self._send(volume, start, length)
            start, length = at, PIECE
        self._send(volume, start, length)
        self.done += 1

    def _send(self, volume: int, offset: int, size: int) -> None:
        if not size:
            return
        image = self._images[volume]
        size = min(size, image.size - offset)
        self.different += size
        if not self._repair:
            self.ranges.append((volume, offset, size))
            return
        data = image.read(offset, size)
        if zeros(data):
            self._put(Kind.HOLE, volume, offset, size, b"")
            return
        plain = bytes(data)
        packed = self._zstd.compress(plain) if self._zstd is not None else plain
        if len(packed) < size * GAIN:
            self._put(Kind.FILL_ZSTD, volume, offset, size, packed)
        else:
            self._put(Kind.FILL, volume, offset, size, plain)

    def _put(self, kind: Kind, volume: int, offset: int, size: int, payload: bytes) -> None:
        self._link.put(head(kind, volume, len(payload), size, 0, offset))
        if payload:
            self._link.put(payload)
        self.sent += len(payload)
        self._spent += len(payload)

    def progress(self) -> Mapping[str, Any]:
        """For people: zones done of all, bytes sent, bytes a second, seconds left."""
        took = max(time.monotonic() - self._began, 1e-3)
        left = (self.total - self.done) * took / self.done if self.done else None
        return {
            "compared": self.done * ZONE,
            "total": self.total * ZONE,
            "sent": self.sent,
            "rate": round(self.sent / took),
            "left": None if left is None else round(left, 1),
        }


def _numbers(each: struct.Struct, payload: memoryview) -> Iterator[int]:
    if len(payload) % each.size:
        raise WireError("a list of numbers with a part of one")
    return (number for (number,) in each.iter_unpack(payload))


def fine(image: ImageFile, offset: int, payload: memoryview) -> bytes:
    """The secondary's answer to FINE."""
    found = []
    for block in _numbers(NUMBER, payload):
        at = offset + block * BLOCK
        if at < image.size:
            found.append(digests(image, at, min(BLOCK, image.size - at), PIECE))
    return b"".join(found)


def there(image: ImageFile, offset: int, size: int) -> bytes:
    """The secondary's answer to HOLES: the zones of the range that have data, counted from its beginning."""
    found, end = [], offset + size
    at = data_from(image, offset)
    while at < end:
        zone = (at - offset) // ZONE
        found.append(zone)
        at = data_from(image, offset + (zone + 1) * ZONE) if offset + (zone + 1) * ZONE < end else end
    return b"".join(map(FAR.pack, found))


__all__ = ["BLOCK", "PIECE", "WIDTH", "CatchUp", "fine", "there"]
