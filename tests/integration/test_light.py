"""A light module on a server that belongs to no cluster: one agent as a process of its own, and real processes."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from support import wait_for

REPOSITORY = Path(__file__).resolve().parents[2]
CONFIG = """<safe><service mode="light">
<check><tcp ident="web" when="both"><to addr="127.0.0.1" port="PORT" interval="1s" timeout="1s"/></tcp></check>
<failover period="500ms" handle_time="1s"/>
<user nicestoptimeout="20" forcestoptimeout="20"/>
</service></safe>
"""
START = """#!/bin/sh
echo "start_both $*"
"{python}" -m http.server {port} --bind 127.0.0.1 >/dev/null 2>&1 &
echo $! >"$SAFEUSERVAR/web.pid"
"""
STOP = """#!/bin/sh
echo "stop_both $*"
[ -f "$SAFEUSERVAR/web.pid" ] || exit 0
kill "$(cat "$SAFEUSERVAR/web.pid")" 2>/dev/null
rm -f "$SAFEUSERVAR/web.pid"
"""


class Server:
    """An agent below a folder of its own."""

    def __init__(self, root):
        self.root = root
        self.env = {**os.environ, "SAFEKIT_ROOT": str(root), "PYTHONPATH": str(REPOSITORY)}
        self.boot()

    def boot(self):
        command = [sys.executable, "-m", "safekit_py", "agent"]
        self.agent = subprocess.Popen(command, env=self.env, stderr=subprocess.DEVNULL)
        wait_for(lambda: self.cli("status").returncode == 0)

    def end(self, number=signal.SIGTERM):
        self.agent.send_signal(number)
        self.agent.wait(60)

    def cli(self, *words):
        command = [sys.executable, "-m", "safekit_py", *words]
        return subprocess.run(command, env=self.env, capture_output=True, text=True, timeout=60, check=False)

    def module(self, name="web"):
        return json.loads(self.cli("status", name, "--json").stdout)["modules"][0]

    def state(self):
        found = self.module()
        return f"{found['state']} {found['readiness']}"

    @property
    def process(self):
        path = self.root / "var/lib/safekit/modules/web/web.pid"
        return int(path.read_text()) if path.exists() else 0


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture
def port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture
def server(tmp_path, port):
    folder = tmp_path / "web"
    for part in ("conf", "bin"):
        (folder / part).mkdir(parents=True)
    (folder / "conf/userconfig.xml").write_text(CONFIG.replace("PORT", str(port)))
    (folder / "bin/start_both").write_text(START.format(python=sys.executable, port=port))
    (folder / "bin/stop_both").write_text(STOP)
    made = Server(tmp_path / "root")
    try:
        done = made.cli("module", "install", str(folder))
        assert done.returncode == 0, done.stderr
        yield made
    finally:
        made.cli("stop", "web", "--wait")
        made.end()
        if alive(made.process):
            os.kill(made.process, signal.SIGKILL)


def test_a_light_module_lives_on_a_server_without_a_cluster(server):
    done = server.cli("start", "web", "--wait")
    assert done.returncode == 0, done.stderr
    shown = server.module()
    assert (shown["mode"], shown["state"], shown["readiness"]) == ("light", "UP", "Ready")
    assert {r["name"]: r["value"] for r in shown["resources"]}["tcp.web"] == "up"
    assert server.cli("state", "-q", "web").returncode == 2
    first = server.process
    assert alive(first)

    assert server.cli("restart", "web", "--wait").returncode == 0
    assert server.state() == "UP Ready"
    assert alive(server.process)
    assert not alive(first)

    running = server.process
    assert server.cli("stop", "web", "--wait").returncode == 0
    assert server.state() == "STOP NotReady"
    assert not alive(running)
    log = (server.root / "var/lib/safekit/modules/web/userlog").read_text().splitlines()
    assert log == [
        "start_both WAIT UP start",
        "stop_both UP UP stop",
        "start_both UP UP start",
        "stop_both UP WAIT stop",
        "stop_both force WAIT STOP stop",
    ]


def test_a_failure_is_acted_on(server):
    server.cli("start", "web", "--wait")
    before = server.module()["starts"]
    os.kill(server.process, signal.SIGKILL)
    wait_for(lambda: server.module()["starts"] > before and server.state() == "UP Ready", 60)
    assert server.module()["loop"] == "1/3"
    assert alive(server.process)


def test_it_starts_again_with_the_agent(server):
    server.cli("start", "web", "--wait")
    server.end(signal.SIGKILL)
    server.boot()
    wait_for(lambda: server.state() == "UP Ready", 30)
    assert alive(server.process)


def test_a_virtual_address_is_refused_at_installation(server, tmp_path):
    config = tmp_path / "web/conf/userconfig.xml"
    config.write_text(config.read_text().replace("<check>", '<farm><lan name="default"/></farm><check>'))
    done = server.cli("module", "install", str(tmp_path / "web"), "-m", "other")
    assert done.returncode == 1
    assert "light.not-for-one-server" in done.stderr
    assert not (server.root / "opt/safekit/modules/other").exists()
