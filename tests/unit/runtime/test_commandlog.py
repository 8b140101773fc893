"""The command log is bounded and outlives its agent; the caller is looked up where the kernel has it."""

import os
import subprocess
import sys

from safekit_py.runtime import commandlog
from safekit_py.runtime.commandlog import CommandLog, Peer, now, who


def test_a_command_is_written_down_before_it_is_done(tmp_path):
    log = CommandLog(tmp_path / "c.db")
    number = log.begin(now("start", module="web", user="root", uid=0, identity="me"))
    log.close()
    log = CommandLog(tmp_path / "c.db")  # the agent was killed meanwhile
    ((_, found),) = log.tail(10)
    assert (found.command, found.module, found.user, found.identity, found.result) == (
        *("start", "web", "root", "me"),
        "running",
    )
    log.end(number, "ok")
    assert log.tail(1)[0][1].result == "ok"
    log.drop(number)
    assert log.tail(1) == []


def test_the_commands_of_one_module_oldest_first(tmp_path):
    log = CommandLog(tmp_path / "c.db")
    for number in range(6):
        log.begin(now(f"c{number}", module="a" if number % 2 else "b"))
    assert [each.command for _, each in log.tail(2, "a")] == ["c3", "c5"]
    assert [each.command for _, each in log.tail(2)] == ["c4", "c5"]


def test_it_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(commandlog, "KEEP", 100)
    log = CommandLog(tmp_path / "c.db")
    for _ in range(commandlog.TRIM_EVERY + 50):
        log.begin(now("x" * 5000))
    found = log.tail(10_000)
    assert 100 <= len(found) <= 150
    assert len(found[0][1].command) == commandlog.LONGEST


def test_a_full_disk_stops_no_command(tmp_path):
    (tmp_path / "folder").write_text("in the way")
    log = CommandLog(tmp_path / "folder" / "c.db")
    assert log.begin(now("start")) is None
    log.end(None, "ok")
    log.drop(None)
    assert log.tail(10) == []


def test_only_its_owner_and_group_can_read_it(tmp_path):
    log = CommandLog(tmp_path / "c.db")
    log.begin(now("start"))
    assert all(each.stat().st_mode & 0o007 == 0 for each in tmp_path.iterdir())


def test_the_caller_as_the_kernel_has_it():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        found = who(Peer(os.geteuid(), child.pid))
        assert found["uid"] == os.geteuid()
        own, parent = found["program"].split(" of ")
        assert own.startswith("python")
        assert parent
    finally:
        child.communicate(b"\n")
    assert who(Peer(4_000_000, child.pid))["user"] == "4000000"
    assert who(Peer()) == {"user": "unknown", "uid": -1, "program": ""}
