"""What the tests of the database modules share: two lab servers with a shipped module, and a client that knows what it
was promised, which types its statements into the database's own command line."""

import itertools
import os
import select
import shutil
import subprocess
import threading
import time
import uuid
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

from mirror_support import SERVERS
from support import VIP, Farm, kill, wait_for

from safekit_py.lab import Lab
from safekit_py.lab.ledger import compare

MODULES = Path(__file__).resolve().parents[2] / "modules"
QUICK = {
    "<heart>": '<heart pulse="100ms" timeout="1s">',
    'interval="10s"': 'interval="1s"',
    "    <user ": '    <failover period="500ms" handle_time="1s"/>\n    <user ',
}


def quick(folder, module):
    """The shipped module, but that what fails is seen within a second: as shipped, each fault would be waited for."""
    made = folder / module
    shutil.copytree(MODULES / module, made)
    path = made / "conf/userconfig.xml"
    text = path.read_text()
    for old, new in QUICK.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    path.write_text(text)
    return made


class Pair(Farm):
    """A lab of two servers with a database module, PRIM on the first and SECOND on the other."""

    def __init__(self, lab, module):
        super().__init__(lab)
        self.module = module

    def data(self, host):
        """The database's directory: each server has one of its own, since both are on one machine."""
        return self.lab.root(host) / "database"

    def first_start(self, folder, prepare, macros=lambda _host: {}):
        """Install, then ``prim`` on one server, ``prepare`` of the database that it made, and ``second``."""
        one, two = SERVERS
        for host in SERVERS:
            wait_for(lambda host=host: self.cli(host, "status", check=False).returncode == 0)
            self.data(host).mkdir()
            values = {"VIP": VIP, "DATADIR": self.data(host), "INITDB": "yes", **macros(host)}
            self.install(host, str(quick(folder / host, self.module)), **values)
        self.cli(one, "prim", self.module, "--yes")
        wait_for(lambda: self.now(one) == "ALONE Ready", 30)
        prepare(one)
        self.cli(two, "second", self.module, "--yes")
        self.both(one, two)

    def now(self, host):
        return self.state(host, self.module)

    def both(self, primary, secondary):
        wait_for(lambda: (self.now(primary), self.now(secondary)) == ("PRIM Ready", "SECOND Ready"), 60)

    def roles(self):
        """Primary and secondary, both ready, whatever an earlier test left."""
        for host in SERVERS:
            if not self.lab.alive(host):
                self.lab.boot(host)
        wait_for(lambda: sorted(self.now(h) or "" for h in SERVERS) == ["PRIM Ready", "SECOND Ready"], 60)
        return SERVERS if self.now(SERVERS[0]) == "PRIM Ready" else SERVERS[::-1]

    def run(self, host, *argv, text=None):
        """A program on a host; what it prints."""
        done = self.lab.run(host, list(argv), input=text, capture_output=True, text=True)
        assert done.returncode == 0, f"{host}: {argv}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def processes(self, host, program):
        """The ids of the processes with this name, the oldest first."""
        found = self.lab.run(host, ["ps", "-C", program, "-o", "pid=", "--sort=start_time,pid"], capture_output=True)
        return [int(each) for each in found.stdout.split()]

    def starts(self, host):
        return self.status(host, self.module)["starts"]

    def show(self):
        for host in SERVERS:
            if self.lab.alive(host):
                print(f"== {host}: {self.now(host)}")
                print(self.cli(host, "log", self.module, "-n", "60", check=False).stdout)
                userlog = self.lab.root(host) / f"var/lib/safekit/modules/{self.module}/userlog"
                print(userlog.read_text()[-3000:] if userlog.exists() else "no userlog")


@contextmanager
def pair(module):
    """A lab for the module, not installed yet."""
    with Lab.up(f"d{uuid.uuid4().hex[:6]}", servers=2, owner=os.getpid()) as lab:
        yield Pair(lab, module)


class CommandLine:
    """Commits numbers through a database's command-line client, which is started anew whenever it says anything but
    what it should.

    :param argv: the client; it reads statements and ends at the first that fails.
    :param insert: commits ``{number}``, then selects it: so what comes back has been committed.
    """

    def __init__(self, pair, argv, insert, select, env=None):
        self._pair, self._argv, self._insert, self._select = pair, argv, insert, select
        self._env = env or {}
        self._numbers, self.record = itertools.count(1), []
        self._stop, self._thread = threading.Event(), None
        self._longest, self.troubles = 0.0, Counter()

    def begin(self):
        """Commit beside what follows, once the first ten are acknowledged."""
        self._stop.clear()
        self._longest = 0.0
        before = self.acknowledged()
        self._thread = threading.Thread(target=self._write)
        self._thread.start()
        wait_for(lambda: self.acknowledged() >= before + 10, 20)

    def end(self):
        """The longest time without a commit, in seconds."""
        before = self.acknowledged()
        try:
            wait_for(lambda: self.acknowledged() >= before + 10, 30)
        finally:
            self.stop()
        return self._longest

    def stop(self):
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        print("what the client was told:", dict(self.troubles))  # seen when the test fails

    def acknowledged(self):
        return sum(line[0] == "+" for line in self.record)

    def check(self):
        """Every acknowledged number is there, once."""
        process = self._start()
        text, _ = process.communicate(self._select, timeout=30)
        assert process.returncode == 0, text
        verdict = compare(self.record, Counter(map(int, text.split())))
        assert verdict.good, verdict
        return verdict.acknowledged

    def _start(self):
        pipe = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        return self._pair.lab.popen("client1", self._argv, **pipe, text=True, env=self._env)

    def _write(self):
        process, last = None, time.monotonic()
        while not self._stop.is_set():
            process = process or self._start()
            number = next(self._numbers)
            self.record.append(f"? {number}")
            if self._commits(process, number):
                self.record.append(f"+ {number}")
                now = time.monotonic()
                self._longest, last = max(self._longest, now - last), now
            else:
                end(process)
                process = None
                self._stop.wait(0.05)
        if process is not None:
            end(process)

    def _commits(self, process, number):
        limit = time.monotonic() + 2
        try:
            process.stdin.write(self._insert.format(number=number) + "\n")
            process.stdin.flush()
            said = ""
            while not said.strip() and time.monotonic() < limit:
                if select.select([process.stdout], [], [], 0.1)[0]:
                    more = os.read(process.stdout.fileno(), 4096).decode()
                    if not more:
                        break
                    said += more
        except OSError as error:
            said = str(error)
        if said.split() != [str(number)]:
            self.troubles[said] += 1
        return said.split() == [str(number)]


def end(process):
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        try:
            stream.close()
        except OSError:
            continue  # what was not sent any more


__all__ = ["SERVERS", "VIP", "CommandLine", "Pair", "kill", "pair", "quick", "wait_for"]
