"""Processes of a stopped module are found by their environment and ended; nobody else's are touched."""

import os
import subprocess
import sys
import time

import pytest

from safekit_py.model.paths import Paths
from safekit_py.runtime import leftovers

SLEEPER = "import time; print('on', flush=True); time.sleep(600)"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);" + SLEEPER
ASKING = """
import os, sys
from safekit_py.model.paths import Paths
from safekit_py.runtime import leftovers
from pathlib import Path
found = leftovers.end("web", Paths(Path(sys.argv[1])), [os.getppid()])
print(len(found))
"""


@pytest.fixture
def started(tmp_path):
    children = []

    def start(code, module="web", root=tmp_path, *, new_session=True):
        environment = {**os.environ, "SAFEMODULE": module, "SAFEKIT_ROOT": str(root)}
        child = subprocess.Popen(
            [sys.executable, "-c", code, str(root)],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=new_session,
        )
        children.append(child)
        assert child.stdout.readline() == "on\n"
        return child

    yield start
    for child in children:
        child.kill()
        child.wait()
        child.stdout.close()


def test_all_of_the_module_and_nothing_else(tmp_path, started):
    mine, stubborn = started(SLEEPER), started(STUBBORN)
    other, elsewhere = started(SLEEPER, "other"), started(SLEEPER, root=tmp_path / "elsewhere")
    longer = started(SLEEPER, "web2")
    paths = Paths(tmp_path)
    assert {each.pid for each in leftovers.find("web", paths)} == {mine.pid, stubborn.pid}
    began = time.monotonic()
    ended = leftovers.end("web", paths, grace=0.5)
    assert time.monotonic() - began < 10
    assert {each.pid for each in ended} == {mine.pid, stubborn.pid}
    assert mine.wait(5) == -15
    assert stubborn.wait(5) == -9
    assert [each.poll() for each in (other, elsewhere, longer)] == [None, None, None]
    assert leftovers.end("web", paths) == []


def test_a_process_that_starts_another_while_it_ends(tmp_path, started):
    code = (
        "import signal, subprocess, sys, time\n"
        "def again(*_):\n"
        "    subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "    sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, again)\n"
        "print('on', flush=True); time.sleep(600)"
    )
    started(code)
    assert len(leftovers.end("web", Paths(tmp_path), grace=2.0)) == 2
    assert leftovers.find("web", Paths(tmp_path)) == []


def test_whoever_asks_is_spared(tmp_path):
    environment = {**os.environ, "SAFEMODULE": "web", "SAFEKIT_ROOT": str(tmp_path)}
    shell = f'"{sys.executable}" -c "$CODE" "{tmp_path}"; echo alive'
    done = subprocess.run(
        ["sh", "-c", shell], env={**environment, "CODE": ASKING}, capture_output=True, text=True, check=False
    )
    assert done.stdout == "0\nalive\n", done.stderr
