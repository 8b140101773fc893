"""``<ping>`` on the loopback, with either kind of socket and with neither."""

import asyncio
import subprocess
import sys

import pytest
from safekit_py.plugins.checkers.ping import PingChecker
from safekit_py.plugins.checkers.ping_element import PingCheck

PROGRAM = """
import asyncio, sys
from safekit_py.plugins.checkers.ping import PingChecker
from safekit_py.plugins.checkers.ping_element import PingCheck
async def main():
    checker, said = PingChecker(PingCheck("x", "pre", "wait", sys.argv[1], 0.1, 2)), asyncio.Event()
    def report(status, cause):
        print(status, cause)
        said.set()
    task = asyncio.create_task(checker.run(report))
    await said.wait()
    task.cancel()
asyncio.run(main())
"""


def look(addr, timeout=2.0):
    return asyncio.run(PingChecker(PingCheck("x", "pre", "wait", addr, 10, timeout)).look())


def in_namespace(addr, groups, *, privileged):
    """One report of a checker whose process has no privilege left, or all, in a network where these groups may ping."""
    drop = "" if privileged else "setpriv --reuid=65534 --regid=65534 --clear-groups"
    script = f'ip link set lo up; echo {groups} >/proc/sys/net/ipv4/ping_group_range; exec {drop} "$@"'
    command = ["unshare", "--net", "sh", "-c", script, "sh", sys.executable, "-c", PROGRAM, addr]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_what_the_engine_reads():
    made = PingChecker(PingCheck("router", "pre", "wait", "10.0.0.1", 10, 5))
    assert (made.resource, made.rule, made.when, made.action) == ("ping.router", "p_router", "pre", "wait")
    assert made.limit > 15


def test_a_name_that_cannot_be_resolved():
    assert look("no-such-host.invalid") == "the host name no-such-host.invalid cannot be resolved"


@pytest.mark.lab
@pytest.mark.parametrize("addr", ["127.0.0.1", "::1", "localhost"])
@pytest.mark.parametrize(("groups", "privileged"), [("1 0", True), ("0 65535", True), ("0 65535", False)])
def test_a_host_answers(addr, groups, privileged):
    """A raw socket where no group may ping, else a datagram socket; the latter also without any privilege."""
    assert in_namespace(addr, groups, privileged=privileged) == f"up {addr} answers"


@pytest.mark.lab
def test_where_neither_socket_is_permitted_it_says_what_to_set():
    said = in_namespace("127.0.0.1", "1 0", privileged=False)
    assert said.startswith("unknown echo requests are not permitted: give the agent CAP_NET_RAW")
    assert "net.ipv4.ping_group_range" in said
    assert said.endswith("65534")


@pytest.mark.lab
def test_no_way_to_the_host():
    said = in_namespace("192.0.2.1", "0 65535", privileged=True)
    assert said == "down no answer from 192.0.2.1 in 2 s: network is unreachable"
