"""What an operator sees of a farm is what it does: the server that is told is the one that answers."""

import json

import pytest
from support import VIP, wait_for

pytestmark = [pytest.mark.lab, pytest.mark.timeout(240)]
SERVERS = ("server1", "server2", "server3")
ASK = """
import http.client, json, sys
found = {}
for port in map(int, sys.argv[2:]):
    asked = http.client.HTTPConnection(sys.argv[1], 80, timeout=3, source_address=("", port))
    asked.request("GET", "/server-name.txt")
    found[port] = asked.getresponse().read().decode().strip()
    asked.close()
print(json.dumps(found))
"""


def told(farm, host, *words):
    return json.loads(farm.cli(host, "farm", *words, "--json").stdout)


def test_the_server_that_is_told_is_the_one_that_answers(running):
    ports = [str(port) for port in range(31001, 31041)]
    done = running.lab.run("client1", ["python3", "-c", ASK, VIP, *ports], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    client = running.lab.run("client1", ["hostname", "-I"], capture_output=True, text=True).stdout.split()[0]
    answered = json.loads(done.stdout)
    for number, (port, server) in enumerate(answered.items()):
        host = SERVERS[number % 3]
        words = ["trace", "--client", f"{client}:{port}", "--proto", "tcp", "--port", "80"]
        (row,) = told(running, host, *words)["rows"]
        assert (row["owner"], row["vip"]) == (server, VIP)
        assert sum(row["slice"].values()) > 0 or host != server
        assert row["since"]["view"] > 0
    assert set(answered.values()) == set(SERVERS)


def test_shown(running):
    found = told(running, "server2", "show", "--interval", "0.2")
    assert (found["module"], found["server"], found["owning"]) == ("apache", "server2", True)
    assert all(abs(each["shares"][0] - 100 / 3) < 0.1 and each["powers"] == [1] for each in found["members"])
    assert all("per_second" in each for each in found["counters"])
    before = found["changes"][0]["view"]
    running.cli("server3", "stop", "apache", "--wait")
    change = wait_for(lambda: (c := told(running, "server2", "show")["change"])["view"] > before and c)
    assert "server3" in change["cause"]
    assert change["members"] == ["server1", "server2"] or "power" in change["cause"]
    text = running.cli("server2", "farm", "show").stdout
    assert "last change" in text
    assert "server1" in text
    assert "no view of the farm" in running.cli("server3", "farm", "show").stdout
    (row,) = told(running, "server3", "trace", "--client", "10.0.0.1:5")["rows"]
    assert row["owner"] == ""


def test_the_doctor(running):
    found = told(running, "server1", "doctor")
    states = {(each["module"], each["area"]): each["state"] for each in found}
    assert {"kernel", "filter", "agent"} <= {area for module, area in states if not module}
    wanted = {"device", "offloads", "packets", "heartbeats", "firewall", "clock"}
    assert wanted <= {area for module, area in states if module == "apache"}
    assert not [each for each in found if each["state"] == "problem"]
    assert all(each["remedy"] for each in found if each["state"] != "ok")
    running.lab.run("server1", ["nft", "add table inet d; add chain inet d i { type filter hook input priority 0; }"])
    running.lab.run("server1", ["nft", "add rule inet d i udp dport 4803-7900 drop"])
    try:
        done = wait_for(lambda: (d := running.cli("server1", "farm", "doctor", check=False)).returncode and d)
        assert "not heard on the LAN" in done.stdout
    finally:
        running.lab.run("server1", ["nft", "delete", "table", "inet", "d"])
