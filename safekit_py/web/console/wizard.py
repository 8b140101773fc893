"""What the module wizard and the editor need of this server: the modules that ship, archives, and differences.

Flows through it: a module's name and the text of its userconfig.xml, or all its files, in; the archive's bytes out,
which the browser then has every server check and install by the public API. Nothing is written but into a folder that
is removed at once.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any, TypeGuard

from safekit_py.bundle import history
from safekit_py.bundle import install as bundle
from safekit_py.errors import ConfigError, NotFoundError, Problem

USERCONFIG = "conf/userconfig.xml"
PATH = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*")


def shipped() -> list[dict[str, Any]]:
    """Each module's name, title and userconfig.xml."""
    return [
        {"name": each.name, "title": each.title, "xml": (each.folder / USERCONFIG).read_text(encoding="utf-8")}
        for each in bundle.shipped()
    ]


def archive(body: bytes) -> bytes:
    """The archive of a shipped module with the userconfig.xml of a request, or of the files of a request.

    :param body: JSON with ``module`` and ``xml``, or with ``module`` and ``files``, texts by path.
    :raises ConfigError: it is none, or no archive can hold that.
    :raises NotFoundError: no such module ships.
    """
    found = _object(body)
    name, xml, files = found.get("module"), found.get("xml"), found.get("files")
    if not isinstance(name, str) or not (isinstance(xml, str) or _texts(files)):
        raise ConfigError(Problem("request.bad-value", "the request names no module with its xml or files", ""))
    with tempfile.TemporaryDirectory(prefix="safekit-") as made:
        copy = Path(made) / "module"
        if isinstance(xml, str):
            shutil.copytree(_shipped(name), copy)
            files = {USERCONFIG: xml}
        assert isinstance(files, dict), "one of the two was given"
        for path, text in files.items():
            _write(copy, path, text)
        return bundle.package(copy, Path(made) / "module.zip").read_bytes()


def _shipped(name: str) -> Path:
    for each in bundle.shipped():
        if each.name == name:
            return each.folder
    raise NotFoundError(Problem("module.not-found", f"no module {name[:64]} ships", "safekit-py module list"))


def _write(folder: Path, path: str, text: str) -> None:
    target = folder / path
    if not PATH.fullmatch(path) or ".." in Path(path).parts:
        raise ConfigError(Problem("request.bad-value", f"{path[:200]} is no path in a module", ""))
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text, encoding="utf-8")


def difference(body: bytes) -> str:
    """What makes the files ``before`` those ``after`` of a request, as a unified diff.

    :raises ConfigError: the request has no such files.
    """
    found = _object(body)
    before, after = found.get("before"), found.get("after")
    if not _texts(before) or not _texts(after):
        raise ConfigError(Problem("request.bad-value", "the request has no files before and after", ""))
    return history.difference(before, after)


def _texts(value: Any) -> TypeGuard[dict[str, str]]:
    return isinstance(value, dict) and all(isinstance(each, str) for each in (*value, *value.values()))


def _object(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ConfigError(Problem("request.bad-value", "the request is no JSON object", ""))
    return found
