"""The next process of the agent fails while it takes over: what the agent does then, with a light module."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support import wait_for

REPOSITORY = Path(__file__).resolve().parents[2]
APP = '<safe><service mode="light"><user/></service></safe>'
START = "#!/bin/sh\nsetsid sleep 987654 >/dev/null 2>&1 </dev/null & echo $! > $SAFEUSERVAR/app.pid\n"
STOP = "#!/bin/sh\nkill $(cat $SAFEUSERVAR/app.pid); rm -f $SAFEUSERVAR/app.pid; exit 0\n"

# Takes the place of the interpreter that the agent starts: as the next process it behaves as FAULT says.
NEXT = """
import json, os, socket, sys
told = os.environ.get("SAFEKIT_SUCCEEDS")
if not told:
    os.execv({python!r}, [{python!r}, *sys.argv[1:]])
line = socket.socket(fileno=int(told.split(",")[0])).makefile("rw")
if {fault!r} == "does not start":
    sys.exit(3)
lasts = {{"light": "0" if {fault!r} == "other values" else "1"}}
print(json.dumps({{"pid": os.getpid(), "version": "9", "lasts": lasts, "unfit": {{}}}}), file=line, flush=True)
line.readline()  # the modules; then it dies
"""
AGENT = "import sys; sys.executable = sys.argv.pop(1); from safekit_py.cli.main import main; main()"


class Server:
    """An agent whose next process has a fault."""

    def __init__(self, folder, fault):
        self.root = folder / "root"
        self.env = {
            **os.environ,
            "SAFEKIT_ROOT": str(self.root),
            "PYTHONPATH": str(REPOSITORY),
            "SAFEKIT_HEALTH": "off",
        }
        script, self.next = folder / "next.py", folder / "next"
        script.write_text(NEXT.format(python=sys.executable, fault=fault))
        self.next.write_text(f'#!/bin/sh\nexec {sys.executable} {script} "$@"\n')
        self.next.chmod(0o755)
        self.agent = None

    def cli(self, *words):
        command = [sys.executable, "-m", "safekit_py", *words]
        return subprocess.run(command, env=self.env, capture_output=True, text=True, timeout=60, check=False)

    def boot(self):
        command = [sys.executable, "-c", AGENT, str(self.next), "agent"]
        self.agent = subprocess.Popen(command, env=self.env, stderr=subprocess.DEVNULL)
        wait_for(lambda: self.cli("status").returncode == 0)

    def app(self):
        """The process of the application."""
        path = self.root / "var/lib/safekit/modules/app/app.pid"
        number = int(path.read_text()) if path.exists() else 0
        return number if number and Path(f"/proc/{number}").exists() else 0

    def install(self, folder):
        for name, text in (("conf/userconfig.xml", APP), ("bin/start_both", START), ("bin/stop_both", STOP)):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
            (folder / name).chmod(0o755)
        assert self.cli("module", "install", str(folder), "-m", "app").returncode == 0
        assert self.cli("start", "app", "--wait").returncode == 0


@pytest.fixture
def server(tmp_path, request):
    made = Server(tmp_path, request.param)
    made.boot()
    made.install(tmp_path / "app")
    yield made
    if made.agent.poll() is None:
        made.agent.send_signal(signal.SIGTERM)
        made.agent.wait(30)
    if number := made.app():
        os.kill(number, signal.SIGKILL)


@pytest.mark.parametrize(
    ("server", "code"), [("does not start", "agent.no-next"), ("other values", "agent.not-now")], indirect=["server"]
)
def test_one_that_cannot_take_over_changes_nothing(server, code):
    app = server.app()
    for _ in range(2):  # after a refusal it may be asked for again
        done = server.cli("renew")
        assert (done.returncode, code in done.stderr) in {(1, True), (69, True)}, done.stderr
    assert server.agent.poll() is None
    assert server.app() == app != 0
    assert server.cli("restart", "app", "--wait").returncode == 0, "the agent leads its module as before"


@pytest.mark.parametrize("server", ["dies"], indirect=True)
def test_one_that_dies_while_it_takes_over_is_as_a_crash_of_the_agent(server):
    app = server.app()
    server.agent.send_signal(signal.SIGHUP)
    assert server.agent.wait(30) == 1
    time.sleep(0.5)
    assert server.app() == app, "applications outlive the agent"
    server.boot()
    wait_for(lambda: '"UP"' in server.cli("status", "app", "--json").stdout and server.app() not in {0, app})
