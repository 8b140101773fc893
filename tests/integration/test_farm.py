"""The farm as its users see it: real agents, real filters, real Apache, faults one by one."""

import re
import subprocess
import time

import pytest
from support import VIP, kill, pids, wait_for

pytestmark = [pytest.mark.lab, pytest.mark.timeout(240)]
SERVERS = ("server1", "server2", "server3")


def test_requests_spread_over_three_servers(running):
    got, bad = running.fetch(300)
    assert bad == 0
    assert set(got) == set(SERVERS)
    assert all(60 <= n <= 140 for n in got.values()), got


def test_shares_are_a_third_each(running):
    for host in SERVERS:
        members = running.status(host)["report"]["members"]
        assert [m["name"] for m in members] == list(SERVERS)
        assert all(abs(m["shares"][0] - 100 / 3) < 0.1 for m in members)


def test_one_owner_for_each_connection(running):
    """tcpdump on every server: the SYN-ACK of each connection comes from exactly one of them."""
    captures = [
        running.lab.popen(
            host,
            [
                "tcpdump",
                "-n",
                "-l",
                "--immediate-mode",
                "-i",
                "eth0",
                f"src {VIP} and tcp[tcpflags] & (tcp-syn|tcp-ack) == (tcp-syn|tcp-ack)",
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for host in SERVERS
    ]
    for capture in captures:
        while "listening on" not in (line := capture.stderr.readline()):
            assert line, "tcpdump ended"
    _, bad = running.fetch(90)
    time.sleep(1.0)
    seen = {}
    for host in SERVERS:
        kill(running, host, pids(running, host, "tcpdump -n -l --immediate-mode -i eth0"), "TERM")
    for host, capture in zip(SERVERS, captures, strict=True):
        text, _ = capture.communicate(timeout=10)
        # A server also sees what it forwards, but only its own answers carry the address as their source.
        for client in re.findall(rf"IP {re.escape(VIP)}\.80 > (\S+): Flags \[S\.\]", text):
            seen.setdefault(client, set()).add(host)
    assert bad == 0
    assert len(seen) == 90
    assert all(len(hosts) == 1 for hosts in seen.values())
    assert {h for hosts in seen.values() for h in hosts} == set(SERVERS)


def test_ping_is_answered_once(running):
    done = running.lab.run("client1", ["ping", "-c", "10", "-i", "0.1", VIP], capture_output=True, text=True)
    assert "10 received" in done.stdout, done.stdout
    assert "DUP" not in done.stdout


def test_what_no_rule_covers_is_refused(running):
    got, bad = running.fetch(2, timeout=0.5, url=f"http://{VIP}:8081/")
    assert (got, bad) == ({}, 2)


def test_power_cut_of_a_server(running):
    running.lab.kill("server3")
    wait_for(lambda: running.serving() == {"server1", "server2"}, 5)
    got, bad = running.fetch(200)
    assert bad == 0
    assert set(got) == {"server1", "server2"}
    running.lab.boot("server3")
    wait_for(lambda: running.state("server3") == "UP Ready", 40)
    wait_for(lambda: running.serving() == set(SERVERS))


def test_kill_of_an_agent(running):
    """Clients go on with the other servers, and the server comes back by itself."""
    before = pids(running, "server2", "safekit_py agent")
    kill(running, "server2", before)
    time.sleep(0.5)
    got, bad = running.fetch(60, timeout=0.5)
    assert bad == 0, got
    wait_for(lambda: running.state("server2") == "UP Ready", 40)
    assert pids(running, "server2", "safekit_py agent") != before
    wait_for(lambda: running.serving() == set(SERVERS))


def test_link_cut_and_heal(running):
    running.lab.cut("server1")
    wait_for(lambda: running.serving() == {"server2", "server3"}, 5)
    got, bad = running.fetch(100)
    assert bad == 0
    assert "server1" not in got
    running.lab.heal()
    wait_for(lambda: running.serving() == set(SERVERS), 15)


def test_stopped_agent_takes_no_new_connection(running):
    """SIGSTOP: its lease ends, the others take over; SIGCONT: it rejoins and nothing is served twice."""
    agent = pids(running, "server1", "safekit_py agent")
    kill(running, "server1", agent, "STOP")
    try:
        wait_for(lambda: running.serving() == {"server2", "server3"}, 5)
        got, bad = running.fetch(100)
        assert bad == 0
        assert "server1" not in got
    finally:
        kill(running, "server1", agent, "CONT")
    wait_for(lambda: running.serving() == set(SERVERS), 15)


def test_a_graceful_stop_and_a_start_break_no_request(running):
    """New connections go elsewhere before the application is told to stop, and those that are there are answered."""
    client = running.lab.popen(
        "client1",
        ["python3", "-c", STEADY, f"http://{VIP}/server-name.txt", "8"],
        stdout=subprocess.PIPE,
        text=True,
    )
    time.sleep(1)
    running.cli("server2", "stop", "apache", "--wait")
    time.sleep(1)
    running.cli("server2", "start", "apache", "--wait")
    text, _ = client.communicate(timeout=40)
    total, bad = map(int, text.split())
    assert total > 100
    assert bad == 0


STEADY = """
import http.client, sys, time, urllib.parse
page = urllib.parse.urlsplit(sys.argv[1])
end, total, bad = time.monotonic() + float(sys.argv[2]), 0, 0
while time.monotonic() < end:
    total += 1
    connection = http.client.HTTPConnection(page.hostname, 80, timeout=2)
    try:
        connection.request("GET", page.path)
        connection.getresponse().read()
    except OSError:
        bad += 1
    finally:
        connection.close()
    time.sleep(0.01)
print(total, bad)
"""


def test_killed_apache_is_restarted_there(running):
    before = running.status("server2")["loop"]
    kill(running, "server2", pids(running, "server2", "apache2"))
    wait_for(lambda: running.status("server2")["loop"] != before, 20)
    wait_for(lambda: running.state("server2") == "UP Ready", 30)
    assert "tcp." in running.cli("server2", "log", "apache").stdout
    wait_for(lambda: running.serving() == set(SERVERS))


def test_unstartable_apache_stops_by_maxloop(running):
    script = "/".join(("opt/safekit/modules/apache/bin", "start_both"))
    path = running.lab.root("server2") / script
    original = path.read_text()
    try:
        running.cli("server2", "restart", "apache", "--wait")  # a person resets the counter
        path.write_text("#!/bin/sh\nexit 1\n")
        kill(running, "server2", pids(running, "server2", "apache2"))
        wait_for(lambda: running.state("server2") == "STOP NotReady", 60)
        reason = running.status("server2")["reason"]
        assert "maxloop" in reason
        assert "start_both" in reason
        assert running.serving() == {"server1", "server3"}
        assert "maxloop" in running.cli("server2", "status").stdout
    finally:
        path.write_text(original)


def test_state_exit_codes(running):
    assert running.cli("server1", "state", "-q", "apache", check=False).returncode == 2
    running.cli("server1", "stop", "apache", "--wait")
    assert running.cli("server1", "state", "-q", "apache", check=False).returncode == 0


def test_a_stopped_module_leaves_nothing_in_the_kernel(running):
    running.cli("server1", "stop", "apache", "--wait")
    shown = running.lab.run("server1", ["ip", "addr", "show", "dev", "eth0"], capture_output=True, text=True).stdout
    assert VIP not in shown
    filters = running.lab.run(
        "server1", ["tc", "filter", "show", "dev", "eth0", "ingress"], capture_output=True, text=True
    )
    assert "safekit" not in filters.stdout
    search = ["find", "/sys/fs/bpf", "-path", "*safekit*", "-type", "f"]
    assert running.lab.run("server1", search, capture_output=True, text=True).stdout == ""


def test_an_interface_that_goes_down_makes_the_module_wait(running):
    running.lab.run("server3", ["ip", "link", "set", "eth0", "down"], check=True)
    wait_for(lambda: running.state("server3") == "WAIT NotReady", 20)
    shown = running.status("server3")
    assert "intf." in shown["reason"]
    assert {r["name"]: r["value"] for r in shown["resources"]}["intf.10.77.0.0"] == "down"
    wait_for(lambda: running.serving() == {"server1", "server2"})
    running.lab.run("server3", ["ip", "link", "set", "eth0", "up"], check=True)
    wait_for(lambda: running.state("server3") == "UP Ready", 20)
    wait_for(lambda: running.serving() == set(SERVERS), 20)


def test_an_address_removed_by_hand_comes_back(running):
    running.lab.run("server3", ["ip", "addr", "del", f"{VIP}/24", "dev", "eth0"], check=True)
    wait_for(lambda: f"ip.{VIP} up -> down" in running.cli("server3", "log", "apache").stdout)
    wait_for(lambda: VIP in running.lab.run("server3", ["ip", "addr"], capture_output=True, text=True).stdout)
    wait_for(lambda: running.state("server3") == "UP Ready", 30)


def test_a_crash_leaves_no_address_and_no_filter_at_the_next_start(running):
    """The agent is killed, and finds at its next start that the module should not run any more."""
    agent = pids(running, "server3", "safekit_py agent")
    wish = running.lab.root("server3") / "var/lib/safekit/modules/apache/state.json"
    kill(running, "server3", agent)
    wish.write_text('{"started": false, "reason": "the test"}')
    wait_for(lambda: running.state("server3") == "STOP NotReady", 20)
    shown = running.lab.run(
        "server3", ["sh", "-c", "ip addr; tc filter show dev eth0 ingress"], capture_output=True, text=True
    )
    assert VIP not in shown.stdout
    assert "safekit" not in shown.stdout
    assert running.serving() == {"server1", "server2"}


def test_a_cut_between_two_servers_leaves_the_higher_one_out(running):
    """Both still hear server1 and the client: the service goes on whole, and nobody serves beside the others."""
    running.lab.cut("server2", "server3")
    wait_for(lambda: running.serving() == {"server1", "server2"}, 10)
    got, bad = running.fetch(100)
    assert bad == 0
    assert set(got) == {"server1", "server2"}
    states = {m["name"]: m["state"] for m in running.status("server1")["report"]["members"]}
    assert states == {"server1": "member", "server2": "member", "server3": "left out"}
    running.lab.heal()
    wait_for(lambda: running.serving() == set(SERVERS), 15)
