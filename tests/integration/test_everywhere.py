"""Commands for every server of a cluster, from any of them: real agents, real mutual TLS between them."""

import fcntl
import json
import os
import pty
import socket
import struct
import subprocess
import termios
import time
import uuid
import zipfile

import pytest
from support import Farm, wait_for

from safekit_py import __version__
from safekit_py.control.client import Client
from safekit_py.errors import NotFoundError
from safekit_py.lab import Lab
from safekit_py.model.paths import Paths
from safekit_py.web import certificates

pytestmark = [pytest.mark.lab, pytest.mark.timeout(120)]
SERVERS = ("server1", "server2", "server3")
LIGHT = '<safe><service mode="light" maxloop="3"/></safe>'


def authorise(lab, hosts=SERVERS):
    """One authority, and a certificate of it for each server."""
    first = lab.root(hosts[0]) / "var/lib/safekit/tls"
    certificates.make_authority(first)
    for host in hosts:
        certificates.issue(first, host, [], lab.root(host) / "var/lib/safekit/tls")


@pytest.fixture(scope="module")
def farm(tmp_path_factory):
    module = tmp_path_factory.mktemp("everywhere") / "light"
    (module / "conf").mkdir(parents=True)
    (module / "conf/userconfig.xml").write_text(LIGHT)
    with Lab.up(f"h{uuid.uuid4().hex[:6]}", servers=3, owner=os.getpid()) as lab:
        authorise(lab)
        farm = Farm(lab)
        for host in SERVERS:
            wait_for(lambda host=host: farm.cli(host, "status", check=False).returncode == 0)
            wait_for((lab.root(host) / "run/safekit/web.sock").exists)
        assert farm.cli("server1", "-H", "*", "module", "install", str(module)).returncode == 0
        yield farm


def everywhere(farm, hosts, *words, at="server1"):
    done = farm.cli(at, "-H", hosts, *words, "--json", check=False)
    return done.returncode, {each["server"]: each for each in json.loads(done.stdout)}


def test_one_result_for_each_server(farm):
    code, found = everywhere(farm, "*", "status", "light")
    assert code == 0
    assert list(found) == list(SERVERS)
    assert all(each["answer"]["modules"][0]["state"] == "STOP" for each in found.values())
    done = farm.cli("server2", "-H", "server3,server1", "status")
    assert [line.split()[1] for line in done.stdout.splitlines() if line.startswith("----")] == ["server1", "server3"]


def test_a_command_acts_on_each_and_the_log_says_who(farm):
    code, _ = everywhere(farm, "*", "start", "light", "--wait", at="server3")
    assert code == 0
    assert [farm.state(host, "light") for host in SERVERS] == ["UP Ready"] * 3
    line = farm.cli("server1", "cmdlog").stdout.splitlines()[-1]
    assert "root" in line
    assert "server3" in line
    code, found = everywhere(farm, "server2", "stop", "light", "--wait")
    assert (code, list(found)) == (0, ["server2"])
    assert [farm.state(host, "light") for host in SERVERS] == ["UP Ready", "STOP NotReady", "UP Ready"]


def test_a_long_command_is_followed(farm):
    given = json.loads(farm.cli("server3", "stop", "light", "--json").stdout)["operation"]
    agent = Client(Paths(farm.lab.root("server3")))
    found = agent.call("GET", f"/operations/{given}", params={"wait": 20})
    assert (found["module"], found["command"], found["state"], found["problems"]) == ("light", "stop", "done", [])
    assert farm.state("server3", "light") == "STOP NotReady"
    assert agent.call("GET", "/operations")[-1]["ident"] == given
    with pytest.raises(NotFoundError):
        agent.call("GET", "/operations/none-1")
    farm.cli("server3", "start", "light", "--wait")


def test_one_that_refuses_makes_the_exit_code_1(farm):
    farm.cli("server2", "stop", "light", "--wait")
    farm.cli("server2", "module", "uninstall", "light")
    code, found = everywhere(farm, "*", "status", "light")
    assert code == 1
    assert {host: each["code"] for host, each in found.items()} == {"server1": 0, "server2": 1, "server3": 0}
    assert "module.not-installed" in json.dumps(found["server2"]["answer"])


def module_of(farm, host):
    path = farm.lab.root(host) / "opt/safekit/modules/light/conf/userconfig.xml"
    return path.read_text() if path.exists() else None


def test_a_module_is_pushed_to_all_or_none(farm):
    for host in ("server1", "server3"):
        farm.cli(host, "stop", "light", "--wait", check=False)
    path = farm.lab.root("server1") / "opt/safekit/modules/light/conf/userconfig.xml"
    edited = LIGHT.replace('maxloop="3"', 'maxloop="7"')
    path.write_text(edited)
    done = farm.cli("server1", "-H", "*", "-E", "light")
    assert "taken by server1, server2, server3" in done.stdout
    assert [module_of(farm, host) for host in SERVERS] == [edited] * 3

    farm.cli("server2", "start", "light", "--wait")
    path.write_text(LIGHT)
    done = farm.cli("server1", "-H", "*", "-E", "light", check=False)
    assert done.returncode == 1
    assert "server2: error [module.running]" in done.stderr
    assert "nothing was changed" in done.stderr
    assert [module_of(farm, host) for host in ("server2", "server3")] == [edited] * 2
    done = farm.cli("server1", "-H", "*", "-E", "light", "--apply")
    assert [module_of(farm, host) for host in SERVERS] == [LIGHT] * 3
    assert farm.state("server2", "light") == "UP Ready"
    farm.cli("server2", "stop", "light", "--wait")

    path.write_text(LIGHT.replace("service", "servis"))
    done = farm.cli("server1", "-H", "server2,server3", "-E", "light", check=False)
    assert done.returncode == 1
    assert "userconfig.xml:1" in done.stderr
    assert [module_of(farm, host) for host in ("server2", "server3")] == [LIGHT] * 2
    path.write_text(LIGHT)


def test_configurations_are_compared(farm):
    assert farm.cli("server3", "config", "compare", "-m", "light").stdout.count("the same") == 3
    path = farm.lab.root("server2") / "opt/safekit/modules/light/conf/userconfig.xml"
    path.write_text(LIGHT.replace('maxloop="3"', 'maxloop="5"'))
    done = farm.cli("server1", "config", "compare", "-m", "light", check=False)
    assert done.returncode == 1
    assert [line for line in done.stdout.splitlines() if line[:1] == "+"] == [
        "+++ server2/conf/userconfig.xml",
        '+<safe><service mode="light" maxloop="5"/></safe>',
    ]
    path.write_text(LIGHT)


def test_a_server_that_fails_late_brings_the_others_back(farm):
    """It accepts the module, and cannot put it in its place."""
    folder = farm.lab.root("server1") / "opt/safekit/modules/light"
    edited = LIGHT.replace('maxloop="3"', 'maxloop="9"')
    (folder / "conf/userconfig.xml").write_text(edited)
    lock = (
        farm.lab.root("server3") / "opt/safekit/modules/light"
    )  # it can be checked beside its place, and not moved there
    try:
        farm.lab.run("server3", ["chattr", "+i", str(lock)], check=False)
        done = farm.cli("server1", "-H", "*", "-E", "light", check=False)
    finally:
        farm.lab.run("server3", ["chattr", "-i", str(lock)], check=False)
    assert done.returncode == 1
    assert "every server has what it had before" in done.stderr, done.stderr
    assert module_of(farm, "server2") == LIGHT
    (folder / "conf/userconfig.xml").write_text(LIGHT)


def test_cluster_xml_is_pushed(farm):
    source = farm.lab.root("server1") / "var/lib/safekit/cluster/cluster.xml"
    other = farm.lab.root("server2") / "var/lib/safekit/cluster/cluster.xml"
    text = source.read_text()
    source.write_text(text.replace("</cluster>", "<!-- pushed --></cluster>"))
    assert "taken by server1, server2, server3" in farm.cli("server1", "-H", "*", "-G").stdout
    assert "pushed" in other.read_text()
    source.write_text(text)
    farm.cli("server1", "-H", "*", "-G")
    assert other.read_text() == text


def test_wrong_ways_to_push(farm):
    for words in (["-E", "light"], ["-H", "*", "-E", "light", "-G"], ["-H", "*", "-G", "status"], ["-H", "*"]):
        assert farm.cli("server1", *words, check=False).returncode == 2, words


def test_what_works_with_files_here_is_refused_for_others(farm):
    done = farm.cli("server1", "-H", "*", "cluster", "genkey", check=False)
    assert done.returncode == 1
    assert done.stderr.count("node.local-only") == 3
    done = farm.cli("server1", "-H", "*", "agent", check=False)
    assert done.returncode == 2


def test_unknown_servers_are_named(farm):
    done = farm.cli("server1", "-H", "server1,serverX", "status", check=False)
    assert done.returncode == 1
    assert "node.unknown" in done.stderr
    assert "serverX" in done.stderr


def test_nobody_gets_a_role_of_another(farm):
    """A look-only token may look at every server through one, and change nothing on any."""
    token = farm.cli("server1", "token", "create", "watcher", "--role", "monitor").stdout.strip().splitlines()[-1]
    code = (
        "import json,ssl,sys,urllib.request as u,urllib.error as e\n"
        "c=ssl.create_default_context(cafile=sys.argv[1]);c.check_hostname=False\n"
        "def ask(m,p):\n"
        "  r=u.Request('https://127.0.0.1:9453'+p,method=m,headers={'Authorization':'Bearer '+sys.argv[2]})\n"
        "  try: a=u.urlopen(r,context=c); return [a.status,json.load(a)]\n"
        "  except e.HTTPError as x: return [x.code,json.load(x)]\n"
        "print(json.dumps([ask(*w.split(' ')) for w in sys.argv[3:]]))\n"
    )
    authority = farm.lab.root("server1") / "var/lib/safekit/tls/ca.crt"
    node = "/nodes/server2"
    asked = [
        "GET /nodes",
        f"GET {node}/api/v1/status",
        f"POST {node}/api/v1/modules/light/stop",
        "GET /nodes/server1/api/v1/status",
        "GET /nodes/nobody/api/v1/status",
        f"GET {node}/login",
    ]
    done = farm.lab.run(
        "server1", ["python3", "-c", code, str(authority), token, *asked], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    nodes, status, stop, own, unknown, other = json.loads(done.stdout)
    found = [(each["name"], each["answers"], each["version"]) for each in nodes[1]]
    assert found == [(host, True, __version__) for host in SERVERS]
    assert (status[0], stop[0], own[0], unknown[0], other[0]) == (200, 403, 200, 404, 404)
    assert stop[1]["problems"][0]["code"] == "access.role"


def follow(farm, path):
    """The documents of a stream of an operation at server2, read through server1, until it ends."""
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(30)
    connection.connect(str(farm.lab.root("server1") / "run/safekit/web.sock"))
    with connection, connection.makefile("rwb") as stream:
        stream.write(f"GET /nodes/server2/api/v1{path} HTTP/1.0\r\nHost: a\r\n\r\n".encode())
        stream.flush()
        lines = [line.strip() for line in stream]
    return [json.loads(line.removeprefix(b"data: ")) for line in lines if line.startswith(b"data: ")]


def test_a_long_command_is_followed_from_another_server(farm, tmp_path):
    (tmp_path / "slow/conf").mkdir(parents=True)
    (tmp_path / "slow/bin").mkdir()
    config = '<safe><service mode="light"><user nicestoptimeout="20" forcestoptimeout="20"/></service></safe>'
    (tmp_path / "slow/conf/userconfig.xml").write_text(config)  # with scripts
    for verb in ("start", "stop"):
        (tmp_path / f"slow/bin/{verb}_both").write_text(f"#!/bin/sh\n[ {verb} = stop ] || sleep 1.5\n")
    archive = tmp_path / "slow.safe"
    with zipfile.ZipFile(archive, "w") as made:
        for each in (path for path in (tmp_path / "slow").rglob("*") if path.is_file()):
            made.write(each, each.relative_to(tmp_path / "slow"))
    client = Client(Paths(farm.lab.root("server1")), "server2")

    begun = client.call("PUT", "/modules/slow", params={"wait": False}, content=archive.read_bytes())
    assert not begun["done"]
    ended = client.call("GET", f"/operations/{begun['operation']}", params={"wait": 30})
    assert (ended["command"], ended["state"], ended["problems"]) == ("module install", "done", [])
    assert farm.state("server2", "slow") == "STOP NotReady"

    begun = client.call("POST", "/modules/slow/start")
    assert not begun["done"]
    seen = follow(farm, f"/operations/{begun['operation']}/events")
    assert (seen[0]["state"], seen[-1]["state"]) == ("running", "done")
    assert any("Transient" in each["progress"] for each in seen)
    assert 1.5 <= seen[-1]["seconds"] < 10
    assert farm.state("server2", "slow") == "UP Ready"

    begun = client.call("PUT", "/configurations/none", params={"wait": False})
    ended = client.call("GET", f"/operations/{begun['operation']}", params={"wait": 10})
    assert (ended["state"], ended["problems"][0]["code"]) == ("failed", "module.not-installed")
    listed = [(each["command"], each["module"], each["state"]) for each in client.call("GET", "/operations")]
    assert listed[-3:] == [("module install", "slow", "done"), ("start", "slow", "done"), ("config", "none", "failed")]
    with pytest.raises(NotFoundError, match=r"operation\.unknown"):
        client.call("GET", "/operations/never")
    stopped = client.call("POST", "/modules/slow/stop", params={"wait": True})
    assert client.call("GET", f"/operations/{stopped['operation']}")["state"] == "done"
    client.call("DELETE", "/modules/slow")  # the tests after this one expect a single module


def test_watching_tells_each_change_within_a_second(farm):
    farm.cli("server2", "start", "light", "--wait")
    watch = farm.lab.popen("server1", ["safekit-py", "status", "--watch"], stdout=subprocess.PIPE, text=True)
    try:
        begun = [watch.stdout.readline() for _ in SERVERS]
        assert all("light" in line for line in begun), begun
        farm.cli("server2", "stop", "light", "--wait")
        since = time.monotonic()
        line = watch.stdout.readline()
        while "STOP" not in line:
            line = watch.stdout.readline()
        took = time.monotonic() - since
        assert "server2 light STOP" in line
        assert took < 1.5, "half a second between two looks, and the other server's answer may be a quarter old"
    finally:
        watch.kill()
        watch.wait()


def test_watching_on_a_terminal_ends_with_q(farm):
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    watch = farm.lab.popen("server1", ["safekit-py", "status", "--watch"], stdin=slave, stdout=slave, stderr=slave)
    os.close(slave)
    try:
        seen = b""
        while b"server3" not in seen:
            seen += os.read(master, 65536)
        assert b"3 servers" in seen
        os.write(master, b"q")
        assert watch.wait(10) == 0
    finally:
        watch.kill()
        watch.wait()
        os.close(master)


def test_a_server_that_is_down_is_one_failure(farm):
    farm.lab.kill("server3")
    try:
        done = farm.cli("server1", "-H", "*", "status", check=False)
        assert done.returncode == 1
        assert "node.unreachable" in done.stderr
        assert "1 of 3 servers failed: server3" in done.stderr
        assert done.stdout.count("STOP NotReady") == 2
    finally:
        farm.lab.boot("server3")
        wait_for(lambda: farm.cli("server3", "status", check=False).returncode == 0)
