"""Installs application modules: verify all, stage beside the target, bring to the disk, rename into place.

Invariant: an installed module is at any instant the whole old one or the whole new one, and after a rejection the disk
is as before. What a crash leaves (hidden folders) is cleaned up by the next call.
"""

from __future__ import annotations

import os
import re
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import safekit_py
from safekit_py.bundle import disk
from safekit_py.bundle.archive import MAX_BYTES, Folder, Source, opened, verify
from safekit_py.bundle.names import USERCONFIG, reject
from safekit_py.config.checked import Checked, Macro
from safekit_py.errors import ConfigError, NotFoundError, Problem
from safekit_py.model.paths import Paths

Check = Callable[[bytes, str, Mapping[str, str]], Checked]

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
_STAGE, _OLD = ".stage-", ".old-"
_BESIDE = ".beside-"  # staged, and maybe about to be put in its place: only the agent's start removes one
_DATE = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Installed:
    """An installed module; ``problems`` are the warnings of its configuration, ``replaced`` says it stood before."""

    name: str
    folder: Path
    replaced: bool = False
    problems: tuple[Problem, ...] = ()
    macros: tuple[Macro, ...] = ()


@dataclass(frozen=True, slots=True)
class Shipped:
    """A module that comes with this version; ``title`` is the first line of its README.md."""

    name: str
    folder: Path
    title: str


def check_name(name: str) -> str:
    """A module's name, or ConfigError."""
    if not NAME.fullmatch(name):
        remedy = "use up to 32 small letters, digits, _ and -, starting with a letter or digit"
        raise reject("bad-name", f"{name[:64]!a} cannot name a module", remedy)
    return name


@dataclass(frozen=True, slots=True)
class Staged:
    """A module that is checked and unpacked beside its place, and not installed yet: ``place`` or ``discard`` it.

    :param folder: where it stands, with its name at the end.
    :param userconfig: the bytes of its userconfig.xml.
    """

    name: str
    folder: Path
    userconfig: bytes
    checked: Checked

    def place(self, paths: Paths) -> bool:
        """Put it in its place in one step; whether another one stood there. Done again, it puts that one back.

        :raises StateError: an installation is under way.
        """
        with disk.locked(paths.modules):
            return _place(self.folder, paths, self.name)

    def discard(self) -> None:
        """Remove it, if it was not put in its place; and the old one, if it was."""
        disk.discard(self.folder.parent)


def install(source: Path | BinaryIO, name: str, paths: Paths, macros: Mapping[str, str], check: Check) -> Installed:
    """Install a module, or replace it; :func:`stage` and :meth:`Staged.place` in one."""
    staged = stage(source, name, paths, macros, check)
    try:
        replaced = staged.place(paths)
    finally:
        staged.discard()
    return Installed(name, paths.module(name), replaced, staged.checked.problems, staged.checked.macros)


def stage(source: Path | BinaryIO, name: str, paths: Paths, macros: Mapping[str, str], check: Check) -> Staged:
    """Check a module and unpack it beside its place.

    :param source: a zip, by path or as a seekable stream, or a folder.
    :param macros: values for its macros, written into its userconfig.xml.
    :param check: checks a userconfig.xml: bytes, name, overriding macros.
    :raises ConfigError: not acceptable; nothing was written.
    :raises StateError: another installation is under way.
    """
    check_name(name)
    with opened(source) as archive:
        from safekit_py.bundle.fill import fill  # noqa: PLC0415 - the agent seldom installs, and need not have its parser

        userconfig = fill(verify(archive), macros)
        checked = check(userconfig, USERCONFIG, {})
        if checked.config is None:
            raise ConfigError(checked.problems)
        with disk.locked(paths.modules):
            _recover(paths)
            beside = Path(tempfile.mkdtemp(prefix=_BESIDE, dir=paths.modules))
        try:
            folder = beside / name
            folder.mkdir()
            _unpack(archive, userconfig, folder)
        except BaseException:
            disk.discard(beside)
            raise
    return Staged(name, folder, userconfig, checked)


def _place(stage: Path, paths: Paths, name: str) -> bool:
    """Exchange a staged folder with the one in its place; the old one then stands where the staged one was."""
    target = paths.module(name)
    replaced = os.path.lexists(target)
    if not replaced:
        stage.rename(target)
    elif not disk.exchange(stage, target):
        # Two steps where the file system has no exchange; _recover mends a crash between them.
        old = paths.modules / f"{_OLD}{name}"
        target.rename(old)
        stage.rename(target)
        old.rename(stage)
    disk.sync(paths.modules)
    return replaced


def _unpack(archive: Source, userconfig: bytes, stage: Path) -> None:
    left = MAX_BYTES
    for folder in ("conf", "bin"):
        (stage / folder).mkdir(mode=0o755)
    for entry in archive.entries:
        chunks = [userconfig] if entry.path == USERCONFIG else archive.chunks(entry)
        left -= disk.write(stage / entry.path, chunks, 0o755 if entry.path.startswith("bin/") else 0o644)
        if left < 0:
            raise reject("too-big", "The module grew while it was installed", "try again", archive.label)
    stage.chmod(0o755)
    disk.sync_tree(stage)


def _recover(paths: Paths, *prefixes: str) -> None:
    for left in list(paths.modules.iterdir()):
        if left.name.startswith(_OLD) and not os.path.lexists(paths.module(left.name.removeprefix(_OLD))):
            left.rename(paths.module(left.name.removeprefix(_OLD)))
        elif left.name.startswith((_STAGE, _OLD, *prefixes)):
            disk.discard(left)


def recover(paths: Paths) -> None:
    """Finish or undo what a crash left in the middle; to be called when the agent starts."""
    if paths.modules.is_dir():
        with disk.locked(paths.modules):
            _recover(paths, _BESIDE)


def uninstall(name: str, paths: Paths) -> None:
    """Remove an installed module; what it keeps in $SAFEUSERVAR stays.

    :raises NotFoundError: no such module.
    """
    target = paths.module(check_name(name))
    if not target.is_dir():
        known = ", ".join(each.name for each in installed(paths)) or "none"
        raise NotFoundError(Problem("module.not-found", f"No module '{name}' is installed", f"installed: {known}"))
    with disk.locked(paths.modules):
        # Gone in one step: a half deleted module must not be taken for an installed one.
        gone = Path(tempfile.mkdtemp(prefix=_STAGE, dir=paths.modules))
        target.rename(gone / name)
        disk.sync(paths.modules)
        disk.discard(gone)


def folders(paths: Paths) -> list[str]:
    """The names of the folders that may be modules."""
    if not paths.modules.is_dir():
        return []
    return sorted(each.name for each in paths.modules.iterdir() if NAME.fullmatch(each.name) and each.is_dir())


def installed(paths: Paths) -> list[Installed]:
    """The installed modules, by name."""
    return [Installed(each, paths.module(each)) for each in folders(paths) if paths.userconfig(each).is_file()]


def shipped() -> list[Shipped]:
    """The modules that come with this version, by name."""
    folders = (Path(each) / "modules" for each in safekit_py.__path__)
    parent = next((each for each in folders if each.is_dir()), None)
    found = sorted(parent.iterdir()) if parent else []
    return [Shipped(each.name, each, _title(each)) for each in found if (each / USERCONFIG).is_file()]


def _title(folder: Path) -> str:
    readme = folder / "README.md"
    first = readme.read_text(encoding="utf-8").strip().partition("\n")[0] if readme.is_file() else ""
    return first.lstrip("# ") or folder.name


def package(folder: Path, target: Path) -> Path:
    """Make a zip of a module's folder; equal folders give equal archives.

    :param target: the archive, or an existing folder to put it in.
    :return: the archive.
    :raises ConfigError: the folder holds what an installation would reject.
    """
    if not folder.is_dir():
        raise NotFoundError(Problem("module.not-found", f"{folder} is no folder", "name a folder with conf and bin"))
    source = Folder(folder)
    archive = target / f"{folder.resolve().name}.zip" if target.is_dir() else target
    verify(source)
    descriptor, name = tempfile.mkstemp(prefix=_STAGE, dir=archive.parent)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as stream, zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as packed:
            for entry in source.entries:
                info = zipfile.ZipInfo(entry.path, _DATE)
                info.compress_type = zipfile.ZIP_DEFLATED
                info.create_system = 3
                info.external_attr = (0o100755 if entry.path.startswith("bin/") else 0o100644) << 16
                packed.writestr(info, b"".join(source.chunks(entry)))
        temporary.chmod(0o644)
        temporary.rename(archive)
    finally:
        temporary.unlink(missing_ok=True)
    return archive
