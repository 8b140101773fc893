"""What the tests of this folder share: a farm in a lab, and the ways to look at it and to break it."""

import json
import time

import pytest

from safekit_py.control.client import Client
from safekit_py.errors import SafekitError
from safekit_py.model.paths import Paths

VIP = "10.77.0.100"


def wait_for(what, limit=40.0, every=0.1):
    """The first true value of ``what()``; fails with the last one after ``limit`` seconds."""
    end = time.monotonic() + limit
    while True:
        value = what()
        if value:
            return value
        if time.monotonic() > end:
            pytest.fail(
                f"not seen in {limit} s: {what.__name__ if hasattr(what, '__name__') else what}; last: {value!r}"
            )
        time.sleep(every)


class Farm:
    """A lab with modules on it."""

    def __init__(self, lab):
        self.lab = lab

    def cli(self, host, *words, check=True):
        done = self.lab.run(host, ["safekit-py", *words], capture_output=True, text=True)
        if check:
            assert done.returncode == 0, f"{host}: safekit-py {' '.join(words)}\n{done.stdout}\n{done.stderr}"
        return done

    def status(self, host, module="apache"):
        """What ``status --json`` shows of the module, or None; asked on the agent's socket, because tests look at it
        hundreds of times, and each command would be a process."""
        if not self.lab.alive(host):
            return None
        try:
            return Client(Paths(self.lab.root(host))).call("GET", f"/modules/{module}")
        except SafekitError:
            return None

    def state(self, host, module="apache"):
        found = self.status(host, module)
        return f"{found['state']} {found['readiness']}".strip() if found else None

    def members(self, host, module="apache"):
        """How many servers take clients, as this one sees it."""
        return sum(m["state"] == "member" for m in self.status(host, module)["report"]["members"])

    def install(self, host, module="apache", **macros):
        words = [f"--set={k}={v}" for k, v in macros.items()]
        return self.cli(host, "module", "install", module, *words)

    def fetch(self, count=60, *, rate=0.0, timeout=1.0, url=f"http://{VIP}/server-name.txt"):
        """What the client host gets: {server: requests}, failures."""
        code = (
            "import http.client,json,sys,time,urllib.parse as u\n"
            "p=u.urlsplit(sys.argv[1]);got={};bad=0\n"
            "for _ in range(int(sys.argv[2])):\n"
            "  c=http.client.HTTPConnection(p.hostname,p.port or 80,timeout=float(sys.argv[3]))\n"
            "  try:\n"
            "    c.request('GET',p.path);n=c.getresponse().read().decode().strip();got[n]=got.get(n,0)+1\n"
            "  except OSError: bad+=1\n"
            "  finally: c.close()\n"
            "  time.sleep(float(sys.argv[4]))\n"
            "print(json.dumps([got,bad]))\n"
        )
        argv = ["python3", "-c", code, url, str(count), str(timeout), str(rate)]
        done = self.lab.run("client1", argv, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def serving(self):
        """The servers that answer the client."""
        got, _ = self.fetch(30, timeout=0.3)
        return set(got)


def pids(farm, host, pattern):
    """Process ids in a host whose command line contains ``pattern``, as its own ps sees them."""
    done = farm.lab.run(host, ["pgrep", "-f", pattern], capture_output=True, text=True)
    return [int(p) for p in done.stdout.split()]


def kill(farm, host, numbers, signal="KILL"):
    """Send a signal to each; at least one must be there still, for those after it may be its children."""
    assert numbers, f"nothing to kill on {host}"
    command = ["kill", f"-{signal}", *map(str, numbers)]
    done = farm.lab.run(host, command, capture_output=True, text=True)
    gone = done.stderr.count("No such process")
    assert done.returncode == 0 or gone == len(done.stderr.splitlines()) < len(numbers), done.stderr
