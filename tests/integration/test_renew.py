"""The agent's process is replaced while a farm and a light module serve: nothing fails, nothing is started anew."""

import json
import subprocess
import sys
import threading
import time

import pytest
from support import VIP, Farm, kill, pids, wait_for

from safekit_py.lab import Lab

HOLD = """
import socket, sys, time
s = socket.create_connection((sys.argv[1], 80), timeout=5)
for _ in range(int(sys.argv[2])):
    s.sendall(b"GET /server-name.txt HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
    assert s.recv(65536).startswith(b"HTTP/1.1 200"), "not answered"
    time.sleep(0.1)
print("held")
"""


@pytest.fixture(scope="module")
def farm(quick_apache):
    import os

    with Lab.up("renew", servers=2, owner=os.getpid()) as lab:
        farm = Farm(lab)
        for host in ("server1", "server2"):
            wait_for(lambda host=host: farm.cli(host, "status", check=False).returncode == 0)
            farm.install(host, str(quick_apache), VIP=VIP, PORT="80")
            farm.cli(host, "start", "apache", "--wait")
        wait_for(lambda: all(farm.members(host) == 2 for host in ("server1", "server2")))
        wait_for(lambda: not farm.status("server1")["report"]["moved"])  # no view of its own accord comes any more
        yield farm


def process(farm, host):
    from safekit_py.control.client import Client
    from safekit_py.model.paths import Paths

    return Client(Paths(farm.lab.root(host))).call("GET", "/process")["pid"]


def test_no_request_fails_and_no_connection_breaks_while_both_agents_are_replaced(farm):
    before = {host: process(farm, host) for host in ("server1", "server2")}
    epochs = {host: farm.status(host)["report"]["view"] for host in before}
    apaches = {host: pids(farm, host, "apache2") for host in before}
    found = []
    load = threading.Thread(target=lambda: found.append(farm.fetch(3000, rate=0.002)))
    held = [
        farm.lab.popen("client1", ["python3", "-c", HOLD, VIP, "60"], stdout=-1, stderr=-1, text=True) for _ in range(6)
    ]
    load.start()
    time.sleep(1)
    for host, pid in before.items():
        done = farm.cli(host, "renew", "--json")
        told = json.loads(done.stdout)
        assert told["before"]["pid"] == pid != told["now"]["pid"] == process(farm, host)
        assert farm.state(host) == "UP Ready"
    load.join()
    (got, bad) = found[0]
    assert bad == 0, f"{bad} of 3000 requests failed"
    assert set(got) == {"server1", "server2"}
    for each in held:
        out, err = each.communicate(timeout=30)
        assert out == "held\n", err
    assert {host: farm.status(host)["report"]["view"] for host in before} == epochs, "the group has noticed nothing"
    assert {host: farm.status(host)["report"]["rejected"] for host in before} == {"server1": {}, "server2": {}}
    assert {host: set(pids(farm, host, "apache2")) & set(apaches[host]) for host in before} == {
        host: set(numbers) for host, numbers in apaches.items()
    }, "the application went on"


def test_afterwards_the_modules_are_watched_and_led_as_before(farm):
    host = "server1"
    kill(farm, host, pids(farm, host, "apache2"))
    wait_for(lambda: farm.status(host)["starts"] >= 2 and farm.state(host) == "UP Ready")
    farm.cli(host, "stop", "apache")
    wait_for(lambda: farm.state(host) == "STOP NotReady" and farm.serving() == {"server2"})
    farm.cli(host, "start", "apache", "--wait")
    wait_for(lambda: farm.members(host) == 2)


def test_it_is_refused_while_a_module_is_busy_and_nothing_changes(farm):
    host, before = "server2", process(farm, "server2")
    script = farm.lab.root(host) / "opt/safekit/modules/apache/bin/stop_both"
    text = script.read_text()
    script.write_text(text.replace("\n", "\nsleep 3\n", 1))
    farm.cli(host, "restart", "apache")
    done = farm.cli(host, "renew", check=False)
    assert (done.returncode, "agent.not-now" in done.stderr) == (1, True), done.stderr
    script.write_text(text)
    assert process(farm, host) == before
    wait_for(lambda: farm.state(host) == "UP Ready")


def test_it_is_refused_when_the_next_process_could_not_go_on(farm):
    host, before = "server2", process(farm, "server2")
    path = farm.lab.root(host) / "var/lib/safekit/cluster/cluster.xml"
    text = path.read_text()
    path.write_text("<cluster/>")
    done = farm.cli(host, "renew", check=False)
    path.write_text(text)
    assert (done.returncode, "could not go on" in done.stderr) == (1, True), done.stderr
    assert process(farm, host) == before
    assert farm.state(host) == "UP Ready"
    wait_for(lambda: len(pids(farm, host, "safekit_py agent")) == 1)  # the other process has ended


def test_where_no_agent_runs_there_is_nothing_to_do(tmp_path):
    command = [sys.executable, "-m", "safekit_py", "--root", str(tmp_path), "renew"]
    assert subprocess.run([*command, "--if-running"], check=False).returncode == 0
    assert subprocess.run(command, check=False, capture_output=True).returncode == 69
