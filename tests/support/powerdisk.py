"""A disk that loses power, and that fails, for tests: one file through FUSE, with a write cache of its own.

What is written stays in memory until a flush, as in a disk's cache; a flush puts it into the store. When power is lost,
what no flush covered is gone, but for a part that chance had written, as with a real disk. It runs as a process of its
own (see ``disks.PowerDisk``) and is told what to do as lines of JSON on its standard input; it answers each by a line.
"""

from __future__ import annotations

import errno
import json
import mmap
import os
import random
import select
import sys
from typing import Any

from safekit_py.plugins.mirror.volume.fuse import Session
from safekit_py.plugins.mirror.volume.request import Request, VolumeFile

SECTOR = 512
NAME = "disk"


class Cache:
    """The store and what is not in it yet.

    :ivar waiting: sectors written since the last flush, by number.
    """

    def __init__(self, size: int) -> None:
        self.store = mmap.mmap(-1, size)  # pages never written take no memory
        self.waiting: dict[int, bytes] = {}
        self.failing: dict[str, int] = {}
        self.off = False
        self.flushes = 0

    def do(self, request: Request) -> bytes | None:
        """Do what the kernel asks.

        :raises OSError: the disk has no power (EIO), or was told to fail so.
        """
        error = errno.EIO if self.off else self.failing.get(request.kind, 0)
        if error:
            raise OSError(error, os.strerror(error))
        if request.kind == "read":
            return self.read(request.offset, request.size)
        if request.kind == "write":
            assert request.data is not None
            self.put(request.offset, bytes(request.data))
        elif request.kind == "flush":
            self.flush()
        else:
            self.put(request.offset, bytes(request.size))
        return None

    def read(self, offset: int, size: int) -> bytes:
        """As the machine sees it while power is on."""
        found = bytearray(self.store[offset : offset + size])
        if self.waiting:
            first = offset // SECTOR
            for number in range(first, (offset + size + SECTOR - 1) // SECTOR):
                data = self.waiting.get(number)
                if data is not None:
                    at = number * SECTOR - offset
                    cut = max(0, -at)
                    found[at + cut : at + SECTOR] = data[cut : cut + size - (at + cut)]
        return bytes(found[:size])

    def put(self, offset: int, data: bytes) -> None:
        """Into the cache."""
        if offset % SECTOR or len(data) % SECTOR:
            first = offset - offset % SECTOR
            end = -(-(offset + len(data)) // SECTOR) * SECTOR
            whole = bytearray(self.read(first, end - first))
            whole[offset - first : offset - first + len(data)] = data
            offset, data = first, bytes(whole)
        for at in range(0, len(data), SECTOR):
            self.waiting[(offset + at) // SECTOR] = data[at : at + SECTOR]

    def flush(self) -> None:
        """Out of the cache, into the store."""
        for number, data in self.waiting.items():
            self.store[number * SECTOR : (number + 1) * SECTOR] = data
        self.waiting.clear()
        self.flushes += 1

    def lose(self, share: float, seed: int) -> int:
        """Power is lost: of the sectors that wait, about this share had been written. Returns how many are lost."""
        draw = random.Random(seed)
        kept = {number: data for number, data in self.waiting.items() if draw.random() < share}
        lost = len(self.waiting) - len(kept)
        self.waiting = kept
        self.flush()
        self.off = True
        return lost


def told(cache: Cache, words: dict[str, Any]) -> dict[str, Any]:
    """One command."""
    what = words["do"]
    if what == "lose":
        return {"lost": cache.lose(words["share"], words["seed"])}
    if what == "on":
        cache.off = False
    elif what == "fail":
        cache.failing = dict.fromkeys(words["kinds"], words["errno"])
    elif what != "status":
        return {"error": f"no command {what}"}
    return {"waiting": len(cache.waiting), "flushes": cache.flushes}


def main() -> None:
    """Serve the descriptor and the size given as arguments, until unmounted or standard input ends."""
    fd, size = int(sys.argv[1]), int(sys.argv[2])
    cache = Cache(size)
    session = Session(fd, [VolumeFile(NAME, size)], resend=False)
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    poll.register(0, select.POLLIN)
    print(json.dumps({"ready": os.getpid()}), flush=True)
    while True:
        ready = dict(poll.poll())
        if 0 in ready:
            line = sys.stdin.readline()
            if not line:
                return
            print(json.dumps(told(cache, json.loads(line))), flush=True)
        if fd in ready:
            try:
                requests = session.read()
            except ConnectionError:
                return
            for request in requests:
                try:
                    found = cache.do(request)
                except OSError as error:
                    session.answer(request, error.errno or errno.EIO)
                else:
                    session.answer(request, 0, found)


if __name__ == "__main__":
    main()
