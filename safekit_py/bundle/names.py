"""Paths inside an archive: which are accepted. Pure.

Invariant: accepted paths, joined to a folder, name distinct files below that folder on any file system, also on one
that does not tell upper from lower case.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

from safekit_py.errors import ConfigError, Problem

MAX_PATH = 1024
MAX_PARTS = 32
USERCONFIG = "conf/userconfig.xml"


def reject(code: str, message: str, remedy: str, file: str = "") -> ConfigError:
    """The error for an archive that is not acceptable."""
    return ConfigError(Problem(f"bundle.{code}", message, remedy, file))


def shown(name: str) -> str:
    """A name from an archive as it may be printed: no control characters, not endless."""
    return ascii(name[:100] + ("..." if len(name) > 100 else ""))


def check_path(name: str, archive: str) -> str:
    """A path as it may be written.

    :param name: as the archive holds it; a trailing ``/`` marks a folder.
    :return: the path without that ``/``.
    :raises ConfigError: it leaves its folder or cannot be told from another.
    """
    path = name.removesuffix("/")
    if any(unicodedata.category(each) in ("Cc", "Cf", "Cs", "Zl", "Zp", "Co", "Cn") for each in name):
        raise reject("control-character", f"The name {shown(name)} holds a control character", "rename it", archive)
    if "\\" in name:
        raise reject("backslash", f"The name {shown(name)} holds a backslash", "use / between folders", archive)
    if name.startswith("/"):
        raise reject("absolute-path", f"{shown(name)} is an absolute path", "pack paths below the module", archive)
    if len(path) > 1 and path[1] == ":":
        raise reject("drive-path", f"{shown(name)} starts with a drive", "pack paths below the module", archive)
    parts = path.split("/")
    if ".." in parts:
        raise reject("parent-path", f"{shown(name)} leads out of the module by ..", "pack paths without ..", archive)
    if "" in parts or "." in parts:
        raise reject("odd-path", f"{shown(name)} has an empty part or a dot as a part", "pack plain paths", archive)
    if len(path.encode()) > MAX_PATH or len(parts) > MAX_PARTS or any(len(each.encode()) > 255 for each in parts):
        raise reject("long-path", f"The path {shown(name)} is too long or too deep", "use shorter names", archive)
    return path


def check_distinct(entries: Iterable[tuple[str, bool]], archive: str) -> None:
    """No two entries, path and whether it is a folder, may meet in one place.

    :raises ConfigError: the same name twice, two that differ in case only, or a file that is a folder too.
    """
    files: set[str] = set()
    listed: set[str] = set()
    spelling: dict[str, str] = {}
    folders: set[str] = set()
    for path, folder in entries:
        if path in listed:
            raise reject("duplicate", f"{shown(path)} stands twice in the archive", "pack it once", archive)
        listed.add(path)
        parts = path.split("/")
        for count in range(1, len(parts) + 1):
            part = "/".join(parts[:count])
            known = spelling.setdefault(unicodedata.normalize("NFC", part).casefold(), part)
            if known != part:
                message = f"{shown(known)} and {shown(part)} differ in case only"
                raise reject("case-clash", message, "rename one of them", archive)
            if count < len(parts):
                folders.add(part)
        (folders if folder else files).add(path)
    both = next(iter(sorted(files & folders)), None)
    if both:
        raise reject("duplicate", f"{shown(both)} is a file and a folder at once", "pack it once", archive)


def base(files: Iterable[str], archive: str) -> str:
    """What stands before ``conf/`` in the archive: empty, or the single folder at its top with a ``/``.

    :raises ConfigError: there is no conf/userconfig.xml there.
    """
    names = set(files)
    if USERCONFIG in names:
        return ""
    tops = {each.split("/")[0] for each in names}
    top = next(iter(tops), "")
    if len(tops) == 1 and f"{top}/{USERCONFIG}" in names:
        return f"{top}/"
    found = ", ".join(shown(each) for each in sorted(tops)[:5]) or "nothing"
    message = f"There is no {USERCONFIG}, neither at the top nor in a single folder; the top holds {found}"
    raise reject("no-userconfig", message, "pack the folder that holds conf and bin", archive)
