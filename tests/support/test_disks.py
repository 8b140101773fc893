"""The disks of the tests do what they are told: else what they show would prove nothing."""

import errno
import os

import pytest
from disks import MIB, PowerDisk, local_volume, plain_ext4, tiny
from powerdisk import SECTOR, Cache
from safekit_py.plugins.mirror.volume import system


def stored(path, data):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
    try:
        while data:
            data = data[os.write(fd, data) :]
        os.fsync(fd)
    finally:
        os.close(fd)


def test_the_cache_holds_what_was_written_until_a_flush():
    cache = Cache(16 * SECTOR)
    cache.put(SECTOR, b"a" * SECTOR)
    cache.flush()
    cache.put(SECTOR + 100, b"b" * 3)
    assert cache.read(SECTOR + 98, 8) == b"aabbbaaa"
    assert cache.read(0, 4 * SECTOR) == bytes(SECTOR) + b"a" * 100 + b"bbb" + b"a" * 409 + bytes(2 * SECTOR)
    assert cache.lose(0.0, 1) == 1
    assert cache.read(SECTOR, SECTOR) == b"a" * SECTOR


def test_power_loss_keeps_a_part_by_chance():
    cache = Cache(1000 * SECTOR)
    cache.put(0, b"x" * 1000 * SECTOR)
    lost = cache.lose(0.5, 7)
    assert 400 < lost < 600
    assert cache.store[:].count(b"x" * SECTOR) == 1000 - lost


@pytest.mark.lab
def test_a_power_cut_loses_what_was_not_flushed_and_nothing_else(tmp_path):
    with PowerDisk(tmp_path / "disk", 64 * MIB) as disk:
        stored(disk.path / "flushed", b"yes" * 5000)
        (disk.path / "not flushed").write_bytes(b"no" * 5000)
        disk.cut()
        assert not os.path.ismount(disk.path)
        disk.boot()
        assert (disk.path / "flushed").read_bytes() == b"yes" * 5000
        assert not (disk.path / "not flushed").exists()
    assert not list((tmp_path / "disk/fuse").iterdir())


@pytest.mark.lab
def test_a_failing_disk_says_so(tmp_path):
    with PowerDisk(tmp_path / "disk", 64 * MIB) as disk:
        disk.fail("write", "flush")
        with pytest.raises(OSError) as failed:  # noqa: PT011 - the errno is looked at
            stored(disk.path / "file", b"x" * 100_000)
        assert failed.value.errno == errno.EIO


@pytest.mark.lab
def test_a_tiny_disk_is_full_soon(tmp_path):
    with tiny(tmp_path / "t", 1 * MIB) as path:
        stored(path / "first", bytes(MIB // 2))
        with pytest.raises(OSError) as failed:  # noqa: PT011
            stored(path / "second", bytes(MIB))
    assert failed.value.errno == errno.ENOSPC


@pytest.mark.lab
@pytest.mark.parametrize("medium", [plain_ext4, local_volume])
def test_nothing_is_left(tmp_path, medium):
    before = {each.target for each in system.mounts()}
    with medium(tmp_path / "d", 32 * MIB) as path:
        assert {each.target for each in system.mounts()} > before
        stored(path / "file", b"x")
    assert {each.target for each in system.mounts()} == before
