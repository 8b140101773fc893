"""Resynchronisation: afterwards both images are the same, and only what differed was sent."""

import os
import random
import time

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safekit_py.plugins.mirror.volume.catchup import CatchUp, fine, there
from safekit_py.plugins.mirror.volume.frames import Frame, Kind, decode, head
from safekit_py.plugins.mirror.volume.hashes import BLOCK, PIECE, digests
from safekit_py.plugins.mirror.volume.image import ImageFile, create
from safekit_py.plugins.mirror.volume.zones import ZONE, count_of

SIZE = 3 * ZONE + 5 * PIECE  # the last zone and its last block are parts


class Wire:
    """What the primary puts into the stream."""

    full = False

    def __init__(self):
        self.out = bytearray()

    def put(self, *parts):
        for part in parts:
            self.out += part

    def frame(self, kind, *, volume=0, number=0, offset=0, size=0, payload=b""):
        self.put(head(kind, volume, len(payload), size, number, offset), payload)

    def frames(self):
        data, self.out = memoryview(bytes(self.out)), bytearray()
        while data:
            frame, took = decode(data)
            yield frame
            data = data[took:]


class Two:
    """Two images, and a secondary that answers at once."""

    def __init__(self, folder, size=SIZE):
        self.images = []
        for name in "ab":
            create(folder / name, size)
            self.images.append(ImageFile(folder / name))
        self.wire, self.kinds, self.filled = Wire(), [], []

    def run(self, **options):
        zones = [(0, zone) for zone in range(count_of(self.images[0].size))]
        catch = CatchUp(self.wire, self.images[:1], options.pop("zones", zones), **options)
        while not catch.complete:
            catch.step(time.monotonic())
            for frame in self.wire.frames():
                self.kinds.append(frame.kind)
                answer = self.answer(frame)
                if answer is not None:
                    catch.take(Frame(answer[0], 0, 0, frame.offset, 0, memoryview(answer[1])))
        for frame in self.wire.frames():
            self.kinds.append(frame.kind)
            self.answer(frame)
        return catch

    def answer(self, frame):
        theirs = self.images[1]
        if frame.kind is Kind.ASK:
            return Kind.HASHES, digests(theirs, frame.offset, frame.size)
        if frame.kind is Kind.FINE:
            return Kind.FINES, fine(theirs, frame.offset, frame.payload)
        if frame.kind is Kind.HOLES:
            return Kind.THERE, there(theirs, frame.offset, frame.size)
        if frame.kind is Kind.HOLE:
            theirs.discard(frame.offset, frame.size)
        else:
            data = bytes(frame.payload)
            if frame.kind is Kind.FILL_ZSTD:
                data = zstandard.ZstdDecompressor().decompress(data, max_output_size=frame.size)
            assert len(data) == frame.size
            theirs.write(frame.offset, data)
        self.filled.append((frame.offset, frame.size))
        return None

    def content(self):
        return [image.path.read_bytes() for image in self.images]

    def close(self):
        for image in self.images:
            image.close()


@pytest.fixture
def two(tmp_path):
    made = Two(tmp_path)
    yield made
    made.close()


PAGES = st.integers(0, SIZE // PIECE - 1)
CHANGES = st.lists(
    st.tuples(st.sampled_from(["a", "b", "both"]), st.sampled_from(["noise", "text", "zeros", "hole"]), PAGES,
              st.integers(1, 40)),
    max_size=8,
)  # fmt: skip


def change(two, steps):
    draw = random.Random(1)
    for whose, what, page, count in steps:
        offset = page * PIECE
        size = min(count * PIECE, SIZE - offset)
        data = {"noise": draw.randbytes(size), "text": b"word" * (size // 4), "zeros": bytes(size)}.get(what)
        for name, image in zip("ab", two.images, strict=True):
            if whose in (name, "both"):
                if data is None:
                    image.discard(offset, size)
                else:
                    image.write(offset, data)


def differing(two):
    mine, theirs = two.content()
    return {at for at in range(0, SIZE, PIECE) if mine[at : at + PIECE] != theirs[at : at + PIECE]}


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(CHANGES, st.sampled_from(["auto", "off"]))
def test_both_are_the_same_and_only_what_differed_was_sent(tmp_path_factory, steps, compression):
    two = Two(tmp_path_factory.mktemp("two"))
    try:
        change(two, steps)
        wanted = differing(two)
        before = two.content()[0]
        catch = two.run(compression=compression)
        mine, theirs = two.content()
        assert mine == theirs == before
        sent = {at for offset, size in two.filled for at in range(offset, offset + size, PIECE)}
        assert sent == wanted
        assert catch.different == len(wanted) * PIECE
        assert catch.done == catch.total
    finally:
        two.close()


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(CHANGES)
def test_a_verification_names_what_differs_and_changes_nothing(tmp_path_factory, steps):
    two = Two(tmp_path_factory.mktemp("two"))
    try:
        change(two, steps)
        before, wanted = two.content(), differing(two)
        catch = two.run(repair=False)
        assert two.content() == before
        assert {at for _, offset, size in catch.ranges for at in range(offset, offset + size, PIECE)} == wanted
        assert catch.sent == 0
    finally:
        two.close()


def test_only_the_zones_that_are_named_are_looked_at(two):
    two.images[0].write(0, b"x" * PIECE)
    two.images[0].write(ZONE, b"y" * PIECE)
    catch = two.run(zones=[(0, 1)])
    assert two.filled == [(ZONE, PIECE)]
    assert catch.total == 1


def test_zones_beyond_the_end_are_done_at_once(two):
    catch = two.run(zones=[(0, 99)])
    assert catch.complete
    assert catch.done == 1
    assert two.kinds == []


def test_what_compresses_badly_is_sent_plain(two):
    two.images[0].write(0, os.urandom(BLOCK))
    two.images[0].write(ZONE, b"word" * (BLOCK // 4))
    catch = two.run()
    assert Kind.FILL in two.kinds
    assert Kind.FILL_ZSTD in two.kinds
    assert BLOCK < catch.sent < BLOCK + BLOCK // 2


def test_an_empty_volume_costs_few_questions(tmp_path):
    two = Two(tmp_path, 1000 * ZONE)
    try:
        two.run()
        assert set(two.kinds) == {Kind.HOLES}
        assert len(two.kinds) <= 5
    finally:
        two.close()


def test_data_where_the_primary_has_none_become_holes(two):
    two.images[1].write(2 * ZONE, b"z" * BLOCK)
    two.images[1].sync()
    two.run()
    two.images[1].sync()
    assert Kind.HOLE in two.kinds
    assert os.fstat(two.images[1].fd).st_blocks == os.fstat(two.images[0].fd).st_blocks == 0


def test_answers_that_nobody_asked_for_are_ignored(two):
    catch = CatchUp(two.wire, two.images[:1], [(0, 0)])
    for kind in (Kind.HASHES, Kind.FINES, Kind.THERE):
        catch.take(Frame(kind, 0, 0, 0, 0, memoryview(b"x" * 64)))
        catch.take(Frame(kind, 7, 0, 123, 0, memoryview(b"")))
    assert not two.wire.out
    assert not catch.complete


def test_a_limit_of_bandwidth_holds(two):
    """What goes beyond it waits, however often it is asked to go on."""
    size = 1 << 20
    two.images[0].write(0, os.urandom(size))
    two.images[0].write(ZONE, os.urandom(size))
    rate = 1 << 20
    began = time.monotonic()
    two.run(rate=rate, zones=[(0, 0), (0, 1)])
    took = time.monotonic() - began
    assert two.content()[0] == two.content()[1]
    assert took > 0.8 * (size - rate * 0.1) / rate


def test_progress_counts_up_to_everything(two):
    two.images[0].write(0, os.urandom(BLOCK))
    catch = two.run()
    told = catch.progress()
    assert told["compared"] == told["total"]
    assert told["sent"] == BLOCK
    assert told["left"] == 0
