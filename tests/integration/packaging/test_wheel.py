"""What a wheel of this tree holds: an installation from it misses no plugin, no module and no built filter."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
FOLDERS = {"safekit_py": "safekit_py", "plugins": "safekit_py/plugins", "modules": "safekit_py/modules"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel, built by the declared build backend without fetching anything."""
    place = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(place)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=120)
    (built,) = place.glob("*.whl")
    return zipfile.ZipFile(built)


def tracked(folder: str) -> list[str]:
    """The files of this folder that belong to the sources."""
    told = subprocess.run(["git", "ls-files", "-z", folder], cwd=ROOT, check=True, capture_output=True, text=True)
    return [name for name in told.stdout.split("\0") if name]


@pytest.mark.parametrize("folder", sorted(FOLDERS))
def test_every_file_of_the_sources_is_in_the_wheel(wheel: zipfile.ZipFile, folder: str) -> None:
    expected = {FOLDERS[folder] + name.removeprefix(folder) for name in tracked(folder)}
    assert expected, folder
    assert expected - set(wheel.namelist()) == set()


def test_the_built_filter_is_in_the_wheel_unchanged(wheel: zipfile.ZipFile) -> None:
    name = "filter-x86_64.json"
    assert wheel.read(f"safekit_py/plugins/farm/{name}") == (ROOT / "plugins/farm" / name).read_bytes()


def test_scripts_of_modules_stay_executable(wheel: zipfile.ZipFile) -> None:
    scripts = [name for name in tracked("modules") if "/bin/" in name and (ROOT / name).stat().st_mode & 0o100]
    assert scripts
    lost = [name for name in scripts if not wheel.getinfo(f"safekit_py/{name}").external_attr >> 16 & 0o100]
    assert lost == []
