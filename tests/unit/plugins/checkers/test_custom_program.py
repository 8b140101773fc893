"""Programs run for real: output bounded, ended with their group, orphans of another agent killed."""

import asyncio
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from safekit_py.plugins.checkers import custom_program as program

ENV = {"PATH": os.environ["PATH"], "SAFEMODULE": "m", "SAFEKIT_ROOT": "/tmp/none"}


def run(text, folder, write=lambda _: None, limit=None):
    async def within():
        async with asyncio.timeout(limit):
            return await program.run(("/bin/sh", "-c", text), ENV, folder, write)

    return asyncio.run(within())


def gone(pid):
    """No such process, not even a zombie."""
    end = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists() and time.monotonic() < end:
        time.sleep(0.05)
    return not Path(f"/proc/{pid}").exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("exit 3", "sh ended with status 3"),
        ("echo one >&2; echo two >&2; echo out; exit 1", "sh ended with status 1: two"),
        ("printf 'a\\033[1mb\\n\\n' >&2", "sh ended with status 0: a[1mb"),
        ("kill -KILL $$", "sh was ended by SIGKILL"),
    ],
)
def test_how_it_ended_is_told_with_the_last_line_of_stderr(text, words, tmp_path):
    assert run(text, tmp_path) == words


def test_what_it_leaves_in_its_group_is_killed_and_what_holds_its_output_is_not_waited_for(tmp_path):
    began = time.monotonic()
    run("sleep 600 & echo $! >pid; setsid sleep 60 & echo $! >other; exit 0", tmp_path)
    assert time.monotonic() - began < 30
    os.kill(int((tmp_path / "other").read_text()), signal.SIGKILL)
    assert gone(int((tmp_path / "pid").read_text()))


def test_cancelled_it_is_ended_with_its_group_even_when_it_ignores_sigterm(tmp_path):
    with pytest.raises(TimeoutError):
        run("trap '' TERM; echo $$ >pids; sh -c 'echo $$; exec sleep 600' >>pids", tmp_path, limit=1)
    for pid in (tmp_path / "pids").read_text().split():
        assert gone(int(pid))


def test_endless_output_is_read_slowly_and_its_log_stays_bounded(tmp_path):
    log, before = tmp_path / "userlog", time.process_time()
    with pytest.raises(TimeoutError):
        run("exec yes", tmp_path, program.into(log, 100), limit=2)
    sizes = [each.stat().st_size for each in tmp_path.iterdir()]
    assert 0 < sum(sizes) <= 2 * 100 * 1024 + program.CHUNK
    assert time.process_time() - before < 1


def test_no_output_goes_through_a_link(tmp_path):
    (tmp_path / "userlog").symlink_to(tmp_path / "secret")
    assert run("echo x", tmp_path, program.into(tmp_path / "userlog", 100)) == "sh ended with status 0"
    assert not (tmp_path / "secret").exists()


@pytest.mark.parametrize(
    ("change", "killed"),
    [
        ({program.MARK: "custom.c@1"}, 1),
        ({program.MARK: f"custom.c@{os.getpid()}"}, 0),
        ({program.MARK: "custom.cc@1"}, 0),
        ({program.MARK: "custom.c@1", "SAFEMODULE": "other"}, 0),
        ({}, 0),
    ],
)
def test_only_what_an_earlier_agent_started_for_the_same_resource_is_an_orphan(change, killed, tmp_path):
    root = {**ENV, "SAFEKIT_ROOT": str(tmp_path)}
    process = subprocess.Popen(["sleep", "60"], env={**root, **change})
    try:
        while Path(f"/proc/{process.pid}/comm").read_text() != "sleep\n":
            pass
        assert program.end_orphans("custom.c", root) == killed
        if killed:
            assert process.wait(5) == -9
        else:
            assert process.poll() is None
    finally:
        process.kill()
        process.wait()


def test_a_program_that_is_not_there_leaves_no_file_open(tmp_path):
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        with pytest.raises(OSError, match="nothing"):
            asyncio.run(program.run((str(tmp_path / "nothing"),), ENV, tmp_path, lambda _: None))
    assert len(list(Path("/proc/self/fd").iterdir())) == before
