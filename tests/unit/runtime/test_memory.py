"""What a module remembers survives what happens to its file."""

import json

import pytest

from safekit_py.runtime.memory import Mark, Memory, Remembered, boot_id


def test_it_is_there_again(tmp_path):
    memory = Memory(tmp_path / "state.json")
    assert memory.now == Remembered()
    memory.write(started=True, off=("proc.*",), count=2, elapsed=7.5)
    memory.write(reason="because")
    assert Memory(tmp_path / "state.json").now == Remembered(True, "because", off=("proc.*",), count=2, elapsed=7.5)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"started": 7, "count": "x", "off": 3, "elapsed": -1}', "\0\0"]
)
def test_a_damaged_file_is_as_none(tmp_path, text):
    (tmp_path / "state.json").write_text(text)
    assert Memory(tmp_path / "state.json").now == Remembered()


def test_what_an_older_version_wrote_is_read(tmp_path):
    (tmp_path / "state.json").write_text(json.dumps({"started": True, "reason": "x"}))
    assert Memory(tmp_path / "state.json").now == Remembered(True, "x")


def test_without_a_disk_it_lasts_as_long_as_the_agent(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    memory = Memory(blocked / "state.json")
    memory.write(started=True)
    assert memory.now.started


def test_the_mark(tmp_path):
    mark = Mark(tmp_path / "running")
    assert not mark.there
    mark.set()
    assert mark.there
    mark.clear()
    mark.clear()
    assert not mark.there
    assert boot_id()
