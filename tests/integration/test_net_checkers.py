"""Checkers of the network on real agents: what they watch is broken for real, and the documented action follows."""

import time

import pytest
from support import wait_for

from safekit_py.lab import switch

pytestmark = [pytest.mark.lab, pytest.mark.timeout(240)]
ADDRESS, SIX = "10.77.0.110", "fd77::110"
NETWORK = "intf.10.77.0.0"
FARM = f"""<safe><service mode="farm" maxloop="1000"><farm><lan name="default"/></farm>
<vip><interface_list><interface><virtual_interface type="vmac_directed"><virtual_addr addr="{ADDRESS}"/>
</virtual_interface></interface></interface_list>
<loadbalancing_list><group name="all"><rule port="80" proto="tcp" filter="on_addr"/></group></loadbalancing_list></vip>
<check><ip ident="{ADDRESS}"><to addr="{ADDRESS}" interval="1s"/></ip></check>
<failover handle_time="0"/></service></safe>"""
LIGHT = f"""<safe><service mode="light" maxloop="1000"><check>
<ping ident="client"><to addr="10.77.0.101" interval="1s" timeout="2s"/></ping>
<ip ident="four"><to addr="10.77.0.11" interval="1h"/></ip>
<ip ident="six"><to addr="{SIX}" interval="1s"/></ip>
</check><failover handle_time="0"/></service></safe>"""
ANNOUNCE = """
import sys
from ipaddress import IPv4Address
from safekit_py.plugins.farm import announce
mac = bytes.fromhex(sys.argv[2])
announce.announce(announce.Told("eth0", IPv4Address(sys.argv[1]), mac, mac), [], broadcast=True)
"""


class Module:
    """One module on some servers of the lab."""

    def __init__(self, farm, name, hosts):
        self.farm, self.lab, self.name, self.hosts = farm, farm.lab, name, hosts

    def install(self, folder, text):
        (folder / "conf").mkdir(parents=True)
        (folder / "bin").mkdir()
        (folder / "conf/userconfig.xml").write_text(text)
        for host in self.hosts:
            self.farm.cli(host, "module", "install", str(folder), "-m", self.name)

    def remove(self):
        for host in self.hosts:
            if self.lab.alive(host):
                self.farm.cli(host, "forcestop", self.name, "--wait", check=False)
                self.farm.cli(host, "module", "uninstall", self.name, check=False)

    def start(self, *hosts):
        for host in hosts or self.hosts:
            self.farm.cli(host, "start", self.name)
        for host in hosts or self.hosts:
            self.until(host, "UP Ready")

    def until(self, host, state, limit=30):
        wait_for(lambda: self.state(host) == state, limit)

    def state(self, host):
        return self.farm.state(host, self.name)

    def resource(self, host, name):
        """Value and cause."""
        found = [r for r in self.farm.status(host, self.name)["resources"] if r["name"] == name]
        return (found[0]["value"], found[0]["cause"]) if found else ("", "")

    def log(self, host):
        return self.farm.cli(host, "log", self.name, "--lines", "1000").stdout

    def mark(self, host):
        """How many lines the log has now; ``since`` gives those that came after."""
        return len(self.log(host).splitlines())

    def since(self, host, mark):
        return "\n".join(self.log(host).splitlines()[mark:])

    def run(self, host, *argv, check=True):
        done = self.lab.run(host, list(argv), capture_output=True, text=True)
        assert not check or done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture
def net(farm, tmp_path):
    """A farm of two servers with an address of its own."""
    farm.lab.heal()
    made = Module(farm, "net", ("server1", "server2"))
    try:
        made.install(tmp_path / "net", FARM)
        yield made
    finally:
        made.run("client1", "ip", "addr", "del", f"{ADDRESS}/24", "dev", "eth0", check=False)
        for host in made.hosts:
            made.run(host, "nft", "delete", "table", "ip", "deaf", check=False)
            made.run(host, "ip", "link", "set", "eth0", "up", check=False)
        made.remove()


@pytest.fixture
def light(farm, tmp_path):
    """A module of one server, with an IPv6 address that is put there by hand."""
    farm.lab.heal()
    made = Module(farm, "light", ("server1",))
    try:
        made.run("server1", "ip", "addr", "add", f"{SIX}/64", "dev", "eth0", "nodad")
        made.install(tmp_path / "light", LIGHT)
        made.start()
        yield made
    finally:
        farm.lab.heal()
        made.run("client1", "ip", "addr", "del", f"{SIX}/64", "dev", "eth0", check=False)
        made.remove()
        made.run("server1", "ip", "addr", "del", f"{SIX}/64", "dev", "eth0", check=False)


def deaf(module, host, port):
    """Cut heartbeats off, and nothing else."""
    rules = ["add table ip deaf"]
    for hook in ("input", "output"):
        rules.append(f"add chain ip deaf {hook} {{ type filter hook {hook} priority 0; }}")
        rules.append(f"add rule ip deaf {hook} udp dport {port} drop")
    done = module.lab.run(host, ["nft", "-f", "-"], input="\n".join([*rules, ""]), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_host_that_does_not_answer_makes_the_module_wait(light):
    assert light.resource("server1", "ping.client") == ("up", "10.77.0.101 answers")
    light.lab.cut("server1", "client1")
    light.until("server1", "WAIT NotReady")
    value, cause = light.resource("server1", "ping.client")
    assert value == "down"
    assert cause.startswith("no answer from 10.77.0.101 in 2 s")
    assert "ping.client" in light.farm.status("server1", "light")["reason"]
    light.lab.heal()
    light.until("server1", "UP Ready")


def test_a_link_without_a_carrier_makes_the_module_wait_at_once(net):
    net.start("server1")
    assert net.resource("server1", NETWORK) == ("up", "eth0 is up")
    outside = net.lab._switch()  # the other end of the server's cable is in no host
    mark, began = net.mark("server1"), time.monotonic()
    switch.within(outside, ["ip", "link", "set", "server1.0", "down"])
    try:
        wait_for(lambda: net.resource("server1", NETWORK)[0] == "down", every=0.02)
        seen = time.monotonic() - began
        net.until("server1", "WAIT NotReady")
        assert f"{NETWORK} up -> down (eth0 has no carrier)" in net.since("server1", mark)
    finally:
        switch.within(outside, ["ip", "link", "set", "server1.0", "up"])
    net.until("server1", "UP Ready")
    # The kernel itself may take a second to tell of a carrier; a look every 10 s would be later than that.
    assert seen < 8


def test_an_address_that_is_removed_is_put_back_by_a_stopstart(net):
    net.start("server1")
    mark = net.mark("server1")
    net.run("server1", "ip", "addr", "del", f"{ADDRESS}/24", "dev", "eth0")
    wait_for(lambda: f"ip.{ADDRESS} up -> down ({ADDRESS} is on no device)" in net.since("server1", mark))
    wait_for(lambda: "stopstart" in net.since("server1", mark))
    wait_for(lambda: ADDRESS in net.run("server1", "ip", "addr", "show", "dev", "eth0"))
    net.until("server1", "UP Ready")


def test_an_address_that_another_machine_takes(net):
    """Both servers of the farm hold it; a third machine that takes it is named by its MAC."""
    net.start()
    marks = {host: net.mark(host) for host in net.hosts}
    net.run("client1", "ip", "addr", "add", f"{ADDRESS}/24", "dev", "eth0")
    told = f"ip.{ADDRESS} up -> down ({ADDRESS} is also used by 02:00:0a:4d:00:65, seen on eth0)"
    for host in net.hosts:
        wait_for(lambda host=host: told in net.since(host, marks[host]))
        wait_for(lambda host=host: "stopstart" in net.since(host, marks[host]))
    net.run("client1", "ip", "addr", "del", f"{ADDRESS}/24", "dev", "eth0")
    for host in net.hosts:
        net.until(host, "UP Ready", 60)


def test_servers_of_a_farm_do_not_accuse_each_other_when_heartbeats_are_cut(net):
    net.start()
    port = net.farm.status("server1", "net")["report"]["port"]
    marks = {host: net.mark(host) for host in net.hosts}
    deaf(net, "server2", port)
    wait_for(lambda: all(net.farm.members(host, "net") == 1 for host in net.hosts))
    time.sleep(3)  # three intervals in which each asks while both own the address
    for host in net.hosts:
        assert net.state(host) == "UP Ready"
        assert f"ip.{ADDRESS} up -> down" not in net.since(host, marks[host])


def test_a_server_that_was_never_seen_in_the_farm_is_not_accused(net):
    """No view has ever told its MAC; that it is a server's is known by the server's own address."""
    net.start("server1")
    port = net.farm.status("server1", "net")["report"]["port"]
    deaf(net, "server2", port)
    mark = net.mark("server1")
    net.start("server2")
    # Somebody has to have talked to it, as a farm's heartbeats do when nothing drops them here.
    net.run("server1", "ping", "-c", "1", "10.77.0.12")
    net.run("server2", "ping", "-c", "1", "10.77.0.11")
    time.sleep(3)
    for host in net.hosts:
        assert net.state(host) == "UP Ready"
    assert f"ip.{ADDRESS} up -> down" not in net.since("server1", mark)
    heard = [net.log(host) for host in net.hosts]
    assert any("a server of this farm" in text for text in heard)


def test_an_ipv6_address_that_another_machine_takes(light):
    mark = light.mark("server1")
    light.run("client1", "ip", "addr", "add", f"{SIX}/64", "dev", "eth0", "nodad")
    told = f"ip.six up -> down ({SIX} is also used by 02:00:0a:4d:00:65, seen on eth0)"
    wait_for(lambda: told in light.since("server1", mark))
    wait_for(lambda: "stopstart" in light.since("server1", mark))
    light.run("client1", "ip", "addr", "del", f"{SIX}/64", "dev", "eth0")
    light.until("server1", "UP Ready")


def test_an_announcement_by_a_machine_that_holds_the_address_is_heard_at_once(light):
    """The interval of this check is an hour: nothing but the announcement can have made it ask."""
    mark = light.mark("server1")
    light.run("client1", "ip", "addr", "add", "10.77.0.11/32", "dev", "lo")
    try:
        light.run("client1", "python3", "-c", ANNOUNCE, "10.77.0.11", "02000a4d0065")
        told = "ip.four up -> down (10.77.0.11 is also used by 02:00:0a:4d:00:65, seen on eth0)"
        wait_for(lambda: told in light.since("server1", mark))
    finally:
        light.run("client1", "ip", "addr", "del", "10.77.0.11/32", "dev", "lo")
    light.until("server1", "UP Ready")


def test_an_announcement_by_a_machine_that_does_not_hold_the_address_means_nothing(light):
    mark = light.mark("server1")
    light.run("client1", "python3", "-c", ANNOUNCE, "10.77.0.11", "02000a4d0065")
    time.sleep(1.5)
    assert "ip.four up -> down" not in light.since("server1", mark)
    assert light.resource("server1", "ip.four")[0] == "up"
