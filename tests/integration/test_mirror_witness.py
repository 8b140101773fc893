"""A mirror with a witness on a third machine: servers that lose each other never both go on."""

import json
import subprocess
import time

import pytest
from fault_support import roles, settle
from mirror_support import CONFIG, SERVERS, make, up, wait_for
from test_mirror_renew import renew

pytestmark = pytest.mark.lab
ONE, TWO = SERVERS
WITNESS = "10.77.0.101:4850"
BESIDE = '<heartbeat name="default" ident="flow"/>'


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("witness")
    with up(folder) as lab:
        key = lab.root(ONE) / "var/lib/safekit/cluster/cluster.key"
        argv = ["safekit-py", "witness", "--listen", WITNESS, "--key", str(key), "--state", str(folder / "state")]
        with (folder / "witness.log").open("wb") as log:
            witness = lab.popen("client1", argv, stdout=log, stderr=log)
            try:
                config = CONFIG.replace(BESIDE, f'{BESIDE}<witness kind="safekit" addr="{WITNESS}" lease="2s"/>')
                yield make(lab, folder, config=config)
            finally:
                witness.terminate()
                try:
                    witness.wait(10)
                except subprocess.TimeoutExpired:
                    witness.kill()


@pytest.fixture
def mirror(made):
    settle(made)
    yield made
    made.show()


def test_a_cut_between_the_servers_leaves_the_primary_alone_and_the_secondary_waiting(mirror):
    primary, secondary = roles(mirror)
    writer = mirror.begin(12)
    wait_for(lambda: len(mirror.acknowledged()) > 20)
    mirror.lab.cut(primary, secondary)
    wait_for(lambda: mirror.role(primary) == "ALONE", 15)
    wait_for(lambda: mirror.role(secondary) == "WAIT", 15)
    assert "witness" in mirror.status(secondary)["reason"]
    for host in (primary, secondary):
        renew(mirror, host)
    time.sleep(3)  # longer than a lease: it is asked for by the next process
    assert (mirror.state(primary), mirror.role(secondary)) == ("ALONE Ready", "WAIT")
    mirror.lab.heal()
    mirror.both(primary, secondary)
    mirror.end(writer)
    mirror.check()


def test_a_primary_that_is_cut_off_gives_up_and_the_secondary_takes_over(mirror):
    primary, secondary = roles(mirror)
    for host in SERVERS:
        renew(mirror, host)
    writer = mirror.begin(14)
    wait_for(lambda: len(mirror.acknowledged()) > 20)
    mirror.lab.cut(primary)
    wait_for(lambda: mirror.state(secondary) == "ALONE Ready", 15)
    wait_for(lambda: mirror.role(primary) == "WAIT", 15)
    mirror.lab.heal()
    mirror.both(secondary, primary)
    mirror.end(writer)
    mirror.check()
    addresses = [mirror.lab.run(h, ["ip", "-4", "addr"], capture_output=True, text=True).stdout for h in SERVERS]
    assert sum("10.77.0.100/" in each for each in addresses) == 1


def test_after_a_power_cut_the_secondary_takes_over_and_the_old_primary_alone_never_does(mirror):
    primary, secondary = roles(mirror)
    writer = mirror.begin(8)
    wait_for(lambda: len(mirror.acknowledged()) > 20)
    mirror.lab.kill(primary)
    wait_for(lambda: mirror.state(secondary) == "ALONE Ready", 15)
    mirror.end(writer)
    mirror.check()
    # Both lose their power; the one with the older data is there first, and the witness knows better.
    mirror.lab.kill(secondary)
    mirror.lab.boot(primary)
    wait_for(lambda: "newer data" in (mirror.status(primary) or {}).get("reason", ""), 30)
    assert mirror.role(primary) == "WAIT"
    mirror.lab.boot(secondary)
    mirror.both(secondary, primary)
    mirror.check()


def test_after_a_power_loss_of_both_the_first_one_up_serves_when_the_witness_knows_of_no_newer_data(mirror):
    primary, secondary = roles(mirror)
    mirror.write(1)
    for host in (primary, secondary):
        mirror.lab.kill(host)
    mirror.lab.boot(secondary)
    wait_for(lambda: mirror.state(secondary) == "ALONE Ready", 30)
    mirror.check()
    mirror.lab.boot(primary)
    mirror.both(secondary, primary)


def test_a_new_key_waits_for_the_witness_also_on_the_secondary(mirror):
    """The witness here reads the key file of the first server, so it has each new key as soon as that one."""
    primary, secondary = roles(mirror)
    old = {host: json.loads(mirror.cli(host, "cluster", "key", "show", "--json").stdout) for host in SERVERS}
    number = old[ONE]["keys"][-1]["number"] + 1
    file = mirror.lab.root(TWO) / "var/lib/safekit/cluster/cluster.key"
    mirror.cli(TWO, "cluster", "key", "rotate")
    said = mirror.cli(TWO, "cluster", "key", "drop", check=False).stderr
    assert f"witness {WITNESS}" in said, "it has only the old one"
    mirror.cli(ONE, "cluster", "key", "rotate", "--from", str(file))
    for host in SERVERS:
        wait_for(lambda host=host: mirror.cli(host, "cluster", "key", "drop", check=False).returncode == 0)
        document = json.loads(mirror.cli(host, "cluster", "key", "show", "--json").stdout)
        signs = {user["name"]: user["signs"] for user in document["users"]}
        assert signs == {({*SERVERS} - {host}).pop(): number, f"witness {WITNESS}": number}
    mirror.write(0.5)
    mirror.lab.cut(primary)
    wait_for(lambda: mirror.state(secondary) == "ALONE Ready", 20)
    mirror.lab.heal()
    mirror.both(secondary, primary)
    mirror.check()
