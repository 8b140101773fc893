"""Checksums of blocks: they tell what differs, and a hole is as good as zeros."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st
from safekit_py.plugins.mirror.volume.hashes import BLOCK, PIECE, WIDTH, data_from, different, digests, hole, zeros
from safekit_py.plugins.mirror.volume.image import ImageFile, create

SIZE = 4 << 20


@pytest.fixture
def image(tmp_path):
    create(tmp_path / "v.img", SIZE)
    made = ImageFile(tmp_path / "v.img")
    yield made
    made.close()


def test_a_hole_has_the_hashes_of_zeros_and_costs_no_reading(image, tmp_path, monkeypatch):
    create(tmp_path / "w.img", SIZE)
    other = ImageFile(tmp_path / "w.img")
    other.write(0, bytes(1 << 20))
    other.write(1 << 20, bytes(3 << 20))
    monkeypatch.setattr(image, "read", lambda *_: pytest.fail("it was read"))
    for unit in (BLOCK, PIECE):
        assert digests(image, 0, SIZE, unit) == digests(other, 0, SIZE, unit)
        assert len(digests(image, 0, SIZE, unit)) == SIZE // unit * WIDTH
    other.close()


def test_what_is_only_in_the_page_cache_is_no_hole(image):
    image.write(BLOCK, b"x")
    assert hole(image, 0, BLOCK)
    assert not hole(image, 0, 2 * BLOCK)
    assert not hole(image, BLOCK, PIECE)
    assert data_from(image, 0) <= BLOCK
    assert data_from(image, 2 * BLOCK) == SIZE


def test_a_discarded_range_is_a_hole_again_for_the_hashes(image):
    before = digests(image, 0, SIZE)
    image.write(0, os.urandom(BLOCK))
    assert digests(image, 0, SIZE) != before
    image.discard(0, BLOCK)
    assert digests(image, 0, SIZE) == before


@given(st.sets(st.integers(0, SIZE - 1), min_size=1, max_size=6))
def test_each_byte_changes_the_hash_of_its_unit_and_of_no_other(tmp_path_factory, places):
    path = tmp_path_factory.mktemp("image") / "v.img"
    create(path, SIZE)
    image = ImageFile(path)
    try:
        for unit in (BLOCK, PIECE):
            before = digests(image, 0, SIZE, unit)
            for place in places:
                image.write(place, bytes([1 + unit % 7]))
            after = digests(image, 0, SIZE, unit)
            assert list(different(before, after)) == sorted({place // unit for place in places})
    finally:
        image.close()


def test_a_range_that_is_no_multiple_has_a_short_last_unit(image):
    image.write(0, b"x" * (BLOCK + PIECE))
    assert len(digests(image, 0, BLOCK + PIECE)) == 2 * WIDTH
    assert len(digests(image, 0, BLOCK + PIECE, PIECE)) == (BLOCK // PIECE + 1) * WIDTH


def test_lists_of_another_length_differ_where_one_ends():
    assert list(different(b"a" * WIDTH, b"a" * WIDTH + b"b" * WIDTH)) == [1]
    assert list(different(b"", b"")) == []


@given(st.integers(1, 5000), st.integers(0, 4999))
def test_zeros_are_nothing_but_zeros(size, place):
    data = bytearray(size)
    assert zeros(memoryview(data))
    data[place % size] = 1
    assert not zeros(memoryview(data))
