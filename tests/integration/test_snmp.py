"""net-snmp's own agent asks ours, and a manager walks it."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from safekit_py.cli.snmp import BASE

REPOSITORY = Path(__file__).resolve().parents[2]
needs = pytest.mark.skipif(not (shutil.which("snmpd") and shutil.which("snmpwalk")), reason="needs snmpd and snmp")


def free_port():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def until(what, limit=30.0):
    end = time.monotonic() + limit
    while not (value := what()):
        assert time.monotonic() < end
        time.sleep(0.2)
    return value


@needs
def test_a_manager_sees_the_modules_and_that_the_agent_is_gone(tmp_path):
    root, port = tmp_path / "root", free_port()
    env = {**os.environ, "SAFEKIT_ROOT": str(root), "PYTHONPATH": str(REPOSITORY), "SAFEKIT_HEALTH": "off"}
    safekit = [sys.executable, "-m", "safekit_py"]
    (tmp_path / "app/conf").mkdir(parents=True)
    (tmp_path / "app/bin").mkdir()
    (tmp_path / "app/conf/userconfig.xml").write_text('<safe><service mode="light"/></safe>')
    config = tmp_path / "snmpd.conf"
    config.write_text(f"rocommunity public 127.0.0.1\npass_persist .{BASE}.3 {' '.join(safekit)} snmp\n")

    def cli(*words):
        return subprocess.run([*safekit, *words], env=env, capture_output=True, text=True, check=False)

    def walk():
        command = ["snmpwalk", "-v2c", "-c", "public", "-On", "-t", "10", f"127.0.0.1:{port}", f".{BASE}.3"]
        done = subprocess.run(command, env=env | {"MIBS": ""}, capture_output=True, text=True, check=False)
        lines = [each.partition(" = ") for each in done.stdout.splitlines()]
        return {name.removeprefix(f".{BASE}.3."): value for name, _, value in lines}

    agent = subprocess.Popen([*safekit, "agent"], env=env, stderr=subprocess.DEVNULL)
    daemon = None
    try:
        until(lambda: cli("status").returncode == 0)
        assert cli("module", "install", str(tmp_path / "app"), "-m", "app").returncode == 0
        assert cli("start", "app", "--wait").returncode == 0
        (tmp_path / "persist").mkdir()
        command = [
            "snmpd",
            "-f",
            "-LE",
            "0",
            "-C",
            "-c",
            str(config),
            "-p",
            str(tmp_path / "pid"),
            f"udp:127.0.0.1:{port}",
        ]
        daemon = subprocess.Popen(command, env=env | {"MIBS": "", "SNMP_PERSISTENT_DIR": str(tmp_path / "persist")})
        found = until(lambda: (seen := walk()) and seen.get("1.0") == "INTEGER: 1" and seen)
        (row,) = (name.rpartition(".")[2] for name, value in found.items() if value == 'STRING: "app"')
        assert found[f"3.1.4.{row}"] == 'STRING: "UP"'
        assert found[f"3.1.6.{row}"] == "INTEGER: 1"
        assert cli("stop", "app", "--wait").returncode == 0
        until(lambda: walk().get(f"3.1.4.{row}") == 'STRING: "STOP"')
        agent.send_signal(signal.SIGTERM)
        agent.wait(30)
        until(lambda: walk() == {"1.0": "INTEGER: 2"})
    finally:
        for each in (daemon, agent):
            if each is not None and each.poll() is None:
                each.terminate()
                each.wait(30)
