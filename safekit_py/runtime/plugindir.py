"""Plugins that are single files: ``$SAFE/plugins/NAME.py``, each with the name of its file.

Flows through it: a folder in, modules out. What root's agent runs must be root's: a file, or a folder, that somebody
else could change is refused, never repaired. The bytes that were looked at are the bytes that run.
"""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path
from types import ModuleType

from safekit_py.errors import AccessError, ConfigError, Problem

LARGEST = 1 << 20  # bytes of a plugin file
PREFIX = "safekit_plugin_"  # before the name of the module that a file becomes
BACKUPS = ("~", ".bak", ".orig", ".rej", ".swp", ".tmp")


def files(folder: Path) -> list[Path]:
    """The plugin files of a folder, by name; hidden files, editors' copies and all but ``.py`` are no plugins."""
    try:
        found = sorted(folder.iterdir())
    except OSError:
        return []
    return [path for path in found if is_plugin(path.name) and not path.is_dir()]


def is_plugin(name: str) -> bool:
    """Whether a file of this name is meant to be a plugin."""
    return name.endswith(".py") and not name.startswith((".", "#", "_")) and not name[:-3].endswith(BACKUPS)


def load(path: Path, *, anywhere: bool = False) -> ModuleType:
    """Run a plugin's file.

    :param anywhere: also one that others could change, when a person names it.
    :raises AccessError: somebody else than root or the agent's user could have changed it or its folder.
    :raises ConfigError: it is no plain file, or larger than ``LARGEST`` bytes.
    :raises Exception: whatever the plugin raises.
    """
    source = _read(path, anywhere)
    name = module_name(path)
    module = ModuleType(name)
    module.__file__ = str(path)
    code = compile(source, str(path), "exec", dont_inherit=True)
    sys.modules[name] = module  # dataclasses and pickle look a class up by its module
    try:
        exec(code, module.__dict__)  # noqa: S102 - a plugin is code of this server's own root
    except BaseException:
        del sys.modules[name]
        raise
    return module


def module_name(path: Path) -> str:
    """The name of the module that a file becomes."""
    return PREFIX + path.stem.replace("-", "_")


def ensure(folder: Path, module: str) -> None:
    """Have the file of a folder loaded that becomes this module; without effect when there is none."""
    if module.startswith(PREFIX) and module not in sys.modules:
        for path in files(folder):
            if module_name(path) == module:
                load(path)


def _read(path: Path, anywhere: bool) -> bytes:
    if not anywhere:
        _refuse_if_unsafe(path.parent, path.parent.stat())
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise ConfigError(
            Problem("plugin.not-a-file", f"{path} cannot be read: {error.strerror}", "put the file itself there")
        ) from error
    with os.fdopen(descriptor, "rb") as stream:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size > LARGEST:
            problem = f"{path} is no plain file of at most {LARGEST >> 20} MiB"
            raise ConfigError(Problem("plugin.not-a-file", problem, "put the plugin's file itself there"))
        if not anywhere:
            _refuse_if_unsafe(path, status)
        return stream.read()


def _refuse_if_unsafe(path: Path, status: os.stat_result) -> None:
    if status.st_uid not in (0, os.geteuid()) or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise AccessError(
            Problem(
                "plugin.unsafe",
                f"{path} can be changed by others than root, so the plugin is not loaded",
                f"chown root: {path}; chmod go-w {path}",
            )
        )
