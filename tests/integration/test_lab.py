"""The lab itself: its hosts, its network and its faults, and that nothing of it is left behind."""

import json
import math
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

from safekit_py.errors import NotFoundError, StateError
from safekit_py.lab import Lab, registry
from safekit_py.lab.identity import Process
from safekit_py.model.paths import Paths

pytestmark = [pytest.mark.lab, pytest.mark.timeout(120)]
REPOSITORY = Path(__file__).resolve().parents[2]


def fresh():
    return f"u{uuid.uuid4().hex[:6]}"


def wait(what, limit=60.0):
    end = time.monotonic() + limit
    while not what():
        assert time.monotonic() < end, "not seen in time"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def made():
    with Lab.up(fresh(), servers=3, agent=False, owner=os.getpid()) as lab:
        yield lab


@pytest.fixture
def lab(made):
    """Every host on, every cut healed."""
    made.heal()
    for host in made.hosts:
        if not made.alive(host.name):
            made.boot(host.name)
    return made


def out(lab, host, *argv):
    done = lab.run(host, list(argv), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def reaches(lab, host, number):
    argv = ["ping", "-c", "1", "-W", "1", f"10.77.0.{number}"]
    return lab.run(host, argv, stdout=subprocess.DEVNULL).returncode == 0


def inodes(lab):
    """The namespaces of every host, by their kernel numbers."""
    kinds = ("net", "pid", "mnt", "uts")
    return {Path(f"/proc/{init.pid}/ns/{kind}").stat().st_ino for init in lab._record.inits.values() for kind in kinds}


def in_use(until=math.inf):
    """The namespaces that any process of this machine is in, of those that began ``until`` then, seconds since boot:
    the kernel gives the number of a namespace that is gone to the next one, which may be another test's."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            began = int((process / "stat").read_text().rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
            if began <= until:
                found |= {each.stat().st_ino for each in (process / "ns").iterdir()}
        except OSError:
            continue
    return found


def now():
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def test_hosts_are_apart_from_this_machine(lab):
    assert out(lab, "server2", "hostname").strip() == "server2"
    assert "10.77.0.12/24" in out(lab, "server2", "ip", "-4", "addr", "show", "eth0")
    assert len(out(lab, "server2", "ps", "-e", "-o", "pid=").split()) == 2  # init and ps itself
    # Some kernels put two listings, *.debug, into every such file system; nobody can remove them.
    assert out(lab, "server2", "find", "/sys/fs/bpf", "-type", "f", "-not", "-name", "*.debug") == ""
    names = {link["ifname"] for link in json.loads(subprocess.check_output(["ip", "-json", "link"]))}
    assert not names & {"br0", "server1.0", "client1.0"}


def test_run_passes_exit_code_input_environment_and_folder(lab):
    done = lab.run(
        "client1",
        ["sh", "-c", "cat; echo $A $SAFEKIT_ROOT; pwd; exit 9"],
        input="in\n",
        env={"A": "a"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 9
    assert done.stdout.split() == ["in", "a", str(lab.root("client1")), str(Path.cwd())]


def test_a_killed_caller_leaves_no_program_on_the_host(lab):
    process = lab.popen("server1", ["sleep", "987"])
    wait(lambda: "sleep 987" in out(lab, "server1", "ps", "-e", "-o", "args="))
    process.kill()
    process.wait()
    wait(lambda: "sleep 987" not in out(lab, "server1", "ps", "-e", "-o", "args="))


def test_orphans_are_reaped(lab):
    out(lab, "server1", "sh", "-c", "(sleep 0.1 &) ; exit 0")
    time.sleep(0.3)
    # Parent 0: what ``run`` started belongs to this machine's first process, which reaps when it likes.
    lines = [line.split() for line in out(lab, "server1", "ps", "-e", "-o", "ppid=,stat=").splitlines()]
    assert [stat for ppid, stat in lines if ppid != "0" and "Z" in stat] == []


def test_cut_and_heal(lab):
    lab.cut("server1")
    assert not reaches(lab, "client1", 11)
    assert reaches(lab, "client1", 12)
    assert "LOWER_UP" in out(lab, "server1", "ip", "link", "show", "eth0")
    lab.heal()
    wait(lambda: reaches(lab, "client1", 11))  # the kernel asks for the address again when it likes, within a second


def test_cut_between_two_leaves_the_others(lab):
    lab.cut("server1", "server2")
    assert not reaches(lab, "server1", 12)
    assert reaches(lab, "server1", 13)
    assert reaches(lab, "server2", 13)


def test_one_way(lab):
    """Frames reach the host, its answers are lost."""
    assert reaches(lab, "client1", 11)  # so that no address is asked for below
    before = int(out(lab, "server1", "cat", "/sys/class/net/eth0/statistics/rx_packets"))
    lab.cut("server1", one_way=True)
    assert not reaches(lab, "client1", 11)
    assert int(out(lab, "server1", "cat", "/sys/class/net/eth0/statistics/rx_packets")) > before


def test_power_cut_sends_nothing_more_and_boot_brings_the_same_host(lab):
    mac = out(lab, "server3", "cat", "/sys/class/net/eth0/address")
    kept, gone = lab.root("server3") / "kept", Paths(lab.root("server3")).run / "gone"
    kept.touch()
    gone.parent.mkdir(parents=True, exist_ok=True)
    gone.touch()
    server = lab.popen("server3", ["python3", "-c", SERVE], stdout=subprocess.PIPE, text=True)
    assert server.stdout.readline() == "ready\n"
    client = lab.popen("client1", ["python3", "-c", CONNECT], stdout=subprocess.PIPE, text=True)
    assert client.stdout.readline() == "connected\n"
    lab.kill("server3")
    assert not lab.alive("server3")
    assert client.communicate(timeout=10)[0] == "silence\n"  # neither FIN nor RST
    server.communicate(timeout=10)
    with pytest.raises(StateError):
        lab.run("server3", ["true"])
    lab.boot("server3")
    assert out(lab, "server3", "cat", "/sys/class/net/eth0/address") == mac
    assert kept.exists()
    assert not gone.exists()
    wait(lambda: reaches(lab, "client1", 13))


SERVE = """
import socket
with socket.create_server(("10.77.0.13", 99)) as server:
    print("ready", flush=True)
    connection, _ = server.accept()
    connection.recv(1)
"""
CONNECT = """
import socket
connection = socket.create_connection(("10.77.0.13", 99))
print("connected", flush=True)
connection.settimeout(2)
try:
    print("end" if connection.recv(1) == b"" else "data")
except TimeoutError:
    print("silence")
"""


def test_mistakes_say_what_there_is(lab):
    with pytest.raises(NotFoundError, match="server1, server2, server3, client1"):
        lab.run("server9", ["true"])
    with pytest.raises(StateError):
        lab.boot("server1")
    with pytest.raises(StateError, match="lab down"):
        Lab.up(lab.name)
    assert lab.alive("server1")


def test_another_lab_stands_beside_it_and_leaves_nothing(lab):
    with Lab.up(fresh(), servers=1, lans=2, agent=False, owner=os.getpid()) as other:
        assert reaches(other, "client1", 11)
        assert "10.78.0.11/24" in out(other, "server1", "ip", "-4", "addr", "show", "eth1")
        other.cut("server1")
        assert reaches(lab, "client1", 11)
        spaces, folder = inodes(other), other.root("server1").parent
        assert spaces <= in_use()
        ended = now()
    assert not folder.exists()
    wait(lambda: not spaces & in_use(ended))  # until this machine's first process has reaped the hosts' own
    assert reaches(lab, "client1", 11)


def test_the_agent_runs_and_is_started_again():
    with Lab.up(fresh(), servers=1, restart=0.2, owner=os.getpid()) as lab:
        paths = Paths(lab.root("server1"))
        assert paths.cluster_key.stat().st_mode & 0o777 == 0o600
        wait(lambda: lab.run("server1", ["safekit-py", "status"], capture_output=True).returncode == 0)
        first = out(lab, "server1", "pgrep", "-f", "safekit_py agent").split()
        out(lab, "server1", "kill", "-9", *first)
        wait(lambda: lab.run("server1", ["safekit-py", "status"], capture_output=True).returncode == 0)
        assert out(lab, "server1", "pgrep", "-f", "safekit_py agent").split() != first


OWN = """
import os, sys, time
from safekit_py.lab import Lab
lab = Lab.up(sys.argv[1], servers=2, owner=os.getpid())
lab.popen("server1", ["sleep", "600"])
print("up", flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_an_interrupted_owner_leaves_nothing(number):
    name = fresh()
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    with subprocess.Popen(
        [sys.executable, "-c", OWN, name], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=env
    ) as owner:
        assert owner.stdout.readline() == b"up\n"
        lab = Lab.open(name)
        spaces, inits = inodes(lab), list(lab._record.inits.values())
        ended = now()
        owner.send_signal(number)
        owner.wait(10)
    wait(lambda: not (registry.BASE / name).exists())
    assert not any(each.alive for each in inits)
    wait(lambda: not spaces & in_use(ended))
    mounts = Path("/proc/self/mountinfo").read_text()
    assert name not in mounts


def test_a_maker_that_dies_half_way_leaves_no_host():
    """Before the word ``go`` a host lives only as long as its maker."""
    name = fresh()
    code = (
        OWN.replace('print("up", flush=True)', "")
        .replace("servers=2", "servers=32")
        .replace("owner=os.getpid()", "agent=False")
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, name], env={**os.environ, "PYTHONPATH": str(REPOSITORY)}
    ) as maker:
        wait(lambda: (found := registry.load(name)) is not None and len(found.inits) > 3)
        maker.kill()
    with Lab.up(name, servers=1, agent=False, owner=os.getpid()) as lab:
        assert len(lab.hosts) == 2
    left = [p for p in Path("/proc").glob("[0-9]*/cmdline") if _mentions(p, f"/{name}/")]
    assert left == []


def _mentions(path, text):
    try:
        return text.encode() in path.read_bytes()
    except OSError:
        return False


def test_down_spares_a_recycled_id():
    """A record that names a process of somebody else: its id fits, its start does not."""
    lab = Lab.up(fresh(), servers=1, agent=False, owner=os.getpid())
    with subprocess.Popen(["sleep", "60"]) as other:
        record = registry.find(lab.name)
        lab.kill("server1")
        record.inits["server1"] = Process(other.pid, 1)
        record.save()
        Lab.open(lab.name).down()
        assert other.poll() is None
        other.kill()
    assert not (registry.BASE / lab.name).exists()


def test_the_command_line_makes_and_removes_a_lab():
    name = fresh()

    def cli(*words):
        command = [sys.executable, "-m", "safekit_py", "lab", *words]
        return subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, timeout=60, check=False)

    try:
        done = cli("up", "--name", name, "--servers", "1", "--no-agent", "--json")
        assert done.returncode == 0, done.stderr
        assert [host["name"] for host in json.loads(done.stdout)["hosts"]] == ["server1", "client1"]
        assert cli("run", "--name", name, "server1", "--", "sh", "-c", "exit 3").returncode == 3
        assert cli("kill", "--name", name, "server1").returncode == 0
        labs = {each["name"]: each["hosts"] for each in json.loads(cli("list", "--json").stdout)["labs"]}
        assert [host["on"] for host in labs[name]] == [False, True]
        refused = cli("run", "--name", name, "server1", "true")
        assert refused.returncode == 1
        assert "lab boot server1" in refused.stderr
    finally:
        assert cli("down", "--name", name).returncode == 0
    assert cli("down", "--name", name).returncode == 1
