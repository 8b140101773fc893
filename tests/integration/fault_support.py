"""What the tests of a mirror's faults share: the lab's servers with disks that fail, lose power or are full, networks
that lose something, a wall clock that jumps, and clients beside the virtual address."""

import contextlib
import os
import subprocess
import time
import uuid
from pathlib import Path
from typing import ClassVar

from disks import MIB, PowerDisk, free
from mirror_support import PORT, SERVERS, VIP, kill, pids, wait_for
from safekit_py.plugins.mirror.volume import adopt, loop

from safekit_py.lab import Lab, switch
from safekit_py.model.paths import Paths

ONE, TWO = SERVERS
READY = ["PRIM Ready", "SECOND Ready"]
SITE = """
import datetime, functools, os, time
_real, _gmtime, _localtime = time.time, time.gmtime, time.localtime
_strftime, _clock = time.strftime, time.clock_gettime
def _step():
    try:
        with open({file!r}) as stream:
            return float(stream.read())
    except (OSError, ValueError):
        return 0.0
class _Stepped(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return super().now(tz) + datetime.timedelta(seconds=_step())
time.time = lambda: _real() + _step()
time.time_ns = lambda: int(time.time() * 1e9)
_plain = functools.partial  # no method when it is an attribute of a class, as the real ones
time.gmtime = _plain(lambda at=None: _gmtime(time.time() if at is None else at))
time.localtime = _plain(lambda at=None: _localtime(time.time() if at is None else at))
time.strftime = _plain(lambda form, at=None: _strftime(form, time.localtime() if at is None else at))
time.clock_gettime = lambda which: time.time() if which == time.CLOCK_REALTIME else _clock(which)
datetime.datetime = _Stepped
if os.path.exists({old!r}):
    os.environ["SAFEKIT_NO_RESEND"] = "1"
"""
BESIDE = """
import http.client, sys, time
port, first, out, end = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], time.monotonic() + float(sys.argv[4])
number = first
with open(out, "a", buffering=1) as acknowledged:
    while time.monotonic() < end:
        number += 1
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
        try:
            connection.request("POST", f"/{number}")
            if connection.getresponse().status == 200:
                acknowledged.write(f"{number}\\n")
        except (OSError, http.client.HTTPException):
            time.sleep(0.02)
        finally:
            connection.close()
        time.sleep(0.01)
"""
ADDRESS = """
import socket, sys, time
address, end, there = sys.argv[1], time.monotonic() + float(sys.argv[2]), False
while time.monotonic() < end:
    with socket.socket() as probe:
        try:
            probe.bind((address, 0))
            now = True
        except OSError:
            now = False
    if now != there:
        there = now
        print(time.monotonic(), int(there), flush=True)
    time.sleep(0.005)
"""


class SteppedLab(Lab):
    """A lab whose servers' programs read the wall clock through a step, in seconds, that stands in a file of each."""

    def _environment(self, host):
        found = super()._environment(host)
        if host not in SERVERS:
            return found
        site = self.root(host) / "site"
        if not site.exists():
            site.mkdir(parents=True)
            (site / "sitecustomize.py").write_text(SITE.format(file=str(site / "step"), old=str(site / "old")))
        return {**found, "PYTHONPATH": f"{site}:{found['PYTHONPATH']}"}

    @contextlib.contextmanager
    def old_kernel(self, *hosts):
        """Volume processes that start meanwhile take the kernel for one older than 6.9."""
        marks = [self.root(host) / "site/old" for host in hosts]
        for each in marks:
            each.touch()
        try:
            yield
        finally:
            for each in marks:
                each.unlink()

    def step(self, host, seconds):
        """The wall clock of this server jumps."""
        new = self.root(host) / "site/step.new"
        new.write_text(str(seconds))
        new.rename(new.with_name("step"))


class HostDisk(PowerDisk):
    """A disk whose file system is mounted on a host of a lab alone: any other namespace would keep it in use."""

    used = None

    def _attach(self, *, make):
        if make:
            used, fd = loop.attach(self.folder / "fuse/disk")
            adopt.make(used.device, "ext4", 0)
            os.close(fd)
            free(used)

    def _detach(self):
        if self.used is not None:
            free(self.used)

    def enter(self, pid):
        """Mount it on a host, before its agent starts."""
        self.used, fd = loop.attach(self.folder / "fuse/disk")
        self.path.mkdir(exist_ok=True)
        argv = ["mount", "-t", "ext4", "-o", "errors=remount-ro", str(self.used.device), str(self.path)]
        try:
            done = subprocess.run(["nsenter", f"--target={pid}", "--mount", *argv], capture_output=True, check=False)
        finally:
            os.close(fd)
        assert done.returncode == 0, done.stderr


class DiskLab(Lab):
    """A lab whose servers have a disk of their own for the volumes: it can fail, be full, and lose what was not
    flushed."""

    disks: ClassVar = {}

    @classmethod
    @contextlib.contextmanager
    def with_disks(cls, folder, size=112 * MIB):
        """The lab, up."""
        with contextlib.ExitStack() as stack:
            for host in SERVERS:
                (folder / host).mkdir()
            made = {host: stack.enter_context(HostDisk(folder / host, size)) for host in SERVERS}
            its = type("DiskLab", (cls,), {"disks": made})
            yield stack.enter_context(its.up(f"m{uuid.uuid4().hex[:6]}", servers=2, owner=os.getpid()))

    def _boot(self, host):
        disk = self.disks.get(host.name)

        def connect(init):
            switch.plug(self._switch(), init, host)
            if disk is not None:
                disk.enter(init.pid)
                var = Paths(self.root(host.name)).var
                var.mkdir(parents=True, exist_ok=True)
                if not (var / "volumes").exists():
                    (var / "volumes").symlink_to(disk.path)

        self._spawn(host.name, connect)

    def volumes(self, host):
        """The volumes' folder of a server that is on."""
        return Path(f"/proc/{self._record.inits[host].pid}/root{self.disks[host].path}")

    def power_cut(self, host, share=0.5, seed=1):
        """Host and disk lose their power; what the disk had not flushed is gone, but for a part."""
        self.kill(host)
        return self.disks[host].cut(share=share, seed=seed)

    def boot(self, host):
        """Power is back."""
        self.disks[host].boot()
        super().boot(host)

    def fill(self, host):
        """Nothing more fits on that disk; returns what to remove to make room."""
        filler = self.volumes(host) / "filler"
        about = os.statvfs(filler.parent)
        fd = os.open(filler, os.O_RDWR | os.O_CREAT)
        try:
            size = about.f_bfree * about.f_frsize
            while size >= 4096:
                try:
                    os.posix_fallocate(fd, os.fstat(fd).st_size, size)
                except OSError:
                    size //= 2
        finally:
            os.close(fd)
        return filler


def roles(mirror):
    """Primary and secondary."""
    first = ONE if mirror.role(ONE) == "PRIM" else TWO
    return first, TWO if first == ONE else ONE


def settle(mirror):
    """PRIM on one server and SECOND on the other, whatever an earlier test left."""
    mirror.lab.heal()
    for host in SERVERS:
        if not mirror.lab.alive(host):
            mirror.lab.boot(host)
    for host in SERVERS:
        wait_for(lambda host=host: mirror.state(host) is not None)
    if all(mirror.role(host) == "STOP" for host in SERVERS):
        mirror.cli(ONE, "prim", "ledger", "--yes")
        wait_for(lambda: mirror.state(ONE) == "ALONE Ready", 30)
        mirror.cli(TWO, "second", "ledger", "--yes")
    for host in SERVERS:
        if mirror.role(host) == "STOP":
            mirror.cli(host, "start", "ledger")
    both(mirror)


def both(mirror, limit=40):
    """Wait until they are PRIM and SECOND, Ready."""
    wait_for(lambda: sorted(mirror.state(h) or "" for h in SERVERS) == READY, limit)


def resource(mirror, host, name):
    """Its value, or an empty text."""
    found = (mirror.status(host) or {}).get("resources", ())
    return next((each["value"] for each in found if each["name"] == name), "")


def log(mirror, host):
    """The last lines of the module's log."""
    return mirror.cli(host, "log", "ledger", "-n", "200", check=False).stdout


def fill(mirror, host, megabytes, name="large"):
    """Write that much into the volume, with fsync; whether it was done. What earlier calls wrote is removed first."""
    path = mirror.lab.root(host) / "data" / name
    code = (
        "import os,sys\n"
        "for name in ('large','much'):\n"
        "  old=os.path.join(os.path.dirname(sys.argv[1]),name)\n"
        "  os.path.exists(old) and os.unlink(old)\n"
        "fd=os.open(sys.argv[1],os.O_WRONLY|os.O_CREAT)\n"
        "for n in range(int(sys.argv[2])): os.pwrite(fd,os.urandom(1<<20),n<<20)\n"
        "os.fsync(fd)\n"
    )
    argv = ["timeout", "-s", "KILL", "60", "python3", "-c", code, str(path), str(megabytes)]
    return mirror.lab.run(host, argv, capture_output=True, text=True).returncode == 0


@contextlib.contextmanager
def asleep(mirror, host, *pattern):
    """The processes of the host that ``pgrep`` finds are stopped meanwhile."""
    found = mirror.lab.run(host, ["pgrep", *pattern], capture_output=True, text=True).stdout.split()
    assert found, f"{host} runs no {pattern[-1]}"
    kill(mirror, host, found, "STOP")
    try:
        yield found
    finally:
        mirror.lab.run(host, ["kill", "-CONT", *found], capture_output=True)


@contextlib.contextmanager
def rules(mirror, host, *lines):
    """Rules of the host's own packet filter, in chains ``in`` and ``out``."""
    text = [
        "table inet fault {",
        "chain in { type filter hook input priority 0;",
        *(line.removeprefix("in ") for line in lines if line.startswith("in ")),
        "}",
        "chain out { type filter hook output priority 0;",
        *(line.removeprefix("out ") for line in lines if line.startswith("out ")),
        "}",
        "}",
    ]
    done = mirror.lab.run(host, ["nft", "-f", "-"], input="\n".join(text), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    try:
        yield
    finally:
        mirror.lab.run(host, ["nft", "delete", "table", "inet", "fault"], capture_output=True)


class Watch:
    """What each server's application acknowledges to a client on that same server, whoever has the address, and when
    each server has the address. All hosts of a lab share the monotonic clock.

    :param seconds: at most.
    """

    def __init__(self, mirror, seconds):
        self.mirror, self._seconds, self._running = mirror, seconds, []
        self._files = {}

    def __enter__(self):
        lab = self.mirror.lab
        for number, host in enumerate(SERVERS, 1):
            file = self.mirror.folder / f"beside-{host}-{time.monotonic_ns()}"
            file.touch()
            self._files[host] = file
            first = number * 10**12 + time.monotonic_ns() // 10**6 * 1000
            argv = ["python3", "-c", BESIDE, str(PORT), str(first), str(file), str(self._seconds)]
            writer = lab.popen(host, argv)
            looker = lab.popen(host, ["python3", "-c", ADDRESS, VIP, str(self._seconds)], stdout=-1, text=True)
            self._running.append((host, writer, looker))
        return self

    def __exit__(self, *_):
        self._stop()

    def _stop(self):
        for _, *both in self._running:
            for each in both:
                each.kill()
                each.wait()

    def end(self, since=0.0):
        """Stop watching, and take in what was acknowledged, so that ``Mirror.check`` asks for it.

        :param since: monotonic seconds.
        :returns: the seconds since then in which both servers had the address.
        """
        now = time.monotonic()
        self._stop()
        spans = {}
        for host, _, looker in self._running:
            changes = [line.split() for line in looker.stdout.read().splitlines()]
            looker.stdout.close()
            at = [float(each[0]) for each in changes]
            ends = [*at[1:], now][: len(at)]
            spans[host] = [(max(a, since), e) for a, e, c in zip(at, ends, changes, strict=True) if c[1] == "1"]
        with self.mirror.record.open("a") as record:
            for file in self._files.values():
                record.write(file.read_text())
        return sum(max(0.0, min(a[1], b[1]) - max(a[0], b[0])) for a in spans[ONE] for b in spans[TWO])

    def count(self, host):
        """What its application has acknowledged so far."""
        return len(self._files[host].read_text().split())


__all__ = [
    "ONE", "TWO", "DiskLab", "SteppedLab", "Watch", "asleep", "both", "fill", "kill", "log", "pids", "resource",
    "roles", "rules", "settle", "wait_for",
]  # fmt: skip
