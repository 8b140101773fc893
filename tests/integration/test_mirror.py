"""A mirror: two servers, real replication, and every acknowledged write there after each fault."""

import pytest
from fault_support import roles, settle
from mirror_support import SERVERS, kill, make, pids, up, wait_for
from safekit_py.plugins.mirror.volume import system

pytestmark = pytest.mark.lab
ONE, TWO = SERVERS


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mirror")
    with up(folder) as lab:
        yield make(lab, folder)


@pytest.fixture
def mirror(made):
    settle(made)
    yield made
    made.show()  # seen when the test fails


def named(mirror, host, *what):
    found = mirror.lab.run(host, ["pgrep", *what], capture_output=True, text=True).stdout.split()
    assert found, f"{host} runs no {what[-1]}"
    return [int(each) for each in found]


def test_the_first_start_is_a_persons_and_the_other_gets_all(mirror):
    mirror.write(0.5)
    assert mirror.check() > 5
    verified = mirror.cli(roles(mirror)[0], "rfsverify", "ledger")
    assert verified.returncode == 0


def test_power_cut_of_the_primary(mirror):
    primary, secondary = roles(mirror)
    writer = mirror.begin(8)
    wait_for(lambda: len(mirror.acknowledged()) > 20)
    mirror.lab.kill(primary)
    wait_for(lambda: mirror.state(secondary) == "ALONE Ready", 15)
    longest = mirror.end(writer)
    assert longest < 8
    mirror.check()
    mirror.lab.boot(primary)
    mirror.both(secondary, primary)
    mirror.check()
    assert mirror.cli(secondary, "rfsverify", "ledger").returncode == 0


def test_power_cut_of_the_secondary(mirror):
    primary, secondary = roles(mirror)
    writer = mirror.begin(6)
    mirror.lab.kill(secondary)
    wait_for(lambda: mirror.state(primary) == "ALONE Ready", 10)
    longest = mirror.end(writer)
    assert longest < 5
    mirror.lab.boot(secondary)
    mirror.both(primary, secondary)
    mirror.check()


def test_swap_and_back(mirror):
    primary, secondary = roles(mirror)
    writer = mirror.begin(10)
    mirror.cli(primary, "swap", "ledger")
    mirror.both(secondary, primary)
    mirror.cli(primary, "swap", "ledger")
    mirror.both(primary, secondary)
    mirror.end(writer)
    mirror.check()


def test_a_stop_of_the_primary_is_announced(mirror):
    primary, secondary = roles(mirror)
    mirror.write(0.3)
    mirror.cli(primary, "stop", "ledger", "--wait")
    wait_for(lambda: mirror.state(secondary) == "ALONE Ready", 10)
    mirror.check()
    mirror.cli(primary, "start", "ledger")
    mirror.both(secondary, primary)


def test_a_stop_of_both_at_once_ends(mirror):
    primary, secondary = roles(mirror)
    writer = mirror.begin(3)
    wait_for(lambda: len(mirror.acknowledged()) > 20)
    mirror.cli(secondary, "stop", "ledger")
    mirror.cli(primary, "stop", "ledger", "--wait")
    wait_for(lambda: [mirror.role(h) for h in SERVERS] == ["STOP", "STOP"], 30)
    mirror.end(writer)
    mirror.cli(primary, "start", "ledger")
    wait_for(lambda: mirror.state(primary) == "ALONE Ready", 30)
    mirror.check()
    mirror.cli(secondary, "start", "ledger")
    mirror.both(primary, secondary)


@pytest.mark.parametrize("what", [("-f", "safekit_py agent"), ("skvol-ledger",), ("skkeep-ledger",)])
def test_kill_9_of_a_process_on_the_primary(mirror, what):
    primary, _ = roles(mirror)
    writer = mirror.begin(8)
    wait_for(lambda: len(mirror.acknowledged()) > 20)
    kill(mirror, primary, named(mirror, primary, *what))
    mirror.end(writer)
    wait_for(lambda: sorted(mirror.state(h) or "" for h in SERVERS) == ["PRIM Ready", "SECOND Ready"], 60)
    mirror.check()


def test_an_agent_that_sleeps_past_the_timeout_serves_nothing_when_it_wakes(mirror):
    primary, secondary = roles(mirror)
    agent = pids(mirror, primary, "safekit_py agent")
    writer = mirror.begin(8)
    kill(mirror, primary, agent, "STOP")
    try:
        wait_for(lambda: mirror.state(secondary) == "ALONE Ready", 15)
    finally:
        kill(mirror, primary, agent, "CONT")
    mirror.end(writer)
    wait_for(lambda: mirror.state(primary) == "SECOND Ready", 60)
    mirror.check()


def test_a_stale_secondary_does_not_become_primary(mirror):
    """The secondary dies, the primary goes on alone, the primary dies, the secondary boots: it must refuse."""
    primary, secondary = roles(mirror)
    mirror.lab.kill(secondary)
    wait_for(lambda: mirror.state(primary) == "ALONE Ready", 10)
    mirror.write(0.5)
    mirror.lab.kill(primary)
    mirror.lab.boot(secondary)
    wait_for(lambda: (mirror.state(secondary) or "").startswith("WAIT"), 20)
    wait_for(lambda: "may be newer" in mirror.status(secondary)["reason"], 10)
    mirror.lab.boot(primary)
    mirror.both(primary, secondary)
    mirror.check()


def test_both_servers_lose_power(mirror):
    primary, secondary = roles(mirror)
    mirror.write(0.5)
    for host in SERVERS:
        mirror.lab.kill(host)
    for host in (secondary, primary):
        mirror.lab.boot(host)
    wait_for(lambda: sorted(mirror.state(h) or "" for h in SERVERS) == ["PRIM Ready", "SECOND Ready"], 60)
    mirror.check()


def test_a_volume_grows_or_stays_as_it_is(mirror):
    """ext4 grows while it is used only with a capability that not every machine gives its agents."""
    primary, _ = roles(mirror)
    folder = mirror.lab.root(primary) / "var/lib/safekit/volumes/ledger"
    images = {path: path.stat().st_size for path in folder.glob("*.img")}
    argv = ("rfs", "resize", str(mirror.lab.root(primary) / "data"), "80M", "-m", "ledger")
    done = mirror.cli(primary, *argv, check=False)
    assert images
    if system.has_capability(system.CAP_SYS_RESOURCE):
        assert done.returncode == 0, done.stderr
        assert all(path.stat().st_size == 80 << 20 for path in images)
    else:
        assert "rfs.no-capability" in done.stderr
        assert {path: path.stat().st_size for path in images} == images
    mirror.write(0.3)
    mirror.check()
