"""``<custom>``, ``<module>``, ``<splitbrain>`` on real agents: what they watch fails, and what is written follows."""

import json
import time

import pytest
from support import kill, pids, wait_for

pytestmark = [pytest.mark.lab, pytest.mark.timeout(240)]
HERE, THERE, ADDRESS, CLIENT = "server1", "server2", "10.77.0.11", "10.77.0.101"
SERVICE = '<safe><service mode="light" maxloop="1000">{}<failover handle_time="0"/></service></safe>'
CUSTOM = SERVICE.format(
    '<user userlogsize="64"/><check>'
    """<custom ident="look" when="both" exec="look" arg="one 'two three'" action="restart"/>"""
    '<custom ident="noisy" when="both" exec="noisy"/></check>'
)
BASE = SERVICE.format("<user/>")
DEPENDENT = SERVICE.format('<check><module name="base"/></check>')
REMOTE = SERVICE.format(
    f'<check><module name="base"><to addr="{ADDRESS}" interval="1s" timeout="3s"/></module></check>'
)
WITNESS = SERVICE.format(f'<check><splitbrain ident="w" exec="ping" arg="{CLIENT}"/></check>')
START = """#!/bin/sh
echo up >$SAFEUSERVAR/value
"""
LOOK = """#!/bin/sh
printf '%s|' "$@" >$SAFEUSERVAR/words
last=
while :; do
  now=$(cat $SAFEUSERVAR/value)
  [ "$now" = "$last" ] || $SAFE/safekit set -m $1 -r $2 -v $now
  last=$now
  sleep 0.2
done
"""
NOISY = """#!/bin/sh
exec yes "a line of a program that never stops to write"
"""
ASK = """
import http.client, sys
made = http.client.HTTPConnection(sys.argv[1], 9010, timeout=5)
made.request("GET", sys.argv[2])
got = made.getresponse()
print(got.status, got.read().decode())
"""


class Module:
    """One module on one server of the lab."""

    def __init__(self, farm, host, name, text, folder, scripts=()):
        self.farm, self.host, self.name = farm, host, name
        self.var = farm.lab.root(host) / "var/lib/safekit/modules" / name
        (folder / name / "conf").mkdir(parents=True)
        (folder / name / "bin").mkdir()
        (folder / name / "conf/userconfig.xml").write_text(text)
        for script, content in scripts:
            (folder / name / "bin" / script).write_text(content)
            (folder / name / "bin" / script).chmod(0o755)
        farm.cli(host, "module", "install", str(folder / name), "-m", name)

    def cli(self, *words, check=True):
        return self.farm.cli(self.host, *words, "-m", self.name, check=check)

    def status(self):
        return self.farm.status(self.host, self.name)

    def starts(self):
        return self.status()["starts"]

    def resource(self, name):
        return next((each for each in self.status()["resources"] if each["name"] == name), {"value": "", "cause": ""})

    def until(self, state, limit=30):
        wait_for(lambda: self.farm.state(self.host, self.name) == state, limit)

    def started(self):
        self.cli("start", "--wait")
        self.until("UP Ready")
        return self

    def remove(self):
        self.farm.cli(self.host, "forcestop", self.name, "--wait", check=False)
        self.farm.cli(self.host, "module", "uninstall", self.name, check=False)


@pytest.fixture(scope="module")
def install(farm, tmp_path_factory):
    farm.lab.heal()
    for host in (HERE, THERE):
        if not farm.lab.alive(host):
            farm.lab.boot(host)
        wait_for(lambda host=host: farm.cli(host, "status", check=False).returncode == 0)
    made = []

    def make(host, name, text, scripts=()):
        made.append(Module(farm, host, name, text, tmp_path_factory.mktemp("checkers"), scripts))
        return made[-1]

    yield make
    for each in made:
        each.remove()
    farm.lab.heal()


@pytest.fixture(scope="module")
def custom(install):
    return install(HERE, "customs", CUSTOM, (("start_both", START), ("look", LOOK), ("noisy", NOISY)))


@pytest.fixture(scope="module")
def chain(install):
    """A module, one that depends on it on the same server, and one on another."""
    return install(HERE, "base", BASE), install(HERE, "dependent", DEPENDENT), install(THERE, "remote", REMOTE)


def test_a_program_that_sets_its_resource_down_restarts_the_application(custom):
    custom.started()
    assert custom.resource("custom.look")["value"] == "up"
    assert (custom.var / "words").read_text() == "customs|custom.look|one|two three|"
    before = custom.starts()
    (custom.var / "value").write_text("down\n")
    wait_for(lambda: custom.starts() > before and custom.resource("custom.look")["value"] == "up")
    custom.until("UP Ready")
    log = custom.cli("log", "--lines", "200").stdout
    assert "custom.look up -> down" in log
    assert "; rule c_look: restart" in log


def test_a_program_that_is_killed_shows_as_unknown_and_is_started_again(custom):
    custom.started()
    before, old = custom.starts(), pids(custom.farm, HERE, "bin/look customs")
    kill(custom.farm, HERE, old[:1])
    wait_for(lambda: custom.resource("custom.look")["value"] == "unknown", 10, 0.2)
    assert custom.resource("custom.look")["cause"] == "look was ended by SIGKILL"
    wait_for(lambda: custom.resource("custom.look")["value"] == "up")
    assert old[0] not in pids(custom.farm, HERE, "bin/look customs")
    assert (custom.starts(), custom.farm.state(HERE, "customs")) == (before, "UP Ready")


def test_what_a_program_writes_without_end_does_not_fill_the_disk_and_nothing_of_it_outlives_the_module(custom):
    custom.started()
    wait_for(lambda: pids(custom.farm, HERE, "that never stops to write"))
    time.sleep(2)
    assert 0 < sum(each.stat().st_size for each in custom.var.glob("userlog*")) < 300 * 1024
    custom.cli("stop", "--wait")
    assert pids(custom.farm, HERE, "bin/look customs") == []
    assert pids(custom.farm, HERE, "that never stops to write") == []


def test_a_module_waits_for_the_one_that_it_depends_on_and_comes_back_with_it(chain):
    base, *others = chain
    for each in others:
        each.cli("start")
    for each in others:
        each.until("WAIT NotReady")
        wait_for(lambda each=each: "module_failure" in each.status()["reason"])
    assert others[0].resource("module.base_127.0.0.1")["cause"] == "base is STOP NotReady on this server"
    base.started()
    for each in others:
        each.until("UP Ready")
    base.cli("stop", "--wait")
    for each in others:
        each.until("WAIT NotReady")
    base.started()
    for each in others:
        each.until("UP Ready")
    assert others[0].resource("module.base_127.0.0.1")["value"] == "up"
    assert others[1].resource(f"module.base_{ADDRESS}")["cause"] == f"base is UP Ready on {ADDRESS}"


def test_a_restart_of_the_one_that_it_depends_on_brings_a_stopstart(chain):
    for each in chain:
        each.started()
    base, *others = chain
    time.sleep(2)  # each has seen it as it is now
    before = [each.starts() for each in others]
    base.cli("restart", "--wait")
    for each, count in zip(others, before, strict=True):
        wait_for(lambda each=each, count=count: each.starts() > count)
        each.until("UP Ready")
    logs = [each.cli("log", "--lines", "200").stdout for each in others]
    assert any("base was started anew (modulecheck): stopstart" in log for log in logs)


def test_an_agent_that_is_killed_leaves_no_rival_program_and_whoever_depends_on_its_modules_follows(custom, chain):
    base, _, remote = chain
    for each in (base, remote, custom):
        each.started()
    time.sleep(2)  # the remote one has seen it as it is now
    before, old = remote.starts(), pids(custom.farm, HERE, "bin/look customs")
    kill(custom.farm, HERE, pids(custom.farm, HERE, "safekit_py agent"))
    wait_for(lambda: custom.farm.cli(HERE, "status", check=False).returncode == 0)
    custom.until("UP Ready")
    wait_for(lambda: custom.resource("custom.look")["value"] == "up")
    new = pids(custom.farm, HERE, "bin/look customs")
    assert len(new) == 1
    assert new != old
    wait_for(lambda: remote.starts() > before)
    remote.until("UP Ready")
    custom.cli("stop", "--wait")


def test_a_load_balancer_is_told_where_the_module_is_ready(farm, chain):
    def ask(path, server=ADDRESS):
        argv = ["python3", "-c", ASK, server, path]
        done = farm.lab.run("client1", argv, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        status, _, body = done.stdout.partition(" ")
        return int(status), body

    base = chain[0].started()
    status, body = ask("/health/base")
    assert (status, json.loads(body)["state"], json.loads(body)["ready"]) == (200, "UP", True)
    assert ask("/var/modules/base/ready.txt")[0] == 200
    assert ask("/health/base", "10.77.0.12")[0] == 404
    base.cli("stop", "--wait")
    status, body = ask("/health/base")
    assert (status, json.loads(body)["state"], json.loads(body)["ready"]) == (503, "STOP", False)
    assert ask("/var/modules/base/ready.txt")[0] == 404


def test_witnesses_that_are_out_of_reach_are_shown_and_a_module_without_roles_goes_on(farm, install):
    module = install(THERE, "witnessed", WITNESS)
    farm.lab.cut(THERE)
    try:
        module.started()
        wait_for(lambda: module.resource("splitbrain.w")["value"] == "down")
    finally:
        farm.lab.heal()
    assert CLIENT in module.resource("splitbrain.w")["cause"]
    assert module.resource("splitbrain.uptodate")["value"] == "up"
    assert farm.state(THERE, "witnessed") == "UP Ready"
    module.cli("stop", "--wait")
    module.started()
    wait_for(lambda: module.resource("splitbrain.w")["value"] == "up")
