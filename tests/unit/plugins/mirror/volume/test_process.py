"""Two volume processes joined over loopback, with their keepers and a real FUSE mount.

Whatever touches a file of the mount does so in a thread of its own that is waited for with a limit: a worker that hangs
must make a test fail, not hang.
"""

import concurrent.futures
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress

import pytest
from disks import MIB, PowerDisk
from safekit_py.plugins.mirror.volume import image, system

pytestmark = pytest.mark.lab
SIZE, PAGE = 64 << 20, 4096
WORKER, KEEPER = "safekit_py.plugins.mirror.volume.process", "safekit_py.plugins.mirror.volume.keeper"
LIMIT = 20.0


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as made:
        return made.getsockname()[1]


class Lines:
    """A socket of JSON lines."""

    def __init__(self, path):
        self.socket, self.events, self.number = socket.socket(socket.AF_UNIX), [], 0
        self.socket.settimeout(LIMIT)
        self.socket.connect(str(path))
        self.file = self.socket.makefile("r")

    def _line(self):
        line = self.file.readline()
        assert line, "the process has closed its socket"
        return json.loads(line)

    def do(self, verb, **values):
        self.number += 1
        self.socket.sendall(json.dumps({"id": self.number, "do": verb, **values}).encode() + b"\n")
        while "event" in (said := self._line()):
            self.events.append(said)
        return said

    def wait(self, kind):
        while True:
            for each in self.events:
                if each["event"] == kind:
                    self.events.remove(each)
                    return each
            self.events.append(self._line())

    def close(self):
        self.file.close()
        self.socket.close()


class Server:
    """A keeper and its worker."""

    def __init__(self, base, me, peer, ports):
        self.folder, self.run = base / me / "volumes", base / me / "run"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.run.mkdir()
        options = {
            "key": str(base / "key"), "me": me, "peer": peer, "timeout": 2.0, "sync": "none",
            "address": ["127.0.0.1", ports[0]], "peer_address": ["127.0.0.1", ports[1]],
        }  # fmt: skip
        plan = {"module": "m", "folder": str(self.folder), "run": str(self.run), "worker": WORKER,
                "volumes": [["v", SIZE]], "options": options}  # fmt: skip
        self.plan = json.dumps(plan)
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        self.log = base / f"{me}.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", KEEPER], stdin=-1, stdout=-1, stderr=log, env=env, start_new_session=True
            )
        self.process.stdin.write(self.plan.encode())
        self.process.stdin.close()
        assert self.process.stdout.readline(), self.log.read_text()
        self.keeper, self.worker = Lines(self.run / "m.keeper"), Lines(self.run / "m.sock")

    def kill_worker(self):
        os.kill(self.keeper.do("status")["worker"], signal.SIGKILL)

    def again(self):
        """The control socket of the worker that followed one that was killed."""
        self.worker.close()
        self.worker = Lines(self.run / "m.sock")

    def close(self):
        self.process.kill()  # the worker dies with it, and whoever waits for the mount gets an error
        self.process.wait()
        with suppress(OSError):
            system.umount(self.run / "m", system.MNT_DETACH)
        self.keeper.close()
        self.worker.close()


class Two:
    """The primary with its mounted file, and the secondary."""

    def __init__(self, base):
        (base / "key").write_text("ab" * 32)
        ports = free_port(), free_port()
        self.pool = concurrent.futures.ThreadPoolExecutor(4)
        self.draw, self.fd = random.Random(1), -1
        self.a = Server(base, "A", "B", ports)
        self.b = None
        try:
            self.b = Server(base, "B", "A", ports[::-1])
            image.create(self.a.folder / "v.img", SIZE)
            self.a.worker.do("lease", until=time.clock_gettime_ns(time.CLOCK_BOOTTIME) + 10**12)
            assert "ok" in self.a.worker.do("serve", new="d1")
            assert "ok" in self.a.keeper.do("mount")
            self.fd = self.limited(os.open, self.a.run / "m/v", os.O_RDWR)
        except BaseException:
            self.close()
            raise

    def limited(self, run, *args):
        return self.pool.submit(run, *args).result(LIMIT)

    def write(self, count=20, *, flush=True):
        def work():
            for _ in range(count):
                os.pwrite(self.fd, self.draw.randbytes(PAGE), self.draw.randrange(SIZE // PAGE) * PAGE)
            if flush:
                os.fsync(self.fd)

        return self.pool.submit(work)

    def synced(self):
        assert "ok" in self.b.worker.do("receive")
        found = self.a.worker.wait("synced"), self.b.worker.wait("synced")
        return [each["generation"] for each in found]

    def equal(self):
        one, two = ((server.folder / "v.img").read_bytes() for server in (self.a, self.b))
        return one == two

    def close(self):
        for each in (self.a, self.b):
            if each is not None:
                each.close()
        if self.fd >= 0:
            with suppress(OSError):
                os.close(self.fd)
        self.pool.shutdown(cancel_futures=True)  # a thread would keep the test from leaving its mount namespace


@pytest.fixture
def two(private, tmp_path):
    made = Two(tmp_path)
    yield made
    made.close()


def test_a_secondary_gets_everything_and_then_each_write(two):
    two.write(50).result(LIMIT)
    mine, theirs = two.synced()
    assert mine["shared"]
    assert theirs["uptodate"]
    assert mine["data"] == theirs["data"] == "d1"
    two.write(50).result(LIMIT)
    assert two.equal()
    assert two.a.worker.do("verify")["ok"] == {"different": 0, "ranges": []}
    assert two.a.worker.do("status")["ok"]["mode"] == "synced"


def test_a_killed_worker_of_the_primary_costs_no_error_and_no_comparison(two):
    two.synced()
    two.b.worker.wait("connected")
    for _ in range(3):
        writing = two.write(300)
        two.a.kill_worker()
        writing.result(LIMIT)
    two.a.again()
    two.write(5).result(LIMIT)
    two.b.worker.do("status")
    assert not [each for each in two.b.worker.events if each["event"] == "connected"]
    assert two.equal()
    status = two.a.worker.do("status")["ok"]
    assert status["mode"] == "synced"
    assert status["generation"]["data"] == "d1"


def test_a_killed_worker_of_the_secondary_costs_no_error(two):
    two.synced()
    for _ in range(2):
        writing = two.write(300)
        two.b.kill_worker()
        writing.result(LIMIT)
    two.b.again()
    two.write(5).result(LIMIT)
    assert two.equal()
    assert two.b.worker.do("status")["ok"]["generation"]["uptodate"]


def test_a_lost_secondary_freezes_the_primary_until_it_may_go_on(two):
    two.synced()
    two.b.process.kill()
    writing = two.write(3)
    found = two.a.worker.wait("lost")
    assert found["data"] == {"frozen": True}
    assert not writing.done()
    said = two.a.worker.do("alone", new="d2")["ok"]
    assert said["generation"]["history"] == ["d1"]
    writing.result(LIMIT)
    stored = json.loads((two.a.folder / "generation.json").read_text())
    assert (stored["data"], stored["shared"]) == ("d2", False)


def test_a_synchronisation_that_cannot_be_noted_is_tried_again(two):
    before = two.a.keeper.do("status")["worker"]
    generation = two.a.folder / "generation.json"
    kept = generation.with_name("kept")
    generation.rename(kept)
    generation.mkdir()
    assert "ok" in two.b.worker.do("receive")
    assert "directory" in two.a.worker.wait("interrupted")["cause"]
    generation.rmdir()
    kept.rename(generation)
    assert two.a.worker.wait("synced")["generation"]["shared"]
    assert two.a.keeper.do("status")["worker"] == before


def test_past_the_lease_nothing_is_acknowledged(two):
    two.synced()
    two.a.worker.do("lease", until=1)
    two.a.worker.wait("fenced")
    writing = two.write(2)
    time.sleep(0.3)
    assert not writing.done()
    two.a.worker.do("lease", until=time.clock_gettime_ns(time.CLOCK_BOOTTIME) + 10**12)
    writing.result(LIMIT)
    assert two.equal()


def test_a_full_disk_of_the_secondary_ejects_it(private, tmp_path):
    folder = tmp_path / "B/volumes"
    folder.mkdir(parents=True)
    system.mount("none", folder, "tmpfs", 0, "size=6m")
    two = Two(tmp_path)
    try:
        two.synced()
        writing = two.write(4000)
        failed = two.b.worker.wait("failed")
        assert "space" in failed["cause"]
        assert not failed["generation"]["uptodate"]
        two.a.worker.wait("lost")
        two.a.worker.do("alone", new="d2")
        writing.result(LIMIT)
    finally:
        two.close()


@pytest.mark.parametrize("kind", ["write", "flush"])
def test_a_primary_whose_disk_refuses_acknowledges_nothing_more(private, tmp_path, kind):
    """Not even when the disk works again, or when the process is killed and started again."""
    (tmp_path / "A").mkdir()
    with PowerDisk(tmp_path, 112 * MIB) as disk:
        (tmp_path / "A/volumes").symlink_to(disk.path)
        two = Two(tmp_path)
        try:
            two.synced()
            two.write(20).result(LIMIT)
            before = two.a.keeper.do("status")["worker"]
            disk.fail(kind)
            with pytest.raises(OSError, match="Input/output error"):
                two.write(40).result(LIMIT)
            assert two.a.worker.wait("failed")["data"]["errno"] != 0
            disk.fail()
            with pytest.raises(OSError, match="Input/output error"):
                two.write(1).result(LIMIT)
            assert two.a.keeper.do("status")["worker"] == before, "it lives, to say so"
            there = (two.b.folder / "v.img").read_bytes()
            two.a.kill_worker()
            two.a.again()
            with pytest.raises(OSError, match="Input/output error"):
                two.write(1, flush=False).result(LIMIT)
            assert "refused data" in two.a.worker.do("alone", new="d2")["error"]
            assert "refused data" in two.a.worker.do("release")["error"]
            assert (two.b.folder / "v.img").read_bytes() == there
            assert two.b.worker.do("status")["ok"]["generation"]["uptodate"]
        finally:
            two.close()


def test_what_is_said_without_the_key_ends_no_process(two):
    two.synced()
    before = two.b.keeper.do("status")["worker"]
    port = json.loads(two.b.plan)["options"]["address"][1]
    for said in (b"x" * 100, b"GET / HTTP/1.0\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", port)) as made:
            made.sendall(said)
    two.write(5).result(LIMIT)
    assert two.b.keeper.do("status")["worker"] == before
    assert two.equal()
    two.a.worker.do("status")
    assert [each["event"] for each in two.a.worker.events] == ["connected"], "the connection was disturbed"


def test_an_order_that_makes_no_sense_is_refused(two):
    for line in ("{}", '{"do": "nothing"}', '{"do": "alone"}', '{"do": "resize", "volume": 9, "size": 1}', "[", "7"):
        two.a.worker.socket.sendall(line.encode() + b"\n")
        assert "error" in two.a.worker._line()
    assert "ok" in two.a.worker.do("status")
