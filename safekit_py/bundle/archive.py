"""A zip or a folder -> its files, one by one; whatever is odd is rejected, never repaired.

``verify`` reads every byte once before anything is written, and counts what really comes out: a header may lie.
"""

from __future__ import annotations

import contextlib
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from safekit_py.bundle.names import USERCONFIG, base, check_distinct, check_path, reject, shown

MAX_ENTRIES = 10_000
MAX_BYTES = 1 << 30
MAX_RATIO = 200
FREE_BYTES = 1 << 20  # so little unpacked data harms nobody, whatever its ratio
MAX_DIRECTORY = 32 << 20  # bytes of a zip's table of contents
CHUNK = 1 << 18
_END = b"PK\x05\x06"
_END_SIZE = 22
_LOCATOR64 = b"PK\x06\x07"


@dataclass(frozen=True, slots=True)
class Entry:
    """One file: ``path`` below the module's folder, ``source`` what the archive calls it, its declared size."""

    path: str
    source: str
    size: int


class Source(Protocol):
    """Where a module comes from."""

    label: str
    entries: tuple[Entry, ...]

    def chunks(self, entry: Entry) -> Iterator[bytes]:
        """The file's bytes; raises ConfigError when they are not as declared."""


def verify(source: Source) -> bytes:
    """Read everything once.

    :return: the bytes of conf/userconfig.xml.
    :raises ConfigError: damaged, or too much.
    """
    total = 0
    userconfig = b""
    for entry in source.entries:
        for chunk in source.chunks(entry):
            total += len(chunk)
            if total > MAX_BYTES:
                raise reject("too-big", f"The module unpacks to more than {MAX_BYTES} bytes", "pack less", source.label)
            if entry.path == USERCONFIG and len(userconfig) <= FREE_BYTES:
                userconfig += chunk
    return userconfig


def _files(entries: list[tuple[str, str, int, bool]], label: str) -> tuple[Entry, ...]:
    """Path, name in the source, size and whether it is a folder, of everything -> the files to install."""
    check_distinct(((path, folder) for path, _, _, folder in entries), label)
    top = base((path for path, _, _, folder in entries if not folder), label)
    return tuple(
        Entry(path.removeprefix(top), source, size) for path, source, size, folder in sorted(entries) if not folder
    )


def _check_mode(mode: int, name: str, label: str, *, folder: bool) -> None:
    kind = stat.S_IFMT(mode)
    if kind == stat.S_IFLNK:
        raise reject("link", f"{shown(name)} is a link", "pack the file itself", label)
    if kind not in (0, stat.S_IFDIR if folder else stat.S_IFREG):
        raise reject("device", f"{shown(name)} is neither a file nor a folder", "take it out", label)
    if mode & (stat.S_ISUID | stat.S_ISGID) and not folder:
        raise reject("setuid", f"{shown(name)} is setuid or setgid", "chmod ug-s, and pack again", label)


class Zip:
    """A zip archive, its headers checked when it is opened."""

    def __init__(self, stream: BinaryIO, label: str) -> None:
        self.label = label
        self._size = stream.seek(0, os.SEEK_END)
        self._check_end(stream)
        try:
            self._zip = zipfile.ZipFile(stream)
        except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError, struct.error) as error:
            raise reject("not-a-zip", f"The archive cannot be read: {error}", "pack it again", label) from error
        infos = self._zip.infolist()
        if len(infos) > MAX_ENTRIES:
            raise reject("too-many-files", f"{len(infos)} entries; {MAX_ENTRIES} are allowed", "pack fewer", label)
        self._by_name = {each.orig_filename: each for each in infos}
        self.entries = _files([self._entry(each) for each in infos], label)
        declared = sum(each.file_size for each in infos)
        if declared > MAX_BYTES:
            raise reject(
                "too-big", f"The module unpacks to {declared} bytes; {MAX_BYTES} are allowed", "pack less", label
            )

    def _check_end(self, stream: BinaryIO) -> None:
        """Bound what zipfile will read of the table of contents, which it loads whole."""
        if self._size > MAX_BYTES:
            raise reject("too-big", f"The archive has {self._size} bytes", f"{MAX_BYTES} are allowed", self.label)
        start = max(0, self._size - _END_SIZE - 0xFFFF)
        stream.seek(start)
        tail = stream.read()
        at = tail.rfind(_END)
        if at < 0 or len(tail) - at < _END_SIZE:
            raise reject("not-a-zip", "This is not a zip archive", "make one: safekit-py module package", self.label)
        count, size = struct.unpack_from("<HL", tail, at + 10)
        if count > MAX_ENTRIES or size > MAX_DIRECTORY or tail.find(_LOCATOR64) >= 0:
            message = f"The archive has more than {MAX_ENTRIES} entries, or is of the zip64 kind"
            raise reject("too-many-files", message, "pack fewer and smaller files", self.label)

    def _entry(self, info: zipfile.ZipInfo) -> tuple[str, str, int, bool]:
        name = info.orig_filename  # filename is already cut at a NUL
        path = check_path(name, self.label)
        folder = name.endswith("/")
        _check_mode(info.external_attr >> 16, name, self.label, folder=folder)
        if info.flag_bits & 0x2041:
            raise reject("encrypted", f"{shown(name)} is encrypted", "pack without a password", self.label)
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise reject("compression", f"{shown(name)} is compressed in an unusual way", "use deflate", self.label)
        if folder and info.file_size:
            raise reject("odd-path", f"The folder {shown(name)} holds data", "pack it again", self.label)
        return path, name, info.file_size, folder

    def chunks(self, entry: Entry) -> Iterator[bytes]:
        """The file's bytes, counted against its header and against a compression bomb."""
        info = self._by_name[entry.source]
        count = 0
        try:
            with self._zip.open(info) as stream:
                while chunk := stream.read(CHUNK):
                    count += len(chunk)
                    if count > FREE_BYTES and count > MAX_RATIO * max(info.compress_size, 1):
                        message = f"{shown(entry.source)} unpacks to more than {MAX_RATIO} times its size"
                        raise reject("bomb", message, "take it out", self.label)
                    yield chunk
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError) as error:
            raise reject(
                "damaged", f"{shown(entry.source)} is damaged: {error}", "pack it again", self.label
            ) from error
        if count != entry.size:
            raise reject("damaged", f"{shown(entry.source)} is not as long as declared", "pack it again", self.label)


class Folder:
    """A folder, with the same rules as a zip."""

    def __init__(self, folder: Path) -> None:
        self.label = str(folder)
        self._folder = folder
        found: list[tuple[str, str, int, bool]] = []
        for path in self._walk(folder):
            name = path.relative_to(folder).as_posix()
            status = path.lstat()
            is_folder = stat.S_ISDIR(status.st_mode)
            _check_mode(status.st_mode, name, self.label, folder=is_folder)
            found.append((check_path(name, self.label), name, status.st_size, is_folder))
            if len(found) > MAX_ENTRIES:
                raise reject("too-many-files", f"More than {MAX_ENTRIES} entries", "pack fewer", self.label)
        self.entries = _files(found, self.label)

    def _walk(self, folder: Path) -> Iterator[Path]:
        for item in os.scandir(folder):
            yield Path(item.path)
            if item.is_dir(follow_symlinks=False):
                yield from self._walk(Path(item.path))

    def chunks(self, entry: Entry) -> Iterator[bytes]:
        """The file's bytes; a link that has taken the file's place meanwhile is refused."""
        try:
            descriptor = os.open(self._folder / entry.source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            with os.fdopen(descriptor, "rb") as stream:
                while chunk := stream.read(CHUNK):
                    yield chunk
        except OSError as error:
            reason = error.strerror or str(error)
            raise reject("unreadable", f"{shown(entry.source)}: {reason}", "make it readable", self.label) from error


@contextlib.contextmanager
def opened(source: Path | BinaryIO) -> Iterator[Source]:
    """Open a zip (by path or as a seekable stream) or a folder.

    :raises ConfigError: it is not acceptable, or cannot be read.
    """
    if not isinstance(source, Path):
        yield Zip(source, getattr(source, "name", None) or "archive")
        return
    if source.is_dir():
        yield Folder(source)
        return
    try:
        stream = source.open("rb")
    except OSError as error:
        reason = error.strerror or str(error)
        raise reject(
            "unreadable", f"The archive cannot be read: {reason}", "name a zip or a folder", str(source)
        ) from error
    with stream:
        yield Zip(stream, str(source))
