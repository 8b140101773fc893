"""What the module wizard needs of this server: the modules that ship, and archives of them with another configuration.

Flows through it: a module's name and the text of its userconfig.xml in; the archive's bytes out, which the browser then
has every server check and install by the public API. Nothing is written but into a folder that is removed at once.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from safekit_py.bundle import install as bundle
from safekit_py.errors import ConfigError, NotFoundError, Problem

USERCONFIG = "conf/userconfig.xml"


def shipped() -> list[dict[str, Any]]:
    """Each module's name, title and userconfig.xml."""
    return [
        {"name": each.name, "title": each.title, "xml": (each.folder / USERCONFIG).read_text(encoding="utf-8")}
        for each in bundle.shipped()
    ]


def archive(body: bytes) -> bytes:
    """The archive of a shipped module with the userconfig.xml of a request.

    :param body: JSON with ``module`` and ``xml``.
    :raises ConfigError: it is none.
    :raises NotFoundError: no such module ships.
    """
    try:
        found = json.loads(body)
        name, xml = found["module"], found["xml"]
        if not isinstance(name, str) or not isinstance(xml, str):
            raise TypeError
    except (ValueError, LookupError, TypeError, RecursionError):
        raise ConfigError(Problem("request.bad-value", "the request names no module and its xml", "")) from None
    folder = next((each.folder for each in bundle.shipped() if each.name == name), None)
    if folder is None:
        raise NotFoundError(Problem("module.not-found", f"no module {name[:64]} ships", "safekit-py module list"))
    with tempfile.TemporaryDirectory(prefix="safekit-") as made:
        copy = Path(made) / name
        shutil.copytree(folder, copy)
        (copy / USERCONFIG).write_text(xml, encoding="utf-8")
        return bundle.package(copy, Path(made) / "module.zip").read_bytes()
