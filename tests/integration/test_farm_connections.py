"""Established connections through every planned change of a farm, and through a crash."""

import json
import os
import subprocess
import sys
import uuid

import pytest
from support import VIP, Farm, wait_for

from safekit_py.lab import Lab, echo

pytestmark = [pytest.mark.lab, pytest.mark.timeout(240)]
SERVERS = ("server1", "server2", "server3")
MODULE, PORT, COUNT = "echo", 9100, 600

USERCONFIG = f"""<safe><service mode="farm" maxloop="100"><farm><lan name="default"/></farm>
<vip><interface_list><interface check="off" arpreroute="on"><virtual_interface type="vmac_directed">
<virtual_addr addr="{VIP}" where="alias" connections="on"/></virtual_interface></interface></interface_list>
<loadbalancing_list><group name="all"><rule port="{PORT}" proto="tcp" filter="on_port"/></group></loadbalancing_list>
</vip><user nicestoptimeout="10" forcestoptimeout="10"/></service></safe>"""
START = f"""#!/bin/sh
setsid {sys.executable} {echo.__file__} serve {PORT} >/dev/null 2>&1 </dev/null &
echo $! > "$SAFEUSERVAR/pid"
"""
STOP = """#!/bin/sh
[ -f "$SAFEUSERVAR/pid" ] && kill -9 "$(cat "$SAFEUSERVAR/pid")" 2>/dev/null
rm -f "$SAFEUSERVAR/pid"
"""


@pytest.fixture(scope="module", params=["vmac_directed", "vmac_invisible"])
def farm(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("module") / MODULE
    (folder / "conf").mkdir(parents=True)
    (folder / "bin").mkdir()
    (folder / "conf/userconfig.xml").write_text(USERCONFIG.replace("vmac_directed", request.param))
    for name, text in (("start_both", START), ("stop_both", STOP)):
        (folder / "bin" / name).write_text(text)
        (folder / "bin" / name).chmod(0o755)
    with Lab.up(f"e{uuid.uuid4().hex[:6]}", servers=3, owner=os.getpid()) as lab:
        made = Farm(lab)
        made.kind = request.param
        for host in SERVERS:
            wait_for(lambda host=host: made.cli(host, "status", check=False).returncode == 0)
            made.install(host, str(folder))
        yield made


def members(farm, host):
    report = (farm.status(host, MODULE) or {}).get("report", {})
    return {m["name"]: m["shares"][0] for m in report.get("members", ()) if m["shares"][0]}


def settled(farm, *hosts):
    """All of these have their share, and say so."""
    wait_for(lambda: all(set(members(farm, host)) == set(hosts) for host in hosts))


class Clients:
    def __init__(self, farm):
        argv = [sys.executable, echo.__file__, "hold", VIP, str(PORT), str(COUNT)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = farm.lab.popen("client1", argv, **pipes)
        assert json.loads(self.process.stdout.readline()) == {"opened": COUNT}

    def ask(self, line):
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait(10)
        self.process.stdout.close()


@pytest.fixture
def two(farm):
    for host in SERVERS[:2]:
        farm.cli(host, "start", MODULE, "--wait")
    farm.cli("server3", "stop", MODULE, "--wait")
    settled(farm, *SERVERS[:2])
    return farm


def started(farm, host):
    farm.cli(host, "start", MODULE, "--wait")


def test_a_join_and_a_leave_break_nothing_and_the_trail_ends(two):
    with Clients(two) as clients:
        started(two, "server3")
        settled(two, *SERVERS)
        found = clients.ask("check")
        assert (found["alive"], found["reset"], found["silent"]) == (COUNT, 0, 0)
        assert set(found["servers"]) == set(SERVERS[:2])
        assert clients.ask("more 300") == {"opened": 300}
        found = clients.ask("check")
        assert found["alive"] == COUNT + 300
        assert found["servers"]["server3"] > 50
        held = found["servers"]["server3"]
        two.cli("server3", "stop", MODULE, "--wait")
        found = clients.ask("check")
        assert found["alive"] == COUNT + 300 - held, "the leaver's own end with its application"
        assert found["reset"] == held, "and their clients know"
    wait_for(lambda: two.status("server1", MODULE)["report"]["moved"] == 0, 30)


def test_a_crash_breaks_only_what_was_there_and_says_so(two):
    started(two, "server3")
    settled(two, *SERVERS)
    wait_for(lambda: two.status("server1", MODULE)["report"]["moved"] == 0, 30)
    with Clients(two) as clients:
        before = clients.ask("check")["servers"]
        two.lab.kill("server3")
        settled(two, *SERVERS[:2])
        found = clients.ask("check")
        assert found["servers"] == {host: before[host] for host in SERVERS[:2]}
        assert found["silent"] == 0
        assert found["reset"] == before["server3"]
    two.lab.boot("server3")
    wait_for(lambda: two.cli("server3", "status", check=False).returncode == 0)


def test_a_silent_agent_loses_its_clients_at_once_and_gets_them_back(two):
    """Its lease ends: what it held is reset by those that take over, and it serves again when it wakes."""
    with Clients(two) as clients:
        before = clients.ask("check")["servers"]
        done = two.lab.run("server2", ["pgrep", "-f", "safekit_py agent"], capture_output=True, text=True)
        two.lab.run("server2", ["kill", "-STOP", *done.stdout.split()])
        try:
            wait_for(lambda: set(members(two, "server1")) == {"server1"})
            found = clients.ask("check")
            assert found["servers"] == {"server1": before["server1"]}
            assert found["reset"] == before["server2"]
        finally:
            two.lab.run("server2", ["kill", "-CONT", *done.stdout.split()])
        settled(two, *SERVERS[:2])
        assert clients.ask("check")["alive"] == before["server1"]


def test_connections_are_counted(two):
    with Clients(two) as clients:
        held = clients.ask("check")["servers"]

        def shown(host):
            return two.cli(host, "get", "-m", MODULE, "-r", f"connections.{VIP}", check=False).stdout.strip() or 0

        for host in SERVERS[:2]:
            # Those that others have reset meanwhile are still there for the kernel.
            wait_for(lambda host=host: int(shown(host)) >= held[host], 30)
