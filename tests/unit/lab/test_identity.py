"""A recycled process id is another process."""

import os
import subprocess
from dataclasses import replace

from safekit_py.lab.identity import Process


def test_this_process_is_found_and_lives():
    me = Process.of(os.getpid())
    assert me.pid == os.getpid()
    assert me.alive


def test_the_same_id_with_another_start_is_not_killed():
    with subprocess.Popen(["sleep", "60"]) as child:
        recycled = replace(Process.of(child.pid), started=1)
        assert not recycled.alive
        assert not recycled.kill()
        assert child.poll() is None
        child.kill()


def test_kill_waits_for_the_end():
    with subprocess.Popen(["sleep", "60"]) as child:
        found = Process.of(child.pid)
        assert found.kill()
        assert not found.alive
        assert child.wait(5) == -9
    assert not found.kill()


def test_an_ended_process_that_nobody_reaped_is_gone():
    child = subprocess.Popen(["true"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert Process.of(child.pid) is None
    child.wait()


def test_a_name_with_parentheses_does_not_confuse(tmp_path):
    program = tmp_path / "a) Z 1 (b"
    program.write_bytes(b"#!/bin/sh\nread line\n")
    program.chmod(0o755)
    with subprocess.Popen([program], stdin=subprocess.PIPE) as child:
        while "Z 1" not in open(f"/proc/{child.pid}/comm").read():  # noqa: PTH123, SIM115 - until the shell has begun
            pass
        assert Process.of(child.pid).started > 1
        child.kill()
