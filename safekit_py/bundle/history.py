"""The configurations of a module that were active: what is activated goes in, the last ones come out.

Each is one zip below $SAFEVAR/configurations/NAME, named by its number; the highest number is the active one. It holds
the module's folder as it was, with the bytes of userconfig.xml that were checked. A folder of more than ``MAX_KEPT``
bytes, or one that holds what no archive may hold, is kept as its userconfig.xml alone.

Invariant: at any instant each zip is whole or not there, and the active one is removed only with the module.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import re
import tempfile
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from safekit_py.bundle import disk
from safekit_py.bundle.archive import Folder
from safekit_py.bundle.names import USERCONFIG
from safekit_py.errors import ConfigError, NotFoundError, Problem
from safekit_py.model.paths import Paths

KEPT = 3  # configurations before the active one
MAX_KEPT = 16 << 20  # bytes of a module's folder that are kept with each
_FILE = re.compile(r"(\d{6})\.zip")
_MARK = "deconfigured"
_DATE = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Version:
    """One configuration.

    :param time: when it was activated, seconds since the epoch, for people.
    :param cause: why, one phrase.
    :param signature: equal for equal files; empty when only userconfig.xml was kept.
    :param whole: all of the module's folder is kept, not userconfig.xml alone.
    """

    number: int
    path: Path
    time: float
    cause: str
    signature: str
    whole: bool


class History:
    """The configurations of one module."""

    def __init__(self, paths: Paths, name: str) -> None:
        self.name = name
        self._module = paths.module(name)
        self._folder = paths.var / "configurations" / name

    @property
    def deconfigured(self) -> bool:
        """Whether a person has taken the module's configuration back."""
        return (self._folder / _MARK).exists()

    @property
    def admitted(self) -> bool:
        """Whether the module was installed, or configured, by a command; what a person only put there was not."""
        return self._folder.is_dir() and not self.deconfigured

    def admit(self) -> None:
        """The module is installed; its configuration is active when it was activated for the first time.

        :raises OSError: the disk does not take it.
        """
        disk.private(self._folder)
        (self._folder / _MARK).unlink(missing_ok=True)
        disk.sync(self._folder)

    def versions(self) -> list[Version]:
        """The oldest first; one that cannot be read is left out."""
        found = [each for number, path in self._files() if (each := _version(number, path)) is not None]
        return sorted(found, key=lambda each: each.number)

    def active(self) -> Version | None:
        """The configuration that was activated last."""
        found = self.versions()
        return found[-1] if found else None

    def find(self, number: int) -> Version:
        """One by its number.

        :raises NotFoundError: it is not kept.
        """
        found = {each.number: each for each in self.versions()}
        if number not in found:
            known = ", ".join(map(str, found)) or "none"
            remedy = f"kept: {known}; see safekit-py config list -m {self.name}"
            raise NotFoundError(Problem("config.no-version", f"configuration {number} is not kept", remedy))
        return found[number]

    def record(self, userconfig: bytes, cause: str, time: float) -> Version:
        """Keep the module's folder as it is now, as the active configuration.

        :param userconfig: the bytes of userconfig.xml that are activated, whatever the file holds meanwhile.
        :raises OSError: it could not be written; all is as before.
        """
        disk.private(self._folder)
        files = _files(self._module)
        whole = files is not None
        files = {**(files or {}), USERCONFIG: userconfig}
        number = max((number for number, _ in self._files()), default=0) + 1
        about = {"time": time, "cause": cause[:200], "signature": signature(files) if whole else "", "whole": whole}
        descriptor, name = tempfile.mkstemp(prefix=".new-", dir=self._folder)
        temporary = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as stream:
                with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as packed:
                    _pack(packed, files)
                    packed.comment = json.dumps(about).encode()
                stream.flush()
                os.fsync(stream.fileno())
            path = temporary.rename(self._folder / f"{number:06}.zip")
        finally:
            temporary.unlink(missing_ok=True)
        disk.sync(self._folder)
        (self._folder / _MARK).unlink(missing_ok=True)
        self._forget(number)
        return Version(number, path, time, str(about["cause"]), str(about["signature"]), whole)

    def deconfigure(self) -> None:
        """Remember that no configuration is active; what is kept stays."""
        disk.private(self._folder)
        (self._folder / _MARK).touch()
        disk.sync(self._folder)

    def remove(self) -> None:
        """Forget all; a folder of this name that appears later is not taken for a configured module."""
        self.deconfigure()
        for _, path in self._files():
            path.unlink(missing_ok=True)

    def difference(self, version: Version) -> str:
        """What makes the module's present files of a configuration, as a unified diff; empty when nothing does."""
        before = contents(version.path)
        after = _files(self._module) if version.whole else None
        if after is None:
            path = self._module / USERCONFIG
            after = {USERCONFIG: path.read_bytes()} if path.is_file() else {}
        return "".join(_diff(before, after, f"{version.number}/", f"{self.name}/"))

    def _files(self) -> list[tuple[int, Path]]:
        if not self._folder.is_dir():
            return []
        return [(int(m[1]), each) for each in self._folder.iterdir() if (m := _FILE.fullmatch(each.name))]

    def _forget(self, newest: int) -> None:
        """Delete what is too old, and what a crash left."""
        old = sorted((each for each in self._files() if each[0] != newest), reverse=True)[KEPT:]
        for path in (*(path for _, path in old), *self._folder.glob(".new-*")):
            path.unlink(missing_ok=True)


def userconfig(version: Version) -> bytes:
    """The userconfig.xml of a configuration that is kept.

    :raises OSError: it cannot be read any more.
    """
    try:
        with zipfile.ZipFile(version.path) as packed:
            return packed.read(USERCONFIG)
    except (KeyError, zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise OSError(f"{version.path} is damaged: {error}") from error


def contents(archive: Path) -> dict[str, bytes]:
    """All files of a configuration that is kept; it was written by :meth:`History.record`, which bounds it."""
    with zipfile.ZipFile(archive) as packed:
        return {each.filename: packed.read(each) for each in packed.infolist()}


def signature(files: dict[str, bytes]) -> str:
    """A short fingerprint of a module's files, to be compared between servers."""
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(f"{len(path)} {path} {len(files[path])} ".encode() + files[path])
    return digest.hexdigest()[:16]


def present(paths: Paths, name: str) -> str:
    """The fingerprint of a module's folder as it is now; empty when it cannot be told."""
    files = _files(paths.module(name))
    return signature(files) if files else ""


def texts(paths: Paths, name: str) -> tuple[str, dict[str, str]]:
    """The fingerprint of a module's folder as it is now, and its files as text; one that is no text as its SHA-256."""
    files = _files(paths.module(name)) or {}
    found = {}
    for path, data in files.items():
        try:
            found[path] = data.decode()
        except UnicodeDecodeError:
            found[path] = f"sha256 {hashlib.sha256(data).hexdigest()}\n"
    return signature(files) if files else "", found


def same_but_userconfig(version: Version, paths: Paths, name: str) -> bool:
    """Whether all files but userconfig.xml are as they were with a configuration."""
    now = _files(paths.module(name))
    return now is not None and {**contents(version.path), USERCONFIG: b""} == {**now, USERCONFIG: b""}


def _files(folder: Path) -> dict[str, bytes] | None:
    """Every file of a module's folder; None when it is too large or holds what no archive may hold."""
    try:
        source = Folder(folder)
        if sum(each.size for each in source.entries) > MAX_KEPT:
            return None
        return {each.path: b"".join(source.chunks(each)) for each in source.entries}
    except (ConfigError, OSError):
        return None


def _pack(packed: zipfile.ZipFile, files: dict[str, bytes]) -> None:
    for path in sorted(files):
        info = zipfile.ZipInfo(path, _DATE)
        info.compress_type = zipfile.ZIP_DEFLATED
        info.create_system = 3
        info.external_attr = (0o100755 if path.startswith("bin/") else 0o100644) << 16
        packed.writestr(info, files[path])


def _version(number: int, path: Path) -> Version | None:
    try:
        with zipfile.ZipFile(path) as packed:
            about = json.loads(packed.comment)
        return Version(number, path, float(about["time"]), about["cause"], about["signature"], bool(about["whole"]))
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile):
        return None


def difference(before: dict[str, str], after: dict[str, str]) -> str:
    """What makes some files others, as a unified diff."""
    one, other = ({path: text.encode() for path, text in files.items()} for files in (before, after))
    return "".join(_diff(one, other, "a/", "b/"))


def _diff(before: dict[str, bytes], after: dict[str, bytes], old: str, new: str) -> Iterable[str]:
    for path in sorted({*before, *after}):
        one, other = before.get(path, b""), after.get(path, b"")
        if path in before and path in after and one == other:
            continue
        names = old + path if path in before else os.devnull, new + path if path in after else os.devnull
        try:
            lines = (one.decode().splitlines(keepends=True), other.decode().splitlines(keepends=True))
        except UnicodeDecodeError:
            yield f"Binary files {names[0]} and {names[1]} differ\n"
            continue
        for line in difflib.unified_diff(lines[0], lines[1], names[0], names[1]):
            yield line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"
