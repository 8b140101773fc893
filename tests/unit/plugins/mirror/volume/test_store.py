"""The generation on disk: old or new after a crash at any call, and an error when it is neither."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from safekit_py.plugins.mirror import generation as gen
from safekit_py.plugins.mirror.generation import Generation
from safekit_py.plugins.mirror.volume import store as module
from safekit_py.plugins.mirror.volume.store import NAME, RESERVE, known, load, store

from safekit_py.api import SafekitError

OLD = gen.first("old")
NEW = gen.alone(gen.sharing(OLD), "new")
CALLS = ["open", "write", "fsync", "rename", "sync_folder"]


class Crash(Exception):
    """The power is gone."""


def test_no_file_means_that_there_never_were_data(tmp_path):
    assert load(tmp_path) == Generation()


def test_what_is_stored_is_loaded(tmp_path):
    for each in (OLD, NEW, Generation(), gen.copied("copy", primary=False)):
        store(tmp_path, each)
        assert load(tmp_path) == each
    assert {path.name for path in tmp_path.iterdir()} == {NAME, RESERVE}


def crash_at(monkeypatch, wanted, *, after):
    """The call of that name does not come back; what was not flushed is gone."""
    real = {"open": os.open, "write": os.write, "fsync": os.fsync}

    def dying(name, run):
        def call(*args, **kwargs):
            if name == wanted and not after:
                raise Crash
            found = run(*args, **kwargs)
            if name == wanted:
                raise Crash
            return found

        return call

    for name, run in real.items():
        monkeypatch.setattr(os, name, dying(name, run))
    monkeypatch.setattr(Path, "rename", dying("rename", Path.rename))
    monkeypatch.setattr(module, "sync_folder", dying("sync_folder", module.sync_folder))


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("call", CALLS)
def test_a_crash_leaves_the_old_or_the_new(tmp_path, monkeypatch, call, after):
    store(tmp_path, OLD)
    with monkeypatch.context() as patch:
        crash_at(patch, call, after=after)
        with pytest.raises(Crash):
            store(tmp_path, NEW)
    renamed = (call, after) in {("rename", True), ("sync_folder", False), ("sync_folder", True)}
    assert load(tmp_path) == (NEW if renamed else OLD)
    store(tmp_path, NEW)
    assert load(tmp_path) == NEW


def test_the_content_is_on_disk_before_the_name_and_the_name_before_it_returns(tmp_path, monkeypatch):
    order = []
    for name in ("write", "fsync"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a, name=name, real=real: (order.append(name), real(*a))[1])
    rename = Path.rename
    monkeypatch.setattr(Path, "rename", lambda *a: (order.append("rename"), rename(*a))[1])
    store(tmp_path, NEW)
    assert order == ["write", "fsync", "rename", "fsync"]


def test_a_disk_that_takes_a_part_gets_the_rest(tmp_path, monkeypatch):
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, data[:7]))
    store(tmp_path, NEW)
    monkeypatch.undo()
    assert load(tmp_path) == NEW


def test_a_full_disk_leaves_the_old_one(tmp_path, monkeypatch):
    store(tmp_path, OLD)

    def full(fd, data):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(OSError, match="No space"):
            store(tmp_path, NEW)
    assert load(tmp_path) == OLD


def test_a_disk_that_is_full_takes_it_into_the_room_that_was_kept(tmp_path, monkeypatch):
    store(tmp_path, OLD)
    real, reserve = os.write, tmp_path / RESERVE
    assert reserve.stat().st_blocks

    def full(fd, data):
        if reserve.exists():
            if len(data) > 9:
                return real(fd, data[:9])
            raise OSError(28, "No space left on device")
        return real(fd, data)

    monkeypatch.setattr(os, "write", full)
    store(tmp_path, NEW)
    monkeypatch.undo()
    assert load(tmp_path) == NEW
    store(tmp_path, OLD)
    assert reserve.exists(), "room is kept again"


def test_what_cannot_be_read_is_never_up_to_date_and_not_none(tmp_path):
    assert known(tmp_path) == Generation()
    (tmp_path / NAME).write_text("{")
    found = known(tmp_path)
    assert found.data
    assert not found.uptodate


WHOLE = json.dumps(NEW.as_dict()).encode()


@given(st.integers(0, len(WHOLE) - 1))
def test_a_part_of_it_is_an_error(tmp_path_factory, length):
    folder = tmp_path_factory.mktemp("store")
    (folder / NAME).write_bytes(WHOLE[:length])
    with pytest.raises(SafekitError) as caught:
        load(folder)
    assert caught.value.problems[0].code == "volume.generation-unreadable"


@given(st.binary(max_size=60))
def test_bytes_that_are_none_are_an_error(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("store")
    (folder / NAME).write_bytes(data)
    with pytest.raises(SafekitError):
        load(folder)


@pytest.mark.parametrize("text", ["[]", "null", '{"data": 3}', "{}", json.dumps({**NEW.as_dict(), "more": 1})])
def test_json_that_is_no_generation_is_an_error(tmp_path, text):
    (tmp_path / NAME).write_text(text)
    with pytest.raises(SafekitError):
        load(tmp_path)


def test_a_file_that_cannot_be_read_is_an_error(tmp_path):
    (tmp_path / NAME).mkdir()
    with pytest.raises(SafekitError):
        load(tmp_path)
