"""A mirror with a witness in partitions of every kind: at most one server serves at every instant.

In each test a client on each server writes to the application there, whoever has the address: what either of them was
told must be there in the end. And nobody ever sees the address on both servers.
"""

import contextlib
import subprocess
import time

import pytest
from fault_support import Watch, both, kill, roles, settle, wait_for
from mirror_support import CONFIG, SERVERS, make, up

pytestmark = pytest.mark.lab
ONE, TWO = SERVERS
WITNESS = "10.77.0.101:4850"
BESIDE = '<heartbeat name="default" ident="flow"/>'


@contextlib.contextmanager
def witness(lab, folder):
    """The witness on the client's host; yields its process."""
    key = lab.root(ONE) / "var/lib/safekit/cluster/cluster.key"
    argv = ["safekit-py", "witness", "--listen", WITNESS, "--key", str(key), "--state", str(folder / "state")]
    with (folder / "witness.log").open("ab") as log:
        process = lab.popen("client1", argv, stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("partitions")
    with up(folder) as lab, contextlib.ExitStack() as stack:
        config = CONFIG.replace(BESIDE, f'{BESIDE}<witness kind="safekit" addr="{WITNESS}" lease="2s"/>')
        mirror = make(lab, folder, config=config)
        mirror.witness = stack.enter_context(witness(lab, folder))
        yield mirror


@pytest.fixture
def mirror(made):
    settle(made)
    yield made
    made.show()


@contextlib.contextmanager
def served_by_one(mirror):
    """After what is done inside the mirror settles, and all that was acknowledged is there."""
    with Watch(mirror, 30) as watch:
        wait_for(lambda: watch.count(roles(mirror)[0]) > 20)
        yield watch
        time.sleep(0.5)
        twice = watch.end()
    mirror.lab.heal()
    both(mirror)
    mirror.check()
    assert twice == 0, f"both servers had the address for {twice:.3f} s"


@pytest.mark.parametrize("whose", ["primary", "secondary"])
def test_what_one_server_sends_to_the_other_is_lost(mirror, whose):
    """One of them serves on, or the other takes over; never both."""
    one, other = roles(mirror) if whose == "primary" else reversed(roles(mirror))
    with served_by_one(mirror):
        mirror.lab.cut(one, other, one_way=True)
        wait_for(lambda: "ALONE" in (mirror.role(ONE), mirror.role(TWO)), 7)
        assert [mirror.role(host) for host in SERVERS].count("ALONE") == 1


@pytest.mark.parametrize("one_way", [False, True])
def test_what_the_primary_sends_is_lost(mirror, one_way):
    """Also to the witness: the other server takes over."""
    primary, secondary = roles(mirror)
    with served_by_one(mirror):
        mirror.lab.cut(primary, one_way=one_way)
        wait_for(lambda: mirror.role(secondary) == "ALONE", 8)
        assert mirror.role(primary) != "ALONE"


def test_a_network_that_comes_and_goes(mirror):
    primary, secondary = roles(mirror)
    with served_by_one(mirror):
        for number, length in enumerate((0.3, 1.3, 0.2, 0.9, 1.6)):
            mirror.lab.cut(primary, secondary if number % 2 else None, one_way=number == 3)
            time.sleep(length)
            mirror.lab.heal()
            time.sleep(0.4)


@pytest.mark.parametrize("after", [0.5, 1.5])
def test_a_cut_just_after_a_join(mirror, after):
    primary, secondary = roles(mirror)
    mirror.cli(secondary, "stop", "ledger", "--wait")
    wait_for(lambda: mirror.state(primary) == "ALONE Ready", 15)
    with Watch(mirror, 30) as watch:
        mirror.cli(secondary, "start", "ledger")
        time.sleep(after)
        mirror.lab.cut(primary, secondary)
        wait_for(lambda: mirror.role(primary) == "ALONE" and mirror.role(secondary) in ("WAIT", "SECOND"), 6)
        assert watch.end() == 0
    mirror.lab.heal()
    mirror.both(primary, secondary)
    mirror.check()


def test_a_server_that_sleeps_past_its_lease(mirror):
    """It cannot give up its address meanwhile; when it wakes, it does at once, and acknowledges nothing."""
    primary, secondary = roles(mirror)
    with Watch(mirror, 30) as watch:
        wait_for(lambda: watch.count(primary) > 20)
        what = "safekit_py agent|bin/ledger"
        found = mirror.lab.run(primary, ["pgrep", "-f", what], capture_output=True, text=True).stdout.split()
        found += mirror.lab.run(primary, ["pgrep", "sk(vol|keep)-"], capture_output=True, text=True).stdout.split()
        assert len(found) >= 4
        kill(mirror, primary, found, "STOP")
        try:
            wait_for(lambda: mirror.state(secondary) == "ALONE Ready", 10)
            wait_for(lambda: watch.count(secondary) > 20)
        finally:
            kill(mirror, primary, found, "CONT")
        woken, before = time.monotonic(), watch.count(primary)
        mirror.both(secondary, primary)
        assert watch.count(primary) == before
        assert watch.end(since=woken) < 0.5
    mirror.check()


def test_a_witness_that_is_down_changes_nothing_while_the_servers_hear_each_other(mirror):
    primary, secondary = roles(mirror)
    starts = [mirror.status(host)["starts"] for host in SERVERS]
    inside = mirror.lab.run("client1", ["pgrep", "-f", "safekit_py witness"], capture_output=True, text=True)
    numbers = inside.stdout.split()
    writer = mirror.begin(5)
    kill(mirror, "client1", numbers, "STOP")
    try:
        wait_for(lambda: "does not answer" in mirror.status(primary)["report"]["witness"], 6)
        time.sleep(1)
        assert (mirror.state(primary), mirror.state(secondary)) == ("PRIM Ready", "SECOND Ready")
    finally:
        kill(mirror, "client1", numbers, "CONT")
    assert mirror.end(writer) < 0.9
    assert [mirror.status(host)["starts"] for host in SERVERS] == starts
    wait_for(lambda: mirror.status(primary)["report"]["witness"].startswith("lease for"), 5)
    mirror.check()


def test_without_the_witness_nobody_takes_over(mirror):
    """The servers are cut and the witness is silent: the primary stops acknowledging, the other does not begin."""
    primary, secondary = roles(mirror)
    numbers = mirror.lab.run("client1", ["pgrep", "-f", "safekit_py witness"], capture_output=True, text=True)
    with served_by_one(mirror):
        kill(mirror, "client1", numbers.stdout.split(), "STOP")
        try:
            mirror.lab.cut(primary, secondary)
            wait_for(lambda: mirror.role(secondary) == "WAIT" and mirror.role(primary) in ("PRIM", "WAIT"), 7)
            wait_for(lambda: "witness" in mirror.status(secondary)["reason"], 3)
        finally:
            kill(mirror, "client1", numbers.stdout.split(), "CONT")
