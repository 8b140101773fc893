"""Random operations on files of a volume, compared with a model in memory and with the same on plain ext4.

SAFEKIT_EXAMPLES=20 runs twenty times as many.
"""

import os
import subprocess

import fsx
import pytest
from disks import MIB, looped, plain_ext4, volume_file
from effort import examples

pytestmark = pytest.mark.lab


@pytest.mark.parametrize("mode", fsx.MODES)
@pytest.mark.parametrize("seed", [1, 2])
def test_random_operations(medium, folder, note, mode, seed):
    note(fsx.run(folder, seed, mode, examples(2000)))


def test_what_was_written_is_there_after_a_mount(tmp_path):
    """The image itself holds it: without the volume's process, and without an error of its file system."""
    with volume_file(tmp_path / "v", 128 * MIB) as (file, _):
        with looped(file, tmp_path / "mnt") as path:
            fsx.Fsx(path / "kept", 3, "mmap").run(examples(1000))
            before = (path / "kept").read_bytes()
        image = tmp_path / "v/data.img"
        checked = subprocess.run(["e2fsck", "-fn", image], capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stdout
        with looped(image, tmp_path / "plain", make=False) as path:
            assert (path / "kept").read_bytes() == before


def test_a_wrong_byte_is_found(tmp_path):
    """The comparison itself can fail."""
    with plain_ext4(tmp_path / "p", 64 * MIB) as path:
        running = fsx.Fsx(path / "file", 1, "buffered")
        running.write()
        running.model[-1] ^= 1
        with pytest.raises(fsx.Wrong, match="differs at"):
            running.cold()
        os.close(running.fd)
