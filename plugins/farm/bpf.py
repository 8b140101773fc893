"""bpf(2) by ctypes: maps, programs, pins and test runs, without bcc and its compiler in this process.

Keys and values go in and out as bytes in the machine's own layout; what they mean is the caller's matter. A refused
system call is an ``OSError`` with the kernel's errno and the operation in its text.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

NUMBERS = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "ppc64le": 361, "s390x": 351}  # of bpf(2)
PROGRAM_SCHED_CLS = 3
PER_CPU_TYPES = (5, 6, 10)  # per-CPU hash, per-CPU array, per-CPU LRU hash
LOG_BYTES = 1 << 20


class Command(IntEnum):
    """Commands of bpf(2)."""

    MAP_CREATE = 0
    MAP_LOOKUP = 1
    MAP_UPDATE = 2
    MAP_DELETE = 3
    PROG_LOAD = 5
    OBJ_PIN = 6
    OBJ_GET = 7
    PROG_TEST_RUN = 10
    OBJ_GET_INFO = 15
    MAP_LOOKUP_BATCH = 24


@dataclass(frozen=True, slots=True)
class MapLayout:
    """What a map is made of; sizes in bytes."""

    name: str
    kind: int
    key_size: int
    value_size: int
    entries: int
    flags: int = 0


@dataclass(frozen=True, slots=True)
class Trial:
    """What a program did with one packet.

    :param code: its return value, unsigned.
    :param packet: the packet as it left it.
    :param nanoseconds: mean time of one run.
    """

    code: int
    packet: bytes
    nanoseconds: int


_libc = ctypes.CDLL(None, use_errno=True)


def _bpf(command: Command, attributes: ctypes.Array[ctypes.c_char]) -> int:
    number = NUMBERS.get(platform.machine())
    if number is None:
        raise OSError(f"bpf(2) has no known number on {platform.machine()}")
    while True:
        result = int(_libc.syscall(number, int(command), attributes, len(attributes)))
        error = ctypes.get_errno()
        if result >= 0:
            return result
        if error not in {4, 11} or command == Command.MAP_LOOKUP_BATCH:  # EINTR, EAGAIN: the verifier was interrupted
            raise OSError(error, f"bpf {command.name.lower()}: {os.strerror(error)}")


def _attributes(layout: str, *values: int | bytes) -> ctypes.Array[ctypes.c_char]:
    data = struct.pack("=" + layout, *values)
    return ctypes.create_string_buffer(data, len(data))


def possible_cpus() -> int:
    """How many values a per-CPU map has for one key."""
    text = Path("/sys/devices/system/cpu/possible").read_text(encoding="ascii")
    return max(int(part.split("-")[-1]) for part in text.strip().split(",")) + 1


class Map:
    """An open map; :meth:`close` closes this process's hold on it only."""

    def __init__(self, fd: int, layout: MapLayout) -> None:
        self.fd = fd
        self.layout = layout
        per_cpu = layout.kind in PER_CPU_TYPES
        self._size = (layout.value_size + 7) // 8 * 8 * possible_cpus() if per_cpu else layout.value_size

    @classmethod
    def create(cls, layout: MapLayout) -> Map:
        """A new, empty map."""
        name = layout.name.encode()[:15]
        sizes = (layout.kind, layout.key_size, layout.value_size, layout.entries, layout.flags)
        return cls(_bpf(Command.MAP_CREATE, _attributes("7I16s", *sizes, 0, 0, name)), layout)

    @classmethod
    def from_fd(cls, fd: int) -> Map:
        """The map behind a descriptor, with the layout that the kernel tells."""
        info = ctypes.create_string_buffer(80)
        _bpf(Command.OBJ_GET_INFO, _attributes("IIQ", fd, len(info), ctypes.addressof(info)))
        kind, _, key, value, entries, flags = struct.unpack_from("=6I", info)
        name = info.raw[24:40].split(b"\0")[0].decode()
        return cls(fd, MapLayout(name, kind, key, value, entries, flags))

    def _key_and_value(self, key: bytes, value: ctypes.Array[ctypes.c_char]) -> ctypes.Array[ctypes.c_char]:
        # The kernel copies before the call returns, and both buffers live in the caller's frame until then.
        return _attributes("IIQQQ", self.fd, 0, _address(key), ctypes.addressof(value), 0)

    def update(self, key: bytes, value: bytes) -> None:
        """Set one entry; one of eight bytes or less changes in one piece."""
        if len(key) != self.layout.key_size or len(value) != self._size:
            raise ValueError(
                f"{self.layout.name} takes keys of {self.layout.key_size} and values of {self._size} bytes"
            )
        buffer = ctypes.create_string_buffer(value, len(value))
        _bpf(Command.MAP_UPDATE, self._key_and_value(key, buffer))

    def lookup(self, key: bytes) -> bytes:
        """One entry; all CPUs' values in a row for a per-CPU map. ``OSError`` (ENOENT) when there is none."""
        if len(key) != self.layout.key_size:
            raise ValueError(f"{self.layout.name} takes keys of {self.layout.key_size} bytes")
        buffer = ctypes.create_string_buffer(self._size)
        _bpf(Command.MAP_LOOKUP, self._key_and_value(key, buffer))
        return buffer.raw

    def delete(self, key: bytes) -> None:
        """Remove an entry; ``OSError`` (ENOENT) when there is none."""
        _bpf(Command.MAP_DELETE, _attributes("IIQ", self.fd, 0, _address(key)))

    def all_values(self) -> bytes:
        """The values of an array, in order, by one system call."""
        return self._batch()[1]

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """All entries of a hash map, by one system call: entries that come and go meanwhile may be missed."""
        keys, values = self._batch()
        width = self.layout.key_size
        for index in range(len(keys) // width):
            yield keys[index * width : (index + 1) * width], values[index * self._size : (index + 1) * self._size]

    def _batch(self) -> tuple[bytes, bytes]:
        room = self.layout.entries
        keys = ctypes.create_string_buffer(room * self.layout.key_size)
        values = ctypes.create_string_buffer(room * self._size)
        place = ctypes.create_string_buffer(max(8, self.layout.key_size))
        pointers = (0, ctypes.addressof(place), ctypes.addressof(keys), ctypes.addressof(values))
        attributes = _attributes("QQQQIIQQ", *pointers, room, self.fd, 0, 0)
        with contextlib.suppress(FileNotFoundError):  # the kernel's way to say that this was the last batch
            _bpf(Command.MAP_LOOKUP_BATCH, attributes)
        found = struct.unpack_from("=I", attributes, 32)[0]
        return keys.raw[: found * self.layout.key_size], values.raw[: found * self._size]

    def pin(self, path: Path) -> None:
        """Keep the map alive under a name in a BPF file system."""
        pin(self.fd, path)

    def close(self) -> None:
        """Give the descriptor back; again is harmless."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def _address(data: bytes) -> int:
    return ctypes.cast(ctypes.c_char_p(data), ctypes.c_void_p).value or 0


def load_program(instructions: bytes, name: str, licence: str) -> int:
    """Give a tc program to the kernel's verifier.

    :returns: a descriptor of the program.
    :raises OSError: refused; the text ends with the verifier's last words.
    """
    code = ctypes.create_string_buffer(instructions, len(instructions))
    words = ctypes.create_string_buffer(licence.encode())
    count = len(instructions) // 8

    def attributes(level: int, log: ctypes.Array[ctypes.c_char] | None) -> ctypes.Array[ctypes.c_char]:
        pointers = (ctypes.addressof(code), ctypes.addressof(words))
        logging = (level, len(log) if log else 0, ctypes.addressof(log) if log else 0)
        return _attributes("IIQQIIQII16s", PROGRAM_SCHED_CLS, count, *pointers, *logging, 0, 0, name.encode()[:15])

    try:
        return _bpf(Command.PROG_LOAD, attributes(0, None))
    except OSError as first:
        # The log costs time and memory: it is asked for only when there is something to explain.
        log = ctypes.create_string_buffer(LOG_BYTES)
        try:
            return _bpf(Command.PROG_LOAD, attributes(1, log))
        except OSError:
            last = " | ".join(log.value.decode(errors="replace").strip().splitlines()[-3:])
            raise OSError(first.errno, f"{first.strerror}: {last}" if last else first.strerror) from None


def run_program(fd: int, packet: bytes, repeat: int = 1) -> Trial:
    """Run a tc program over one packet (Ethernet header included, at least 14 bytes), seen as received by loopback."""
    data = ctypes.create_string_buffer(packet, len(packet))
    out = ctypes.create_string_buffer(len(packet) + 256)
    pointers = (ctypes.addressof(data), ctypes.addressof(out))
    attributes = _attributes(
        "IIIIQQIIIIQQIII4x", fd, 0, len(packet), len(out), *pointers, repeat, 0, 0, 0, 0, 0, 0, 0, 0
    )
    _bpf(Command.PROG_TEST_RUN, attributes)
    code, _, size = struct.unpack_from("=III", attributes, 4)
    return Trial(code, out.raw[:size], struct.unpack_from("=I", attributes, 36)[0])


def pin(fd: int, path: Path) -> None:
    """Pin a map or a program; ``OSError`` when the name is taken or the folder is in no BPF file system."""
    name = os.fsencode(path)
    _bpf(Command.OBJ_PIN, _attributes("QII", _address(name), fd, 0))


def open_pin(path: Path) -> int:
    """A descriptor of what is pinned there."""
    name = os.fsencode(path)
    return _bpf(Command.OBJ_GET, _attributes("QII", _address(name), 0, 0))
