"""Scripts run for real: arguments, environment, time limits, bounded output, unsafe files refused."""

import asyncio
import os
import time
from pathlib import Path

import pytest

from safekit_py.core.automaton import Script
from safekit_py.model.config import User
from safekit_py.model.paths import Paths
from safekit_py.model.state import State
from safekit_py.runtime.scripts import ScriptFailed, ScriptRunner


@pytest.fixture
def module(tmp_path):
    paths = Paths(tmp_path)
    (paths.module("app") / "bin").mkdir(parents=True)

    def write(name, text, mode=0o755):
        path = paths.module("app") / "bin" / name
        path.write_text(text)
        path.chmod(mode)
        return path

    def runner(**user):
        return ScriptRunner("app", paths, User(**user))

    return write, runner


def step(name="start_both", *, forced=False):
    return Script(name, State.WAIT, State.UP, "start", forced)


def run(runner, what=None):
    return asyncio.run(runner.run(what or step()))


def test_arguments_and_environment(module):
    write, make = module
    write("start_both", '#!/bin/sh\necho "$@"\nenv\n')
    runner = make(variables=(("DB", "a b"),))
    assert run(runner)
    lines = runner.log.read_text().splitlines()
    assert lines[0] == "WAIT UP start"
    found = dict(line.partition("=")[::2] for line in lines[1:])
    assert found["SAFEMODULE"] == "app"
    assert found["DB"] == "a b"
    assert found["SAFEUSERBIN"].endswith("/opt/safekit/modules/app/bin")
    assert {"SAFE", "SAFEBIN", "SAFEUSERCONF", "SAFEVAR", "SAFEUSERVAR"} <= set(found)


def test_force_comes_first(module):
    write, make = module
    write("stop_both", '#!/bin/sh\necho "$@"\n')
    runner = make()
    run(runner, Script("stop_both", State.WAIT, State.STOP, "stop", True))
    assert runner.log.read_text() == "force WAIT STOP stop\n"


def test_a_missing_script_is_no_failure(module):
    assert run(module[1]()) is False


def test_exit_status_is_a_failure(module):
    module[0]("start_both", "#!/bin/sh\nexit 3\n")
    with pytest.raises(ScriptFailed, match="status 3"):
        run(module[1]())


def gone(pid):
    """Whether a process has ended, or is a zombie that only waits for its parent."""
    try:
        return "Z" in Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_a_hanging_script_is_killed_with_its_process_group(module, tmp_path):
    write, make = module
    write("start_both", f"#!/bin/sh\nsleep 60 & echo $! > {tmp_path}/child\ntrap '' TERM\nsleep 60\n")
    began = time.monotonic()
    with pytest.raises(ScriptFailed, match=r"script\.timeout"):
        run(make(nicestoptimeout=0.5))
    assert time.monotonic() - began < 10
    child = int((tmp_path / "child").read_text())
    assert any(gone(child) or time.sleep(0.05) for _ in range(50))


def test_a_service_left_running_is_not_waited_for_and_lives(module, tmp_path):
    write, make = module
    write("start_both", f"#!/bin/sh\nsetsid sleep 30 & echo $! > {tmp_path}/child\n")
    began = time.monotonic()
    run(make())
    assert time.monotonic() - began < 15
    child = int((tmp_path / "child").read_text())
    os.kill(child, 9)


def test_endless_output_stays_bounded(module):
    write, make = module
    write("start_both", "#!/bin/sh\nyes 0123456789012345678901234567890123456789 | head -c 200000000\nsleep 0.6\n")
    runner = make(userlogsize=64)
    run(runner)
    sizes = [p.stat().st_size for p in runner.log.parent.glob("userlog*")]
    assert sum(sizes) <= 2 * 64 * 1024


def test_logging_none_keeps_no_output(module):
    write, make = module
    write("start_both", "#!/bin/sh\necho text\n")
    runner = make(logging="none")
    run(runner)
    assert not runner.log.exists()


@pytest.mark.parametrize("mode", [0o775, 0o757, 0o777])
def test_a_script_that_others_may_change_is_refused(module, mode):
    module[0]("start_both", "#!/bin/sh\n", mode)
    with pytest.raises(ScriptFailed, match=r"script\.unsafe"):
        run(module[1]())


def test_a_folder_that_others_may_change_is_refused(module):
    path = module[0]("start_both", "#!/bin/sh\n")
    path.parent.chmod(0o777)
    with pytest.raises(ScriptFailed, match=r"script\.unsafe"):
        run(module[1]())


def test_a_link_is_refused(module):
    path = module[0]("real", "#!/bin/sh\n")
    path.with_name("start_both").symlink_to(path)
    with pytest.raises(ScriptFailed, match="not a plain file"):
        run(module[1]())


def test_a_script_that_cannot_be_executed_says_why(module):
    module[0]("start_both", "no interpreter", 0o644)
    with pytest.raises(ScriptFailed, match=r"script\.not-executable"):
        run(module[1]())


def test_a_script_beside_the_automaton_gets_its_own_arguments(module):
    write, make = module
    write("update", '#!/bin/sh\necho "$@"\n')
    runner = make()
    assert asyncio.run(runner.run_hook("update", ("UP", "UP")))
    assert asyncio.run(runner.run_hook("config")) is False
    assert runner.log.read_text() == "UP UP\n"


def test_arguments_of_an_action_stand_after_those_of_the_contract(module):
    write, make = module
    write("start_both", '#!/bin/sh\nfor each in "$@"; do echo "$each"; done\n')
    runner = make()
    asyncio.run(runner.run(step(), ("-Services", "A, B")))
    assert runner.log.read_text().splitlines() == ["WAIT", "UP", "start", "-Services", "A, B"]


def test_what_a_script_prints_is_captured_up_to_a_bound(module):
    write, make = module
    write("state", '#!/bin/sh\necho "all well, $1"\n')
    write("level", "#!/bin/sh\nyes 0123456789 | head -c 100000000\nexit 0\n")
    runner = make()
    assert asyncio.run(runner.capture("state", ("UP",))) == "all well, UP\n"
    assert len(asyncio.run(runner.capture("level"))) <= 64 * 1024
    assert asyncio.run(runner.capture("none")) is None
    assert not runner.log.exists()
