"""A mirror without a witness under faults of processes, networks and clocks.

Which row of the table of faults is seen where:

1. kill -9 on the primary: ``test_mirror``; on the secondary, and of the application: here
2. SIGSTOP of the agent: ``test_mirror``; of keeper and worker: here
3. partitions: ``test_mirror_witness``; one-way and flapping ones: ``test_mirror_partitions``
4. a cut just after a join: ``test_mirror_partitions``
5. a heal after both were alone: here
6. a witness that is down: ``test_mirror_partitions``
7. a wall clock that jumps: here
8. full and failing disks: ``test_mirror_disks``; below a volume without replication: ``posix/test_pressure``
9. a crash at every step of storing a generation, a torn one: ``test_mirror_disks``
10. a stale secondary: ``test_mirror``
11. an interrupted resynchronisation: ``test_mirror_disks``
30. a peer that lies: ``unit/plugins/mirror/volume/test_taking``
"""

import os
import time
import uuid

import pytest
from fault_support import ONE, TWO, SteppedLab, Watch, asleep, both, kill, log, pids, roles, rules, settle, wait_for
from mirror_support import CONFIG, PORT, SERVERS, VIP, make

pytestmark = pytest.mark.lab
TWO_LANS = '<heartbeat name="default" ident="flow"/><heartbeat name="lan2"/>'


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faults")
    with SteppedLab.up(f"m{uuid.uuid4().hex[:6]}", servers=2, lans=2, owner=os.getpid()) as lab:
        yield make(lab, folder, config=CONFIG.replace('<heartbeat name="default" ident="flow"/>', TWO_LANS))


@pytest.fixture
def mirror(made):
    settle(made)
    yield made
    made.show()


def mac(mirror, host, device="eth0"):
    return mirror.lab.run(host, ["cat", f"/sys/class/net/{device}/address"], capture_output=True, text=True).stdout


@pytest.mark.parametrize("what", [("-f", "safekit_py agent"), ("skvol-ledger",), ("skkeep-ledger",)])
def test_kill_9_of_a_process_on_the_secondary(mirror, what):
    primary, secondary = roles(mirror)
    writer = mirror.begin(2)
    wait_for(lambda: len(mirror.acknowledged()) > 20)
    found = mirror.lab.run(secondary, ["pgrep", *what], capture_output=True, text=True).stdout.split()
    kill(mirror, secondary, found)
    assert mirror.end(writer) < 2
    mirror.both(primary, secondary)
    mirror.check()
    if what[0].startswith("skvol"):
        assert "the volume's process died and was started again" in log(mirror, secondary)
        assert mirror.status(secondary)["report"]["volumes"]["restarts"] == 1


def test_kill_9_of_the_volume_process_where_the_kernel_does_not_ask_again(mirror):
    """Before Linux 6.9: the primary fails over instead of hanging."""
    secondary, primary = roles(mirror)
    mirror.write(0.3)
    with mirror.lab.old_kernel(primary):
        mirror.cli(secondary, "swap", "ledger")
        mirror.both(primary, secondary)
        wait_for(lambda: mirror.status(primary)["report"]["volumes"]["resends"] is False)
        assert any("older than 6.9" in each for each in mirror.status(primary)["report"]["notes"])
        assert log(mirror, primary).count("Linux older than 6.9") == 1
        writer = mirror.begin(6)
        wait_for(lambda: len(mirror.acknowledged()) > 20)
        assert mirror.lab.run(primary, ["pkill", "-KILL", "skvol-ledger"]).returncode == 0
        mirror.both(secondary, primary)
        assert mirror.end(writer) < 6
    mirror.check()


def test_kill_9_of_the_application(mirror):
    primary, _ = roles(mirror)
    writer = mirror.begin(4)
    wait_for(lambda: len(mirror.acknowledged()) > 20)
    kill(mirror, primary, pids(mirror, primary, "bin/ledger"))
    mirror.end(writer)
    both(mirror)
    mirror.check()


@pytest.mark.parametrize("what", ["skvol-ledger", "skkeep-ledger"])
@pytest.mark.parametrize("where", ["primary", "secondary"])
def test_a_process_that_sleeps_past_the_timeout(mirror, what, where):
    """It acknowledges nothing that the other server could lack when it wakes."""
    host = roles(mirror)[where == "secondary"]
    with Watch(mirror, 20) as watch:
        wait_for(lambda: watch.count(roles(mirror)[0]) > 20)
        with asleep(mirror, host, what):
            time.sleep(2)
        assert watch.end() == 0, "both had the address"
    both(mirror)
    mirror.check()


def test_a_keeper_that_does_not_stop_is_killed(mirror):
    primary, secondary = roles(mirror)
    mirror.write(0.3)
    with asleep(mirror, secondary, "skkeep-ledger") as found:
        mirror.cli(secondary, "stop", "ledger", "--wait")
        left = mirror.lab.run(secondary, ["pgrep", "skkeep-ledger"], capture_output=True, text=True).stdout.split()
        assert not set(found) & set(left)
    assert "is killed" in log(mirror, secondary)
    mirror.cli(secondary, "start", "ledger")
    mirror.both(primary, secondary)
    mirror.check()


def test_a_worker_that_dies_again_and_again(mirror):
    """Its keeper gives up for a while; the module takes that for a fault and starts anew."""
    primary, secondary = roles(mirror)
    starts = mirror.status(secondary)["starts"]
    mirror.write(0.3)

    def killed():
        mirror.lab.run(secondary, ["pkill", "-KILL", "skvol-ledger"])
        return "dies again and again" in log(mirror, secondary)

    wait_for(killed, 20, 0.05)
    wait_for(lambda: mirror.status(secondary)["starts"] > starts, 20)
    mirror.both(primary, secondary)
    mirror.check()


def test_both_go_on_alone_and_heal(mirror):
    """The loser gives way, what only it has is kept aside, and clients find the winner."""
    primary, secondary = roles(mirror)
    mirror.write(0.3)
    mirror.lab.cut(primary, secondary)
    for host in SERVERS:
        wait_for(lambda host=host: mirror.state(host) == "ALONE Ready", 20)
    text = f"c=__import__('http.client').client.HTTPConnection('127.0.0.1',{PORT},timeout=5)"
    for number, host in enumerate((primary, secondary)):
        code = f"{text};c.request('POST','/{10**9 + number}');print(c.getresponse().status)"
        done = mirror.lab.run(host, ["python3", "-c", code], capture_output=True, text=True)
        assert done.stdout == "200\n", done.stderr
    loser = mac(mirror, secondary).strip()
    argv = ["ip", "neigh", "replace", VIP, "lladdr", loser, "dev", "eth0", "nud", "reachable"]
    assert mirror.lab.run("client1", argv).returncode == 0
    mirror.lab.heal()
    mirror.both(primary, secondary)
    with mirror.record.open("a") as record:
        record.write(f"{10**9}\n")
    mirror.check()
    neighbour = mirror.lab.run("client1", ["ip", "neigh", "show", VIP], capture_output=True, text=True).stdout
    assert mac(mirror, primary).strip() in neighbour
    aside = mirror.lab.root(secondary) / "var/lib/safekit/volumes/ledger/aside"
    kept = [each for each in aside.rglob("list") if each.read_text()]
    assert len(kept) == 1
    assert f"{10**9 + 1}\n".encode() in b"".join(each.read_bytes() for each in aside.rglob("*.blocks"))
    assert "kept in" in log(mirror, secondary)


def test_one_of_two_lans_is_lost(mirror):
    """Nothing happens but that ``status`` says so; replication goes by the LAN marked flow."""
    primary, secondary = roles(mirror)
    writer = mirror.begin(4)
    with rules(mirror, primary, "in iifname eth1 drop", "out oifname eth1 drop"):
        wait_for(lambda: mirror.status(primary)["report"]["lans"]["lan2"] > 2, 10)
        assert (mirror.state(primary), mirror.state(secondary)) == ("PRIM Ready", "SECOND Ready")
    assert mirror.end(writer) < 1
    assert (mirror.state(primary), mirror.state(secondary)) == ("PRIM Ready", "SECOND Ready")
    wait_for(lambda: mirror.status(primary)["report"]["lans"]["lan2"] < 1, 10)


def test_the_lan_of_replication_is_lost(mirror):
    """The servers hear each other on the other one: the secondary is set aside in agreement, and comes back."""
    primary, secondary = roles(mirror)
    writer = mirror.begin(4)
    with rules(mirror, primary, f"in iifname eth0 ip saddr {address(mirror, secondary)} drop"):
        wait_for(lambda: mirror.role(primary) == "ALONE", 10)
        assert mirror.role(secondary) == "SECOND"
    assert mirror.end(writer) < 4
    mirror.both(primary, secondary)
    mirror.check()


def address(mirror, host):
    return {ONE: "10.77.0.11", TWO: "10.77.0.12"}[host]


def test_a_fifth_of_all_packets_is_lost(mirror):
    _, secondary = roles(mirror)
    writer = mirror.begin(4)
    lossy = [f"{way} meta {name} != lo numgen random mod 5 < 1 drop"
             for way, name in (("in", "iifname"), ("out", "oifname"))]  # fmt: skip
    with rules(mirror, secondary, *lossy):
        mirror.end(writer)
        before = len(mirror.acknowledged())
    assert before > 20
    both(mirror)
    mirror.check()


def test_the_wall_clock_jumps_by_an_hour_either_way(mirror):
    """Nothing happens, but that the log's times jump."""
    primary, secondary = roles(mirror)
    starts = [mirror.status(host)["starts"] for host in SERVERS]
    writer = mirror.begin(5)
    for host, step in ((primary, 3600), (secondary, -3600), (primary, -3600), (secondary, 3600)):
        mirror.lab.step(host, step)
        wait_for(lambda: len(mirror.acknowledged()) % 7 == 0, 5, 0.001)
    seen = mirror.lab.run(primary, ["python3", "-c", "import time;print(time.time())"], capture_output=True, text=True)
    there = mirror.lab.run(
        secondary, ["python3", "-c", "import time;print(time.time())"], capture_output=True, text=True
    )
    assert 7100 < float(there.stdout) - float(seen.stdout) < 7300, "the clocks differ by two hours"
    assert mirror.end(writer) < 0.9
    assert [mirror.status(host)["starts"] for host in SERVERS] == starts
    assert (mirror.state(primary), mirror.state(secondary)) == ("PRIM Ready", "SECOND Ready")
    for host in SERVERS:
        mirror.lab.step(host, 0)
    mirror.check()
