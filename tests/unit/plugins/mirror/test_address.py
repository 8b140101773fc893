"""A mirror's virtual addresses on real devices: a server and a client, each in a network namespace of its own.

The namespaces live as long as the program that is started here, and end with it.
"""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.lab
HEAD = """
import asyncio, json, pathlib, subprocess, sys
from ipaddress import ip_address
from types import SimpleNamespace
from safekit_py.plugins.mirror.address import Addresses
from safekit_py.plugins.vip.model import Interface, Vip, VirtualAddr
from safekit_py.plugins.vip.netlink_drop import drop
from safekit_py.model.paths import Paths

FOUR, SIX = "10.9.0.50", "fd09::50"
LOG = []

def sh(*words):
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout

def ip(text):
    return sh("ip", *text.split())

def client(text):
    return sh("nsenter", "-t", str(PEER.pid), "-n", *text.split())

def held():
    found = json.loads(ip("-json addr show dev a0"))[0]["addr_info"]
    return {f"{a['local']}/{a['prefixlen']}": a for a in found if a["scope"] == "global"}

def neighbours():
    return {n["dst"]: n.get("lladdr") for n in json.loads(client("ip -json neigh show dev b0"))}

def make(*addresses, name=None, **more):
    held = tuple(VirtualAddr(ip_address(a), w) for a, w in (each.split() for each in addresses))
    context = SimpleNamespace(name="app", paths=Paths(pathlib.Path(sys.argv[1])), log=lambda s, t: LOG.append(t))
    return Addresses(context, Vip((Interface(held, name, "real", **more),)))

BOTH = FOUR + " one_side_alias", SIX + " one_side_alias"

async def until(what):
    async with asyncio.timeout(20):
        while not what():
            await asyncio.sleep(0.05)

def network():
    ip("link set lo up")
    ip("link add a0 type veth peer name b0")
    ip(f"link set b0 netns {PEER.pid}")
    ip("link set a0 up")
    ip("addr add 10.9.0.1/24 dev a0")
    ip("addr add fd09::1/64 dev a0 nodad")
    for each in ("link set lo up", "link set b0 up", "addr add 10.9.0.9/24 dev b0", "addr add fd09::9/64 dev b0 nodad"):
        client("ip " + each)

IDLE = "echo ready; exec sleep 60"
PEER = subprocess.Popen(["unshare", "--net", "sh", "-c", IDLE], stdout=subprocess.PIPE, text=True)
PEER.stdout.readline()
try:
    network()
    asyncio.run(MAIN())
finally:
    PEER.kill()
    PEER.wait()
"""


def in_namespaces(text, folder):
    """Run the body of a program's ``main``, which prints something."""
    body = "".join(f"    {line}\n" for line in text.strip().splitlines())
    program = HEAD.replace("IDLE = ", f"async def MAIN():\n{body}\nIDLE = ", 1)
    command = ["unshare", "--net", sys.executable, "-c", program, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_addresses_come_and_go_and_routes_stay_as_they_were(tmp_path):
    assert in_namespaces(
        """
before, routes = held(), (ip("route"), ip("-6 route"))
made = make(*BOTH)
assert made.guarded() == (("a0", "10.9.0.50/24"), ("a0", "fd09::50/64"))
assert made.missing() == ()
for _ in range(2):
    await made.up()
now = held()
print(*sorted(set(now) - set(before)))
print(now["fd09::50/64"].get("deprecated"), now["fd09::50/64"].get("tentative"), now["10.9.0.50/24"].get("secondary"))
assert (ip("route"), ip("-6 route")) == routes
client("ping -c1 -W5 10.9.0.50"), client("ping -c1 -W5 fd09::50")
await made.down()
await made.down()
assert (held(), ip("route"), ip("-6 route")) == (before, *routes)
assert not (pathlib.Path(sys.argv[1]) / "var/lib/safekit/modules/app/placed.json").exists()
print(LOG)
""",
        tmp_path,
    ) == ["10.9.0.50/24 fd09::50/64", "True None True", "[]"]


def test_what_a_worker_took_away_is_missing_and_comes_back(tmp_path):
    assert in_namespaces(
        """
made = make(*BOTH)
await made.up()
for device, address in made.guarded():
    drop(device, address)
    drop(device, address)
drop("nic7", "10.9.0.50/24")
print(made.missing())
await made.up()
print(made.missing(), len(held()))
""",
        tmp_path,
    ) == ["('10.9.0.50', 'fd09::50')", "() 4"]


def test_a_crash_s_leftovers_are_removed(tmp_path):
    assert in_namespaces(
        """
await make(*BOTH).up()
other = make(FOUR + " one_side_alias")  # the next life, whose configuration names fewer
await other.recover()
print(len(held()), *LOG)
await other.recover()
""",
        tmp_path,
    ) == ["2 virtual addresses that an earlier run left are removed"]


def test_clients_learn_at_once_where_the_addresses_are(tmp_path):
    """The client knows the MAC of a server that is gone; an announcement corrects it, without a question of its own."""
    assert in_namespaces(
        """
mac = json.loads(ip("-json link show a0"))[0]["address"]
for address in (FOUR, SIX):
    client(f"ip neigh replace {address} lladdr 02:00:00:00:00:99 dev b0 nud stale")
made = make(*BOTH, arpreroute=True, arpinterval=0.3, arpelapse=60.0)
await made.up()
await until(lambda: neighbours().get(FOUR) == neighbours().get(SIX) == mac)
for address in (FOUR, SIX):
    client(f"ip neigh replace {address} lladdr 02:00:00:00:00:99 dev b0 nud stale")
made.announce()
await until(lambda: neighbours().get(FOUR) == neighbours().get(SIX) == mac)
print("learnt")
await asyncio.sleep(3.1)  # past the three that always come
for address in (FOUR, SIX):
    client(f"ip neigh replace {address} lladdr 02:00:00:00:00:99 dev b0 nud stale")
await until(lambda: neighbours().get(FOUR) == neighbours().get(SIX) == mac)
print("and again", LOG)
await made.down()
""",
        tmp_path,
    ) == ["learnt", "and again []"]


def test_a_machine_that_has_the_address_is_told_of_and_does_not_stop_the_primary(tmp_path):
    assert in_namespaces(
        """
client("ip addr add 10.9.0.50/24 dev b0")
made = make(*BOTH)
await made.up()
print(made.missing())
for each in LOG:
    print(each.replace(json.loads(client("ip -json link show b0"))[0]["address"], "MAC"))
""",
        tmp_path,
    ) == [
        "()",
        "another machine still has 10.9.0.50 (MAC): waiting up to 1 s",
        "another machine keeps 10.9.0.50 (MAC); this server takes it over",
    ]


def test_of_one_side_the_server_s_own_connections_may_come(tmp_path):
    assert in_namespaces(
        """
made = make("fd09::9:50 one_side", name="a0")
await made.up()
print("deprecated" in held()["fd09::9:50/64"])
await made.down()
try:
    await make(FOUR + " one_side_alias", name="nic7").up()
except Exception as error:
    print(error.code)
""",
        tmp_path,
    ) == ["False", "vip.no-device"]
