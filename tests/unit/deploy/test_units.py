"""The units of systemd: accepted without a word, and no capability without a reason."""

import shutil
import subprocess
from pathlib import Path

import pytest

UNITS = sorted((Path(__file__).parents[3] / "deploy/systemd").glob("*.service"))


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not here")
@pytest.mark.parametrize("unit", UNITS, ids=lambda each: each.name)
def test_systemd_has_nothing_to_say(unit, tmp_path):
    copy = tmp_path / unit.name
    copy.write_text(unit.read_text().replace("/usr/bin/safekit-py", "/bin/true"))  # it need not be installed here
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(copy)], capture_output=True, text=True, check=False
    )
    assert [line for line in done.stderr.splitlines() if unit.name in line] == []
    assert done.returncode == 0 or unit.name not in done.stderr


@pytest.mark.parametrize("unit", UNITS, ids=lambda each: each.name)
def test_a_capability_has_its_reason_in_the_line_before(unit):
    lines = unit.read_text().splitlines()
    sets = [number for number, line in enumerate(lines) if line.startswith("CapabilityBoundingSet=")]
    assert sets
    assert [lines[number] for number in sets if not lines[number - 1].startswith("# ")] == []
