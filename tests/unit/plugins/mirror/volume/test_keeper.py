"""The keeper with real mounts: the worker is killed under load, and the application sees a stall and no error."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import textwrap
import time
from contextlib import suppress
from pathlib import Path

import pytest
from safekit_py.plugins.mirror.volume import image, loop, system
from safekit_py.plugins.mirror.volume.adopt import make

pytestmark = pytest.mark.lab
SIZE = 96 << 20
LOCAL, KEEPER = "safekit_py.plugins.mirror.volume.local", "safekit_py.plugins.mirror.volume.keeper"
WRITER = """
import os, random, sys, time
path, seconds, seed = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
draw, end, longest, errors, done = random.Random(seed), time.monotonic() + seconds, 0.0, 0, 0
blocks = [0] * 2048
fd = os.open(path, os.O_RDWR | os.O_CREAT)
os.ftruncate(fd, len(blocks) * 4096)
while time.monotonic() < end:
    at, begun = draw.randrange(len(blocks)), time.monotonic()
    done += 1
    try:
        os.pwrite(fd, done.to_bytes(8, "big") * 512, at * 4096)
        blocks[at] = done
        if done % 4 == 0:
            os.fdatasync(fd)
        if done % 64 == 0:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        at = draw.randrange(len(blocks))
        if os.pread(fd, 4096, at * 4096) != blocks[at].to_bytes(8, "big") * 512:
            errors += 1
    except OSError:
        errors += 1
    longest = max(longest, time.monotonic() - begun)
print(done, errors, longest)
"""


class Kept:
    """A keeper with one volume and the local worker."""

    def __init__(self, folder, worker=LOCAL, name="kept", deaths=5, **env):
        self.folder, self.run = folder, folder / "run"
        plan = {
            "module": name,
            "folder": str(folder),
            "run": str(self.run),
            "worker": worker,
            "volumes": [["v", SIZE]],
            "options": {},
            "deaths": deaths,
        }
        image_path = folder / "v.img"
        if not image_path.exists():
            image.create(image_path, SIZE)
        env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), *filter(None, sys.path)]), **env}
        argv = [sys.executable, "-m", KEEPER]
        self.process = subprocess.Popen(
            argv, stdin=-1, stdout=-1, stderr=(folder / "log").open("ab"), env=env, start_new_session=True
        )
        self.process.stdin.write(json.dumps(plan).encode())
        self.process.stdin.close()
        self.ready = self.process.stdout.readline()
        self.socket = None
        if self.ready:
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.settimeout(20)
            self.socket.connect(str(self.run / f"{name}.keeper"))
            self._lines = self.socket.makefile("rb")

    def ask(self, what):
        self.socket.sendall(json.dumps({"do": what}).encode() + b"\n")
        while "event" in (found := json.loads(self._lines.readline())):
            pass
        return found

    def kill_worker(self):
        pid = self.ask("status")["worker"]
        assert pid > 0
        os.kill(pid, signal.SIGKILL)

    def event(self):
        return json.loads(self._lines.readline())

    @property
    def file(self):
        return self.run / "kept/v"

    def close(self):
        if self.socket is not None:
            with suppress(OSError, ValueError):
                self.ask("stop")
            self.socket.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@pytest.fixture
def kept(request, private, tmp_path):
    asked = dict(getattr(request, "param", {}))
    for name, text in asked.pop("files", {}).items():
        (tmp_path / name).write_text(text)
    made = Kept(tmp_path, **asked)
    yield made
    made.close()


@pytest.fixture
def mounted(kept, tmp_path):
    """The volume's file system; what stood on it is taken away when the test ends."""
    assert kept.ask("mount")["mounted"]
    made, fd = loop.attach(kept.file)
    make(made.device, "ext4", 0)
    target = tmp_path / "data"
    target.mkdir()
    system.mount(str(made.device), target, "ext4")
    os.close(fd)
    yield target
    with suppress(OSError):
        system.umount(target, system.MNT_DETACH)


def alive(pid):
    with suppress(ProcessLookupError):
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    return False


@pytest.mark.parametrize("kept", [{"deaths": 30}], indirect=True)
def test_twenty_kills_under_load_are_stalls_and_no_errors(kept, mounted, record_property):
    draw = random.Random(7)
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(mounted / f"f{n}"), "9", str(n)], stdout=-1)
        for n in range(2)
    ]
    time.sleep(0.5)
    for _ in range(20):
        kept.kill_worker()
        time.sleep(0.05 + draw.random() * 0.4)
    found = [each.communicate(timeout=60)[0].split() for each in writers]
    assert [int(each[1]) for each in found] == [0, 0], found
    assert kept.ask("status")["restarts"] == 20
    longest = max(float(each[2]) for each in found)
    record_property("longest stall", longest)
    print(f"writes {[int(each[0]) for each in found]}, longest stall {longest * 1000:.0f} ms")
    assert longest < 3.0


def test_a_worker_that_dies_often_is_waited_for_and_told(kept):
    pids = []
    for _ in range(6):
        pids.append(kept.ask("status")["worker"])
        kept.kill_worker()
        assert kept.event()["event"] == ("failed" if len(pids) == 6 else "died")
    assert len(set(pids)) == 6
    assert kept.ask("status")["worker"] == 0
    deadline = time.monotonic() + 20
    while kept.ask("status")["worker"] == 0:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_signals_that_end_a_service_do_not_reach_it(kept, mounted):
    pids = kept.ask("status")
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        for pid in (pids["keeper"], pids["worker"]):
            os.kill(pid, number)
    (mounted / "x").write_bytes(b"x" * 100000)
    os.sync()
    assert kept.ask("status")["restarts"] == 0
    assert os.getsid(pids["keeper"]) != os.getsid(0)


def test_one_keeper_a_module(kept, tmp_path):
    second = Kept(tmp_path)
    assert second.ready == b""
    assert second.process.wait(5) == 3
    assert kept.ask("status")["ok"]


def test_a_stop_leaves_nothing(kept):
    kept.ask("mount")
    pids = kept.ask("status")
    kept.ask("stop")
    kept.process.wait(5)
    assert not alive(pids["worker"])
    assert not (kept.run / "kept.sock").exists()
    assert not [each for each in system.mounts() if each.target == kept.run / "kept"]


def test_with_the_keeper_dead_nothing_hangs_and_all_can_be_cleaned(kept, mounted, tmp_path):
    pids = kept.ask("status")
    (mounted / "before").write_bytes(b"x")
    os.sync()
    os.kill(pids["keeper"], signal.SIGKILL)
    kept.process.wait(5)
    deadline = time.monotonic() + 5
    while alive(pids["worker"]):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    code = textwrap.dedent(f"""
        import os
        fd = os.open({str(mounted / "after")!r}, os.O_RDWR | os.O_CREAT)
        os.write(fd, b"x")
        os.fsync(fd)
    """)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=20, check=False)
    assert b"OSError" in done.stderr
    system.umount(mounted, system.MNT_DETACH)
    system.umount(kept.run / "kept", system.MNT_FORCE | system.MNT_DETACH)
    again = Kept(tmp_path)
    try:
        assert again.ask("mount")["mounted"]
        assert again.file.stat().st_size == SIZE
    finally:
        again.close()


DENIED = {"SAFEKIT_NO_RESEND": "1"}
SILENT = "from safekit_py.plugins.mirror.volume import fuse, local\nfuse.HAS_RESEND = 0\nrun = local.run\n"
REFUSED = "from safekit_py.plugins.mirror.volume import fuse, local\nfuse.NOTIFY_RESEND = 99\nrun = local.run\n"


@pytest.mark.parametrize(
    "kept",
    [
        DENIED,
        {"worker": "silent", "files": {"silent.py": SILENT}},
        {"worker": "refused", "files": {"refused.py": REFUSED}},
    ],
    indirect=True,
    ids=["as the environment says", "by the kernel's first words", "by a refusal"],
)
def test_where_the_kernel_cannot_resend_a_worker_that_dies_fails_the_volume(kept, mounted):
    """What it had taken would never be answered: an error is better."""
    (mounted / "before").write_bytes(b"x")
    os.sync()
    pid = kept.ask("status")["worker"]
    code = f"""
import os, time
fd = os.open({str(mounted / "after")!r}, os.O_RDWR | os.O_CREAT)
print(flush=True)
while True:
    os.pwrite(fd, b"x" * 4096, 0)
    os.fsync(fd)
"""
    writer = subprocess.Popen([sys.executable, "-c", code], stdout=-1, stderr=-1)
    writer.stdout.readline()
    os.kill(pid, signal.SIGSTOP)  # it has taken a request, or will find it when nobody answers
    time.sleep(0.3)
    os.kill(pid, signal.SIGKILL)
    _, said = writer.communicate(timeout=20)
    assert b"OSError" in said
    events = [kept.event()["event"]]
    if events == ["died"]:  # one that follows is refused when it asks
        events.append(kept.event()["event"])
    assert events[-1] == "unserved"
    kept.process.wait(5)
    assert not [each for each in system.mounts() if each.target == kept.run / "kept"]
    assert "Linux older than 6.9" in (kept.folder / "log").read_text()


def test_before_anything_is_mounted_a_worker_may_die_anywhere(private, tmp_path):
    made = Kept(tmp_path, **DENIED)
    try:
        made.kill_worker()
        assert made.event()["event"] == "died"
        assert made.ask("mount")["mounted"]
    finally:
        made.close()


WHOLE = """
import json, os, sys, time
from pathlib import Path
sys.path[:0] = json.loads(sys.argv[2])
from test_keeper import Kept, loop, make, system
tmp = Path(sys.argv[1])
kept = Kept(tmp)
kept.ask("mount")
made, fd = loop.attach(kept.file)
make(made.device, "ext4", 0)
(tmp / "data").mkdir()
system.mount(str(made.device), tmp / "data", "ext4")
os.close(fd)
(tmp / "data/x").write_bytes(b"x" * 1000000)
pids = kept.ask("status")
print(json.dumps([made.number, made.sequence, pids["keeper"], pids["worker"]]), flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("order", ["keeper", "worker", "both"])
def test_a_container_that_is_killed_ends(tmp_path, order):
    """All processes of a mount namespace at once: the last one unmounts, and must not wait for itself."""
    path = json.dumps([str(Path(__file__).parent), *sys.path])
    argv = ["unshare", "-m", "--propagation", "private", sys.executable, "-c", WHOLE, str(tmp_path), path]
    first = subprocess.Popen(argv, stdout=-1, start_new_session=True)
    number, sequence, keeper, worker = json.loads(first.stdout.readline())
    kill = {"keeper": (first.pid, keeper), "worker": (first.pid, worker, keeper), "both": (keeper, first.pid)}[order]
    for pid in kill:
        os.kill(pid, signal.SIGKILL)
    first.wait(10)
    used, deadline = loop.Loop(number, sequence), time.monotonic() + 15
    while used.there or alive(keeper) or alive(worker):
        assert time.monotonic() < deadline, (used.there, alive(keeper), alive(worker))
        time.sleep(0.05)


def test_what_is_no_command_is_refused(kept):
    kept.socket.sendall(b"nonsense\n")
    assert "error" in kept.event()
    assert "error" in kept.ask("dance")
    kept.ask("mount")
    assert kept.ask("mount")["mounted"]


def test_a_worker_that_raises_leaves_its_reason_in_the_log(private, tmp_path):
    (tmp_path / "badworker.py").write_text("def run(start):\n    raise RuntimeError('what went wrong')\n")
    made = Kept(tmp_path, worker="badworker")
    try:
        deadline = time.monotonic() + 10
        while b"what went wrong" not in (tmp_path / "log").read_bytes():
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        made.close()
