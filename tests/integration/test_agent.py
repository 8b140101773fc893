"""One agent as a process of its own, spoken to by the command line: no network, no filter."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
CLUSTER = '<cluster><lans><lan name="default"><node name="n1" addr="127.0.0.1"/></lan></lans></cluster>'


class Server:
    def __init__(self, root):
        self.root = root
        self.env = {**os.environ, "SAFEKIT_ROOT": str(root), "PYTHONPATH": str(REPOSITORY)}
        self.agent = None

    def cli(self, *words, **options):
        command = [sys.executable, "-m", "safekit_py", *words]
        return subprocess.run(command, env=self.env, capture_output=True, text=True, timeout=60, check=False, **options)

    def boot(self):
        self.agent = subprocess.Popen(
            [sys.executable, "-m", "safekit_py", "agent"], env=self.env, stderr=subprocess.DEVNULL
        )
        end = time.monotonic() + 20
        while self.cli("status").returncode:
            assert time.monotonic() < end, "the agent does not answer"
        return self

    def end(self, number=signal.SIGTERM):
        self.agent.send_signal(number)
        return self.agent.wait(30)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    made = Server(tmp_path_factory.mktemp("server")).boot()
    yield made
    made.end()


@pytest.fixture(scope="module")
def configured(server, tmp_path_factory):
    path = tmp_path_factory.mktemp("cluster") / "cluster.xml"
    path.write_text(CLUSTER)
    assert server.cli("cluster", "config", str(path), "--node", "n1").returncode == 0
    assert server.cli("cluster", "genkey").returncode == 0
    return server


def test_no_agent_is_one_clear_error(tmp_path):
    done = Server(tmp_path).cli("status")
    assert done.returncode == 69
    assert "agent.not-running" in done.stderr
    assert "systemctl start" in done.stderr


def test_no_agent_as_json(tmp_path):
    done = Server(tmp_path).cli("status", "--json")
    assert done.returncode == 69
    assert json.loads(done.stdout)["problems"][0]["code"] == "agent.not-running"


def test_a_second_agent_is_refused(server):
    done = server.cli("agent")
    assert done.returncode == 1
    assert "agent.running" in done.stderr


def test_cluster(configured):
    document = json.loads(configured.cli("cluster", "state", "--json").stdout)
    assert document["nodes"][0]["name"] == "n1"
    assert document["problems"] == []
    key = configured.root / "var/lib/safekit/cluster/cluster.key"
    assert key.stat().st_mode & 0o777 == 0o600
    assert key.read_text().strip() not in json.dumps(document)


def test_the_key_is_not_replaced_by_accident(configured):
    done = configured.cli("cluster", "genkey")
    assert done.returncode == 1
    assert "--force" in done.stderr


def test_install_names_every_open_macro_and_writes_nothing(configured):
    done = configured.cli("module", "install", "generic", "-m", "myapp")
    assert done.returncode == 1
    assert "--set VIP=" in done.stderr
    assert "--set PORT=" in done.stderr
    assert not (configured.root / "opt/safekit/modules/myapp").exists()


def test_install_list_uninstall(configured):
    done = configured.cli(
        "module", "install", "generic", "-m", "myapp", "--set", "VIP=10.99.0.50", "--set", "PORT=8080"
    )
    assert done.returncode == 0, done.stderr
    listed = json.loads(configured.cli("module", "list", "--json").stdout)
    assert listed["installed"] == ["myapp"]
    assert {m["name"] for m in listed["shipped"]} >= {"generic", "apache"}
    shown = json.loads(configured.cli("status", "myapp", "--json").stdout)["modules"][0]
    assert (shown["state"], shown["mode"]) == ("STOP", "farm")
    assert configured.cli("state", "-q", "myapp").returncode == 0
    assert configured.cli("confcheck", "-m", "myapp").returncode == 0
    assert configured.cli("printe", "-m", "myapp", "hello", "there").returncode == 0
    assert "E | user | hello there" in configured.cli("log", "myapp").stdout
    assert configured.cli("module", "uninstall", "myapp").returncode == 0
    assert configured.cli("status", "myapp").returncode == 1


def test_the_command_for_scripts(configured):
    command = configured.root / "opt/safekit/safekit"
    environment = {k: v for k, v in configured.env.items() if k != "SAFEKIT_ROOT"}
    done = subprocess.run([command, "status", "--json"], env=environment, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["server"] == "n1"


def test_unknown_module_lists_the_installed_ones(configured):
    done = configured.cli("start", "nosuch")
    assert done.returncode == 1
    assert "module.not-installed" in done.stderr


def test_a_mistyped_command_gets_a_suggestion(server):
    done = server.cli("statsu")
    assert done.returncode == 2
    assert "Did you mean" in done.stderr


def test_plugins_are_listed_with_their_hooks(server):
    found = json.loads(server.cli("plugins", "--json").stdout)
    assert all(p["hooks"] for p in found)
    assert all(not p["problems"] for p in found)


def test_openapi_document(server):
    import httpx

    transport = httpx.HTTPTransport(uds=str(server.root / "run/safekit/agent.sock"))
    with httpx.Client(transport=transport, base_url="http://agent") as client:
        document = client.get("/openapi.json").json()
    assert "/api/v1/status" in document["paths"]
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert operation.get("description"), f"{method} {path} is not described"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_another_user_is_turned_away(server):
    for folder in (server.root, *server.root.parents):
        if str(folder).startswith("/tmp/"):
            folder.chmod(0o755)
    code = (
        "import socket,sys\n"
        "s=socket.socket(socket.AF_UNIX)\ns.connect(sys.argv[1])\n"
        "s.sendall(b'GET /api/v1/status HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n')\n"
        "print(s.makefile().read())\n"
    )
    socket_path = server.root / "run/safekit/agent.sock"
    done = subprocess.run(
        ["/usr/bin/python3", "-c", code, str(socket_path)],
        user=65534,
        group=65534,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "403 Forbidden" in done.stdout, done.stdout + done.stderr
    assert "access.denied" in done.stdout
    assert '"modules"' not in done.stdout


def test_the_agent_tells_systemd_when_it_is_ready_and_that_it_lives(tmp_path):
    import socket

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "notify"))
        receiver.settimeout(20)
        one = Server(tmp_path / "root")
        one.env |= {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "400000"}
        one.boot()
        assert receiver.recv(200) == b"READY=1\nSTATUS=no modules"
        assert [receiver.recv(200).split(b"\n")[0] for _ in range(3)] == [b"WATCHDOG=1"] * 3
        assert one.end() == 0
        while (said := receiver.recv(200)) == b"WATCHDOG=1":
            pass
        assert said == b"STOPPING=1"
