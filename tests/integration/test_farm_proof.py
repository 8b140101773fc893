"""No packet has two owners, whatever happens to agents, clocks and the network between them: counted one by one."""

import collections
import os
import re
import subprocess
import time
import uuid

import pytest
from fault_support import SteppedLab
from stream import MODULE, SERVERS, TCP_GROUP, UDP_GROUP, Stream, module, ready, together
from support import VIP, Farm, kill, pids, wait_for

pytestmark = [pytest.mark.lab, pytest.mark.timeout(240)]


BOTH = pytest.mark.parametrize("made", ["vmac_directed", "vmac_invisible"], indirect=True)


@pytest.fixture(scope="module", params=["vmac_directed"])
def made(request, tmp_path_factory):
    folder = module(tmp_path_factory.mktemp("proof") / MODULE, request.param)
    with SteppedLab.up(f"p{uuid.uuid4().hex[:6]}", servers=3, owner=os.getpid()) as lab:
        farm = Farm(lab)
        for host in SERVERS:
            wait_for(lambda host=host: farm.cli(host, "status", check=False).returncode == 0)
            farm.install(host, str(folder))
        yield farm


@pytest.fixture
def farm(made):
    ready(made)
    yield made
    for host in SERVERS:
        if made.lab.alive(host) and (found := agent(made, host)):
            made.lab.run(host, ["kill", "-CONT", *map(str, found)], capture_output=True)
    made.lab.heal()


def agent(farm, host):
    return pids(farm, host, "safekit_py agent")


def state_of(farm, seen_by, whom):
    """What the report of one server calls another."""
    members = (farm.status(seen_by, MODULE) or {}).get("report", {}).get("members", ())
    return next((m["state"] for m in members if m["name"] == whom), None)


def losses(farm, host):
    """Views in this server's log that somebody was lost from."""
    return len(re.findall(r"view \d+: .*lost", farm.cli(host, "log", MODULE, "-n", "1000").stdout))


def sleep_and_wake(farm, host, seconds):
    """Its agent is stopped for so long; returns when that began and ended."""
    found = agent(farm, host)
    since = time.monotonic()
    kill(farm, host, found, "STOP")
    time.sleep(seconds)
    until = time.monotonic()
    kill(farm, host, found, "CONT")
    return since, until


@BOTH
def test_a_stopped_agent_is_shut_before_the_others_take_over(farm):
    with Stream(farm) as stream:
        time.sleep(0.7)
        since, until = sleep_and_wake(farm, "server1", 1.5)
        together(farm)
        time.sleep(0.5)
    stream.check_single_owner(0.4)
    gap = stream.gap("server1", since, until)
    print(f"from the last packet of the stopped server to the first of its heirs: {gap * 1000:.0f} ms")
    assert gap > 0
    # From server1 to another and back: it took nothing in between, and nothing by its former view afterwards.
    changes = stream.changes().values()
    assert all(len(hosts) <= 3 for hosts in changes)
    assert any(hosts[-1] == "server1" and len(hosts) > 1 for hosts in changes), "it is back"


def test_a_killed_agent_is_shut_before_the_others_take_over(farm):
    with Stream(farm) as stream:
        time.sleep(0.7)
        since = time.monotonic()
        kill(farm, "server2", agent(farm, "server2"))
        time.sleep(0.9)
        until = time.monotonic()
        wait_for(lambda: farm.state("server2", MODULE) == "UP Ready", 40)
        together(farm)
        time.sleep(0.5)
    stream.check_single_owner(0.4)
    assert stream.gap("server2", since, until) > 0
    assert all(len(hosts) <= 3 for hosts in stream.changes().values())


def test_agents_that_starve(farm):
    """Each runs for a twentieth of a second at a time and then waits, in the end until past its lease."""
    with Stream(farm) as stream:
        for pause in (0.05, 0.1, 0.15, 0.2, 0.3):
            for host in SERVERS:
                sleep_and_wake(farm, host, pause)
                time.sleep(0.05)
        together(farm)
    stream.check_single_owner()


@BOTH
def test_a_server_leaves_and_joins(farm):
    with Stream(farm) as stream:
        time.sleep(0.3)
        for host in ("server2", "server1"):
            farm.cli(host, "stop", MODULE, "--wait")
            farm.cli(host, "start", MODULE, "--wait")
            together(farm)
    stream.check_single_owner(0.6)
    assert {host for _, host, _, _ in stream.arrived} == set(SERVERS)


@pytest.mark.parametrize("one_way", [False, True], ids=["both ways", "one way"])
def test_a_server_is_cut_off_from_the_other_two(farm, one_way):
    """The client reaches all three. By ARP it knows one of them, and each frame goes to that one only."""
    with Stream(farm) as stream:
        time.sleep(0.3)
        for peer in ("server2", "server3"):
            farm.lab.cut("server1", peer, one_way=one_way)
        time.sleep(1.2)
        farm.lab.heal()
        together(farm)
        time.sleep(0.3)
    stream.check_single_owner()


def test_a_server_is_cut_off_from_all(farm):
    with Stream(farm) as stream:
        time.sleep(0.3)
        since = time.monotonic()
        farm.lab.cut("server3")
        time.sleep(1.2)
        until = time.monotonic()
        farm.lab.heal()
        together(farm)
        time.sleep(0.3)
    stream.check_single_owner(0.4)
    assert stream.gap("server3", since, until) > 0


@pytest.mark.parametrize("made", ["vmac_invisible"], indirect=True)
def test_flooded_frames_have_two_owners_only_until_the_sides_have_met_again(farm):
    """A farm has no quorum: each side of a cut serves. Where frames are flooded, both do until a heartbeat comes."""
    with Stream(farm) as stream:
        time.sleep(0.3)
        farm.lab.cut("server3")
        time.sleep(1.2)
        until = time.monotonic()
        farm.lab.heal()
        together(farm)
        time.sleep(0.5)
    times = collections.defaultdict(list)
    for at, _, number, _ in stream.arrived:
        times[number].append(at)
    twice = [found for found in times.values() if len(found) > 1]
    print(f"{len(twice)} of {len(times)} datagrams were taken twice")
    assert all(until - 0.05 < at < until + 0.2 for found in twice for at in found), twice
    assert all(len(found) == 2 for found in twice)
    assert len(times) > 0.6 * stream.sent[UDP_GROUP]


def test_a_network_that_comes_and_goes(farm):
    with Stream(farm) as stream:
        for number in range(8):
            farm.lab.cut("server2", "server1" if number % 2 else "server3", one_way=number % 4 > 1)
            time.sleep(0.1 + number * 0.03)
            farm.lab.heal()
            time.sleep(0.1)
        together(farm)
    stream.check_single_owner()


@pytest.mark.parametrize("after", [0.5, 1.0, 1.5])
def test_a_cut_just_after_a_join(farm, after):
    farm.cli("server3", "stop", MODULE, "--wait")
    with Stream(farm) as stream:
        farm.cli("server3", "start", MODULE)
        wait_for(lambda: state_of(farm, "server1", "server3") == "member", every=0.02)
        time.sleep(after)
        farm.lab.cut("server3")
        time.sleep(0.8)
        farm.lab.heal()
        together(farm)
    stream.check_single_owner()


def test_the_wall_clock_jumps_by_an_hour_either_way(farm):
    """Nobody is lost, no lease ends, and nothing moves to another server."""
    before = [losses(farm, host) for host in SERVERS]
    try:
        with Stream(farm) as stream:
            for step in (3600, -3600):
                farm.lab.step("server1", step)
                farm.lab.step("server2", -step)
                time.sleep(1.0)
    finally:
        for host in ("server1", "server2"):
            farm.lab.step(host, 0)
    assert [losses(farm, host) for host in SERVERS] == before
    stream.check_single_owner(0.95)
    assert all(len(hosts) == 1 for hosts in stream.changes().values())
    assert "expired" not in farm.status("server1", MODULE)["report"]["packets"]


# Connects to many ports of all addresses, from many of its own at a time, and sends bytes to those of UDP.
SCAN = """
import asyncio, os, random, socket, sys
addresses, opened = sys.argv[1:], []
async def probe(gate, address, port):
    async with gate:
        try:
            reader, writer = await asyncio.wait_for(asyncio.open_connection(address, port), 0.3)
        except (OSError, asyncio.TimeoutError):
            return
        opened.append(port)
        writer.close()
async def main():
    gate, udp = asyncio.Semaphore(300), socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    for address in addresses:
        for port in [*range(4700, 4900), *(random.randrange(10000, 65536) for _ in range(300))]:
            for size in (0, 1, 60, 1400):
                udp.sendto(os.urandom(size), (address, port))
    ports = [*range(1, 1025), 4800, 9010, 9453]  # the stream's own ports would be counted
    await asyncio.gather(*(probe(gate, address, port) for address in addresses for port in ports))
asyncio.run(main())
print(*opened)
"""


def addresses(farm):
    return [each.ports[0].address.partition("/")[0] for each in farm.lab.hosts if each.name in SERVERS]


def rest(farm):
    """What each server tells, once the views that follow a start are over."""
    while (before := changes(farm)) != (time.sleep(2), changes(farm))[1]:
        pass
    return before


def changes(farm):
    """What each server tells of its state, and of how it came to it."""
    return {
        host: ([each for each in farm.cli(host, "log", MODULE, "-n", "1000").stdout.splitlines() if "view" in each],
               farm.status(host, MODULE)["state"], farm.status(host, MODULE)["report"]["view"])
        for host in SERVERS
    }  # fmt: skip


@BOTH
def test_a_port_scan_changes_nothing(farm):
    before = rest(farm)
    with Stream(farm) as stream:
        done = farm.lab.run("client1", ["python3", "-c", SCAN, VIP, *addresses(farm)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "9010" in done.stdout.split(), "it found what listens"
    assert changes(farm) == before
    stream.check_single_owner(0.9)
    assert all(len(hosts) == 1 for hosts in stream.changes().values())


# Asks each server for a long answer, over and over, and reads none of it.
SLOW = """
import socket, sys, time
held = []
for address in sys.argv[1:]:
    for _ in range(40):
        each = socket.socket()
        each.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        each.settimeout(0.5)
        try:
            each.connect((address, 9010))
            each.settimeout(0)
            for _ in range(200):
                each.send(b"GET /health/stream HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n" * 20)
        except OSError:
            pass
        held.append(each)
print("held", flush=True)
sys.stdin.read()
"""


def test_readers_that_never_read_change_nothing(farm):
    before, pipe = rest(farm), subprocess.PIPE
    with Stream(farm) as stream:
        argv = ["python3", "-c", SLOW, *addresses(farm)]
        slow = farm.lab.popen("client1", argv, stdin=pipe, stdout=pipe, text=True)
        try:
            assert slow.stdout.readline() == "held\n"
            time.sleep(2)
            assert all(farm.cli(host, "status", MODULE).returncode == 0 for host in SERVERS)
        finally:
            slow.kill()
            slow.wait()
    assert changes(farm) == before
    stream.check_single_owner(0.9)
    assert all(len(hosts) == 1 for hosts in stream.changes().values())


FLOOD = """
import os, socket, struct, sys, time
vip, least = sys.argv[1], int(sys.argv[2])
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
to, sent, ended = (vip, 0), 0, False
target = socket.inet_aton(vip)
os.set_blocking(0, False)
while sent < least or not ended:
    client = struct.pack(">I", 0x0ac80000 + sent // 50000)  # 10.200.0.0: the servers have no way back, so none answers
    tcp = struct.pack(">HHIIBBHHH", 1024 + sent % 50000, 9001, 1, 0, 0x50, 2, 1024, 0, 0)
    try:
        raw.sendto(struct.pack(">BBHHHBBH", 0x45, 0, 40, 0, 0, 64, 6, 0) + client + target + tcp, to)
        sent += 1
        if sent % 1000 == 0:
            ended = ended or os.read(0, 1) == b"x"
    except BlockingIOError:
        pass
    except OSError:
        time.sleep(0.001)
print(sent)
"""


def test_many_flows_while_a_server_leaves_and_joins(farm):
    """Each SYN is a flow of its own. SAFEKIT_FLOWS=1000000 makes it a million at least."""
    flows, pipe = int(os.environ.get("SAFEKIT_FLOWS", "100000")), subprocess.PIPE
    with Stream(farm) as stream:
        argv = ["python3", "-c", FLOOD, VIP, str(flows)]
        flood = farm.lab.popen("client1", argv, stdin=pipe, stdout=pipe, text=True)
        time.sleep(0.3)
        farm.cli("server2", "stop", MODULE, "--wait")
        farm.cli("server2", "start", MODULE, "--wait")
        together(farm)
        time.sleep(0.5)
        text, _ = flood.communicate("x", timeout=200)
        stream.others[TCP_GROUP] = int(text)
    print(stream.sent, stream.others, stream.accepted)
    stream.check_single_owner(0.3)
    assert sum(stream.accepted[host, TCP_GROUP] for host in SERVERS) > flows / 2
    assert all(stream.accepted[host, TCP_GROUP] for host in SERVERS)
