"""Secrets of notifiers: in files of root, named in notify.xml, read when something is sent.

So notify.xml, which is shown and copied, holds none, and a changed one needs no restart.
"""

from __future__ import annotations

import stat
from pathlib import Path

from safekit_py.api import ElementNode, Problem, SafekitError

LARGEST = 4096  # bytes
FILE = """<xs:simpleType><xs:restriction base="xs:string"><xs:pattern value="/.+"/></xs:restriction></xs:simpleType>"""


def check(node: ElementNode, attribute: str) -> str:
    """The file that an attribute names, or empty; a file that is wrong is reported at the element."""
    name = node.get(attribute) or ""
    if name:
        try:
            read(name)
        except SafekitError as error:
            found = error.problems[0]
            node.problem(found.code, found.message, found.remedy)
    return name


def read(name: str) -> str:
    """The first line of a file.

    :raises SafekitError: it cannot be read, is empty, or others could read it.
    """
    path = Path(name)
    try:
        if not path.is_file():
            raise _refused(f"{name} is no file")
        if path.stat().st_mode & (stat.S_IRWXO | stat.S_IWGRP):
            raise SafekitError(
                Problem(
                    "notify.secret-open", f"others may read or change {name}, which holds a secret", f"chmod 600 {name}"
                )
            )
        with path.open("rb") as stream:
            text = stream.read(LARGEST).decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise _refused(f"{name} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    secret = text.splitlines()[0].strip() if text.strip() else ""
    if not secret:
        raise _refused(f"{name} is empty")
    return secret


def _refused(text: str) -> SafekitError:
    return SafekitError(Problem("notify.no-secret", text, "the secret is the first line of the file; on each server"))
