"""Two servers as namespaces with two networks between them: a network that is cut, and entries that last."""

import contextlib
import json
import os
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.lab

PORT = 8899
PROGRAM = """
import asyncio, json, sys
from pathlib import Path
sys.path[:0] = sys.argv[3:]
import test_heart
from safekit_py.model.config import Cluster, Lan, LanNode
lans = [Lan(f"net{n}", tuple(LanNode(s, a + str(i + 1)) for i, s in enumerate(("one", "two")))) for n, a in
        enumerate(("10.97.0.", "fd97::"))]
async def main():
    node, root = sys.argv[1], Path(sys.argv[2])
    heart = test_heart.heart_of(node, 8899, root, test_heart.RealtimeThread(), permanent_arp=True,
                                cluster_xml=Cluster(lans=tuple(lans), nodes=("one", "two")))
    heart.start(lambda beat: None)
    heart.say({"from": node})
    print("ready", flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        beat = heart.last()
        print(json.dumps([heart.lans(), heart.silence(), beat and beat.says, heart.log]), flush=True)
    heart.close()
asyncio.run(main())
"""


def ip(*words, namespace=None):
    where = ("-n", namespace) if namespace else ()
    return subprocess.run(["ip", *where, *words], check=True, capture_output=True, text=True).stdout


class Server:
    """A heart in a namespace."""

    def __init__(self, node, namespace, folder):
        self.node, self.namespace = node, namespace
        command = [sys.executable, "-c", PROGRAM, node, str(folder), str(Path(__file__).parent)]
        self.process = subprocess.Popen(
            ["ip", "netns", "exec", namespace, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def line(self):
        ready, _, _ = select.select([self.process.stdout], [], [], 15)
        assert ready, "it does not answer"
        return self.process.stdout.readline().strip()

    def state(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return json.loads(self.line())

    def neighbours(self):
        found = json.loads(ip("-j", "neigh", "show", namespace=self.namespace))
        return {each["dst"] for each in found if "PERMANENT" in each["state"]}

    def end(self, *, kill=False):
        if kill:
            self.process.kill()
        else:
            self.process.stdin.close()
        self.process.wait(15)
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        self.process.stdout.close()


@pytest.fixture
def servers(tmp_path):
    names = [f"sk-heart-{os.getpid()}-{n}" for n in (1, 2)]
    running = []
    try:
        for name in names:
            ip("netns", "add", name)
            ip("link", "set", "lo", "up", namespace=name)
        for lan in range(2):
            device = f"lan{lan}"
            ip("link", "add", device, "netns", names[0], "type", "veth", "peer", "name", device, "netns", names[1])
            for number, name in enumerate(names, 1):
                address = f"10.97.0.{number}/24" if lan == 0 else f"fd97::{number}/64"
                ip("addr", "add", address, "dev", device, *(["nodad"] if lan else []), namespace=name)
                ip("link", "set", device, "up", namespace=name)

        def start(number):
            made = Server(("one", "two")[number], names[number], tmp_path)
            running.append(made)
            assert made.line() == "ready"
            return made

        yield start
    finally:
        for each in running:
            if each.process.poll() is None:
                each.end(kill=True)
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


def until(holds, limit=10):
    end = time.monotonic() + limit
    while not holds():
        assert time.monotonic() < end, "not in time"
        time.sleep(0.02)


def test_a_cut_network_is_told_apart_and_entries_last_until_the_end(servers):
    one, two = servers(0), servers(1)
    until(lambda: max(one.state()[0].values()) < 1 and one.state()[2] == {"from": "two"})
    until(lambda: one.neighbours() == {"10.97.0.2", "fd97::2"})
    until(lambda: two.neighbours() == {"10.97.0.1", "fd97::1"})

    ip("link", "set", "lan0", "down", namespace=two.namespace)
    until(lambda: one.state()[0]["net0"] > 0.4)
    lans, silence, _, log = one.state()
    assert lans["net1"] < 0.4
    assert silence < 0.4, "the other network goes on"
    assert log == []
    ip("link", "set", "lan1", "down", namespace=two.namespace)
    until(lambda: one.state()[1] > 1.2)
    for lan in ("lan0", "lan1"):
        ip("link", "set", lan, "up", namespace=two.namespace)
    ip("addr", "replace", "fd97::2/64", "dev", "lan1", "nodad", namespace=two.namespace)  # the kernel took it away
    until(lambda: max(one.state()[0].values()) < 0.3 and max(two.state()[0].values()) < 0.3)

    until(lambda: two.neighbours() == {"10.97.0.1", "fd97::1"})  # a device that goes down loses them

    one.end()
    assert one.neighbours() == set()
    two.end(kill=True)
    assert two.neighbours(), "nobody has let them go"
    two = servers(1)
    until(lambda: two.state()[1] > 0.1)
    assert two.neighbours() == set(), "what the run before left"


def test_a_server_whose_network_comes_later_hears_the_other_then(servers):
    one = servers(0)
    ip("addr", "del", "10.97.0.2/24", "dev", "lan0", namespace=(name := one.namespace[:-1] + "2"))
    ip("link", "set", "lan1", "down", namespace=name)
    two = servers(1)
    assert two.state()[2] is None
    ip("addr", "add", "10.97.0.2/24", "dev", "lan0", namespace=name)
    until(lambda: two.state()[2] == {"from": "one"} and one.state()[2] == {"from": "two"})
