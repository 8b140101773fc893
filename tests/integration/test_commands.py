"""The commands of control and maintenance, with a light module on one real agent."""

import json
import signal
import time

import pytest
from test_agent import Server

CONFIG = """<safe><service mode="light" maxloop="2" boot="ignore">
<failover period="1000" handle_time="0"/>
<check><tcp ident="web" when="both"><to addr="127.0.0.1" port="9" interval="1s"/></tcp></check>
<user nicestoptimeout="5" forcestoptimeout="5"/></service></safe>"""
SCRIPTS = {
    "start_both": "echo started >> $SAFEUSERVAR/order",
    "stop_both": """echo "stopped $1" >> $SAFEUSERVAR/order
if [ "$1" != force ] && [ -e $SAFEUSERVAR/slow ]; then sleep 4; fi""",
    "state": "echo the application is $1 $2",
    "level": "echo app 1.2",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    made = Server(tmp_path_factory.mktemp("server"))
    made.env["SAFEKIT_HEALTH"] = "off"
    made.env["SAFEKIT_REBOOT"] = f"touch {made.root}/rebooted"
    folder = tmp_path_factory.mktemp("module") / "app"
    (folder / "conf").mkdir(parents=True)
    (folder / "bin").mkdir()
    (folder / "conf/userconfig.xml").write_text(CONFIG)
    for name, text in SCRIPTS.items():
        (folder / "bin" / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / "bin" / name).chmod(0o755)
    made.boot()
    done = made.cli("module", "install", str(folder))
    assert done.returncode == 0, done.stderr
    yield made
    made.end()


@pytest.fixture
def app(server):
    """The module as installed: stopped, everything switched on."""
    yield server
    for words in (
        ["forcestop", "app", "--wait"],
        ["checker", "on", "app"],
        ["failover", "on", "app"],
        ["resetloop", "app"],
    ):
        server.cli(*words)


def shown(server, *words):
    done = server.cli(*words, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def running(app):
    """UP Ready, with the failing checker switched off."""
    app.cli("checker", "off", "app")
    assert app.cli("start", "app", "--wait").returncode == 0


def test_wait_for_a_state(app):
    assert app.cli("waitstart", "app", "-t", "5").returncode == 1
    running(app)
    assert "UP Ready" in app.cli("waitstart", "app", "-t", "5").stdout
    assert app.cli("waitstate", "UP", "-m", "app", "-t", "5").returncode == 0
    late = app.cli("waitstate", "WAIT", "-m", "app", "-t", "0.2")
    assert late.returncode == 1
    assert "module.not-reached" in late.stderr
    app.cli("stop", "app")
    assert app.cli("waitstop", "app", "-t", "5").returncode == 0


def test_a_checker_that_is_down_acts_and_the_counter_ends_it(app):
    app.cli("start", "app")
    assert app.cli("waitstop", "app", "-t", "60").returncode == 0
    status = shown(app, "status", "app")["modules"][0]
    assert "maxloop" in status["reason"]
    assert app.cli("checkloop", "app").returncode == 1
    assert "0 of 2" in app.cli("resetloop", "app").stdout
    assert app.cli("checkloop", "app").returncode == 0


def test_checkers_off_outlive_the_agent(app):
    running(app)
    assert {c["state"] for c in shown(app, "checker", "list", "app")} == {"suspended"}
    app.end(signal.SIGKILL)
    app.boot()
    assert app.cli("waitstart", "app", "-t", "20").returncode == 0
    assert shown(app, "status", "app")["modules"][0]["suspended"] == ["*"]
    assert {c["state"] for c in shown(app, "checker", "on", "app")} == {"running"}


def test_failover_off_shows_and_does_nothing(app):
    running(app)
    assert app.cli("failover", "off", "app").returncode == 0
    app.cli("checker", "on", "app")
    end = time.monotonic() + 20
    while "failover is off" not in app.cli("log", "app").stdout:
        assert time.monotonic() < end
    assert shown(app, "status", "app")["modules"][0]["state"] == "UP"


def test_incloop_counts_and_a_command_of_a_person_resets(app):
    running(app)
    assert "1 of 2" in app.cli("incloop", "app", "-i", "handler").stdout
    assert shown(app, "checkloop", "app")["count"] == 1
    assert app.cli("restart", "app", "--wait").returncode == 0
    assert shown(app, "checkloop", "app")["count"] == 0


def test_boot_by_command(app):
    assert shown(app, "boot", "status", "app")["boot"] == "auto"
    assert "starts with the server" in app.cli("boot", "on", "app").stdout
    assert shown(app, "boot", "off", "app")["boot"] == "off"


def test_the_scripts_state_and_level(app):
    running(app)
    assert "the application is UP Ready" in app.cli("status", "app", "-v").stdout
    assert shown(app, "level", "-m", "app")["app"] == "app 1.2"


def test_shutdown_stops_everything(app):
    running(app)
    assert shown(app, "shutdown")[0]["state"] == "STOP"


def test_numbers_and_ports(app):
    assert list(shown(app, "module", "listid")) == ["app"]
    assert shown(app, "module", "getports", "app") == []


def test_the_cluster_locked_checked_and_forgotten(app, tmp_path):
    path = tmp_path / "cluster.xml"
    path.write_text('<cluster><lans><lan name="default"><node name="n1" addr="127.0.0.1"/></lan></lans></cluster>')
    assert "accepted: n1" in app.cli("cluster", "confcheck", str(path)).stdout
    assert app.cli("cluster", "lock", "maintenance of n2").returncode == 0
    refused = app.cli("cluster", "config", str(path), "--node", "n1")
    assert refused.returncode == 1
    assert "maintenance of n2" in refused.stderr
    assert app.cli("cluster", "unlock").returncode == 0
    assert app.cli("cluster", "config", str(path), "--node", "n1").returncode == 0
    assert app.cli("cluster", "genkey").returncode == 0
    info = shown(app, "cluster", "confinfo")
    assert info["configured"]
    assert info["key"]
    assert app.cli("cluster", "delkey", "--yes").returncode == 0
    assert app.cli("cluster", "deconfig", "--yes").returncode == 0
    assert not shown(app, "cluster", "confinfo")["configured"]
    path.write_text("<cluster><lan/></cluster>")
    assert app.cli("cluster", "confcheck", str(path)).returncode == 1


def test_processes_of_a_name(app, tmp_path):
    import subprocess

    process = subprocess.Popen(["sleep", "4711"])
    found = shown(app, "kill", "-name", "sleep", "-argregex", "4711")
    assert [item["pid"] for item in found] == [process.pid]
    assert process.poll() is None
    shown(app, "kill", "-name", "sleep", "-argregex", "4711", "-level", "terminate")
    assert process.wait(5) == -signal.SIGTERM


def test_a_stop_that_a_crash_cut_short_is_finished_by_the_next_agent(app):
    running(app)
    folder = app.root / "var/lib/safekit/modules/app"
    (folder / "slow").touch()
    (folder / "order").unlink()
    app.cli("stop", "app")
    end = time.monotonic() + 10
    while not (folder / "order").exists():
        assert time.monotonic() < end
        time.sleep(0.05)
    app.end(signal.SIGKILL)
    (folder / "slow").unlink()
    app.boot()
    assert app.cli("waitstop", "app", "-t", "10").returncode == 0
    assert (folder / "order").read_text().split("\n")[:2] == ["stopped UP", "stopped force"]
    assert not (folder / "running").exists()
