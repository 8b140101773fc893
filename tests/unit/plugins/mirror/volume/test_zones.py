"""The map of zones: after a crash at any instant, whatever may differ is marked."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safekit_py.plugins.mirror.volume.zones import HEADER, MAGIC, ZONE, ZoneMap, count_of, zones_of

COUNT = 20
SIZE = COUNT * ZONE


class Crash(Exception):
    """The power is gone."""


class Power:
    """A disk that keeps what was synced, and of the rest any part; power goes at the n-th call."""

    def __init__(self, path, monkeypatch, calls):
        self.path, self.left, self.pending = path, calls, []
        self.durable = bytearray(path.read_bytes() if path.exists() else b"")
        self.real = {name: getattr(os, name) for name in ("pwrite", "fsync", "fdatasync")}
        monkeypatch.setattr(os, "pwrite", self.pwrite)
        monkeypatch.setattr(os, "fsync", self.sync)
        monkeypatch.setattr(os, "fdatasync", self.sync)

    def _count(self):
        self.left -= 1
        if self.left < 0:
            raise Crash

    def pwrite(self, fd, data, offset):
        self._count()
        self.pending.append((offset, bytes(data)))
        return self.real["pwrite"](fd, data, offset)

    def sync(self, fd):
        self._count()
        for offset, data in self.pending:
            self._apply(offset, data)
        self.pending.clear()

    def _apply(self, offset, data):
        self.durable += bytes(max(0, offset + len(data) - len(self.durable)))
        self.durable[offset : offset + len(data)] = data

    def after(self, draw):
        """What is on the disk when power is back; the length of the file may be behind its content."""
        for offset, data in self.pending:
            if draw.random() < 0.5:
                self._apply(offset, data[: draw.randint(0, len(data))])
        self.path.write_bytes(self.durable)


STEPS = st.lists(
    st.tuples(st.sampled_from(["mark", "mark", "clear", "fill", "again"]), st.integers(0, COUNT - 1)), max_size=8
)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(STEPS, st.integers(0, 40), st.randoms(use_true_random=False), st.booleans())
def test_after_a_crash_at_any_call_what_may_differ_is_marked(tmp_path_factory, steps, calls, draw, old):
    path = Path(tmp_path_factory.mktemp("map"), "v.map")
    if old:
        known = ZoneMap(path, SIZE)
        known.clear(range(COUNT))
        known.mark([3])
        known.close()
    differ = {3} if old else set(range(COUNT))  # as long as nothing is said of a new map, all may
    with pytest.MonkeyPatch.context() as monkeypatch:
        power, made = Power(path, monkeypatch, calls), None
        try:
            made = ZoneMap(path, SIZE)
            for step, zone in steps:
                if step == "mark":
                    made.mark([zone])
                    differ.add(zone)
                elif step == "clear":
                    differ.discard(zone)
                    made.clear([zone])
                elif step == "fill":
                    made.fill()
                    differ.update(range(COUNT))
                else:
                    made.close()
                    made = ZoneMap(path, SIZE)
                assert differ <= made.marked
        except Crash:
            pass
        finally:
            if made is not None and step_open(made):
                made.close()
    power.after(draw)
    again = ZoneMap(path, SIZE)
    try:
        assert differ <= again.marked
    finally:
        again.close()


def step_open(made):
    """Whether the file is still open: a crash may have come between closing and opening it again."""
    try:
        os.fstat(made._fd)
    except OSError:
        return False
    return True


def test_a_new_map_marks_everything_and_is_kept(tmp_path):
    made = ZoneMap(tmp_path / "v.map", SIZE)
    assert made.marked == set(range(COUNT))
    made.clear(range(5))
    made.close()
    again = ZoneMap(tmp_path / "v.map", SIZE)
    assert again.marked == set(range(5, COUNT))
    again.close()


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[: HEADER + 1],
        lambda data: b"\0" * 16 + data[16:],
        lambda data: b"something else entirely" * 300,
        lambda data: MAGIC + b"\xff" * 8 + data[16:],
        lambda data: data[:10],
        lambda data: MAGIC + bytes(8) + data[16:],
    ],
)
def test_what_is_torn_or_foreign_marks_everything(tmp_path, damage):
    path = tmp_path / "v.map"
    made = ZoneMap(path, SIZE)
    made.clear(range(COUNT))
    made.close()
    path.write_bytes(damage(path.read_bytes()))
    again = ZoneMap(path, SIZE)
    assert again.marked == set(range(COUNT))
    again.close()
    assert path.read_bytes()[:8] == MAGIC


def test_a_disk_that_refuses_leaves_the_zone_unmarked_in_memory(tmp_path, monkeypatch):
    """The caller must not write; the next attempt goes to the disk again."""
    made = ZoneMap(tmp_path / "v.map", SIZE)
    made.clear(range(COUNT))
    calls = []

    def refuse(fd):
        calls.append(fd)
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", refuse)
        for _ in range(2):
            with pytest.raises(OSError, match="Input/output"):
                made.mark([4])
    assert len(calls) == 2
    assert 4 not in made.marked
    made.mark([4])
    made.close()
    again = ZoneMap(tmp_path / "v.map", SIZE)
    assert again.marked == {4}
    again.close()


def test_marking_twice_costs_one_flush(tmp_path, monkeypatch):
    made = ZoneMap(tmp_path / "v.map", SIZE)
    made.clear(range(COUNT))
    flushes = []
    real = os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda fd: (flushes.append(fd), real(fd)))
    made.mark([1, 2])
    made.mark([2, 1])
    assert len(flushes) == 1
    made.close()


@given(st.integers(1, 40), st.integers(0, 40), st.sets(st.integers(0, 79)))
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
def test_growth_keeps_the_marks_and_adds_none(tmp_path_factory, before, more, marks):
    path = Path(tmp_path_factory.mktemp("map"), "v.map")
    made = ZoneMap(path, before * ZONE)
    made.clear(range(before))
    made.mark(zone for zone in marks if zone < before)
    if len(marks) % 2:
        made.resize((before + more) * ZONE)
        assert made.count == before + more
        made.mark(zone for zone in marks if zone < made.count)
    made.close()
    again = ZoneMap(path, (before + more) * ZONE)
    limit = before + more if len(marks) % 2 else before
    assert again.marked == {zone for zone in marks if zone < limit}
    again.close()


@given(st.integers(0, 1 << 40), st.integers(0, 1 << 31))
def test_a_range_touches_the_zones_that_hold_its_bytes(offset, size):
    zones = zones_of(offset, size)
    assert zones[0] * ZONE <= offset < (zones[0] + 1) * ZONE
    if size:
        assert zones[-1] * ZONE < offset + size <= (zones[-1] + 1) * ZONE
    else:
        assert len(zones) == 1


def test_the_last_zone_may_be_a_part():
    assert [count_of(size) for size in (1, ZONE, ZONE + 1)] == [1, 1, 2]
