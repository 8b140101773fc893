"""One look at real processes."""

import os
import subprocess
import sys

from safekit_py.plugins.checkers.errd.model import Matcher, Proc
from safekit_py.plugins.checkers.errd.processes import scan


def find(daemons, **given):
    return Matcher(Proc(daemons.name, **given)).find(scan(commands="argregex" in given))


def test_processes_are_found_by_name_and_command(daemons):
    first, second = daemons.start("600"), daemons.start("601")
    assert [each.pid for each in find(daemons)] == [first.pid, second.pid]
    assert [each.pid for each in find(daemons, argregex=" 601$")] == [second.pid]
    assert find(daemons)[0].command == ""


def test_a_long_name_is_the_kernels(tmp_path, daemons):
    program = tmp_path / "a-name-of-more-than-fifteen"
    daemons.program.rename(program)
    daemons.name, daemons.program = program.name[:15], program
    process = daemons.start()
    assert [each.pid for each in find(daemons)] == [process.pid]


def test_one_that_nobody_waited_for_is_none(daemons):
    process = daemons.start()
    os.kill(process.pid, 9)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert find(daemons) == []


def test_psutil_is_loaded_only_when_it_is_needed():
    code = (
        "import sys\nfrom safekit_py.runtime import plugins\nm = plugins.load(third_party=False)\n"
        "m.checkers(); m.elements()\nprint('psutil' in sys.modules, 'errd' in m.checkers())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]
