"""The units under a real systemd: it boots the system in which the package was installed, in namespaces of its own."""

import contextlib
import os
import subprocess
import time
import uuid
from pathlib import Path

import pytest
from debian import CLEAN, run
from support import wait_for

pytestmark = [pytest.mark.deb, pytest.mark.timeout(1800)]
GROUPS = Path("/sys/fs/cgroup")
APP = """<safe><service mode="light">
<errd><proc name="sleep" argregex="12345" class="both" action="restart"/></errd><user/>
</service></safe>
"""
START = "#!/bin/sh\nsetsid sleep 12345 >/dev/null 2>&1 </dev/null &\n"
STOP = "#!/bin/sh\npkill -f 'sleep 12345'; exit 0\n"
SHORT = "[Service]\nWatchdogSec=4\n"

# In the new namespaces. Where this machine has control groups of the first version, systemd gets its own hierarchy.
BOOT = """#!/bin/sh
set -e
mount --make-rprivate /
mount -t overlay overlay -o lowerdir={base},upperdir={top}/upper,workdir={top}/work {root}
mount -t proc proc {root}/proc
mount -t sysfs sysfs {root}/sys
mount -t bpf bpf {root}/sys/fs/bpf
mount -t tmpfs tmpfs {root}/run
mount --rbind /dev {root}/dev
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
    mount -t cgroup2 cgroup2 {root}/sys/fs/cgroup
else
    mount -t tmpfs tmpfs {root}/sys/fs/cgroup
    mkdir {root}/sys/fs/cgroup/systemd {root}/sys/fs/cgroup/unified
    mount -t cgroup -o none,name=systemd cgroup {root}/sys/fs/cgroup/systemd
    mount -t cgroup2 cgroup2 {root}/sys/fs/cgroup/unified
fi
exec chroot {root} env -i container=lab PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd
"""


class Machine:
    """A system that systemd has booted."""

    def __init__(self, base, top):
        self.top, self.root = top, top / "root"
        self._group = f"safekit-{uuid.uuid4().hex[:6]}"
        for each in ("upper", "work", "root"):
            (top / each).mkdir(parents=True)
        script = top / "boot"
        script.write_text(BOOT.format(base=base, top=top, root=self.root))
        script.chmod(0o755)
        self._groups = [
            each.parent
            for each in (GROUPS, GROUPS / "systemd", GROUPS / "unified")
            for each in each.glob("cgroup.procs")
        ]
        for each in self._groups:
            (each / self._group).mkdir()
        enter = [f"echo $$ >{each / self._group}/cgroup.procs" for each in self._groups]
        new = "unshare --pid --fork --kill-child --mount --net --uts --ipc --cgroup"
        self._unshare = subprocess.Popen(["sh", "-c", "\n".join([*enter, f"exec {new} {script}"])])
        self._init = wait_for(self._child)
        wait_for(lambda: self.run("systemctl", "is-active", "multi-user.target").stdout == "active\n")

    def _child(self):
        found = Path(f"/proc/{self._unshare.pid}/task/{self._unshare.pid}/children").read_text().split()
        return int(found[0]) if found else 0

    def run(self, *command, check=False):
        spaces = ["--pid", "--mount", "--net", "--uts", "--ipc", "--cgroup", "--root", "--wd"]
        return run("nsenter", f"--target={self._init}", *spaces, *CLEAN, *command, check=check)

    def write(self, path, text):
        self.run("mkdir", "-p", str(Path(path).parent), check=True)
        done = self.run("sh", "-c", 'printf %s "$1" >"$2"; chmod 755 "$2"', "sh", text, path, check=True)
        assert done.stderr == ""

    def show(self, name):
        return self.run("systemctl", "show", "--property", name, "--value", "safekit-py").stdout.strip()

    def end(self):
        """As a power cut; the kernel ends and unmounts all of it."""
        self._unshare.kill()
        self._unshare.wait()
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._init, 9)
        for top in self._groups:
            for each in sorted((top / self._group).glob("**/"), reverse=True):
                wait_for(lambda each=each: _removed(each))


def _removed(folder):
    try:
        folder.rmdir()
    except FileNotFoundError:
        return True
    except OSError:  # its processes are still ending
        return False
    return True


@pytest.fixture(scope="module")
def machine(base, tmp_path_factory):
    made = Machine(base, tmp_path_factory.mktemp("systemd"))
    yield made
    made.end()


@pytest.fixture(scope="module")
def app(machine):
    """A light module that runs; what its process is called."""
    machine.write("/tmp/app/conf/userconfig.xml", APP)
    machine.write("/tmp/app/bin/start_both", START)
    machine.write("/tmp/app/bin/stop_both", STOP)
    machine.run("safekit-py", "module", "install", "/tmp/app", "-m", "app", check=True)
    machine.run("safekit-py", "start", "app", "--wait", check=True)
    return "sleep 12345"


def pid(machine, words):
    return machine.run("pgrep", "-f", words).stdout.strip()


def test_the_agent_starts_with_the_server_and_says_what_its_modules_do(machine, app):
    assert machine.run("systemctl", "is-active", "safekit.service").stdout == "active\n", "by its other name, too"
    wait_for(lambda: machine.show("StatusText") == "app UP Ready")
    assert machine.run("systemctl", "is-enabled", "safekit-witness").stdout == "disabled\n"


def test_a_reload_replaces_the_agent_and_neither_stops_nor_counts_as_a_failure(machine, app):
    before, running = machine.show("MainPID"), pid(machine, app)
    machine.run("systemctl", "reload", "safekit-py", check=True)
    after = machine.show("MainPID")
    assert after != before
    assert (machine.show("ActiveState"), machine.show("SubState"), machine.show("NRestarts")) == (
        "active",
        "running",
        "0",
    )
    assert pid(machine, app) == running != ""
    assert "UP Ready" in machine.run("safekit-py", "status", "app", check=True).stdout


def test_an_agent_that_hangs_is_started_again(machine, app):
    machine.write("/etc/systemd/system/safekit-py.service.d/short.conf", SHORT)
    machine.run("systemctl", "daemon-reload", check=True)
    machine.run("systemctl", "restart", "safekit-py", check=True)
    wait_for(lambda: machine.show("StatusText") == "app UP Ready")
    before = machine.show("MainPID")
    time.sleep(5)
    assert machine.show("MainPID") == before, "one that turns is left alone"
    machine.run("systemctl", "kill", "--signal=STOP", "--kill-whom=main", "safekit-py", check=True)
    wait_for(lambda: machine.show("NRestarts") == "1" and machine.show("StatusText") == "app UP Ready")


def test_a_stop_of_the_agent_stops_its_modules_and_a_start_starts_them(machine, app):
    machine.run("systemctl", "stop", "safekit-py", check=True)
    assert pid(machine, app) == ""
    machine.run("systemctl", "start", "safekit-py", check=True)
    wait_for(lambda: machine.show("StatusText") == "app UP Ready" and pid(machine, app))


def test_remove_stops_the_agent_and_its_modules(machine, app):
    machine.run("dpkg", "--remove", "safekit-py", check=True)
    assert pid(machine, app) == pid(machine, "safekit-py agent") == ""
    assert machine.run("systemctl", "is-active", "safekit-py").stdout != "active\n"
    machine.run("dpkg", "--purge", "safekit-py", check=True)
    assert machine.run("find", "/etc/systemd", "-name", "safekit*", "!", "-path", "*.d*").stdout == ""
