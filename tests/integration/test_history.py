"""What is remembered, seen with an agent as a process of its own: history, commands, following, support."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import zipfile

import psutil
import pytest
from test_agent import Server

CONFIG = """<safe><macro name="DB_PASSWORD" value="hunter2-and-more"/><service mode="light">
<user><var name="PLAIN" value="visible"/></user></service></safe>"""
START = """#!/bin/sh
echo "the password is hunter2-and-more"
sleep 600 &
$SAFE/safekit set -r custom.fromscript -v up -i start_both
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    root = tmp_path_factory.mktemp("server")
    for name, text in (("conf/userconfig.xml", CONFIG), ("bin/start_both", START), ("bin/stop_both", "#!/bin/sh\n")):
        path = root / "app" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
    made = Server(root).boot()
    try:
        assert made.cli("cluster", "genkey").returncode == 0
        assert made.cli("module", "install", str(root / "app")).returncode == 0
        assert made.cli("start", "app", "--wait").returncode == 0
        yield made
    finally:
        made.cli("stop", "app", "--wait")
        made.cli("clean", "process", "-m", "app")
        made.end()


def answer(server, *words):
    done = server.cli(*words, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def put(server, name, value, *options):
    done = server.cli("set", "-m", "app", "-r", name, "-v", value, *options)
    assert done.returncode == 0, done.stderr


def lines(server, name):
    found = server.cli("log", "app", "-n", "1000", "--json").stdout.splitlines()
    return [event for event in map(json.loads, found) if event["data"].get("resource") == name]


def test_a_script_sets_a_resource(server):
    assert server.cli("get", "-m", "app", "-r", "custom.fromscript").stdout == "up\n"
    (change,) = answer(server, "get", "-m", "app", "-r", "custom.fromscript", "--history", "10")
    assert (change["before"], change["value"], change["cause"]) == ("init", "up", "set by start_both")


def test_the_history_of_a_resource_over_time(server):
    put(server, "custom.a", "up")
    put(server, "custom.a", "down", "-i", "mychecker")
    put(server, "custom.a", "down")
    put(server, "custom.a", "up", "-n")
    put(server, "custom.a", "up", "-l")
    found = answer(server, "get", "-m", "app", "-r", "custom.a", "--history", "10")
    assert [(c["before"], c["value"]) for c in found] == [
        *(("init", "up"), ("up", "down")),
        *(("down", "up"), ("up", "up")),
    ]
    assert found[1]["cause"] == "set by mychecker"
    assert [c["time"] for c in found] == sorted(c["time"] for c in found)
    assert [(e["data"]["before"], e["data"]["value"]) for e in lines(server, "custom.a")] == [
        ("init", "up"),
        ("up", "down"),
        ("up", "up"),
    ]
    assert "mychecker" in server.cli("get", "-m", "app", "-r", "custom.a", "--history", "10").stdout


@pytest.mark.parametrize(
    ("resource", "value", "code"),
    [
        ("heart.x", "up", "resource.reserved"),
        ("farm.x", "up", "resource.reserved"),
        ("nodot", "up", "resource.bad-name"),
        ("custom.; rm", "up", "resource.bad-name"),
        ("custom." + "x" * 200, "up", "resource.bad-name"),
        ("custom.a", "two\nlines", "resource.bad-value"),
        ("custom.a", "x" * 65, "resource.bad-value"),
    ],
)
def test_what_may_not_be_set(server, resource, value, code):
    done = server.cli("set", "-m", "app", "-r", resource, "-v", value, "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["problems"][0]["code"] == code


def test_a_script_cannot_make_resources_without_end(server):
    import httpx

    transport = httpx.HTTPTransport(uds=str(server.root / "run/safekit/agent.sock"))
    with httpx.Client(transport=transport, base_url="http://agent/api/v1") as client:
        answers = [client.put(f"/modules/app/resources/custom.many{n}?value=up&log=never") for n in range(510)]
    assert answers[0].status_code == 200
    assert answers[-1].json()["problems"][0]["code"] == "resource.too-many"
    put(server, "custom.many1", "down")  # one that is there


def test_an_unknown_resource_names_those_there_are(server):
    done = server.cli("get", "-m", "app", "-r", "custom.nope")
    assert done.returncode == 1
    assert "resource.unknown" in done.stderr
    assert "custom.fromscript" in done.stderr


def test_who_gave_which_command(server):
    server.cli("restart", "app", "-i", "mychecker", "--wait")
    server.cli("start", "nothere")
    found = answer(server, "cmdlog", "-n", "10000")
    by = {(c["command"], c["module"]): c for c in found}
    assert by["restart", "app"]["identity"] == "mychecker"
    assert by["restart", "app"]["uid"] == os.geteuid()
    assert by["start", "nothere"]["result"] == "refused: module.not-installed"
    assert by["module install", "app"]["result"] == "ok"
    assert "start_both" in by["set -r custom.fromscript", "app"]["program"]
    assert by["cluster genkey", ""]["result"] == "ok"
    key = (server.root / "var/lib/safekit/cluster/cluster.key").read_text().strip()
    assert key not in json.dumps(found)
    assert "mychecker" in server.cli("cmdlog").stdout
    # The fourth set of custom.a said what was so already.
    assert len([c for c in found if c["command"] == "set -r custom.a" and c["result"] == "ok"]) == 4


def test_a_caller_cannot_forge_who_it_is(server):
    import httpx

    transport = httpx.HTTPTransport(uds=str(server.root / "run/safekit/agent.sock"))
    forged = {"peer": "4711", "x-forwarded-for": "4711", "x-remote-user": "mallory", "state": "peer=4711"}
    with httpx.Client(transport=transport, base_url="http://agent/api/v1", headers=forged) as client:
        client.post("/modules/app/loop/reset", params={"peer": "4711", "uid": "4711"}).raise_for_status()
    last = answer(server, "cmdlog", "-n", "1")[0]
    assert last["command"] == "resetloop"
    assert last["uid"] == os.geteuid()
    assert "mallory" not in last["user"]


def test_severities_and_logsave(server, tmp_path):
    server.cli("printe", "-m", "app", "an error of ours")
    grave = [json.loads(x) for x in server.cli("log", "app", "-s", "E", "--json").stdout.splitlines()]
    assert grave[-1]["message"] == "an error of ours"
    assert {event["severity"] for event in grave} <= {"C", "E"}
    file = tmp_path / "saved"
    assert server.cli("logsave", str(file), "-m", "app").returncode == 0
    assert re.search(r"^\d{4}-\d\d-\d\d [\d:.]+ \| E \| user \| an error of ours$", file.read_text(), re.MULTILINE)
    again = server.cli("logsave", str(file), "-m", "app")
    assert "output.exists" in again.stderr


def test_following_misses_nothing_over_a_restart_of_the_agent(server, tmp_path):
    out = tmp_path / "followed"
    with out.open("w") as stream:
        command = [sys.executable, "-m", "safekit_py", "logview", "app", "-f", "--json"]
        viewer = subprocess.Popen(command, env=server.env, stdout=stream, stderr=subprocess.DEVNULL)
    try:
        for number in range(6):
            if number == 2:
                server.end(signal.SIGKILL)
                server.boot()
            if number == 4:
                server.end()
                server.boot()
            assert server.cli("printi", "-m", "app", f"followed {number}").returncode == 0
        end = time.monotonic() + 20
        while "followed 5" not in out.read_text():
            assert time.monotonic() < end, out.read_text()
            time.sleep(0.1)
    finally:
        viewer.terminate()
        viewer.wait()
    seen = [json.loads(x) for x in out.read_text().splitlines()]
    numbers = [event["number"] for event in seen]
    assert numbers == list(range(numbers[0], numbers[-1] + 1))
    assert [e["message"] for e in seen if e["message"].startswith("followed")] == [f"followed {n}" for n in range(6)]


def test_a_damaged_log_stops_no_module(server):
    state = answer(server, "status", "app")["modules"][0]["state"]
    server.end()
    path = server.root / "var/lib/safekit/modules/app/log.db"
    path.write_bytes(os.urandom(20_000))
    server.boot()
    end = time.monotonic() + 20
    while answer(server, "status", "app")["modules"][0]["state"] != state:
        assert time.monotonic() < end
        time.sleep(0.1)
    first = json.loads(server.cli("log", "app", "-n", "1000", "--json").stdout.splitlines()[0])
    assert "store.set-aside" in first["message"]
    assert path.with_name("log.db.bad-1").exists()


def test_a_snapshot_has_what_helps_and_no_secret(server, tmp_path):
    file = tmp_path / "snapshot.zip"
    done = server.cli("snapshot", "-o", str(file))
    assert done.returncode == 0, done.stderr
    assert file.stat().st_mode & 0o077 == 0
    with zipfile.ZipFile(file) as archive:
        entries = {name: archive.read(name).decode() for name in archive.namelist()}
    assert {
        *("modules/app/conf/userconfig.xml", "modules/app/bin/start_both", "modules/app/log.txt"),
        *("modules/app/history.json", "modules/app/userlog", "commands.json", "status.json"),
        *("system/versions.json", "system/addresses.txt", "agent.json", "missing.txt"),
    } <= set(entries)
    everything = "\n".join(entries.values())
    key = (server.root / "var/lib/safekit/cluster/cluster.key").read_text().strip()
    assert key not in everything
    assert "hunter2" not in everything
    assert "the password is ***" in entries["modules/app/userlog"]
    assert 'value="visible"' in entries["modules/app/conf/userconfig.xml"]
    assert not any("cluster.key" in name for name in entries)
    assert json.loads(entries["status.json"])["modules"][0]["name"] == "app"


def test_a_dump(server):
    found = json.loads(server.cli("dump", "app").stdout)
    assert found["module"]["name"] == "app"
    assert any("module app" in task for task in found["agent"]["tasks"])
    assert any("MainThread" in thread for thread in found["agent"]["threads"])


def test_clean(server):
    for what in ("process", "all"):
        refused = server.cli("clean", what, "-m", "app")
        assert refused.returncode == 1
        assert "clean.not-stopped" in refused.stderr
    assert server.cli("stop", "app", "--wait").returncode == 0
    answer(server, "clean", "process", "-m", "app")  # what the runs before have left
    assert server.cli("start", "app", "--wait").returncode == 0
    assert server.cli("stop", "app", "--wait").returncode == 0
    cleaned = answer(server, "clean", "-m", "app")
    assert cleaned["done"] == ["process", "resource", "log"]
    (left,) = cleaned["processes"]
    pid, name = left.split()
    assert name == "sleep"
    assert not psutil.pid_exists(int(pid)) or psutil.Process(int(pid)).status() == psutil.STATUS_ZOMBIE
    assert answer(server, "get", "-m", "app", "--history", "10") == []
    messages = [json.loads(x)["message"] for x in server.cli("log", "app", "--json").stdout.splitlines()]
    assert messages[0].startswith("the log was emptied: root") or os.geteuid()
    assert f"process {pid} (sleep) was left and is ended" in messages[1]
    assert (server.root / "var/lib/safekit/modules/app/userlog").stat().st_size == 0
    assert answer(server, "clean", "process", "-m", "app")["processes"] == []


def test_the_log_of_a_module_that_cannot_run_is_still_there(server):
    server.cli("stop", "app", "--wait")
    config = server.root / "opt/safekit/modules/app/conf/userconfig.xml"
    sound = config.read_text()
    try:
        config.write_text("<safe><service mode='light'>")
        server.cli("start", "app")
        assert server.cli("log", "app").returncode == 0
    finally:
        config.write_text(sound)
