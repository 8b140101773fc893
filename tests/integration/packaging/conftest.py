"""The Debian package of this tree, and a fresh Debian in which apt has installed it; made once for all tests."""

import os
import shutil
import sys
from pathlib import Path

import pytest
from debian import inside, run, traces

from safekit_py import __version__

ROOT = Path(__file__).parents[3]
MIRROR, SUITE = "http://deb.debian.org/debian", "bookworm"
NEWER = "9.9.9"
OTHERS = ["apache2-bin", "python3-apt", "systemd-sysv"]  # what the module needs, what ansible needs, and who boots it


def build(folder):
    """Twice the same is built, also when somebody commits meanwhile."""
    own = {"PYTHON": sys.executable, "SOURCE_DATE_EPOCH": "1750000000"}
    run(str(ROOT / "deploy/debian/build"), str(folder), env={**os.environ, **own})


@pytest.fixture(scope="session")
def builder():
    return build


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    found = tmp_path_factory.mktemp("deb")
    yield found
    shutil.rmtree(found, ignore_errors=True)


@pytest.fixture(scope="session")
def package(folder):
    """The package of this tree."""
    build(folder)
    (found,) = folder.glob("*.deb")
    return found


@pytest.fixture(scope="session")
def newer(folder, package):
    """The same with a higher version."""
    tree = folder / "newer"
    run("dpkg-deb", "--raw-extract", str(package), str(tree))
    for path in (
        tree / "DEBIAN/control",
        next(tree.glob("usr/lib/safekit-py/lib/*/site-packages/safekit_py/__init__.py")),
    ):
        path.write_text(path.read_text().replace(__version__, NEWER))
    out = folder / f"newer_{NEWER}.deb"
    run("dpkg-deb", "--root-owner-group", "-Znone", "--build", str(tree), str(out))
    return out


@pytest.fixture(scope="session")
def base(folder, package):
    """A fresh system with the package and Apache, installed by apt."""
    system = folder / "base"
    run("debootstrap", "--variant=minbase", SUITE, str(system), MIRROR)
    shutil.copy("/etc/resolv.conf", system / "etc/resolv.conf")
    shutil.copy("/etc/hosts", system / "etc/hosts")
    shutil.copy(package, system / "tmp/safekit.deb")
    assert traces(system) == []
    run("mount", "-t", "proc", "proc", str(system / "proc"))
    try:
        inside(system, "apt-get", "update", "-q")
        inside(system, "apt-get", "install", "-yq", "--no-install-recommends", "/tmp/safekit.deb", *OTHERS)
    finally:
        run("umount", str(system / "proc"))
    return system
