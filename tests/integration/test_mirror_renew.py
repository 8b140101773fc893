"""Agents of a mirror are replaced while it serves: no role changes, nothing is lost, and faults are met as before."""

import json

import pytest
from fault_support import roles, settle
from mirror_support import SERVERS, kill, make, up, wait_for
from test_mirror import named
from test_renew import process

pytestmark = [pytest.mark.lab, pytest.mark.timeout(180)]


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


def renew(mirror, host):
    before = process(mirror, host)
    told = json.loads(mirror.cli(host, "renew", "--json").stdout)
    assert told["before"]["pid"] == before != told["now"]["pid"] == process(mirror, host)


def news(mirror, host):
    """States that the module has entered, as its log has them."""
    lines = mirror.cli(host, "log", "ledger", "-n", "500").stdout.splitlines()
    return [
        line for line in lines if "| heart |" in line and any(word in line for word in ("PRIM ", "ALONE ", "SECOND "))
    ]


def test_both_agents_are_replaced_under_writes(mirror):
    primary, secondary = roles(mirror)
    before = {host: (news(mirror, host), named(mirror, host, "skvol-ledger")) for host in SERVERS}
    writer = mirror.begin(10)
    wait_for(lambda: len(mirror.acknowledged()) > 20)
    for host in (secondary, primary, primary):
        renew(mirror, host)
    longest = mirror.end(writer)
    assert (mirror.state(primary), mirror.state(secondary)) == ("PRIM Ready", "SECOND Ready")
    assert all(before[host][0] for host in SERVERS)
    assert {host: (news(mirror, host), named(mirror, host, "skvol-ledger")) for host in SERVERS} == before
    assert longest < 1.0, "no write waits for the agent"
    mirror.check()
    assert mirror.status(primary)["report"]["replicated"]
    assert mirror.cli(primary, "rfsverify", "ledger").returncode == 0


def test_who_was_renewed_meets_faults_as_before(mirror):
    """A worker that dies, a swap, and the other server's power cut: heard, carried out, survived."""
    primary, secondary = roles(mirror)
    for host in SERVERS:
        renew(mirror, host)
    writer = mirror.begin(25)
    kill(mirror, primary, named(mirror, primary, "skvol-ledger"))
    wait_for(lambda: "was started again" in mirror.cli(primary, "log", "ledger", "-n", "50").stdout)
    mirror.both(primary, secondary)
    mirror.cli(primary, "swap", "ledger")
    mirror.both(secondary, primary)
    renew(mirror, primary)
    mirror.lab.kill(secondary)  # the primary by now
    wait_for(lambda: mirror.state(primary) == "ALONE Ready", 15)
    renew(mirror, primary)
    assert mirror.state(primary) == "ALONE Ready"
    mirror.lab.boot(secondary)
    mirror.both(primary, secondary)
    mirror.end(writer)
    mirror.check()
