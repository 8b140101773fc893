"""A mirror without a lease: an echo decides between servers that lose each other, ``defaultprim`` who is primary."""

import time

import pytest
from fault_support import log, settle
from mirror_support import CONFIG, SERVERS, make, up, wait_for

pytestmark = pytest.mark.lab
ONE, TWO = SERVERS
CLIENT = "10.77.0.101"  # stands for a router


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("splitbrain")
    config = CONFIG.replace("<check>", f'<check><splitbrain ident="router" exec="ping" arg="{CLIENT}"/>')
    config = config.replace('mode="mirror"', f'mode="mirror" defaultprim="{ONE}"')
    assert config.count(CLIENT) == config.count("defaultprim") == 1
    with up(folder) as lab:
        yield make(lab, folder, config=config)


@pytest.fixture
def mirror(made):
    """The server that ``defaultprim`` names is PRIM."""
    settle(made)
    if made.role(ONE) != "PRIM":
        made.cli(ONE, "swap", "ledger")
    made.both(ONE, TWO)
    yield made
    made.show()


def test_the_primary_that_is_cut_off_gives_way_and_gets_its_role_back(mirror):
    mirror.write(0.5)
    mirror.lab.cut(ONE)
    wait_for(lambda: mirror.state(TWO) == "ALONE Ready", 15)
    wait_for(lambda: mirror.role(ONE) == "WAIT", 10)
    assert f"no echo from {CLIENT}" in log(mirror, ONE)
    assert mirror.status(TWO)["report"]["witness"] == f"an echo: {CLIENT} answers"
    mirror.write(0.5)
    mirror.lab.heal()
    mirror.both(ONE, TWO)
    assert "defaultprim" in log(mirror, TWO)
    mirror.check()


def test_a_secondary_that_is_cut_off_waits(mirror):
    mirror.lab.cut(TWO)
    wait_for(lambda: mirror.state(ONE) == "ALONE Ready", 15)
    wait_for(lambda: mirror.role(TWO) == "WAIT", 10)
    assert f"no echo from {CLIENT}" in log(mirror, TWO)
    mirror.write(0.5)
    mirror.lab.heal()
    mirror.both(ONE, TWO)
    mirror.check()


def test_a_swap_by_a_person_stays(mirror):
    mirror.cli(ONE, "swap", "ledger")
    mirror.both(TWO, ONE)
    time.sleep(2)
    assert (mirror.state(TWO), mirror.state(ONE)) == ("PRIM Ready", "SECOND Ready")


def test_with_failover_switched_off_the_secondary_waits_for_a_person(mirror):
    mirror.cli(TWO, "failover", "off", "ledger")
    try:
        mirror.write(0.5)
        mirror.lab.kill(ONE)
        wait_for(lambda: mirror.role(TWO) == "WAIT", 15)
        assert "failover is off" in log(mirror, TWO)
        time.sleep(2)
        assert mirror.role(TWO) == "WAIT"
        mirror.lab.boot(ONE)
        mirror.both(ONE, TWO)
    finally:
        mirror.cli(TWO, "failover", "on", "ledger")
    mirror.check()
