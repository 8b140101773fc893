"""A primary that has the key and lies: the secondary is confined to its images, and only ends the connection."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from safekit_py.plugins.mirror.generation import Generation
from safekit_py.plugins.mirror.volume.flusher import Flusher
from safekit_py.plugins.mirror.volume.frames import Frame, Kind
from safekit_py.plugins.mirror.volume.image import ImageFile, create
from safekit_py.plugins.mirror.volume.taking import Secondary
from safekit_py.plugins.mirror.volume.zones import ZoneMap

from safekit_py.api import SafekitError

SIZE = 1 << 20
ENDS = (OSError, SafekitError, ValueError, TypeError, LookupError, AttributeError)  # what ends a connection
EDGES = (0, 1, 4096, SIZE - 4096, SIZE - 1, SIZE, SIZE + 1, 1 << 32, (1 << 63) - 1, (1 << 64) - 1)
numbers = st.sampled_from(EDGES) | st.integers(0, SIZE)
paths = st.sampled_from(["../../outside", "/etc/passwd", "a\0b", ".", "", "x" * 300])
values = st.recursive(
    st.none() | st.booleans() | st.sampled_from(EDGES) | paths,
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["generation", "volumes", "session", "sync", "data"]) | paths, inner)
    ),
    max_leaves=6,
)
words = st.builds(lambda value: json.dumps(value).encode(), values)
frames = st.builds(
    Frame, st.sampled_from(list(Kind)), st.integers(0, 255), numbers, numbers, numbers,
    (st.binary(max_size=300) | words).map(memoryview),
)  # fmt: skip


class Sink:
    """Takes what the secondary answers."""

    def frame(self, kind, **_):
        pass

    def say(self, kind, values):
        json.dumps(values)

    def flush(self):
        pass

    def close(self):
        pass


class Server:
    """A secondary with one volume in a folder of its own."""

    def __init__(self, folder):
        self.folder = folder / "volumes"
        self.folder.mkdir()
        (folder / "outside").write_text("mine")
        create(self.folder / "data.img", SIZE)
        self.image = ImageFile(self.folder / "data.img")
        self.map = ZoneMap(self.folder / "data.map", SIZE)
        self.flusher = Flusher([self.image])
        self.secondary = Secondary(
            Generation(), open_images=self.open, store=lambda _: None, tell=lambda *_: None,
            aside=self.folder / "aside", fullsync=False,
        )  # fmt: skip

    def open(self, sizes):
        assert list(sizes) == [SIZE], "what another size means is the process's matter"
        return [self.image], [self.map], self.flusher

    def close(self):
        self.image.close()
        self.map.close()
        self.flusher.close()


def hello(size=SIZE):
    said = {"generation": Generation(data="d", uptodate=True, primary=True).as_dict(), "volumes": [size]}
    return Frame(Kind.HELLO, 0, 0, 0, 0, memoryview(json.dumps(said).encode()))


@given(st.lists(frames, max_size=6))
def test_whatever_a_primary_says_stays_within_the_image(tmp_path_factory, said):
    folder = tmp_path_factory.mktemp("lies")
    server = Server(folder)
    try:
        server.secondary.connected(Sink())
        server.secondary.take_frames([hello()])
        for frame in said:
            try:
                server.secondary.take_frames([frame])
            except (*ENDS, AssertionError):
                server.secondary.lost("it lies")
                server.secondary.connected(Sink())
        assert (server.folder / "data.img").stat().st_size == SIZE
    finally:
        server.close()
    found = {str(each.relative_to(folder)) for each in folder.rglob("*") if each.is_file()}
    assert found <= {"outside", "volumes/data.img", "volumes/data.map", "volumes/aside/data.blocks",
                     "volumes/aside/list"}  # fmt: skip
    assert (folder / "outside").read_text() == "mine"
    assert not Path("outside").exists()


def test_a_list_that_ends_within_a_number_ends_the_connection(tmp_path):
    server = Server(tmp_path)
    try:
        server.secondary.connected(Sink())
        server.secondary.take_frames([hello()])
        with pytest.raises(ConnectionError):
            server.secondary.take_frames([Frame(Kind.FINE, 0, 0, 0, 0, memoryview(b"\0"))])
    finally:
        server.close()


@pytest.mark.parametrize("kind", [Kind.WRITE, Kind.FILL])
@pytest.mark.parametrize("size", [0, 1, 3])
def test_data_of_another_length_than_said_end_the_connection(tmp_path, kind, size):
    server = Server(tmp_path)
    try:
        server.secondary.connected(Sink())
        server.secondary.take_frames([hello()])
        with pytest.raises(ConnectionError):
            server.secondary.take_frames([Frame(kind, 0, 1, SIZE - size, size, memoryview(b"\1\2"))])
        assert (server.folder / "data.img").read_bytes() == bytes(SIZE)
    finally:
        server.close()


@pytest.mark.parametrize("kind", [Kind.WRITE, Kind.DISCARD, Kind.ZERO, Kind.FILL, Kind.HOLE, Kind.ASK, Kind.HOLES])
@pytest.mark.parametrize(("volume", "offset", "size"), [(1, 0, 4096), (0, SIZE, 4096), (0, SIZE - 4096, 8192)])
def test_a_range_that_is_not_there_ends_the_connection(tmp_path, kind, volume, offset, size):
    server = Server(tmp_path)
    try:
        server.secondary.connected(Sink())
        server.secondary.take_frames([hello()])
        before = (server.folder / "data.img").read_bytes()
        with pytest.raises(ConnectionError):
            server.secondary.take_frames([Frame(kind, volume, 1, offset, size, memoryview(bytes(size)))])
        assert (server.folder / "data.img").read_bytes() == before
    finally:
        server.close()
