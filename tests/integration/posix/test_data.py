"""What is in files: writes of each kind, holes, direct I/O, mappings, and all of it again from the disk."""

import hashlib
import mmap
import multiprocessing
import os
import subprocess

import pytest
from disks import drop_caches
from posixcalls import COLLAPSE, INSERT, KEEP_SIZE, PUNCH_HOLE, ZERO, fallocate, in_child, opened, outcome, sync

pytestmark = pytest.mark.lab
RW = os.O_RDWR | os.O_CREAT
BLOCK = 4096


@pytest.fixture
def file(folder):
    fd = os.open("file", RW, 0o644)
    yield fd
    os.close(fd)


def aligned(data):
    """The data in memory that direct I/O takes."""
    made = mmap.mmap(-1, len(data))
    made.write(data)
    return made


def pattern(size, salt=0):
    return hashlib.shake_128(bytes([salt])).digest(size)


def holes(fd, size):
    """The parts that have data, as (begin, end)."""
    found, at = [], 0
    while at < size:
        try:
            begin = os.lseek(fd, at, os.SEEK_DATA)
        except OSError:
            break
        at = os.lseek(fd, begin, os.SEEK_HOLE)
        found.append((begin, at))
    return found


def test_append_is_at_the_end_each_time(folder, note):
    def add(letter):
        fd = os.open("log", RW | os.O_APPEND)
        for _ in range(2000):
            os.write(fd, letter * 64 + b"\n")

    started = [multiprocessing.get_context("fork").Process(target=add, args=(bytes([c]),)) for c in b"abc"]
    for each in started:
        each.start()
    for each in started:
        each.join()
    lines = (folder / "log").read_bytes().split(b"\n")[:-1]
    assert len(lines) == 6000
    assert all(line == line[:1] * 64 for line in lines)
    note(len(lines))


def test_append_ignores_the_position(file, note):
    os.write(file, b"12345")
    fd = os.open("file", os.O_WRONLY | os.O_APPEND)
    os.lseek(fd, 0, os.SEEK_SET)
    os.write(fd, b"67")
    os.pwrite(fd, b"89", 0)  # Linux appends even then
    os.close(fd)
    found = os.pread(file, 100, 0)
    note(found)
    assert found == b"123456789"


def test_truncate_leaves_zeros(file, note):
    os.write(file, pattern(10_000))
    os.ftruncate(file, 5000)
    os.ftruncate(file, 9000)
    found = os.pread(file, 20_000, 0)
    assert found == pattern(10_000)[:5000] + bytes(4000)
    opened("file", os.O_WRONLY | os.O_TRUNC)
    note([len(found), os.fstat(file).st_size])


def test_holes_are_seen_and_take_no_room(file, note):
    for at in (0, 1 << 20, 7 << 20):
        os.pwrite(file, pattern(BLOCK, at >> 20), at)
    os.ftruncate(file, 16 << 20)
    os.fsync(file)
    seen = holes(file, 16 << 20)
    note([seen, os.fstat(file).st_blocks])
    assert seen == [(at, at + BLOCK) for at in (0, 1 << 20, 7 << 20)]
    assert os.fstat(file).st_blocks == 3 * BLOCK // 512


MODES = [
    ("allocate", 0), ("allocate beyond", KEEP_SIZE), ("punch", PUNCH_HOLE | KEEP_SIZE), ("zero", ZERO),
    ("zero, size kept", ZERO | KEEP_SIZE), ("collapse", COLLAPSE), ("insert", INSERT),
]  # fmt: skip


@pytest.mark.parametrize("mode", [mode for _, mode in MODES], ids=[name for name, _ in MODES])
@pytest.mark.parametrize("place", [(8192, 16384), (1000, 5000), (60_000, 200_000), (0, 65_536), (1 << 20, 4096)])
def test_each_mode_of_fallocate(medium, folder, file, note, mode, place):
    os.write(file, pattern(100_000))
    done = outcome(fallocate, file, mode, *place)
    os.fsync(file)
    drop_caches(folder)
    about = os.fstat(file)
    content = os.pread(file, 1 << 22, 0)
    note([done, about.st_size, about.st_blocks, holes(file, about.st_size), hashlib.sha256(content).hexdigest()])
    if done == "ok" and mode & (PUNCH_HOLE | ZERO):
        kept = content[: min(place[0], 100_000)]
        assert kept == pattern(100_000)[: len(kept)]
        assert not any(content[place[0] : sum(place)])


@pytest.mark.parametrize("size", [512, 4096, 65_536, 1 << 20])
def test_direct_io(folder, note, size):
    fd = os.open("direct", RW | os.O_DIRECT)
    data = aligned(pattern(size))
    assert os.pwritev(fd, [data], size) == size
    room = mmap.mmap(-1, size)
    assert os.preadv(fd, [room], size) == size
    assert room[:] == data[:]
    beside = os.open("direct", os.O_RDONLY)
    assert os.pread(beside, size, size) == data[:]
    note(
        [os.fstat(fd).st_size, outcome(os.pwritev, fd, [memoryview(data)[:100]], 0), outcome(os.pwritev, fd, [data], 7)]
    )
    os.close(beside)
    os.close(fd)


def test_direct_and_buffered_see_each_other(folder, file):
    os.pwrite(file, b"a" * BLOCK * 4, 0)
    direct = os.open("file", os.O_RDWR | os.O_DIRECT)
    room = mmap.mmap(-1, BLOCK)
    os.preadv(direct, [room], BLOCK)
    assert room[:] == b"a" * BLOCK
    os.pwritev(direct, [aligned(b"b" * BLOCK)], BLOCK)
    assert os.pread(file, BLOCK * 4, 0) == b"a" * BLOCK + b"b" * BLOCK + b"a" * BLOCK * 2
    os.close(direct)


def test_shared_mapping_writes_the_file(folder, file):
    os.ftruncate(file, 1 << 20)
    with mmap.mmap(file, 1 << 20) as one, mmap.mmap(file, 1 << 20) as two:
        one[5000:5010] = b"0123456789"
        assert two[5000:5010] == b"0123456789"
        assert os.pread(file, 10, 5000) == b"0123456789"
        os.pwrite(file, b"XX", 5004)
        assert one[5000:5010] == b"0123XX6789"
        one[-BLOCK:] = pattern(BLOCK)
        one.flush()
    drop_caches(folder)
    assert os.pread(file, 10, 5000) == b"0123XX6789"
    assert os.pread(file, BLOCK, (1 << 20) - BLOCK) == pattern(BLOCK)


def test_shared_mapping_by_another_process(folder, file):
    os.ftruncate(file, BLOCK)
    with mmap.mmap(file, BLOCK) as here:

        def write():
            fd = os.open("file", os.O_RDWR)
            with mmap.mmap(fd, BLOCK) as there:
                there[:5] = b"hello"
            return "done"

        assert in_child(write) == "done"
        assert here[:5] == b"hello"


def test_private_mapping_does_not(folder, file):
    os.write(file, b"a" * BLOCK)
    with mmap.mmap(file, BLOCK, mmap.MAP_PRIVATE) as mapped:
        mapped[:5] = b"bbbbb"
        assert mapped[:6] == b"bbbbba"
    sync(folder)
    assert os.pread(file, BLOCK, 0) == b"a" * BLOCK


def test_a_mapping_beyond_the_end_is_a_bus_error(folder, file, note):
    os.write(file, b"x" * BLOCK)
    code = (
        "import mmap,os\nfd=os.open('file',os.O_RDWR)\nm=mmap.mmap(fd,4096)\nos.ftruncate(fd,0)\n"
        "import resource;resource.setrlimit(resource.RLIMIT_CORE,(0,0))\nprint(m[0])\n"
    )
    done = subprocess.run(["python3", "-S", "-c", code], capture_output=True, check=False)
    note(done.returncode)
    assert done.returncode == -7


def test_a_program_on_it_runs_and_is_busy_meanwhile(folder, note):
    subprocess.run(["cp", "/bin/sleep", "program"], check=True)
    with subprocess.Popen(["./program", "30"]) as running:
        seen = outcome(opened, "program", os.O_WRONLY)
        running.kill()
    note(seen)
    assert seen == "ETXTBSY"


def test_copy_file_range_splice_and_sendfile(folder, file, note):
    os.write(file, pattern(300_000))
    target = os.open("copy", RW)
    copied = 0
    while copied < 300_000:
        copied += os.copy_file_range(file, target, 300_000 - copied, copied, copied)
    assert os.pread(target, 400_000, 0) == pattern(300_000)
    os.lseek(target, 0, os.SEEK_SET)
    sent = os.sendfile(target, file, 0, 300_000)
    into, out = os.pipe()
    moved = os.splice(file, out, 4096, offset_src=100)
    assert os.read(into, 4096) == pattern(300_000)[100:4196]
    for fd in (target, into, out):
        os.close(fd)
    note([copied, sent, moved])


def test_vectors(file, note):
    parts = [pattern(n, n % 256) for n in (1, 4095, 4097, 0, 70_000)]
    written = os.pwritev(file, parts, 333)
    rooms = [bytearray(len(each)) for each in parts]
    read = os.preadv(file, rooms, 333)
    assert [bytes(each) for each in rooms] == parts
    note([written, read])


def test_sync_flags(folder, note):
    for flag in (os.O_SYNC, os.O_DSYNC, os.O_SYNC | os.O_DIRECT):
        fd = os.open("synced", RW | flag)
        assert os.pwrite(fd, aligned(pattern(BLOCK, flag & 255)), 0) == BLOCK
        assert (folder / "synced").read_bytes() == pattern(BLOCK, flag & 255)
        os.close(fd)
    note((folder / "synced").stat().st_size)


def test_large_offsets(file, note):
    at = (4 << 40) + 123
    os.pwrite(file, b"far away", at)
    os.fsync(file)
    assert os.pread(file, 100, at) == b"far away"
    note([os.fstat(file).st_size, os.fstat(file).st_blocks, os.lseek(file, 0, os.SEEK_DATA)])


def test_all_is_there_when_it_is_read_from_the_disk(folder):
    made = {}
    for number in range(200):
        data = pattern(number * 331, number)
        (folder / f"f{number}").write_bytes(data)
        made[f"f{number}"] = data
    drop_caches(folder)
    assert {each.name: each.read_bytes() for each in folder.iterdir()} == made
