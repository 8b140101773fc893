"""Witnesses as processes, ours and a real etcd, each with two clients: grants, deaths, restarts, silence."""

import asyncio
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safekit_py.plugins.mirror.model import Witness
from safekit_py.plugins.mirror.witness.client import SafekitWitness, clock
from safekit_py.plugins.mirror.witness.etcd import EtcdWitness
from safekit_py.plugins.mirror.witness.keyfiles import read_keys

from safekit_py.core.keys import dropped, rotated
from safekit_py.model.keys import first, render
from safekit_py.runtime.files import write_atomically

KEY = bytes(range(32))
LEASE = 2.0


def free_port(kind=socket.SOCK_DGRAM):
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Process:
    """One that is killed at the end, and may be before."""

    def __init__(self, command, **options):
        self.command, self.options = command, options
        self.process = None

    def start(self):
        self.process = subprocess.Popen(self.command, **self.options)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def signal(self, number):
        self.process.send_signal(number)
        while number == signal.SIGSTOP and not self.stands_still():
            time.sleep(0.001)

    def stands_still(self):
        """Whether none of its threads runs any more."""
        tasks = Path(f"/proc/{self.process.pid}/task").glob("*/stat")
        return all(task.read_text().rpartition(")")[2].split()[0] == "T" for task in tasks)


class OurWitness(Process):
    def __init__(self, folder):
        self.port = free_port()
        self.key = key = folder / "witness.key"
        key.write_text(KEY.hex())
        key.chmod(0o600)
        program = "import sys; from safekit_py.cli.main import main; main()"
        arguments = ["--listen", f"127.0.0.1:{self.port}", "--key", str(key), "--state", str(folder / "state")]
        super().__init__([sys.executable, "-c", program, "witness", *arguments], stderr=subprocess.DEVNULL)

    def client(self, server, lease=LEASE, key=KEY):
        return self.client_of(server, lambda: first(key), lease)

    def client_of(self, server, shared, lease=LEASE, told=lambda _: None):
        made = Witness("safekit", (f"127.0.0.1:{self.port}",), lease)
        return SafekitWitness(made, shared, "one,two", "db", server, told)


class Etcd(Process):
    def __init__(self, folder):
        self.port, peer = free_port(socket.SOCK_STREAM), free_port(socket.SOCK_STREAM)
        here, there = f"http://127.0.0.1:{self.port}", f"http://127.0.0.1:{peer}"
        self.module = secrets.token_hex(4)
        super().__init__(
            ["etcd", "--data-dir", str(folder / "etcd"), "--listen-client-urls", here, "--advertise-client-urls", here,
             "--listen-peer-urls", there, "--initial-advertise-peer-urls", there, "--heartbeat-interval", "50",
             "--election-timeout", "500", "--initial-cluster", f"default={there}"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def client(self, server, lease=LEASE, dead=()):
        made = Witness("etcd", (*dead, f"127.0.0.1:{self.port}"), lease)
        return EtcdWitness(made, "one,two", self.module, server)


@pytest.fixture(params=["safekit", "etcd"])
def witness(request, tmp_path):
    if request.param == "etcd" and shutil.which("etcd") is None:
        pytest.skip("there is no etcd; .ci/setup.sh installs it")
    made = (Etcd if request.param == "etcd" else OurWitness)(tmp_path)
    made.start()
    yield made
    made.kill()


async def granted(client, data, previous, limit=10.0):
    """The first grant; a refusal by somebody else's lease is waited out."""
    end = time.monotonic() + limit
    while True:
        grant = await client.acquire(data, previous)
        if grant.granted:
            return grant
        assert time.monotonic() < end, grant
        await asyncio.sleep(0.05)


def test_the_lease_passes_on_when_it_ends_and_to_nobody_with_older_data(witness):
    async def scenario():
        one, two = witness.client("one"), witness.client("two")
        before = clock()
        grant = await granted(one, "d1", "")
        assert before < grant.until <= clock() + 0.9 * LEASE * 1e9
        refused = await two.acquire("d2", "d1")
        assert (refused.granted, refused.answered) == (False, True)
        assert "one holds the lease" in refused.reason
        await asyncio.sleep(0.2)
        again = await one.acquire("d1", "d1")
        assert again.until > grant.until, "renewed"
        second = await granted(two, "d2", "d1")
        assert clock() > again.until, "two were granted at one time"
        assert second.until > again.until
        stale = await one.acquire("d1", "d1")
        assert (stale.granted, stale.answered) == (False, True)
        await two.release()
        stale = await one.acquire("d1", "d1")
        assert not stale.granted
        assert "newer data, d2" in stale.reason
        assert (await one.acquire("d2", "d2")).granted, "it has been resynchronised meanwhile"

    asyncio.run(scenario())


def test_a_witness_that_is_killed_forgets_neither_the_lease_nor_the_data(witness):
    async def scenario():
        one, two = witness.client("one"), witness.client("two")
        grant = await granted(one, "d1", "")
        grant = await granted(one, "d2", "d1")
        witness.kill()
        silent = await two.acquire("d3", "d2")
        assert (silent.granted, silent.answered) == (False, False)
        assert "does not answer" in silent.reason
        witness.start()
        second = await granted(two, "d3", "d2", 15)
        assert clock() > grant.until
        assert second.until > grant.until
        await two.release()
        assert not (await one.acquire("d2", "d2")).granted
        assert not (await one.acquire("d1", "d1")).granted

    asyncio.run(scenario())


def test_a_witness_that_stands_still_is_silent_within_its_time(witness):
    async def scenario():
        one, two = witness.client("one"), witness.client("two")
        grant = await granted(one, "d1", "")
        witness.signal(signal.SIGSTOP)
        try:
            began = time.monotonic()
            silent = await one.acquire("d1", "d1")
            assert not silent.answered
            assert time.monotonic() - began < 2.5
        finally:
            witness.signal(signal.SIGCONT)
        later = await granted(one, "d1", "d1")
        assert later.until > grant.until
        assert not (await two.acquire("d2", "d1")).granted

    asyncio.run(scenario())


def test_many_that_ask_at_once_get_one_lease(witness):
    async def scenario():
        first = witness.client("zero")
        await granted(first, "d0", "")
        await first.release()
        clients = [witness.client(f"s{n}") for n in range(5)]
        grants = await asyncio.gather(*(client.acquire(f"d{n + 1}", "d0") for n, client in enumerate(clients)))
        assert sum(grant.granted for grant in grants) == 1

    asyncio.run(scenario())


def test_another_key_gets_no_answer_and_a_restarted_server_gets_its_lease(tmp_path):
    async def scenario(witness):
        one = witness.client("one")
        await granted(one, "d1", "")
        assert not (await witness.client("two", key=bytes(32)).acquire("d1", "")).answered
        assert (await witness.client("one").acquire("d1", "d1")).granted, "a client that knows no token yet"
        await one.release()
        assert (await witness.client("two").acquire("d2", "d1")).granted, "given back, it is free at once"

    made = OurWitness(tmp_path)
    made.start()
    try:
        asyncio.run(scenario(made))
        second = subprocess.run(
            [*made.command[:-3], made.command[-3], "--state", str(tmp_path / "state")],
            capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip
        assert second.returncode == 69
        assert "witness.state" in second.stderr
    finally:
        made.kill()


def test_the_first_server_of_etcd_that_answers_is_taken(tmp_path):
    if shutil.which("etcd") is None:
        pytest.skip("there is no etcd; .ci/setup.sh installs it")

    async def scenario(witness):
        with socket.socket() as mute:  # takes connections and says nothing
            mute.bind(("127.0.0.1", 0))
            mute.listen()
            dead = (f"127.0.0.1:{free_port(socket.SOCK_STREAM)}", f"127.0.0.1:{mute.getsockname()[1]}")
            client = witness.client("one", dead=dead)
            await granted(client, "d1", "")
            assert (await client.acquire("d1", "d1")).granted

    made = Etcd(tmp_path)
    made.start()
    try:
        asyncio.run(scenario(made))
    finally:
        made.kill()


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]", b"\0" * 99,
                                    b"HTTP/1.1 500 Oops\r\nContent-Length: 13\r\n\r\n" + b'{"error":"x"}',
                                    b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n" + b'{"ID":"1"}'])  # fmt: skip
def test_whatever_answers_instead_of_etcd_grants_nothing(answer):
    async def scenario():
        async def speak(reader, writer):
            await reader.read(1)
            writer.write(answer)
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(speak, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            client = EtcdWitness(Witness("etcd", (f"127.0.0.1:{port}",), LEASE), "c", "m", "one")
            grant = await client.acquire("d1", "")
            assert (grant.granted, grant.answered) == (False, False)
            await client.release()

    asyncio.run(scenario())


def test_a_key_that_cannot_be_read_is_an_answer_that_does_not_come(tmp_path):
    async def scenario():
        path = tmp_path / "key"
        client = SafekitWitness(Witness("safekit", ("127.0.0.1:9",), LEASE), lambda: read_keys(path), "c", "m", "one")
        for content, mode, words in (
            (None, 0, "cannot be read"),
            ("zz", 0o600, "does not hold"),
            (KEY.hex(), 0o644, "others"),
        ):
            if content is not None:
                path.write_text(content)
                path.chmod(mode)
            grant = await client.acquire("d1", "")
            assert not grant.answered
            assert words in grant.reason

    asyncio.run(scenario())


@pytest.fixture
def ours(tmp_path):
    made = OurWitness(tmp_path)
    made.start()
    yield made
    made.kill()


def test_a_rotation_keeps_the_lease_whoever_gets_the_key_first(ours):
    """A new key is no new cluster: what the witness has granted and knows of the data stays."""
    old = first(KEY)
    both = rotated(old, bytes(reversed(range(32))))
    new = dropped(both)

    async def scenario():
        ring, told = old, []
        one, two = ours.client_of("one", lambda: ring, told=told.append), ours.client_of("two", lambda: new)
        await granted(one, "d1", "")
        ring = both
        for _ in range(3):
            assert (await one.acquire("d1", "d1")).granted, "the servers have it first"
        assert told[-1] == (old.newest.name,)
        await one.look()
        assert told[-1] == (old.newest.name,), "asked, it says that it has only the old one"
        assert not (await two.acquire("d2", "d1")).answered, "who has only the new one waits"
        write_atomically(ours.key, render(both).encode(), 0o600)
        await asyncio.sleep(1.1)
        for _ in range(3):
            assert (await one.acquire("d1", "d1")).granted
        assert told[-1] == (new.newest.name, old.newest.name), "now it signs with the new one"
        refused = await two.acquire("d2", "d1")
        assert refused.answered
        assert "one holds the lease" in refused.reason, "by whichever key it is the same lease"
        ring = new
        assert (await one.acquire("d1", "d1")).granted
        write_atomically(ours.key, render(new).encode(), 0o600)
        await asyncio.sleep(1.1)
        assert (await one.acquire("d1", "d1")).granted
        assert not (await ours.client_of("one", lambda: old).acquire("d1", "d1")).answered, "the old one is refused"
        await one.release()
        assert (await granted(two, "d2", "d1")).granted

    asyncio.run(scenario())


def test_a_key_file_that_is_spoilt_is_told_and_the_keys_before_go_on(ours):
    async def scenario():
        one = ours.client("one")
        await granted(one, "d1", "")
        ours.key.write_text("nonsense")
        await asyncio.sleep(1.1)
        for _ in range(2):
            assert (await one.acquire("d1", "d1")).granted

    asyncio.run(scenario())


def test_a_server_that_holds_several_keys_finds_the_one_that_the_witness_has(ours):
    async def scenario():
        ring = rotated(rotated(first(KEY), bytes([1] * 32)), bytes([2] * 32))
        assert (await granted(ours.client_of("one", lambda: ring, lease=6.0), "d1", "")).granted
        write_atomically(ours.key, render(dropped(ring)).encode(), 0o600)
        await asyncio.sleep(1.1)
        client = ours.client_of("one", lambda: ring, lease=6.0)
        assert (await granted(client, "d1", "d1")).granted, "the last one in turn"

    asyncio.run(scenario())
