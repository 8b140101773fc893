"""Two hearts over loopback: what one says the other knows, and what becomes of that when one stops or begins anew."""

import asyncio
import contextlib
import hashlib
import json
import math
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safekit_py.plugins.mirror.heart import Heart, places
from safekit_py.plugins.mirror.model import Heart as Configuration
from safekit_py.plugins.mirror.model import Heartbeat

from safekit_py.errors import SafekitError
from safekit_py.model.config import Cluster, Lan, LanNode, ModuleConfig, Service
from safekit_py.model.paths import Paths
from safekit_py.model.plugin import ModuleContext
from safekit_py.net.keys import Keys
from safekit_py.net.pulse import RealtimeThread

KEY = bytes(range(32))
PULSE = 0.03


def free_port():
    """A UDP port that is free on every loopback address."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("0.0.0.0", 0))
        return probe.getsockname()[1]


def cluster(lans=2):
    return Cluster(
        lans=tuple(
            Lan(f"net{n}", (LanNode("one", f"127.1.{n}.1"), LanNode("two", f"127.1.{n}.2"))) for n in range(lans)
        ),
        nodes=("one", "two"),
    )


def heart_of(node, port, tmp_path, thread, *, lans=2, cluster_xml=None, on_sent=lambda _: None, permanent_arp=False):
    networks = tuple(Heartbeat(f"net{n}") for n in range(lans))
    configuration = Configuration(networks, port=port, pulse=PULSE, permanent_arp=permanent_arp)
    log = []
    context = ModuleContext(
        name="db",
        config=ModuleConfig(Service("mirror")),
        cluster=cluster_xml or cluster(lans),
        node=node,
        paths=Paths(tmp_path / node),
        keys=Keys.of(KEY),
        module_id=0,
        log=lambda severity, text: log.append((severity, text)),
        set_resource=lambda *_: None,
    )
    made = Heart(context, configuration, thread, on_sent)
    made.log = log
    return made


class Two:
    """Two hearts in this process, each with a thread of its own."""

    def __init__(self, tmp_path, **options):
        self.port, self.tmp_path, self.options = free_port(), tmp_path, options
        self.threads = {node: RealtimeThread() for node in ("one", "two")}
        self.hearts, self.told = {}, {"one": [], "two": []}

    def start(self, node, words):
        heart = heart_of(node, self.port, self.tmp_path, self.threads[node], **self.options)
        heart.start(self.told[node].append)
        self.hearts[node] = heart
        heart.say(words)
        return heart

    def stop(self, node):
        self.hearts.pop(node).close()

    def close(self):
        for node in list(self.hearts):
            self.stop(node)


@contextlib.asynccontextmanager
async def both(tmp_path, **options):
    two = Two(tmp_path, **options)
    try:
        two.start("one", {"state": "PRIM"})
        two.start("two", {"state": "SECOND"})
        await until(lambda: says(two, "one") == {"state": "SECOND"} and says(two, "two") == {"state": "PRIM"})
        yield two
    finally:
        two.close()


def says(two, node):
    beat = two.hearts[node].last()
    return None if beat is None else beat.says


async def until(holds, limit=4.0):
    end = time.monotonic() + limit
    while not holds():
        assert time.monotonic() < end, "not in time"
        await asyncio.sleep(0.005)


def run(scenario):
    asyncio.run(asyncio.wait_for(scenario, 30))


def test_each_hears_what_the_other_says_and_when_it_was_heard(tmp_path):
    async def scenario():
        sent = []
        async with both(tmp_path, on_sent=sent.append) as two:
            one, other = two.hearts["one"], two.hearts["two"]
            mark = time.monotonic_ns()
            await asyncio.sleep(4 * PULSE)
            assert not one.answered(mark), "repeated words are no sign of who says them"
            one.say({"state": "PRIM", "tick": 1})
            other.say({"state": "SECOND", "tick": 1})
            await until(lambda: one.answered(mark) and other.answered(mark))
            beat = one.last()
            assert mark < beat.echo <= beat.at <= time.monotonic_ns()
            assert mark < one.sent <= max(sent) <= time.monotonic_ns()
            assert all(age < 1 for age in one.lans().values())
            assert set(one.lans()) == {"net0", "net1"}
            assert one.silence() < 1
            told = len(two.told["one"])
            other.say({"state": "ALONE", "list": [1, 2.5, None, True, {"ä": "ö"}]})
            await until(lambda: len(two.told["one"]) > told)
            assert [beat.says for beat in two.told["one"][told:]] == [
                {"state": "ALONE", "list": [1, 2.5, None, True, {"ä": "ö"}]}
            ]
            await asyncio.sleep(5 * PULSE)
            assert len(two.told["one"]) == told + 1, "told without news"
            assert one.snapshot()["rejected"].get("auth") is None

    run(scenario())


def test_thirty_thousand_bytes_arrive_whole_and_more_are_refused(tmp_path):
    async def scenario():
        async with both(tmp_path) as two:
            words = {"x": "".join(chr(0xC0 + byte % 64) for byte in hashlib.shake_256(b"").digest(14_990))}
            assert 29_900 < len(json.dumps(words, ensure_ascii=False).encode()) <= 30_000
            began = time.monotonic()
            two.hearts["one"].say(words)
            await until(lambda: says(two, "two") == words)
            assert time.monotonic() - began < 1
            await until(lambda: two.hearts["one"].snapshot()["confirmed"] == 2)
            for bad in ({"x": "y" * 30_000}, {"x": object()}, {"x": math.nan}):
                with pytest.raises(SafekitError, match="heartbeat") as caught:
                    two.hearts["one"].say(bad)
                assert caught.value.problems[0].code == "heart.words"
            await asyncio.sleep(3 * PULSE)
            assert says(two, "two") == words

    run(scenario())


def test_no_beat_goes_out_before_the_first_words(tmp_path):
    async def scenario():
        two = Two(tmp_path)
        try:
            heart = heart_of("one", two.port, tmp_path, two.threads["one"])
            two.hearts["one"] = heart
            heart.start(two.told["one"].append)
            two.start("two", {"n": 1})
            await asyncio.sleep(5 * PULSE)
            assert heart.sent == 0
            assert two.hearts["two"].last() is None
            heart.say({"n": 2})
            await until(lambda: says(two, "two") == {"n": 2} and says(two, "one") == {"n": 1})
        finally:
            two.close()

    run(scenario())


def test_a_server_that_begins_anew_is_seen_at_once_and_its_old_words_end(tmp_path):
    async def scenario():
        async with both(tmp_path) as two:
            old, told = two.hearts["one"].last(), len(two.told["one"])
            two.stop("two")
            await asyncio.sleep(3 * PULSE)
            began = time.monotonic()
            two.start("two", {"state": "SECOND"})  # the same words, yet of another run
            await until(lambda: len(two.told["one"]) > told)
            assert time.monotonic() - began < 1, "two pulses, and the noise of this machine"
            assert two.hearts["one"].last().at > old.at
            mark = time.monotonic_ns()
            for heart in two.hearts.values():
                heart.say({"tick": 2})
            await until(lambda: two.hearts["two"].answered(mark) and two.hearts["one"].answered(mark))

    run(scenario())


def test_silence_grows_when_the_other_is_gone_and_the_last_words_stay(tmp_path):
    async def scenario():
        async with both(tmp_path) as two:
            two.hearts["two"].say({"state": "STOP"})
            two.stop("two")  # at once: the goodbye is repeated by close
            await until(lambda: two.hearts["one"].silence() > 0.3)
            assert says(two, "one") == {"state": "STOP"}
            assert min(two.hearts["one"].lans().values()) > 0.3
            at = two.hearts["one"].last().at
            await asyncio.sleep(3 * PULSE)
            assert two.hearts["one"].last().at == at

    run(scenario())


def test_a_taken_port_is_told_and_leaves_nothing_open(tmp_path):
    async def scenario():
        port, thread = free_port(), RealtimeThread()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as squatter:
            squatter.bind(("127.1.1.1", port))
            with pytest.raises(SafekitError) as caught:
                heart_of("one", port, tmp_path, thread).start(lambda _: None)
            assert caught.value.problems[0].code == "heart.no-socket"
        heart = heart_of("one", port, tmp_path, thread)
        heart.start(lambda _: None)
        heart.close()

    run(scenario())


def test_names_and_ipv6_are_resolved_and_an_unknown_name_holds_nobody_up(tmp_path):
    async def scenario():
        lans = (
            Lan("net0", (LanNode("one", "localhost"), LanNode("two", "127.1.7.2"))),
            Lan("net1", (LanNode("one", "127.1.8.1"), LanNode("two", "no.such.host.invalid"))),
        )
        mixed = Cluster(lans=lans, nodes=("one", "two"))
        heart = heart_of("one", free_port(), tmp_path, RealtimeThread(), cluster_xml=mixed)
        began = time.monotonic()
        heart.start(lambda _: None)
        assert time.monotonic() - began < 0.5
        heart.say({})
        try:
            await until(lambda: heart.sent > 0 and heart.log, 20)
            assert "net1" in heart.log[0][1]
            assert heart.lans() == {"net0": math.inf, "net1": math.inf}
        finally:
            heart.close()

    run(scenario())


@pytest.mark.parametrize(
    ("nodes", "words"),
    [
        ((("one",),), "net0"),
        ((("two", "three"),), "net0"),
        ((("one", "two", "three"),), "one, two, three"),
        ((("one", "two"), ("one", "three")), "three, two"),
        ((), "none"),
    ],
)
def test_the_networks_must_lead_to_one_other_server(nodes, words):
    lans = tuple(
        Lan(f"net{n}", tuple(LanNode(name, f"10.0.{n}.{i}") for i, name in enumerate(each)))
        for n, each in enumerate(nodes)
    )
    heart = Configuration(tuple(Heartbeat(lan.name) for lan in lans))
    with pytest.raises(SafekitError) as caught:
        places(Cluster(lans=lans, nodes=("one", "two", "three")), "one", heart)
    assert caught.value.problems[0].code == "heart.servers"
    assert words in str(caught.value.problems[0])


def test_each_network_has_its_number_in_the_cluster_and_its_own_pulse():
    heart = Configuration((Heartbeat("net1", pulse=0.7), Heartbeat("net0")), pulse=0.2)
    other, found = places(cluster(), "two", heart)
    assert other == "one"
    assert [(p.index, p.name, p.local, p.other, p.pulse) for p in found] == [
        (1, "net1", "127.1.1.2", "127.1.1.1", 0.7),
        (0, "net0", "127.1.0.2", "127.1.0.1", 0.2),
    ]


# --- another process, stopped and continued -----------------------------------------------------------

PROGRAM = """
import asyncio, sys
sys.path[:0] = sys.argv[3:]
import test_heart
from pathlib import Path
async def main():
    heart = test_heart.heart_of("two", int(sys.argv[1]), Path(sys.argv[2]), test_heart.RealtimeThread())
    heart.start(lambda beat: None)
    heart.say({"state": "SECOND"})
    print("ready", flush=True)
    while True:
        line = await asyncio.to_thread(sys.stdin.readline)
        if not line:
            break
        print(heart.silence(), heart.answered(int(line)), flush=True)
    heart.close()
asyncio.run(main())
"""


def test_a_stopped_server_is_missed_and_knows_its_own_pause_when_it_goes_on(tmp_path):
    async def scenario():
        two = Two(tmp_path)
        other = begin(two.port, tmp_path)
        try:
            assert (await asyncio.to_thread(answer, other)) == "ready"
            one = two.start("one", {"state": "PRIM"})
            await until(lambda: says(two, "one") == {"state": "SECOND"})
            stopped = time.monotonic_ns()
            other.send_signal(signal.SIGSTOP)
            await until(lambda: one.silence() > 0.3)
            assert time.monotonic_ns() - stopped < 2_000_000_000
            one.say({"tick": 2})
            await asyncio.sleep(1)
            mark = time.monotonic_ns()
            other.send_signal(signal.SIGCONT)
            other.stdin.write(f"{mark}\n")
            other.stdin.flush()
            silence, _ = (await asyncio.to_thread(answer, other)).split()
            assert float(silence) < 0.5, "it takes its own pause of more than a second for this server's silence"
            assert not one.answered(mark)
            one.say({"tick": 3})
            await until(lambda: one.answered(mark))
            await until(lambda: one.silence() < 0.2)
        finally:
            other.send_signal(signal.SIGCONT)
            other.kill()
            other.wait()
            other.stdin.close()
            other.stdout.close()
            two.close()

    run(scenario())


def begin(port, tmp_path):
    folder = str(Path(__file__).parent)
    command = [sys.executable, "-c", PROGRAM, str(port), str(tmp_path), folder]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def answer(process, limit=15):
    """A line of the process, or an error after a while."""
    ready, _, _ = select.select([process.stdout], [], [], limit)
    assert ready, "the other process does not answer"
    return process.stdout.readline().strip()
