"""A volume when memory is short, and when the disk behind it is full or fails."""

import errno
import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from disks import MIB, Keeper, PowerDisk, looped, tiny, volume_file
from posixcalls import in_child, outcome
from safekit_py.plugins.mirror.volume import image, system

pytestmark = pytest.mark.lab
MEMORY = Path("/sys/fs/cgroup/memory")

DIRTY = """
import hashlib, mmap, os, sys
path, size, piece = sys.argv[1], int(sys.argv[2]), 1 << 20
fd = os.open(path, os.O_RDWR | os.O_CREAT)
for at in range(0, size, piece):
    os.pwrite(fd, hashlib.shake_128(str(at).encode()).digest(piece), at)
with mmap.mmap(fd, size) as mapped:
    for at in range(0, size, 1 << 14):
        mapped[at] = at >> 14 & 255
os.fsync(fd)
bad = 0
for at in range(0, size, piece):
    want = bytearray(hashlib.shake_128(str(at).encode()).digest(piece))
    for inside in range(0, piece, 1 << 14):
        want[inside] = (at + inside) >> 14 & 255
    bad += os.pread(fd, piece, at) != want
print(bad)
"""


@pytest.fixture
def group():
    """A memory group of 64 MiB of its own."""
    unified = not MEMORY.is_dir()
    made = (Path("/sys/fs/cgroup") if unified else MEMORY) / f"sktest-{uuid.uuid4().hex[:8]}"
    try:
        made.mkdir()
        (made / ("memory.max" if unified else "memory.limit_in_bytes")).write_text(str(64 * MIB))
    except OSError as error:
        pytest.skip(f"no memory group can be made here: {error}")
    yield made
    made.rmdir()


def enter(group, pid):
    (group / "cgroup.procs").write_text(str(pid))


def harmless_in_the_group():
    """Whether the volume's processes may wait for memory in a group that their own volume's dirty pages fill.

    A group of the old kind (cgroup v1) lets whoever needs memory wait for pages under way to a disk, also the process
    that this disk consists of, unless the kernel knows it as such (PR_SET_IO_FLUSHER, which needs CAP_SYS_RESOURCE).
    """
    return not MEMORY.is_dir() or in_child(lambda: "io_flusher" in system.harden("sktest")) == "False"


@pytest.mark.parametrize("who", ["application", "all"])
def test_dirty_pages_fill_the_memory(tmp_path, group, who):
    """384 MiB are written by a group of 64 MiB, of the application, or of the volume's processes too: all arrives."""
    if who == "all" and not harmless_in_the_group():
        pytest.skip("cgroup v1 without CAP_SYS_RESOURCE: the volume's processes must not share a limited memory group")
    with volume_file(tmp_path / "v", 512 * MIB) as (file, keeper), looped(file, tmp_path / "mnt") as path:
        known = keeper.do("status")
        serving = (known["keeper"], known["worker"]) if who == "all" else ()
        for pid in serving:
            enter(group, pid)
        argv = [sys.executable, "-c", DIRTY, str(path / "file"), str(384 * MIB)]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as writer:
            enter(group, writer.pid)
            try:
                text, _ = writer.communicate(timeout=60)
            except subprocess.TimeoutExpired:
                keeper.process.kill()  # else nothing would ever end
                for flag in (system.MNT_FORCE, system.MNT_DETACH):
                    outcome(system.umount, tmp_path / "v/run/t", flag)
                text = "it stands still"
            finally:
                writer.kill()
        assert (writer.returncode, text) == (0, "0\n")
        after = keeper.do("status")
        assert (after["worker"], after["restarts"]) == (known["worker"], 0)
        for pid in serving:
            enter(group.parent, pid)


def write_all(path, size):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    try:
        for at in range(0, size, MIB):
            os.pwrite(fd, os.urandom(MIB), at)
        os.fsync(fd)
    finally:
        os.close(fd)


def test_the_disk_of_the_image_is_full(tmp_path):
    """The image is sparse and its disk has no room: fsync says so; nothing hangs, what was synced is still there."""
    with (
        tiny(tmp_path / "disk", 48 * MIB) as disk,
        volume_file(disk / "v", 128 * MIB, run=tmp_path / "run") as (file, keeper),
        looped(file, tmp_path / "mnt") as path,
    ):
        write_all(path / "small", 4 * MIB)
        before = (path / "small").read_bytes()
        seen = outcome(write_all, path / "large", 100 * MIB)
        assert seen in ("EIO", "ENOSPC")
        assert (path / "small").read_bytes() == before
        assert keeper.do("status")["restarts"] == 0


@pytest.mark.parametrize("kind", ["write", "flush"])
def test_the_disk_of_the_image_fails(tmp_path, kind):
    """An error of the disk becomes an error of fsync; the volume's process lives."""
    with (
        PowerDisk(tmp_path / "disk", 128 * MIB) as disk,
        volume_file(disk.path / "v", 64 * MIB, run=tmp_path / "run") as (file, keeper),
        looped(file, tmp_path / "mnt") as path,
    ):
        write_all(path / "good", 2 * MIB)
        disk.fail(kind)
        assert outcome(write_all, path / "bad", 8 * MIB) in ("EIO", "EROFS")
        assert keeper.do("status")["restarts"] == 0
        disk.fail()


def test_what_fsync_acknowledged_survives_a_power_cut_of_the_images_disk(tmp_path):
    """The whole way down: application, ext4 on the volume, its process, the image, ext4, a disk with a write cache."""
    with PowerDisk(tmp_path / "disk", 192 * MIB) as disk:
        plan = {"module": "t", "folder": str(disk.path), "run": str(tmp_path / "run"), "volumes": [["data", 64 * MIB]],
                "options": {}, "worker": "safekit_py.plugins.mirror.volume.local"}  # fmt: skip
        image.create(disk.path / "data.img", 64 * MIB)
        made = {}
        for turn in range(4):
            keeper = Keeper(plan)
            try:
                keeper.do("mount")
                with looped(tmp_path / "run/t/data", tmp_path / "mnt", make=turn == 0) as path:
                    for name, data in made.items():
                        assert (path / name).read_bytes() == data, f"{name}, acknowledged, is not there in turn {turn}"
                    for number in range(20):
                        name, data = f"{turn}-{number}", os.urandom(3000 * number)
                        (path / name).write_bytes(data)
                        fd = os.open(path / name, os.O_RDONLY)
                        os.fsync(fd)
                        os.close(fd)
                        made[name] = data
                    (path / "never synced").write_bytes(os.urandom(MIB))
                    disk.tell("lose", share=0.5, seed=turn)  # from here on nothing reaches the disk any more
            finally:
                keeper.close()
            disk.cut(seed=turn)
            disk.boot()


def test_nothing_hangs_when_keeper_and_worker_are_killed(tmp_path):
    """The application gets errors, and unmounting works."""
    with volume_file(tmp_path / "v", 64 * MIB) as (file, keeper), looped(file, tmp_path / "mnt") as path:
        write_all(path / "file", MIB)
        keeper.process.kill()
        keeper.process.wait()
        with pytest.raises(OSError) as failed:  # noqa: PT011 - the errno is looked at
            write_all(path / "other", 4 * MIB)
        assert failed.value.errno in (errno.EIO, errno.EROFS, errno.ENOTCONN)
    assert not [each for each in system.mounts() if each.target == tmp_path / "mnt"]
