"""The cluster's key is rotated under traffic, in a farm and in a mirror: nobody notices, and the old key is refused."""

import json
import shutil

import pytest
from fault_support import roles, settle
from mirror_support import make, up
from support import VIP, wait_for

pytestmark = [pytest.mark.lab, pytest.mark.timeout(280)]
FARM, PAIR = ("server1", "server2", "server3"), ("server1", "server2")
OF_KEYS = ("key", "auth", "version", "malformed")  # reasons that a rotation could be to blame for
CLIENT = """
import http.client, sys, time
vip, seconds = sys.argv[1], float(sys.argv[2])
end, good, bad = time.monotonic() + seconds, 0, 0
kept = http.client.HTTPConnection(vip, 80, timeout=3)
while time.monotonic() < end:
    kept.request("GET", "/server-name.txt"); first = kept.getresponse().read()
    asked = http.client.HTTPConnection(vip, 80, timeout=3)
    try:
        asked.request("GET", "/server-name.txt"); asked.getresponse().read(); good += 1
    except OSError:
        bad += 1
    asked.close()
    time.sleep(0.02)
print(good, bad)
"""
# From the other server's own address and port, past its socket: what is signed with a key of the file, as datagrams.
FORGE = """
import socket, struct, sys
from pathlib import Path
from safekit_py.model.keys import parse
from safekit_py.net import wire
file, cluster, group, sender, kind, target, port = sys.argv[1:]
ring, port = parse(Path(file).read_text()), int(port)
it = wire.Datagram(int(kind), int(sender), 0, 77, 1 << 40, b"anything")
data = wire.seal(ring, wire.group_id(cluster, group), it)
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP)
raw.sendto(struct.pack(">HHHH", port, port, 8 + len(data), 0) + data, (target, 0))
"""


def key_file(lab, host):
    return lab.root(host) / "var/lib/safekit/cluster/cluster.key"


def address_of(lab, host):
    return next(each for each in lab.hosts if each.name == host).ports[0].address.split("/")[0]


def shown(cluster, host):
    return json.loads(cluster.cli(host, "cluster", "key", "show", "--json").stdout)


def refused(cluster, host, module):
    return cluster.status(host, module)["report"]["rejected"]


def rotate(cluster, hosts, folder):
    """A whole rotation as an administrator does it; the content of the old file."""
    lab, first, *others = cluster.lab, *hosts
    copy, old = folder / "new.key", folder / "old.key"
    shutil.copy(key_file(lab, first), old)
    number = shown(cluster, first)["keys"][-1]["number"] + 1
    said = cluster.cli(first, "cluster", "key", "rotate").stdout
    assert all(other in said for other in others)
    assert "rotate --from" in said
    assert cluster.cli(first, "cluster", "key", "drop", check=False).returncode == 1
    shutil.copy(key_file(lab, first), copy)
    cluster.cli(others[0], "cluster", "key", "rotate", "--from", str(copy))
    for other in others[1:]:  # or over the file itself, which the agent notices
        shutil.copyfile(copy, key_file(lab, other))

    def agreed():
        users = [user for host in hosts for user in shown(cluster, host)["users"]]
        return len(users) == len(hosts) * (len(hosts) - 1) and all(u["signs"] == u["gets"] == number for u in users)

    wait_for(agreed)
    for host in hosts:
        wait_for(lambda host=host: cluster.cli(host, "cluster", "key", "drop", check=False).returncode == 0)
    for host in hosts:
        document = shown(cluster, host)
        assert [each["number"] for each in document["keys"]] == [number]
        users = [(user["holds"], user["awaited"]) for user in document["users"]]
        assert users == [([number], False)] * (len(hosts) - 1)
    assert len({shown(cluster, host)["keys"][0]["fingerprint"] for host in hosts}) == 1
    texts = [key_file(lab, host).read_text() for host in hosts]
    assert len(set(texts)) == 1
    assert old.read_text().split()[-1] not in texts[0], "the old key is gone"
    return old


def places(farm, host):
    """Bucket and owner of some clients, as a server tells it."""
    found = []
    for port in range(40001, 40009):
        words = ["farm", "trace", "--client", f"10.77.0.101:{port}", "--proto", "tcp", "--port", "80", "--json"]
        found.append(json.loads(farm.cli(host, *words).stdout)["rows"][0])
    return [(row["bucket"], row["owner"]) for row in found]


def of_keys(counts):
    return {reason: count for reason, count in counts.items() if reason in OF_KEYS}


def test_a_farm_goes_on_with_a_new_key(running, tmp_path):
    # Until everybody has settled after the start, views change by themselves.
    wait_for(lambda: not any(running.status(host)["report"]["moved"] for host in FARM))
    before = {host: running.status(host)["report"] for host in FARM}
    placed = places(running, "server1")
    client = running.lab.popen("client1", ["python3", "-c", CLIENT, VIP, "12"], stdout=-1, text=True)
    old = rotate(running, FARM, tmp_path)
    good, bad = client.communicate(timeout=60)[0].split()
    assert (int(good) > 50, int(bad)) == (True, 0)
    assert client.returncode == 0, "its kept connection lived"
    for host in FARM:
        report = running.status(host)["report"]
        assert (report["view"], report["cause"]) == (before[host]["view"], before[host]["cause"])
        assert of_keys(report["rejected"]) == of_keys(before[host]["rejected"]), "a heartbeat was refused"
    # The old key opens nothing any more.
    target, sender = "server2", FARM.index("server3")
    count = refused(running, target, "apache").get("key", 0)
    port = running.status(target)["report"]["port"]
    address = address_of(running.lab, target)
    argv = ["python3", "-c", FORGE, str(old), ",".join(FARM), "apache", str(sender), "1", address, str(port)]
    assert running.lab.run("server3", argv).returncode == 0
    wait_for(lambda: refused(running, target, "apache").get("key", 0) == count + 1)
    assert running.status(target)["report"]["view"] == before[target]["view"]
    # What is made of the first key stays, also for an agent that has never seen it.
    assert places(running, "server1") == placed
    running.lab.kill("server1")
    running.lab.boot("server1")
    wait_for(lambda: running.state("server1") is not None)
    running.cli("server1", "start", "apache", "--wait", check=False)
    wait_for(lambda: all(running.members(host) == 3 for host in FARM))
    now = places(running, "server1")
    assert [bucket for bucket, _ in now] == [bucket for bucket, _ in placed]
    assert running.serving() == set(FARM)


@pytest.fixture(scope="module")
def mirror(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys")
    with up(folder) as lab:
        made = make(lab, folder)
        settle(made)
        yield made
        made.show()


def test_a_mirror_goes_on_with_a_new_key(mirror, tmp_path):
    primary, secondary = roles(mirror)
    before = {host: mirror.status(host)["report"] for host in PAIR}
    writer = mirror.begin(10)
    wait_for(lambda: len(mirror.acknowledged()) > 20)
    old = rotate(mirror, PAIR, tmp_path)
    assert mirror.end(writer) < 5
    assert (mirror.state(primary), mirror.state(secondary)) == ("PRIM Ready", "SECOND Ready")
    for host in PAIR:
        assert of_keys(mirror.status(host)["report"]["rejected"]) == of_keys(before[host]["rejected"])
    address = address_of(mirror.lab, primary)
    count, port = (
        refused(mirror, primary, "ledger").get("key", 0),
        next(each["port"] for each in mirror.status(primary)["report"]["ports"] if each["protocol"] == "udp"),
    )
    sender = str(PAIR.index(secondary))
    argv = ["python3", "-c", FORGE, str(old), ",".join(PAIR), "heart/ledger", sender, "6", address, str(port)]
    assert mirror.lab.run(secondary, argv).returncode == 0
    wait_for(lambda: refused(mirror, primary, "ledger").get("key", 0) == count + 1)
    assert (mirror.state(primary), mirror.state(secondary)) == ("PRIM Ready", "SECOND Ready")
    # A connection of replication that is made anew is proved by the new key.
    mirror.cli(secondary, "stop", "ledger", "--wait")
    mirror.cli(secondary, "start", "ledger")
    mirror.both(primary, secondary)
    mirror.write(0.5)
    mirror.check()
