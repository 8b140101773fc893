"""The libraries that the Debian package brings: all that the project needs, and each file by its hash."""

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[3]
LOCKED = re.compile(r"^([\w.-]+)==(\S+)(?: ;[^\\]*)? \\$", re.MULTILINE)
TEXT = (ROOT / "deploy/debian/requirements.lock").read_text()


def test_every_dependency_is_locked_in_a_version_that_fits():
    locked = {canonicalize_name(name): version for name, version in LOCKED.findall(TEXT)}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for each in map(Requirement, project["dependencies"]):
        assert canonicalize_name(each.name) in locked, f"{each.name}: make lock"
        assert each.specifier.contains(locked[canonicalize_name(each.name)]), f"{each}: make lock"


def test_every_locked_file_has_a_hash():
    parts = re.split(r"\n(?=\S)", TEXT.strip())
    assert len(parts) == len(LOCKED.findall(TEXT))
    assert [part.partition("=")[0] for part in parts if "--hash=sha256:" not in part] == []
