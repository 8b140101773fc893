"""Asking a service manager: its answers, and where there is none."""

import asyncio
import shutil
import time
from pathlib import Path

import pytest
from safekit_py.plugins.checkers.errd import service
from safekit_py.plugins.checkers.errd.model import Unit

ANSWER = """MainPID=12
LoadState=loaded
ActiveState=active
SubState=running

MainPID=0
LoadState=not-found
ActiveState=inactive
SubState=dead
"""


def program(folder, text):
    made = folder / "systemctl"
    made.write_text(f"#!/bin/sh\n{text}\n")
    made.chmod(0o755)
    return str(made)


def test_an_answer_is_read_in_the_order_of_the_question():
    assert service.parse(["a", "b"], ANSWER) == {
        "a": Unit("loaded", "active", "running", 12),
        "b": Unit("not-found", "inactive", "dead", 0),
    }


@pytest.mark.parametrize("text", ["", ANSWER + "\nMainPID=1", "MainPID=x\nLoadState=a\n\nLoadState=b"])
def test_an_answer_that_cannot_be_read(text):
    with pytest.raises(service.ServiceManagerError, match="an answer"):
        service.parse(["a", "b"], text)


def test_the_question(tmp_path):
    name = program(tmp_path, f'echo "$@" >{tmp_path}/asked; printf "LoadState=loaded\\nActiveState=a\\nSubState=b\\n"')
    assert asyncio.run(service.show(["a.service"], name)) == {"a.service": Unit("loaded", "a", "b")}
    asked = (tmp_path / "asked").read_text().split()
    assert asked == ["show", "--property=LoadState,ActiveState,SubState,MainPID", "--", "a.service"]


@pytest.mark.parametrize(
    ("text", "words"),
    [("echo no bus >&2; echo more >&2; exit 1", "no bus"), ("exit 3", "status 3"), ("sleep 60", "has not answered")],
)
def test_one_that_does_not_answer(tmp_path, text, words, monkeypatch):
    monkeypatch.setattr(service, "TIMEOUT", 0.5)
    with pytest.raises(service.ServiceManagerError, match=words):
        asyncio.run(service.show(["a"], program(tmp_path, f"exec 3>/dev/null; {text}")))


@pytest.mark.parametrize("steps", range(6))
def test_a_loop_that_ends_meanwhile_is_not_held_up(tmp_path, steps, monkeypatch):
    """Its process is at another point of being made or asked after each number of steps."""
    monkeypatch.setattr(service, "TIMEOUT", 0.5)

    async def run():
        asking = asyncio.create_task(service.show(["a"], program(tmp_path, "exec sleep 60")))
        for _ in range(steps):
            await asyncio.sleep(0)
        assert not asking.done()

    began = time.monotonic()
    asyncio.run(run())
    assert time.monotonic() - began < 30


def test_there_is_none():
    with pytest.raises(service.ServiceManagerError, match="cannot be run: No such file"):
        asyncio.run(service.show(["a"], "/nonexistent/systemctl"))


@pytest.mark.skipif(not shutil.which("systemctl"), reason="no systemctl")
def test_the_real_one():
    """Where systemd runs it answers for a unit that is not there; where none runs it says so."""
    if Path("/run/systemd/system").is_dir():
        found = asyncio.run(service.show(["no-such-unit.service"]))
        assert found["no-such-unit.service"].load == "not-found"
    else:
        with pytest.raises(service.ServiceManagerError, match=r"systemctl: .*systemd"):
            asyncio.run(service.show(["no-such-unit.service"]))
