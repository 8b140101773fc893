"""What programs of a module are given, and which are refused."""

import os
import subprocess
import time

import pytest

from safekit_py import programs
from safekit_py.model.config import User
from safekit_py.model.paths import Paths


def test_the_environment_is_the_contracts_and_the_modules_variables_win(tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET", "x")
    paths = Paths(tmp_path)
    found = programs.environment("m", paths, User(variables=(("NAME", "value"), ("HOME", "/home/app"))))
    assert found["SAFE"] == str(paths.safe)
    assert found["SAFEUSERBIN"] == str(paths.module("m") / "bin")
    assert found["SAFEUSERVAR"] == str(paths.module_var("m"))
    assert (found["SAFEMODULE"], found["NAME"], found["HOME"]) == ("m", "value", "/home/app")
    assert "SECRET" not in found


@pytest.mark.parametrize(
    ("folder", "file", "code"),
    [
        (0o755, 0o755, ""),
        (0o755, 0o600, ""),
        (0o755, 0o775, "script.unsafe"),
        (0o755, 0o757, "script.unsafe"),
        (0o777, 0o755, "script.unsafe"),
    ],
)
def test_who_could_have_changed_it(tmp_path, folder, file, code):
    path = tmp_path / "bin/look"
    path.parent.mkdir()
    path.write_text("")
    path.chmod(file)
    path.parent.chmod(folder)
    if not code:
        programs.refuse_if_unsafe(path)
        return
    with pytest.raises(programs.ScriptFailed) as raised:
        programs.refuse_if_unsafe(path)
    assert raised.value.code == code


def test_a_link_is_no_program_and_no_log(tmp_path):
    path, log = tmp_path / "look", tmp_path / "log"
    path.symlink_to("/bin/sh")
    log.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(programs.ScriptFailed, match="not a plain file"):
        programs.refuse_if_unsafe(path)
    with pytest.raises(programs.ScriptFailed, match="cannot be opened"):
        programs.open_log(log)
    assert not (tmp_path / "elsewhere").exists()


def test_a_log_over_its_limit_starts_anew_and_keeps_its_end(tmp_path):
    log = tmp_path / "userlog"
    with os.fdopen(programs.open_log(log), "ab") as writer:
        writer.write(b"a" * 1000)
        writer.flush()
        programs.turn_over(log, 1)
        assert log.stat().st_size == 1000
        writer.write(b"b" * 1024)
        writer.flush()
        programs.turn_over(log, 1)
        writer.write(b"c")
    assert log.read_bytes() == b"c"
    assert (tmp_path / "userlog.1").read_bytes() == b"b" * 1024


def test_a_log_that_grows_faster_than_it_is_copied_is_bounded_all_the_same(tmp_path):
    log = tmp_path / "userlog"
    with os.fdopen(programs.open_log(log), "ab") as output, subprocess.Popen(["yes"], stdout=output) as writer:
        try:
            for _ in range(5):
                while log.stat().st_size <= 1024 * 1024:
                    time.sleep(0.001)
                programs.turn_over(log, 1024)
                assert (tmp_path / "userlog.1").stat().st_size == 1024 * 1024
        finally:
            writer.kill()
