"""Random operations on one file, each compared with a model in memory; after some, all is read from the disk again.

    python tests/support/fsx.py DIRECTORY --operations 20000 --seed 7 --mode mmap

A run is repeatable by its seed. It returns a digest of all that it read, which is the same on any correct file system.
"""

import argparse
import hashlib
import mmap
import os
import random
from collections import deque
from pathlib import Path

from posixcalls import COLLAPSE, INSERT, KEEP_SIZE, PUNCH_HOLE, ZERO, fallocate

LARGEST = 1 << 20
BLOCK = 4096
MODES = ("buffered", "mmap", "direct")


class Wrong(AssertionError):
    """The file is not what the model says; with the last operations."""


class Fsx:
    """One run on one file.

    :param mode: ``buffered`` (read, write), ``mmap`` (these and shared mappings), ``direct`` (O_DIRECT beside the
        others, on whole blocks).
    """

    def __init__(self, path: Path, seed: int, mode: str) -> None:
        self.path, self.mode, self.draw = path, mode, random.Random(f"{seed}-{mode}")
        self.fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
        self.direct = os.open(path, os.O_RDWR | os.O_DIRECT) if mode == "direct" else -1
        self.model = bytearray()
        self.digest = hashlib.sha256()
        self.done: deque[str] = deque(maxlen=30)

    def run(self, operations: int) -> str:
        """So many operations; returns the digest of what was read.

        :raises Wrong: a read found something else than what was written.
        """
        known = [self.write, self.write, self.read, self.read, self.truncate, self.punch, self.zero, self.allocate]
        known += [self.collapse, self.insert, self.sync, self.again, self.copy, self.append]
        if self.mode == "mmap":
            known += [self.map_write, self.map_read] * 2
        if self.mode == "direct":
            known += [self.direct_write, self.direct_read] * 2
        try:
            for number in range(operations):
                self.draw.choice(known)()
                if number % 500 == 499:
                    self.cold()
            self.cold()
        finally:
            os.close(self.fd)
            if self.direct >= 0:
                os.close(self.direct)
        return self.digest.hexdigest()

    # --- what may happen ------------------------------------------------------------------------

    def span(self, *, inside: bool = False, whole: bool = False) -> tuple[int, int]:
        """Offset and size: inside the file, or anywhere; of whole blocks, or any."""
        end = len(self.model) if inside else LARGEST
        offset = self.draw.randrange(end) if end else 0
        size = min(self.draw.choice((1, 7, 512, 4096, 5000, 65_536, 200_000)) + self.draw.randrange(64), end - offset)
        if whole:
            offset, size = offset // BLOCK * BLOCK, max(BLOCK, size // BLOCK * BLOCK)
        return offset, min(size, LARGEST - offset)

    def put(self, name: str, offset: int, data: bytes) -> None:
        """In the model."""
        self.done.append(f"{name} {offset}+{len(data)}")
        if offset > len(self.model):
            self.model.extend(bytes(offset - len(self.model)))
        self.model[offset : offset + len(data)] = data

    def same(self, name: str, offset: int, found: bytes, expected: bytes) -> None:
        """What was read is what the model has."""
        self.done.append(f"{name} {offset}+{len(expected)}")
        self.digest.update(found)
        if found != expected:
            pairs = zip(found, expected, strict=False)
            at = next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(found), len(expected)))
            text = f"{self.path}: differs at {offset + at} ({len(found)} bytes of {len(expected)})"
            raise Wrong(text + "; before: " + ", ".join(self.done))

    def write(self) -> None:
        offset, size = self.span()
        data = self.draw.randbytes(size)
        assert os.pwrite(self.fd, data, offset) == size
        self.put("write", offset, data)

    def append(self) -> None:
        data = self.draw.randbytes(self.draw.randrange(1, 3000))
        if len(self.model) + len(data) <= LARGEST:
            os.pwrite(self.fd, data, len(self.model))
            self.put("append", len(self.model), data)

    def read(self) -> None:
        offset, size = self.span()
        self.same("read", offset, os.pread(self.fd, size, offset), bytes(self.model[offset : offset + size]))

    def truncate(self) -> None:
        size = self.draw.randrange(LARGEST) if self.draw.random() < 0.3 else len(self.model) * 2 // 3
        os.ftruncate(self.fd, size)
        self.done.append(f"truncate {size}")
        del self.model[size:]
        self.model.extend(bytes(size - len(self.model)))

    def punch(self) -> None:
        offset, size = self.span(inside=True)
        if size:
            fallocate(self.fd, PUNCH_HOLE | KEEP_SIZE, offset, size)
            self.put("punch", offset, bytes(size))

    def zero(self) -> None:
        offset, size = self.span()
        if size:
            fallocate(self.fd, ZERO, offset, size)
            self.put("zero", offset, bytes(size))

    def allocate(self) -> None:
        offset, size = self.span()
        if size:
            fallocate(self.fd, 0, offset, size)
            self.done.append(f"allocate {offset}+{size}")
            self.model.extend(bytes(max(0, offset + size - len(self.model))))

    def collapse(self) -> None:
        offset, size = self.span(inside=True, whole=True)
        if offset + size < len(self.model):
            fallocate(self.fd, COLLAPSE, offset, size)
            self.done.append(f"collapse {offset}+{size}")
            del self.model[offset : offset + size]

    def insert(self) -> None:
        offset, size = self.span(inside=True, whole=True)
        if offset < len(self.model) and len(self.model) + size <= LARGEST:
            fallocate(self.fd, INSERT, offset, size)
            self.done.append(f"insert {offset}+{size}")
            self.model[offset:offset] = bytes(size)

    def copy(self) -> None:
        (source, size), (target, _) = self.span(inside=True), self.span()
        size = min(size, LARGEST - target)
        if size and (source + size <= target or target + size <= source):
            size = os.copy_file_range(self.fd, self.fd, size, source, target)
            self.put(f"copy from {source} to", target, bytes(self.model[source : source + size]))

    def sync(self) -> None:
        self.draw.choice((os.fsync, os.fdatasync))(self.fd)
        self.done.append("sync")

    def again(self) -> None:
        os.close(self.fd)
        self.fd = os.open(self.path, os.O_RDWR)
        self.done.append("close, open")

    def map_write(self) -> None:
        offset, size = self.span(inside=True)
        if size:
            data = self.draw.randbytes(size)
            with mmap.mmap(self.fd, len(self.model)) as mapped:
                mapped[offset : offset + size] = data
            self.put("mapped write", offset, data)

    def map_read(self) -> None:
        offset, size = self.span(inside=True)
        if size:
            with mmap.mmap(self.fd, len(self.model), prot=mmap.PROT_READ) as mapped:
                found = mapped[offset : offset + size]
            self.same("mapped read", offset, found, bytes(self.model[offset : offset + size]))

    def direct_write(self) -> None:
        offset, size = self.span(whole=True)
        data = self.draw.randbytes(size)
        room = mmap.mmap(-1, size)
        room[:] = data
        assert os.pwritev(self.direct, [room], offset) == size
        self.put("direct write", offset, data)

    def direct_read(self) -> None:
        offset, size = self.span(whole=True)
        room = mmap.mmap(-1, size)
        count = os.preadv(self.direct, [room], offset)
        self.same("direct read", offset, room[:count], bytes(self.model[offset : offset + size]))

    def cold(self) -> None:
        """All of the file as it is on the disk."""
        os.fsync(self.fd)
        os.posix_fadvise(self.fd, 0, 0, os.POSIX_FADV_DONTNEED)
        self.same("cold read", 0, os.pread(self.fd, 2 * LARGEST, 0), bytes(self.model))


def run(folder: Path, seed: int, mode: str, operations: int) -> str:
    """One run on a new file in the folder; returns the digest of all that it read."""
    path = folder / f"fsx-{mode}-{seed}"
    digest = Fsx(path, seed, mode).run(operations)
    path.unlink()
    return digest


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description="Random operations on one file, compared with a model in memory.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--operations", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--mode", choices=MODES, default="buffered")
    options = parser.parse_args()
    print(run(options.folder, options.seed, options.mode, options.operations))


if __name__ == "__main__":
    main()
