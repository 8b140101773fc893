"""What every program of a module is given, and what is asked before one is run.

Flows through it: a module's configuration in; the environment of its programs, the verdict whether a file may be run,
and its user log, bounded, out.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from safekit_py.errors import Problem, SafekitError
from safekit_py.model.config import User
from safekit_py.model.paths import Paths

PIECE = 64 * 1024  # bytes of a log that are copied at a time


class ScriptFailed(SafekitError):
    """A script ended with a status other than 0, ran out of time, or may not be run."""


def environment(name: str, paths: Paths, user: User) -> dict[str, str]:
    """The variables that every script of the module gets."""
    keep = {k: os.environ[k] for k in ("PATH", "LANG", "LC_ALL", "TZ", "HOME") if k in os.environ}
    return {
        **keep,
        "SAFE": str(paths.safe),
        "SAFEBIN": str(paths.safe / "bin"),
        "SAFEVAR": str(paths.var),
        "SAFEMODULE": name,
        "SAFEUSERBIN": str(paths.module(name) / "bin"),
        "SAFEUSERCONF": str(paths.module(name) / "conf"),
        "SAFEUSERVAR": str(paths.module_var(name)),
        "SAFEKIT_ROOT": str(paths.root),
        **dict(user.variables),
    }


def refuse_if_unsafe(script: Path) -> None:
    """Refuse a script that somebody other than root or this agent's user could have changed.

    :raises ScriptFailed: the file or its folder belongs to, or is writable by, somebody else; or it is no file.
    """
    for path in (script.parent, script):
        status = path.lstat()
        wanted = stat.S_ISDIR if path is not script else stat.S_ISREG
        if not wanted(status.st_mode):
            raise ScriptFailed(Problem("script.not-a-file", f"{path} is not a plain file or folder"))
        if status.st_uid not in (0, os.geteuid()) or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise ScriptFailed(
                Problem(
                    "script.unsafe",
                    f"{path} can be changed by others than root, so it is not run",
                    f"chown root: {path}; chmod go-w {path}",
                )
            )


def open_new(path: Path) -> int:
    """Open for writing from the start, never through a link that somebody has put there.

    :raises OSError: the file is a link.
    """
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)


def open_log(path: Path) -> int:
    """Open a log for appending, never through a link: its folder may belong to the application's user.

    :raises ScriptFailed: the file is a link.
    """
    try:
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    except OSError as error:
        problem = Problem("script.no-log", f"{path} cannot be opened: {error.strerror}", f"look at it, then rm {path}")
        raise ScriptFailed(problem) from error


def turn_over(path: Path, limit_kib: int) -> None:
    """Keep the log below about twice its limit: past it, it becomes ``.1`` and starts anew in the same file."""
    with contextlib.suppress(OSError):  # gone, a link, or a full disk: then it is bounded at the next look
        if path.lstat().st_size > limit_kib * 1024:
            aside = path.with_name(path.name + ".1")
            with path.open("rb") as source, os.fdopen(open_new(aside), "wb") as target:
                source.seek(-limit_kib * 1024, os.SEEK_END)
                left = (
                    limit_kib * 1024
                )  # and not up to the end: who writes faster than this reads would never let it end
                while left > 0 and (piece := source.read(min(left, PIECE))):
                    left -= target.write(piece)
            os.truncate(path, 0)
