"""The wire format: what cannot be is refused as such, and frames come out as they went in, however they arrive."""

import ctypes
import json
import mmap
import socket
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safekit_py.plugins.mirror.volume.frames import (
    HEAD,
    MAX_PAYLOAD,
    ROOM,
    WORDS,
    Frame,
    Kind,
    Reader,
    WireError,
    decode,
    head,
    words,
)
from safekit_py.plugins.mirror.volume.request import LARGEST

U32, U64 = st.integers(0, (1 << 32) - 1), st.integers(0, (1 << 64) - 1)
FRAMES = st.builds(
    lambda kind, volume, size, number, offset, payload: (
        kind, volume, len(payload) if kind is Kind.WRITE else size, number, offset, payload,
    ),
    st.sampled_from(Kind), st.integers(0, 255), U32, U64, U64, st.binary(max_size=200),
)  # fmt: skip


def packed(frame):
    kind, volume, size, number, offset, payload = frame
    return head(kind, volume, len(payload), size, number, offset) + payload


def plain(frame):
    return frame.kind, frame.volume, frame.size, frame.number, frame.offset, bytes(frame.payload)


@given(FRAMES, st.binary(max_size=40))
def test_a_frame_comes_out_as_it_went_in(frame, rest):
    data = packed(frame)
    found, took = decode(memoryview(data + rest))
    assert plain(found) == frame
    assert took == len(data)


@given(FRAMES, st.data())
def test_a_part_of_a_frame_is_awaited(frame, data):
    whole = packed(frame)
    part = whole[: data.draw(st.integers(0, len(whole) - 1))]
    assert decode(memoryview(part)) == (None, 0)


@given(FRAMES, st.data())
def test_a_flipped_byte_gives_a_frame_or_a_typed_error(frame, data):
    whole = bytearray(packed(frame))
    place = data.draw(st.integers(0, len(whole) - 1))
    whole[place] ^= data.draw(st.integers(1, 255))
    try:
        found, took = decode(memoryview(whole))
    except WireError:
        assert place < HEAD.size
        return
    assert took <= len(whole)
    assert found is None or isinstance(found.kind, Kind)
    assert place not in (0, 1), "the mark of a frame was wrong"


@given(st.binary(min_size=HEAD.size, max_size=200))
def test_random_bytes_are_refused_or_a_frame(data):
    try:
        found, took = decode(memoryview(data))
    except WireError:
        return
    assert data[:2] == HEAD.pack(0x5A4B, 0, 0, 0, 0, 0, 0)[:2]
    assert found is None or took <= len(data)


@pytest.mark.parametrize("kind", [0, max(Kind) + 1, 255])
def test_unknown_kinds_are_refused(kind):
    with pytest.raises(WireError, match="no frame"):
        decode(memoryview(HEAD.pack(0x5A4B, kind, 0, 0, 0, 0, 0)))


def test_lengths_that_lie_are_refused_before_anything_is_read():
    with pytest.raises(WireError, match="a frame of"):
        decode(memoryview(HEAD.pack(0x5A4B, Kind.FILL, 0, MAX_PAYLOAD + 1, 0, 0, 0)))
    with pytest.raises(WireError, match="a write of"):
        decode(memoryview(HEAD.pack(0x5A4B, Kind.WRITE, 0, 10, 11, 0, 0)))


@pytest.mark.parametrize("text", [b"", b"{", b"[1]", b"null", b'"text"', b"\xff\xfe", b"[" * 100_000])
def test_words_that_are_no_object_are_refused(text):
    frame = Frame(Kind.HELLO, 0, 0, 0, 0, memoryview(text))
    with pytest.raises(WireError):
        frame.words()


@pytest.mark.parametrize("kind", WORDS)
def test_words_come_out_as_they_went_in(kind):
    said = {"generation": {"data": "d", "history": []}, "volumes": [1 << 40]}
    found, _ = decode(memoryview(words(kind, said)))
    assert found.kind is kind
    assert found.words() == said


def test_too_many_words_are_not_sent():
    with pytest.raises(ValueError, match="too many"):
        words(Kind.HELLO, {"marks": "0" * MAX_PAYLOAD})
    assert json.loads(words(Kind.HELLO, {"marks": "0" * 1000})[HEAD.size :])


@pytest.fixture
def ends():
    near, far = socket.socketpair()
    near.setblocking(False)
    yield near, far
    near.close()
    far.close()


def test_a_reader_that_is_fed_byte_by_byte(ends):
    near, far = ends
    reader, found = Reader(near), []
    sent = [(Kind.WRITE, 1, 5, 7, 4096, b"hello"), (Kind.ACK, 0, 0, 7, 0, b""), (Kind.FILL, 0, 4, 0, 8, b"data")]
    for byte in b"".join(map(packed, sent)):
        far.send(bytes([byte]))
        found += [plain(frame) for frame in reader.read()]
    assert found == sent


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.integers(0, MAX_PAYLOAD), min_size=5, max_size=9), st.integers(20_000, 1 << 20))
def test_a_reader_keeps_its_place_when_its_memory_is_used_again(lengths, step):
    near, far = socket.socketpair()
    near.setblocking(False)
    far.setblocking(False)
    try:
        frames = [(Kind.FILL, n, 0, n, 0, bytes([n + 1]) * size) for n, size in enumerate(lengths)]
        waiting, reader, found = memoryview(b"".join(map(packed, frames))), Reader(near), []
        while len(found) < len(frames):
            with suppress(BlockingIOError):
                waiting = waiting[far.send(waiting[:step]) :]
            found += [plain(frame) for frame in reader.read()]
        assert found == frames
        assert sum(lengths) < 4 * ROOM
    finally:
        near.close()
        far.close()


def test_the_data_of_large_frames_begin_at_a_page(ends):
    near, far = ends
    sizes = [100, LARGEST, 4096, LARGEST, LARGEST, 7, 300_000, LARGEST, 200]
    frames = [(Kind.WRITE, 0, size, n, 0, bytes([n + 1]) * size) for n, size in enumerate(sizes)]
    waiting, reader, found = memoryview(b"".join(map(packed, frames))), Reader(near), []
    far.setblocking(False)
    while len(found) < len(frames):
        with suppress(BlockingIOError):
            waiting = waiting[far.send(waiting) :]
        for frame in reader.read():
            address = ctypes.addressof(ctypes.c_char.from_buffer(frame.payload))
            if frame.size >= 300_000:
                assert address % mmap.PAGESIZE == 0
            found.append(plain(frame))
    assert found == frames


def test_nothing_there_is_nothing_read_and_the_end_is_an_error(ends):
    near, far = ends
    reader = Reader(near)
    assert not list(reader.read())
    far.close()
    with pytest.raises(ConnectionError):
        list(reader.read())


def test_a_reader_refuses_what_is_no_frame_after_those_that_were(ends):
    near, far = ends
    far.send(packed((Kind.PING, 0, 0, 1, 0, b"")) + b"GET / HTTP/1.1\r\nHost: replication\r\n")
    reader = Reader(near).read()
    assert next(reader).kind is Kind.PING
    with pytest.raises(WireError):
        next(reader)
