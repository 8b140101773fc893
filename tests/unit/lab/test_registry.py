"""A lab's folder: claimed once, found again, cleaned after a crash."""

import os
import subprocess

import pytest

from safekit_py.errors import NotFoundError, StateError
from safekit_py.lab import plan, registry
from safekit_py.lab.identity import Process


@pytest.fixture(autouse=True)
def base(tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "BASE", tmp_path / "labs")


def claim(name="x"):
    return registry.claim(name, plan.hosts(2, 1))


def test_what_is_saved_is_found():
    record = claim()
    record.inits["server1"] = Process.of(os.getpid())
    record.owner, record.agent, record.restart, record.maker = 7, False, 0.5, None
    record.save()
    assert registry.find("x") == record
    assert registry.names() == ["x"]


def test_a_lab_that_is_being_made_is_not_claimed_twice():
    claim()
    with pytest.raises(StateError) as caught:
        claim()
    assert caught.value.code == "lab.exists"
    assert "lab down --name x" in str(caught.value)


def test_a_crashed_lab_is_cleaned_first():
    with subprocess.Popen(["sleep", "60"]) as child:
        old = claim()
        old.maker = None
        old.inits["server1"] = Process.of(child.pid)
        old.save()
        child.kill()
    (old.folder / "rest").touch()
    assert not (claim().folder / "rest").exists()


def test_a_folder_without_a_readable_record_is_cleaned():
    folder = registry.BASE / "x"
    folder.mkdir(parents=True)
    (folder / "state.json").write_text("{")
    assert registry.load("x") is None
    assert claim().folder == folder


def test_an_unknown_lab():
    with pytest.raises(NotFoundError) as caught:
        registry.find("none")
    assert caught.value.code == "lab.not-found"


def test_remove_kills_what_is_recorded():
    with subprocess.Popen(["sleep", "60"]) as child:
        record = claim()
        record.inits["server1"] = Process.of(child.pid)
        record.remove()
        assert child.wait(5) == -9
    assert registry.names() == []
