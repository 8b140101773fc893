"""A mirror whose disks fail, are full, or lose what they had not flushed, on either server."""

import os
from pathlib import Path

import pytest
from disks import MIB, PowerDisk
from fault_support import DiskLab, both, fill, kill, log, pids, resource, roles, settle, wait_for
from mirror_support import make
from posixcalls import in_child
from safekit_py.plugins.mirror.generation import Generation
from safekit_py.plugins.mirror.volume import store, system

pytestmark = pytest.mark.lab
NEW_NS, MS_REC = 0x20000, 0x4000


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("disks")
    with DiskLab.with_disks(folder) as lab:
        yield make(lab, folder)


@pytest.fixture
def mirror(made):
    settle(made)
    yield made
    made.show()


def repair(mirror, host):
    """A person replaces what is broken and switches the server on again."""
    mirror.lab.disks[host].fail()
    mirror.lab.power_cut(host, share=1)
    mirror.lab.boot(host)
    wait_for(lambda: mirror.state(host) is not None)
    if mirror.role(host) == "STOP":
        mirror.cli(host, "start", "ledger")


def ejected(mirror, primary, secondary):
    """The primary goes on, the secondary has given up, and ``status`` says both."""
    wait_for(lambda: mirror.state(primary) == "ALONE Ready", 15)
    wait_for(lambda: mirror.role(secondary) == "STOP", 15)
    assert resource(mirror, primary, "rfs.degraded") == "up"
    assert "cannot be written here" in mirror.status(secondary)["reason"]


def test_the_disk_of_the_secondary_is_full(mirror):
    primary, secondary = roles(mirror)
    writer = mirror.begin(4)
    wait_for(lambda: len(mirror.acknowledged()) > 20)
    filler = mirror.lab.fill(secondary)
    assert fill(mirror, primary, 24), "the primary goes on"
    ejected(mirror, primary, secondary)
    assert mirror.end(writer) < 4
    mirror.check()
    filler.unlink()
    mirror.cli(secondary, "start", "ledger")
    mirror.both(primary, secondary)
    mirror.check()


@pytest.mark.parametrize("kind", ["write", "flush"])
def test_the_disk_of_the_secondary_fails(mirror, kind):
    primary, secondary = roles(mirror)
    writer = mirror.begin(4)
    wait_for(lambda: len(mirror.acknowledged()) > 20)
    mirror.lab.disks[secondary].fail(kind)
    ejected(mirror, primary, secondary)
    assert mirror.end(writer) < 4
    mirror.check()
    repair(mirror, secondary)
    mirror.both(primary, secondary)
    mirror.check()


def test_the_disk_of_the_primary_is_full(mirror):
    """The secondary takes over; the old primary comes back when there is room."""
    primary, secondary = roles(mirror)
    writer = mirror.begin(7)
    wait_for(lambda: len(mirror.acknowledged()) > 20)
    filler = mirror.lab.fill(primary)
    try:
        assert not fill(mirror, primary, 40, "larger")
        wait_for(lambda: mirror.state(secondary) in ("ALONE Ready", "PRIM Ready"), 25)  # the other may be back at once
    finally:
        filler.unlink()
    mirror.end(writer)
    mirror.check()
    assert "cannot be written or read here" in log(mirror, primary)
    if mirror.role(primary) == "STOP":
        mirror.cli(primary, "start", "ledger")
    mirror.both(secondary, primary)
    mirror.check()


@pytest.mark.parametrize("kind", ["write", "flush"])
def test_the_disk_of_the_primary_fails(mirror, kind):
    primary, secondary = roles(mirror)
    writer = mirror.begin(7)
    wait_for(lambda: len(mirror.acknowledged()) > 20)
    mirror.lab.disks[primary].fail(kind)
    wait_for(lambda: mirror.state(secondary) == "ALONE Ready", 25)
    mirror.end(writer)
    mirror.check()
    repair(mirror, primary)
    mirror.both(secondary, primary)
    mirror.check()


def test_both_servers_lose_their_power_and_what_their_disks_had_not_flushed(mirror):
    primary, secondary = roles(mirror)
    writer = mirror.begin(3)
    wait_for(lambda: len(mirror.acknowledged()) > 20)
    for number, host in enumerate((secondary, primary)):
        mirror.lab.power_cut(host, share=0.3, seed=number)
    mirror.end(writer)
    for host in (secondary, primary):
        mirror.lab.boot(host)
    both(mirror)
    mirror.check()
    assert mirror.cli(roles(mirror)[0], "rfsverify", "ledger").returncode == 0


def test_a_primary_whose_disk_is_full_goes_on_alone(mirror):
    """There is room for what it must note; nothing is written meanwhile that would need more."""
    primary, secondary = roles(mirror)
    mirror.write(0.3)
    filler = mirror.lab.fill(primary)
    mirror.lab.power_cut(secondary)
    wait_for(lambda: mirror.state(primary) == "ALONE Ready", 15)
    filler.unlink()
    mirror.lab.boot(secondary)
    mirror.both(primary, secondary)
    mirror.check()


@pytest.mark.parametrize("both_fail", [False, True])
def test_a_resynchronisation_that_power_losses_interrupt(mirror, both_fail):
    """Its target does not become primary by itself, and completes one later."""
    primary, secondary = roles(mirror)
    mirror.lab.power_cut(secondary)
    wait_for(lambda: mirror.state(primary) == "ALONE Ready", 15)
    assert fill(mirror, primary, 32, "much")
    mirror.write(0.3)
    mirror.lab.boot(secondary)
    wait_for(lambda: mirror.state(secondary) == "SECOND Transient" and "begins" in log(mirror, secondary), 15, 0.02)
    assert mirror.state(secondary) == "SECOND Transient"
    mirror.lab.power_cut(primary)
    if both_fail:
        mirror.lab.power_cut(secondary)
        mirror.lab.boot(secondary)
    wait_for(lambda: "not up to date" in (mirror.status(secondary) or {}).get("reason", ""), 20)
    assert mirror.role(secondary) == "WAIT"
    mirror.lab.boot(primary)
    mirror.both(primary, secondary)
    mirror.check()


@pytest.mark.parametrize("text", ['{"data": "7', '{"data": "f00d", "uptodate": true, "primary": true}'])
def test_a_generation_that_cannot_be_read(mirror, text):
    """Its server never becomes primary with it; a person gives its data up, and it gets them anew."""
    primary, secondary = roles(mirror)
    mirror.write(0.3)
    mirror.cli(secondary, "stop", "ledger", "--wait")
    (mirror.lab.volumes(secondary) / "ledger/generation.json").write_text(text)
    kill(mirror, secondary, pids(mirror, secondary, "safekit_py agent"))  # what it had read before does not count
    wait_for(lambda: mirror.state(secondary) is None)
    wait_for(lambda: mirror.state(secondary) is not None)
    mirror.cli(secondary, "start", "ledger")
    wait_for(lambda: "nothing in common" in (mirror.status(secondary) or {}).get("reason", ""), 15)
    mirror.lab.power_cut(primary)
    wait_for(lambda: "not up to date" in (mirror.status(secondary) or {}).get("reason", ""), 15)
    mirror.lab.boot(primary)
    mirror.cli(secondary, "stop", "ledger", "--wait")
    wait_for(lambda: mirror.role(primary) == "ALONE", 30)
    mirror.cli(secondary, "second", "ledger", "fullsync", "--yes")
    mirror.both(primary, secondary)
    mirror.check()


def test_a_secondary_with_data_of_its_own_stops_and_says_so(mirror):
    """Somebody put another file there, and the process that reads it is started anew: nothing is overwritten."""
    primary, secondary = roles(mirror)
    mirror.write(0.3)
    own = Generation(data="feed", uptodate=True)
    store.store(mirror.lab.volumes(secondary) / "ledger", own)
    assert mirror.lab.run(secondary, ["pkill", "-KILL", "skvol-ledger"]).returncode == 0
    wait_for(lambda: mirror.role(secondary) == "STOP", 15)
    reason = mirror.status(secondary)["reason"]
    assert "nothing in common" in reason
    assert "volume.unrelated" in reason
    assert "secondforce" in reason
    assert store.load(mirror.lab.volumes(secondary) / "ledger") == own
    wait_for(lambda: mirror.state(primary) == "ALONE Ready", 15)
    mirror.cli(secondary, "secondforce", "-m", "ledger", "--yes")
    mirror.both(primary, secondary)
    mirror.check()


def test_a_crash_at_every_step_of_storing_a_generation(tmp_path):
    """The old one or the new one, whole, whatever the disk had written; the new one when ``store`` has returned."""

    def steps():
        system.LIBC.unshare(NEW_NS)  # a lab that is made meanwhile must not keep the disk mounted
        system.mount("none", Path("/"), "", MS_REC | system.MS_PRIVATE)
        with PowerDisk(tmp_path / "disk", 48 * MIB) as disk:
            return " ".join(crash(disk, step) for step in range(1, 20))

    found = in_child(steps).split()
    assert set(found) == {"old", "new", "returned"}
    assert found == sorted(found, key=("old", "new", "returned").index), "no crash takes a step back"


def crash(disk, step):
    """What a reader finds after a crash at that step."""
    store.store(disk.path, Generation(data="old", uptodate=True))
    pid = os.fork()
    if pid == 0:
        left = [step]
        for name in ("open", "write", "fsync", "rename", "close"):
            setattr(os, name, dying(getattr(os, name), left))
        store.store(disk.path, Generation(data="new", uptodate=True, primary=True))
        os._exit(7)
    _, status = os.waitpid(pid, 0)
    disk.cut(share=0.5, seed=step)
    disk.boot()
    found = store.load(disk.path).data
    if os.waitstatus_to_exitcode(status) != 7:
        return found
    return "returned" if found == "new" else "lost"


def dying(call, left):
    """The same call; when it is the last of so many, the process ends before it is made."""

    def run(*arguments, **named):
        left[0] -= 1
        if left[0] == 0:
            os._exit(0)
        return call(*arguments, **named)

    return run
