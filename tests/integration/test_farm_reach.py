"""A farm with a virtual MAC and addresses of both families, as its clients, the switch and its administrator see it."""

import json
import os
import time
import uuid
from pathlib import Path

import pytest
from support import VIP, Farm, kill, pids, wait_for

from safekit_py.lab import Lab

pytestmark = [pytest.mark.lab, pytest.mark.timeout(240)]
SERVERS = ("server1", "server2")
MODULE, PORT = "reach", 8080
VIP6, VMAC = "fd77::100", "5a:fe:0a:4d:00:64"

USERCONFIG = f"""<safe><service mode="farm" maxloop="100">
<farm><lan name="default"/></farm>
<vip><interface_list><interface name="eth0" arpreroute="on"><virtual_interface type="KIND">
<virtual_addr addr="{VIP}"/><virtual_addr addr="{VIP6}"/></virtual_interface></interface></interface_list>
<loadbalancing_list><group name="web"><rule port="{PORT}" proto="tcp" filter="on_port"/></group></loadbalancing_list>
</vip>
<check><ip ident="{VIP}"><to addr="{VIP}" interval="1s"/></ip></check>
<failover period="500ms" handle_time="1s"/>
<user nicestoptimeout="10" forcestoptimeout="10"/></service></safe>"""

START = f"""#!/bin/sh
setsid python3 "$SAFEUSERBIN/name.py" {PORT} >/dev/null 2>&1 </dev/null &
echo $! > "$SAFEUSERVAR/pid"
"""
STOP = """#!/bin/sh
[ -f "$SAFEUSERVAR/pid" ] && kill -9 "$(cat "$SAFEUSERVAR/pid")" 2>/dev/null
rm -f "$SAFEUSERVAR/pid"
"""
NAME = """
import http.server, socket, sys
class Name(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = socket.gethostname().encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6
Server(("::", int(sys.argv[1])), Name).serve_forever()
"""
URLS = (f"http://{VIP}:{PORT}/", f"http://[{VIP6}]:{PORT}/")


def module(folder, kind):
    for path, text in (
        ("conf/userconfig.xml", USERCONFIG.replace("KIND", kind)),
        ("bin/start_both", START),
        ("bin/stop_both", STOP),
        ("bin/name.py", NAME),
    ):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
        (folder / path).chmod(0o755)
    return folder


def six(farm, host, number):
    farm.lab.run(host, ["ip", "addr", "add", f"fd77::{number}/64", "dev", "eth0", "nodad"], check=True)


@pytest.fixture(scope="module", params=["vmac_invisible", "vmac_directed"])
def farm(request, tmp_path_factory):
    """Two servers; the farm is up."""
    folder = module(tmp_path_factory.mktemp("reach") / MODULE, request.param)
    with Lab.up(f"r{uuid.uuid4().hex[:6]}", servers=2, owner=os.getpid()) as lab:
        made = Farm(lab)
        made.kind = request.param
        for number, host in enumerate((*SERVERS, "client1"), 11):
            six(made, host, number)
        for host in SERVERS:
            wait_for(lambda host=host: made.cli(host, "status", check=False).returncode == 0)
            made.install(host, str(folder))
            made.cli(host, "start", MODULE, "--wait")
        wait_for(lambda: all(made.members(host, MODULE) == 2 for host in SERVERS))
        yield made


def neighbours(farm, host="client1"):
    done = farm.lab.run(host, ["ip", "-json", "neigh"], capture_output=True, text=True)
    return {each["dst"]: each.get("lladdr", "") for each in json.loads(done.stdout)}


def shown(farm, host):
    """Addresses, the devices' filters of MACs, tc filters, and whether the device hears everything."""
    script = "ip addr; bridge fdb; tc filter show dev eth0 ingress; ip -d link show eth0 | grep -o 'promiscuity [0-9]*'"
    return farm.lab.run(host, ["sh", "-c", script], capture_output=True, text=True).stdout


def serving(farm):
    return [set(farm.fetch(30, timeout=0.5, url=url)[0]) for url in URLS]


def test_both_servers_serve_both_families(farm):
    for url in URLS:
        got, bad = farm.fetch(100, url=url)
        assert bad == 0
        assert set(got) == set(SERVERS)
        assert min(got.values()) >= 25, got
    known = neighbours(farm)
    servers = {port.mac for host in farm.lab.hosts for port in host.ports if host.name in SERVERS}
    if farm.kind == "vmac_invisible":
        assert known[VIP] == known[VIP6] == VMAC
        assert all(VMAC in shown(farm, host) for host in SERVERS)
        assert "virtual switch" in farm.cli("server1", "log", MODULE).stdout or not _is_guest()
    else:
        assert {known[VIP], known[VIP6]} <= servers


def _is_guest():
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return any(line.startswith("flags") and " hypervisor" in line for line in lines)


def test_no_checker_takes_the_farm_s_own_answers_for_another_machine(farm):
    """Each server asks who else has the address, and the filter of another one answers."""
    time.sleep(4)
    for host in SERVERS:
        assert "is also used by" not in farm.cli(host, "log", MODULE).stdout
        found = {each["name"]: each["value"] for each in farm.status(host, MODULE)["resources"]}
        assert (found[f"ip.{VIP}"], found[f"ip.{VIP6}"], found["intf.eth0"]) == ("up", "up", "up")


def test_a_power_cut(farm):
    before = neighbours(farm)
    farm.lab.kill("server1")
    wait_for(lambda: serving(farm) == [{"server2"}, {"server2"}], 10)
    for url in URLS:
        assert farm.fetch(50, url=url) == [{"server2": 50}, 0]
    if farm.kind == "vmac_invisible":
        after = neighbours(farm)
        assert {before[VIP], before[VIP6], after[VIP], after[VIP6]} == {VMAC}
    farm.lab.boot("server1")
    six(farm, "server1", 11)
    wait_for(lambda: farm.state("server1", MODULE) is not None)
    if farm.state("server1", MODULE) != "UP Ready":
        farm.cli("server1", "start", MODULE, "--wait", check=False)
    wait_for(lambda: serving(farm) == [set(SERVERS)] * 2, 40)


@pytest.mark.parametrize("how", ["stop", "crash"])
def test_nothing_is_left_on_the_device(farm, how):
    wait_for(lambda: farm.state("server2", MODULE) == "UP Ready")
    if how == "stop":
        farm.cli("server2", "stop", MODULE, "--wait")
    else:
        wish = farm.lab.root("server2") / f"var/lib/safekit/modules/{MODULE}/state.json"
        kill(farm, "server2", pids(farm, "server2", "safekit_py agent"))
        wish.write_text('{"started": false, "reason": "the test"}')
        wait_for(lambda: farm.state("server2", MODULE) == "STOP NotReady", 20)
    left = shown(farm, "server2")
    for part in (VIP, VIP6, VMAC, "safekit", "promiscuity 1"):
        assert f"{part}\n" not in left
        assert f"{part}/" not in left
        assert f"{part} " not in left
    assert "promiscuity 0" in left
    farm.cli("server2", "start", MODULE, "--wait")
    wait_for(lambda: serving(farm) == [set(SERVERS)] * 2, 20)
