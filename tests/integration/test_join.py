"""A cluster in one command for each server: real agents that know nothing of each other, then a farm on them."""

import json
import os
import re
import uuid

import pytest
from support import Farm, wait_for

from safekit_py.lab import Lab

pytestmark = [pytest.mark.lab, pytest.mark.timeout(180)]
SERVERS = ("server1", "server2", "server3")
ADDRESSES = {"server1": "10.77.0.11", "server2": "10.77.0.12", "server3": "10.77.0.13"}


@pytest.fixture(scope="module")
def farm():
    with Lab.up(f"j{uuid.uuid4().hex[:6]}", servers=3, owner=os.getpid()) as lab:
        farm = Farm(lab)
        for host in SERVERS:
            wait_for(lambda host=host: farm.cli(host, "status", check=False).returncode == 0)
            farm.cli(host, "cluster", "deconfig", "--yes")
            farm.cli(host, "cluster", "delkey", "--yes")
        yield farm


def files(farm, host):
    """What is there of a cluster, with contents."""
    folder = farm.lab.root(host) / "var/lib/safekit"
    found = {}
    for part in ("cluster", "tls"):
        for path in sorted((folder / part).glob("*")):
            if path.is_file():
                found[f"{part}/{path.name}"] = path.read_bytes()
    return found


def refused(farm, host, code, *words, **options):
    """The command fails with this code and changes nothing on any server."""
    before = {each: files(farm, each) for each in SERVERS}
    done = farm.lab.run(host, ["safekit-py", "cluster", *words], capture_output=True, text=True, **options)
    assert done.returncode in (1, 69), done.stdout + done.stderr
    assert f"[{code}]" in done.stderr, done.stderr
    assert {each: files(farm, each) for each in SERVERS} == before
    return done.stderr


def test_from_nothing_to_a_running_farm(farm):
    farm.cli("server1", "cluster", "init", "--name", "server1", "--dry-run")
    assert files(farm, "server1") == {}
    done = farm.cli("server1", "cluster", "init", "--name", "server1", "--yes")
    assert ADDRESSES["server1"] in done.stdout
    address, token = re.search(r"cluster join (\S+) --token (\S+)", done.stdout).groups()
    assert address == ADDRESSES["server1"]
    wait_for(lambda: farm.lab.run("server2", ["sh", "-c", f"echo > /dev/tcp/{address}/9453"], capture_output=True) and
             (farm.lab.root("server1") / "run/safekit/web.sock").exists())  # fmt: skip

    shown = farm.cli("server2", "cluster", "join", address, "--token", token, "--name", "server2", "--dry-run")
    assert ADDRESSES["server2"] in shown.stdout
    assert files(farm, "server2") == {}
    farm.cli("server2", "cluster", "join", address, "--token", token, "--name", "server2", "--yes")
    used = refused(farm, "server3", "join.bad-token", "join", address, "--token", token, "--name", "server3", "--yes")
    assert "used" in used

    # The second server is as good as the first: the third joins through it.
    wait_for((farm.lab.root("server2") / "run/safekit/web.sock").exists)
    made = json.loads(farm.cli("server2", "cluster", "token", "--json").stdout)
    done = farm.lab.run(
        "server3",
        ["safekit-py", "cluster", "join", made["address"], "--token", "-", "--name", "server3", "--yes"],
        input=made["token"] + "\n",
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr

    one = files(farm, "server1")
    for host in SERVERS:
        found = files(farm, host)
        assert all(found[each] == one[each] for each in ("cluster/cluster.xml", "cluster/cluster.key", "tls/ca.key"))
        assert (farm.lab.root(host) / "var/lib/safekit/tls/server.key").stat().st_mode & 0o77 == 0
    assert len({files(farm, host)["tls/server.key"] for host in SERVERS}) == 3

    for host in SERVERS:
        wait_for((farm.lab.root(host) / "run/safekit/web.sock").exists)
    wait_for(lambda: farm.cli("server1", "-H", "*", "status", check=False).returncode == 0)
    farm.cli("server1", "-H", "*", "module", "install", "apache", "--set=VIP=10.77.0.100", "--set=PORT=80")
    farm.cli("server1", "-H", "*", "start", "apache", "--wait")
    wait_for(lambda: farm.members("server1") == 3)
    shares = [m["shares"][0] for m in farm.status("server1")["report"]["members"]]
    assert all(33 < share < 34 for share in shares)
    assert farm.serving() <= set(SERVERS)


def found_by_doctor(farm, host):
    done = farm.cli(host, "doctor", "--json", check=False)
    found = json.loads(done.stdout)
    assert done.returncode == any(each["state"] == "problem" for each in found)
    assert all(each["remedy"] for each in found if each["state"] != "ok")
    return [f"{each['area']}: {each['text']}" for each in found if each["state"] == "problem"]


def test_the_doctor_finds_what_is_wrong(farm):
    assert found_by_doctor(farm, "server1") == []
    folder = farm.lab.root("server1") / "var/lib/safekit"
    (folder / "cluster/cluster.key").chmod(0o644)
    other = farm.lab.root("server2") / "var/lib/safekit/cluster/cluster.xml"
    text = other.read_text()
    other.write_text(text + "<!-- edited -->")
    farm.lab.kill("server3")
    try:
        bad = "\n".join(found_by_doctor(farm, "server1"))
        assert "secrets: others may read" in bad
        assert "server2 has another cluster.xml" in bad
        assert "server3" in bad
    finally:
        (folder / "cluster/cluster.key").chmod(0o600)
        other.write_text(text)
        farm.lab.boot("server3")
        wait_for((farm.lab.root("server3") / "run/safekit/web.sock").exists)
    address = ADDRESSES["server1"]
    farm.lab.run("server1", ["ip", "address", "del", f"{address}/24", "dev", "eth0"], check=False)
    try:
        assert any(address in each for each in found_by_doctor(farm, "server1"))
    finally:
        farm.lab.run("server1", ["ip", "address", "add", f"{address}/24", "dev", "eth0"], check=False)


def test_who_may_not_join(farm):
    """After the first test server1 to server3 are a cluster; server3 leaves it."""
    farm.cli("server1", "-H", "*", "stop", "apache", "--wait", check=False)
    address = ADDRESSES["server1"]
    made = json.loads(farm.cli("server1", "cluster", "token", "--json").stdout)["token"]
    join = ("join", address, "--name", "server3", "--yes")
    refused(farm, "server3", "cluster.exists", *join, "--token", made)
    join = (*join, "--replace")
    secret, _, pin = made.partition(".")
    refused(farm, "server3", "join.bad-token", *join, "--token", "nonsense")
    refused(farm, "server3", "join.bad-token", *join, "--token", f"{secret[:-1]}.{pin}")
    refused(farm, "server3", "join.untrusted", *join, "--token", f"{secret}.{'0' * 32}")
    refused(farm, "server3", "join.no-answer", "join", "10.77.0.99:9453", "--yes", "--replace", "--token", made)
    taken = ("join", address, "--yes", "--replace", "--token", made, "--name", "server4")
    refused(farm, "server3", "join.address-taken", *taken, "--address", f"default={ADDRESSES['server2']}")
    refused(farm, "server3", "join.unknown-lan", *taken, "--address", "other=10.1.1.1")
    refused(farm, "server3", "join.name-taken", *taken[:-1], "server2")
    refused(farm, "server3", "join.bad-name", *taken[:-1], "a b")
    soon = json.loads(farm.cli("server1", "cluster", "token", "--expires", "1s", "--json").stdout)["token"]
    wait_for(lambda: "expired" in farm.cli("server1", "token", "list").stdout)
    refused(farm, "server3", "join.bad-token", *join, "--token", soon)
    # A server that is there already under the same name and addresses gets its part again.
    before = files(farm, "server1")
    farm.cli("server3", "cluster", *join, "--token", made)
    assert files(farm, "server1") == before
    assert files(farm, "server3")["cluster/cluster.xml"] == before["cluster/cluster.xml"]


def test_a_server_that_does_not_answer_stops_a_join(farm):
    """It would keep the old cluster.xml, and stand alone with it."""
    for host in SERVERS:
        wait_for((farm.lab.root(host) / "run/safekit/web.sock").exists)
    made = json.loads(farm.cli("server1", "cluster", "token", "--json").stdout)["token"]
    farm.lab.kill("server2")
    try:
        words = ("join", ADDRESSES["server1"], "--yes", "--replace", "--token", made, "--name", "server9")
        refused(farm, "server3", "join.server-missing", *words, "--address", "default=10.77.0.19")
    finally:
        farm.lab.boot("server2")
        wait_for(lambda: farm.cli("server2", "status", check=False).returncode == 0)


def test_a_cluster_with_a_running_module_takes_nobody(farm):
    wait_for((farm.lab.root("server2") / "run/safekit/web.sock").exists)
    made = json.loads(farm.cli("server1", "cluster", "token", "--json").stdout)["token"]
    farm.cli("server2", "start", "apache", "--wait")
    words = ("join", ADDRESSES["server1"], "--yes", "--replace", "--token", made, "--name", "server9")
    text = refused(farm, "server3", "cluster.in-use", *words, "--address", "default=10.77.0.19")
    assert "server2: modules run: apache" in text
    farm.cli("server2", "stop", "apache", "--wait")
