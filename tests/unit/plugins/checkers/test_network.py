"""The kernel's events, in network namespaces that the tests make and that end with the program in them."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.lab
HEAD = """
import asyncio, socket, subprocess
from ipaddress import ip_address
from safekit_py.plugins.checkers import network
from safekit_py.plugins.checkers.network import NetworkWatch, wait

def ip(*words):
    subprocess.run(["ip", *words], check=True)

async def until(watch, woken, what):
    async with asyncio.timeout(10):
        while not what(watch.current()):
            woken.clear()
            await wait(woken, 1)
"""


def in_namespace(text):
    """Run a program in a network of its own."""
    command = ["unshare", "--net", sys.executable, "-c", HEAD + text]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_each_change_is_told():
    assert (
        in_namespace("""
async def main():
    watch, first = NetworkWatch(), ip_address("10.1.0.1")
    with watch.listen() as woken:
        ip("link", "add", "a0", "type", "veth", "peer", "name", "b0")
        ip("addr", "add", "10.1.0.1/24", "dev", "a0")
        await until(watch, woken, lambda t: t.holder(first) and not t.named("a0").up)
        ip("link", "set", "a0", "up")
        await until(watch, woken, lambda t: t.named("a0").up and not t.named("a0").running)
        ip("link", "set", "b0", "up")
        await until(watch, woken, lambda t: t.named("a0").running)
        await until(watch, woken, lambda t: t == network.read())
        ip("addr", "del", "10.1.0.1/24", "dev", "a0")
        await until(watch, woken, lambda t: not t.holder(first))
        ip("link", "del", "a0")
        await until(watch, woken, lambda t: not t.named("a0") and not t.named("b0"))
    print("told")
asyncio.run(main())
""")
        == "told\n"
    )


def test_events_that_were_lost_are_made_up_for():
    """The loop stands still while more changes come than the socket has room for."""
    assert (
        in_namespace("""
network.ROOM = 4096
async def main():
    watch = NetworkWatch()
    with watch.listen() as woken:
        first = watch._socket
        ip("link", "add", "d0", "type", "veth", "peer", "name", "e0")
        for number in range(60):
            ip("addr", "add", f"10.2.0.{number + 1}/32", "dev", "d0")
        await until(watch, woken, lambda t: t.holder(ip_address("10.2.0.60")))
        assert watch._socket is not first, "the socket never overflowed"
        ip("link", "del", "d0")
        await until(watch, woken, lambda t: not t.named("d0") and not t.holder(ip_address("10.2.0.1")))
    print("made up")
asyncio.run(main())
""")
        == "made up\n"
    )


def test_one_socket_for_all_who_listen():
    assert (
        in_namespace("""
async def main():
    watch = NetworkWatch()
    with watch.listen() as one:
        first = watch._socket
        with watch.listen() as other:
            assert watch._socket is first
            ip("link", "set", "lo", "up")
            await until(watch, one, lambda t: t.named("lo").up)
            assert other.is_set()
        assert watch._socket is first
    assert watch._socket is None and first.fileno() == -1
    print("one")
asyncio.run(main())
""")
        == "one\n"
    )


def test_what_other_programs_send_is_not_believed():
    assert (
        in_namespace("""
async def main():
    watch = NetworkWatch()
    with watch.listen() as woken:
        with network._open(0) as liar:
            forged = bytes.fromhex("20000000" "1100" "0000" "00000000" "00000000") + bytes(16)
            liar.sendto(forged, (watch._socket.getsockname()[0], 0))
            await wait(woken, 1)
        assert watch.current().named("lo")
    print("not believed")
asyncio.run(main())
""")
        == "not believed\n"
    )
