"""Images: what is written is read, holes take no room, and errors come as they are."""

import errno
import os
import resource
import signal
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safekit_py.plugins.mirror.volume.image import ImageFile, create
from safekit_py.plugins.mirror.volume.request import BLOCK, LARGEST, memory

SIZE = 8 << 20


@pytest.fixture
def image(tmp_path):
    create(tmp_path / "v.img", SIZE)
    made = ImageFile(tmp_path / "v.img")
    yield made
    made.close()


STEP = st.tuples(
    st.sampled_from(["write", "discard", "zero"]),
    st.integers(0, SIZE - 1),
    st.integers(0, 1 << 20),
    st.integers(1, 255),
)


@settings(max_examples=30, deadline=None)
@given(st.lists(STEP, max_size=12))
def test_it_holds_what_a_plain_array_holds(tmp_path_factory, steps):
    path = tmp_path_factory.mktemp("image") / "v.img"
    create(path, SIZE)
    image, model = ImageFile(path), bytearray(SIZE)
    try:
        for kind, offset, wanted, value in steps:
            size = min(wanted, SIZE - offset)
            data = bytes([value]) * size if kind == "write" else bytes(size)
            if kind == "write":
                image.write(offset, data)
            else:
                getattr(image, kind)(offset, size)
            model[offset : offset + size] = data
        for offset in range(0, SIZE, 1 << 20):
            assert image.read(offset, 1 << 20) == model[offset : offset + (1 << 20)]
        assert path.stat().st_size == SIZE
    finally:
        image.close()


def test_a_discarded_range_takes_no_room(image):
    image.write(0, os.urandom(1 << 20))
    image.sync()
    taken = os.fstat(image.fd).st_blocks
    image.discard(0, 1 << 20)
    image.sync()
    assert os.fstat(image.fd).st_blocks < taken - 1000


def test_it_grows_and_never_shrinks(image):
    image.resize(2 * SIZE)
    assert image.size == os.fstat(image.fd).st_size == 2 * SIZE
    for size in (SIZE, 2 * SIZE + 1):
        with pytest.raises(ValueError, match="cannot become"):
            image.resize(size)


def test_an_image_that_is_too_short_is_an_error(image):
    os.ftruncate(image.fd, 4096)
    with pytest.raises(OSError, match="too early") as caught:
        image.read(0, 8192)
    assert caught.value.errno == errno.EIO


def test_errors_of_the_disk_are_passed_on(image):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            image.write(0, bytes(8192))
        assert caught.value.errno == errno.EFBIG
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_an_image_is_not_made_twice(tmp_path):
    create(tmp_path / "v.img", SIZE)
    with pytest.raises(FileExistsError):
        create(tmp_path / "v.img", SIZE)


def test_an_image_behind_a_link_is_refused(tmp_path):
    create(tmp_path / "v.img", SIZE)
    (tmp_path / "link").symlink_to("v.img")
    with pytest.raises(OSError, match="symbolic links"):
        ImageFile(tmp_path / "link")


BLOCKS = SIZE // BLOCK
COUNTS, VALUES = st.integers(1, LARGEST // BLOCK), st.integers(1, 255)
MIXED = st.tuples(st.booleans(), st.integers(0, BLOCKS - 1), COUNTS, VALUES, st.sampled_from([0, 8]))


@pytest.mark.parametrize("folder", ["/var/tmp", "/dev/shm"])
@settings(max_examples=20, deadline=None)
@given(steps=st.lists(MIXED, min_size=2, max_size=10))
def test_both_ways_past_and_through_the_page_cache_see_the_same(folder, steps):
    with tempfile.TemporaryDirectory(dir=folder) as name:
        path, buffer = Path(name, "v.img"), memory(LARGEST + BLOCK)
        create(path, SIZE)
        image, model = ImageFile(path), bytearray(SIZE)
        try:
            for small, block, count, value, shift in steps:
                size = min(1 if small else count, BLOCKS - block) * BLOCK
                data = buffer[shift : shift + size]
                data[:] = bytes([value]) * size
                image.write(block * BLOCK, data)
                model[block * BLOCK : block * BLOCK + size] = data
                assert image.read(block * BLOCK, size) == data
            image.sync()
            for at in range(0, SIZE, LARGEST):
                assert image.read(at, LARGEST) == model[at : at + LARGEST]
            assert path.read_bytes() == model
        finally:
            image.close()


def test_what_is_large_and_aligned_is_not_kept_in_the_page_cache(tmp_path):
    create(tmp_path / "v.img", SIZE)
    image = ImageFile(tmp_path / "v.img")
    try:
        if image._direct is None:
            pytest.skip("this file system has no direct I/O")
        data = memory(LARGEST)
        data[:] = b"x" * LARGEST
        image.write(0, data)
        with pytest.raises(BlockingIOError):
            os.preadv(image.fd, [bytearray(BLOCK)], 0, os.RWF_NOWAIT)  # it would have to be read from the disk
        image.write(LARGEST, data[:BLOCK])
        assert os.preadv(image.fd, [bytearray(BLOCK)], LARGEST, os.RWF_NOWAIT) == BLOCK
    finally:
        image.close()
