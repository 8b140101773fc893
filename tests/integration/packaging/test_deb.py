"""The Debian package, in a fresh Debian: installed, run, upgraded under load, removed, purged (make test-deb; minutes).

Each server of a lab gets the system in which the package was installed as its root, over an overlay, so that one
installation serves all. No systemd runs there; test_systemd.py has one.
"""

import json
import os
import re
import shlex
import sys
import threading
from pathlib import Path

import pytest
from debian import CLEAN, FIND, beside, inside, run
from support import VIP, Farm, kill, pids, wait_for

from safekit_py import __version__
from safekit_py.lab import Lab

pytestmark = [pytest.mark.deb, pytest.mark.timeout(1800)]
ROOT = Path(__file__).parents[3]
PLAYBOOK = ROOT / "deploy/ansible/site.yml"
SERVERS = ("server1", "server2")
NEWER = "9.9.9"


def bounds():
    """What the unit lets the agent do, for setpriv."""
    unit = (ROOT / "deploy/systemd/safekit-py.service").read_text()
    allowed = " ".join(re.findall(r"^CapabilityBoundingSet=(.*)", unit, re.MULTILINE)).split()
    return ["--inh-caps=-all", "--bounding-set=-all," + ",".join("+" + e.removeprefix("CAP_").lower() for e in allowed)]


class Installed(Farm):
    """A lab whose servers have the installed system as their root."""

    def __init__(self, lab, base, folder):
        super().__init__(lab)
        self._base, self._folder = base, folder
        self._agents = {}

    def boot(self, host):
        """Mount the server's system, in its own mount namespace, and run the agent as the unit does."""
        top = self._folder / host
        for each in ("upper", "work", "root"):
            (top / each).mkdir(parents=True)
        layers = f"lowerdir={self._base},upperdir={top}/upper,workdir={top}/work"
        self.on(host, "mount", "-t", "overlay", "overlay", "-o", layers, f"{top}/root")
        for each in ("/proc", "/sys", "/dev", "/run", str(self._folder / "ansible")):
            self.on(host, "mkdir", "-p", f"{top}/root{each}")
            self.on(host, "mount", "--rbind", each, f"{top}/root{each}")
        command = ["chroot", f"{top}/root", "setpriv", *bounds(), "/usr/bin/safekit-py", "agent"]
        log = (top / "agent.log").open("w")
        self._agents[host] = self.lab.popen(host, [*CLEAN, *command], stdout=log, stderr=log)
        wait_for(lambda: self.cli(host, "status", check=False).returncode == 0)

    def on(self, host, *command):
        done = self.lab.run(host, list(command), capture_output=True, text=True)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done

    def within(self, host, *command, check=True):
        """Run a program in a server's system."""
        argv = [*CLEAN, "chroot", str(self._folder / host / "root"), *command]
        done = self.lab.run(host, argv, capture_output=True, text=True)
        assert not check or done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done

    def cli(self, host, *words, check=True):
        return self.within(host, "/usr/bin/safekit-py", *words, check=check)

    def play(self, package, **variables):
        """Run the role on all servers; what it says of them."""
        hosts = {host: self._reached(host) for host in SERVERS}
        variables |= {
            "ansible_connection": "local",
            "ansible_become": False,
            "ansible_remote_tmp": str(self._folder / "ansible"),
            "safekit_py_package": str(package),
            "safekit_py_modules": [{"name": "apache", "macros": {"VIP": VIP, "PORT": 80}}],
        }
        inventory = self._folder / "inventory.yml"
        inventory.write_text(json.dumps({"safekit": {"hosts": hosts, "vars": variables}}))
        command = [sys.executable, "-m", "ansible", "playbook", "-i", str(inventory), str(PLAYBOOK)]
        done = run(*command, env={**os.environ, "ANSIBLE_HOME": str(self._folder / "ansible-home"), "LANG": "C.UTF-8"})
        return {
            host: dict(re.findall(r"(\w+)=(\d+)", line))
            for host, line in re.findall(r"(server\d) +: (.*)", done.stdout)
        }

    def _reached(self, host):
        """How ansible reaches a server: its Python is that of the server's system, and so is all that it starts."""
        address = next(each for each in self.lab.hosts if each.name == host).ports[0].address.partition("/")[0]
        program = self._folder / f"python-{host}"
        words = self.lab._command(host, [*CLEAN, "chroot", str(self._folder / host / "root"), "/usr/bin/python3"])
        program.write_text(f'#!/bin/sh\ncd /\nexec {shlex.join(words)} "$@"\n')
        program.chmod(0o755)
        return {"safekit_py_address": address, "ansible_python_interpreter": str(program)}

    def end(self, host):
        """End the agent as systemd would."""
        kill(self, host, pids(self, host, "(safekit-py|safekit_py) agent"), "TERM")
        wait_for(lambda: self.cli(host, "status", check=False).returncode == 69)

    def state(self, host, module="apache"):
        return self.cli(host, "state", module, check=False).stdout


@pytest.fixture(scope="module")
def farm(base, folder):
    with Lab.up("deb", servers=2, agent=False, owner=os.getpid()) as lab:
        (folder / "ansible").mkdir()
        made = Installed(lab, base, folder)
        for host in SERVERS:
            made.boot(host)
        yield made


def test_it_is_installed_with_all_that_belongs_to_it(base):
    assert inside(base, "safekit-py", "--version").stdout.strip().endswith(__version__)
    assert inside(base, "/usr/lib/safekit-py/bin/python3", "-c", "import bcc").returncode == 0
    for path in (
        "lib/systemd/system/safekit-py.service",
        "lib/systemd/system/safekit-witness.service",
        "etc/default/safekit-py",
        "usr/share/bash-completion/completions/safekit-py",
        "usr/share/zsh/vendor-completions/_safekit-py",
        "usr/share/fish/vendor_completions.d/safekit-py.fish",
        "usr/share/safekit-py/prometheus/safekit.rules.yml",
    ):
        assert (base / path).is_file(), path
    assert (base / "etc/systemd/system/multi-user.target.wants/safekit-py.service").is_symlink(), "it is enabled"
    assert inside(base, "getent", "group", "safekit").returncode == 0
    assert inside(base, "getent", "passwd", "safekit-witness").returncode == 0


def test_the_same_tree_gives_the_same_package(package, folder, builder):
    again = folder / "again"
    builder(again)
    assert (again / package.name).read_bytes() == package.read_bytes()


def test_ansible_accepts_the_playbook():
    run(sys.executable, "-m", "ansiblelint", "--offline", "--strict", "site.yml", cwd=PLAYBOOK.parent)


def test_the_role_makes_a_farm_of_servers_and_changes_nothing_the_second_time(farm, package):
    first = farm.play(package)
    assert {host: told["failed"] for host, told in first.items()} == dict.fromkeys(SERVERS, "0")
    wait_for(lambda: farm.serving() == set(SERVERS))
    again = farm.play(package)
    assert {host: told["changed"] for host, told in again.items()} == dict.fromkeys(SERVERS, "0")


def test_a_farm_serves_through_an_upgrade_of_both_servers(farm, newer):
    upgraded, results = threading.Event(), []

    def load():
        while not upgraded.is_set() or not results:
            results.append(farm.fetch(500, rate=0.002))

    loading = threading.Thread(target=load)
    loading.start()
    try:
        for host in SERVERS:
            farm.on(host, "cp", str(newer), f"{farm._folder}/{host}/root/tmp/newer.deb")
            said = farm.within(host, "dpkg", "-i", "/tmp/newer.deb")
            assert f"of version {NEWER} now" in said.stdout, said.stdout + said.stderr
    finally:
        upgraded.set()
        loading.join()
    assert sum(bad for _, bad in results) == 0, f"of {500 * len(results)} requests"
    assert {host for got, _ in results for host in got} == set(SERVERS)
    for host in SERVERS:
        assert f"safekit-py: {NEWER}" in farm.cli(host, "level").stdout
        assert re.search(r"\bUP\b", farm.state(host))


def test_it_is_not_removed_from_under_a_running_agent(farm):
    done = farm.within("server2", "dpkg", "--remove", "safekit-py", check=False)
    assert done.returncode != 0
    assert "an agent runs that systemd did not start" in done.stderr
    assert farm.serving() == set(SERVERS)


def test_removed_it_leaves_what_users_made_and_purged_nothing(farm):
    host = "server2"
    farm.end(host)
    assert farm.serving() == {"server1"}
    farm.within(host, "dpkg", "--remove", "safekit-py")
    left = farm.within(host, "find", "/usr/lib/safekit-py", "/usr/bin/safekit-py", check=False).stdout
    assert left == ""
    assert farm.within(host, "ls", "/opt/safekit/modules").stdout == "apache\n"
    farm.within(host, "dpkg", "--purge", "safekit-py")
    assert beside(farm.within(host, *FIND).stdout) == []
    names = farm.within(host, "cat", "/etc/passwd", "/etc/group").stdout
    assert "safekit" not in names
    assert farm.serving() == {"server1"}


def test_data_of_a_replicated_directory_are_not_purged(farm):
    host = "server1"
    farm.end(host)
    farm.within(host, "mkdir", "-p", "/var/lib/safekit/volumes/db")
    farm.within(host, "sh", "-c", "echo precious > /var/lib/safekit/volumes/db/image")
    said = farm.within(host, "dpkg", "--purge", "safekit-py")
    assert "holds the data of replicated directories" in said.stderr
    assert farm.within(host, "find", "/var/lib/safekit", "-type", "f").stdout == "/var/lib/safekit/volumes/db/image\n"
