"""A mirror whose directory is xfs."""

import pytest
from fault_support import roles, settle
from mirror_support import CONFIG, make, up, wait_for

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("xfs")
    config = CONFIG.replace('size="64M"', 'size="384M" filesystem="xfs"')
    assert "xfs" in config
    with up(folder) as lab:
        yield make(lab, folder, config=config)


@pytest.fixture
def mirror(made):
    settle(made)
    yield made
    made.show()


def stat(mirror, host):
    """Kind and size of the file system there."""
    argv = ["stat", "-f", "-c", "%T %b %S", str(mirror.lab.root(host) / "data")]
    kind, blocks, size = mirror.lab.run(host, argv, capture_output=True, text=True).stdout.split()
    return kind, int(blocks) * int(size)


def test_a_power_cut_of_the_primary(mirror):
    primary, secondary = roles(mirror)
    assert stat(mirror, primary)[0] == "xfs"
    writer = mirror.begin(8)
    wait_for(lambda: len(mirror.acknowledged()) > 20)
    mirror.lab.kill(primary)
    wait_for(lambda: mirror.state(secondary) == "ALONE Ready", 15)
    mirror.end(writer)
    mirror.check()
    mirror.lab.boot(primary)
    mirror.both(secondary, primary)
    mirror.check()
    assert mirror.cli(secondary, "rfsverify", "ledger").returncode == 0


def test_it_grows_while_it_is_used(mirror):
    primary, secondary = roles(mirror)
    _, before = stat(mirror, primary)
    writer = mirror.begin(4)
    mirror.cli(primary, "rfs", "resize", str(mirror.lab.root(primary) / "data"), "448M", "-m", "ledger")
    mirror.end(writer)
    _, after = stat(mirror, primary)
    assert after > before + (32 << 20)
    assert all(each in mirror.state(host) for each, host in (("PRIM", primary), ("SECOND", secondary)))
    mirror.cli(primary, "swap", "ledger")
    mirror.both(secondary, primary)
    assert stat(mirror, secondary)[1] == after
    mirror.check()
