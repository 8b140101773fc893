"""A planned stop as its clients see it: new connections go elsewhere at once, those that are there may end first."""

import json
import re
import subprocess
import sys
import time

import pytest
from support import kill, pids, wait_for

from safekit_py.lab import echo

pytestmark = [pytest.mark.lab, pytest.mark.timeout(240)]
SERVERS = ("server1", "server2", "server3")
COUNT = 120

USERCONFIG = """<safe><service mode="farm" maxloop="100"><farm><lan name="default"/></farm>
<vip ATTRIBUTES><interface_list><interface check="off" arpreroute="on"><virtual_interface type="vmac_directed">
<virtual_addr addr="VIP" where="alias" connections="on"/></virtual_interface></interface></interface_list>
<loadbalancing_list><group name="all"><rule port="PORT" proto="tcp" filter="on_port"/></group></loadbalancing_list>
</vip><user nicestoptimeout="10" forcestoptimeout="10"/></service></safe>"""
START = f"""#!/bin/sh
setsid {sys.executable} {echo.__file__} serve PORT >/dev/null 2>&1 </dev/null &
echo $! > "$SAFEUSERVAR/pid"
"""
STOP = """#!/bin/sh
[ -f "$SAFEUSERVAR/pid" ] && kill -9 "$(cat "$SAFEUSERVAR/pid")" 2>/dev/null
rm -f "$SAFEUSERVAR/pid"
"""
OUTLIVES = "#!/bin/sh\nexit 0\n"  # a stop script that leaves the application running
KILL = '#!/bin/sh\nkill -9 $(cat "$SAFEUSERVAR/pid") 2>/dev/null\nrm -f "$SAFEUSERVAR/pid"\n'


class Echo:
    """One module on every server of the lab."""

    def __init__(self, farm, name, vip, port):
        self.farm, self.name, self.vip, self.port = farm, name, vip, port

    def install(self, folder, attributes="", stop=STOP, **scripts):
        (folder / "conf").mkdir(parents=True)
        (folder / "bin").mkdir()
        text = USERCONFIG.replace("ATTRIBUTES", attributes).replace("VIP", self.vip).replace("PORT", str(self.port))
        (folder / "conf/userconfig.xml").write_text(text)
        scripts = {"start_both": START, "stop_both": stop, **scripts}
        for script, body in scripts.items():
            (folder / "bin" / script).write_text(body.replace("PORT", str(self.port)))
            (folder / "bin" / script).chmod(0o755)
        for host in SERVERS:
            self.farm.install(host, str(folder))
        return self

    def remove(self):
        for host in SERVERS:
            self.farm.cli(host, "forcestop", self.name, "--wait", check=False)
            self.farm.cli(host, "module", "uninstall", self.name, check=False)

    def up(self, *hosts):
        for host in hosts:
            self.farm.cli(host, "start", self.name, "--wait")
        wait_for(lambda: all(set(self.shares(host)) == set(hosts) for host in hosts))
        return self

    def shares(self, host):
        report = (self.farm.status(host, self.name) or {}).get("report", {})
        return {m["name"]: m["shares"][0] for m in report.get("members", ()) if m["shares"][0]}

    def reason(self, host):
        return self.farm.status(host, self.name)["reason"]

    def state(self, host):
        return self.farm.state(host, self.name)

    def log(self, host):
        return self.farm.cli(host, "log", self.name).stdout


class Clients:
    """Connections that stay, held by the client host."""

    def __init__(self, made, count=COUNT):
        argv = [sys.executable, echo.__file__, "hold", made.vip, str(made.port), str(count)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = made.farm.lab.popen("client1", argv, **pipes)
        assert json.loads(self.process.stdout.readline()) == {"opened": count}

    def ask(self, line):
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait(10)
        self.process.stdout.close()


@pytest.fixture(scope="module")
def plain(farm, tmp_path_factory):
    made = Echo(farm, "echo", "10.77.0.110", 9110)
    try:
        yield made.install(tmp_path_factory.mktemp("plain") / made.name)
    finally:
        made.remove()


@pytest.fixture
def two(plain):
    plain.farm.cli("server3", "stop", plain.name, "--wait", check=False)
    return plain.up("server1", "server2")


def draining(made, *words):
    """A drain of server2, begun; its command."""
    argv = ["safekit-py", "stop", made.name, "--drain", *words]
    done = made.farm.lab.popen("server2", argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: "left, " in made.reason("server2"))
    return done


def test_a_drain_waits_for_the_last_connection_while_new_ones_go_elsewhere(two):
    with Clients(two) as clients:
        held = clients.ask("check")["servers"]["server2"]
        command = draining(two, "100s")
        assert two.reason("server2").startswith(f"drains: {held} connections left, ")
        assert two.state("server2") == "UP Transient"
        with Clients(two) as later:
            assert set(later.ask("check")["servers"]) == {"server1"}
        assert clients.ask("check")["alive"] == COUNT
        shown = two.farm.cli("server2", "status", two.name).stdout
        assert "connections left" in " ".join(shown.split())
        assert command.poll() is None
    out, err = command.communicate(timeout=30)  # the clients have gone
    assert command.returncode == 0, err
    assert "done, STOP NotReady" in out
    assert "connections left, " in err
    assert "the last client has left" in two.log("server2")


def test_a_drain_ends_with_its_time_and_what_is_left_is_reset(two):
    with Clients(two) as clients:
        held = clients.ask("check")["servers"]["server2"]
        began = time.monotonic()
        terminal = ["script", "-qec", f"safekit-py stop {two.name} --drain 4s", "/dev/null"]
        done = two.farm.lab.run("server2", terminal, capture_output=True, timeout=40)
        assert done.returncode == 0, done.stdout
        assert time.monotonic() - began > 4
        assert re.search(rf"\r\x1b\[K{two.name}: {held} connections left, [1-4] s", done.stdout.decode()), (
            "one line, again and again"
        )
        assert "the time to leave is over" in two.log("server2")
        found = clients.ask("check")
        assert (found["alive"], found["reset"], found["silent"]) == (COUNT - held, held, 0)


def test_during_a_drain_a_start_is_refused_and_a_stop_ends_it(two):
    with Clients(two) as clients:
        held = clients.ask("check")["servers"]["server2"]
        command = draining(two)
        refused = two.farm.cli("server2", "start", two.name, "--wait", check=False)
        assert refused.returncode == 1
        assert "module.draining" in refused.stderr
        kill(two.farm, "server2", pids(two.farm, "server2", f"safekit_py stop {two.name} --drain"), "INT")
        _, err = command.communicate(timeout=20)
        assert f"it goes on; safekit-py stop {two.name} ends the waiting" in err
        assert two.state("server2") == "UP Transient"
        again = draining(two, "200s")
        wait_for(lambda: int(two.reason("server2").split()[-2]) > 100)
        two.farm.cli("server2", "stop", two.name, "--wait")
        assert two.state("server2") == "STOP NotReady"
        again.communicate(timeout=20)
        assert again.returncode == 0, "a stop is as good as another"
        assert clients.ask("check")["reset"] == held


def test_a_module_that_knows_no_clients_cannot_drain(two):
    refused = two.farm.cli("server2", "restart", two.name, "--drain", check=False)
    assert refused.returncode == 2
    refused = two.farm.cli("server2", "stop", "--drain", two.name, check=False)
    assert refused.returncode == 2
    assert "before --drain" in refused.stderr


def test_connections_of_an_address_are_a_resource(two):
    with Clients(two) as clients:
        held = clients.ask("check")["servers"]
        for host in held:
            wait_for(
                lambda host=host: (
                    two.farm.cli(host, "get", "-m", two.name, "-r", f"connections.{two.vip}").stdout.strip()
                    == str(held[host])
                )
            )


@pytest.mark.parametrize("tcpreset", ["on", "off"])
def test_connections_that_the_application_leaves_behind(farm, tmp_path, tcpreset):
    """With tcpreset they are reset while the address is there; without, the clients ask those that have the bucket."""
    made = Echo(farm, f"left{tcpreset}", "10.77.0.111", 9111)
    try:
        made.install(tmp_path / made.name, f'tcpreset="{tcpreset}"', OUTLIVES, poststop=KILL)
        made.up("server1", "server2")
        with Clients(made) as clients:
            held = clients.ask("check")["servers"]["server2"]
            farm.cli("server2", "stop", made.name, "--wait")
            said = f"{held} connections that were left are reset" in made.log("server2")
            assert said == (tcpreset == "on")
            assert clients.ask("check")["reset"] == held
    finally:
        made.remove()


def test_scripts_open_and_close_the_traffic(farm, tmp_path):
    made = Echo(farm, "scripted", "10.77.0.112", 9112)
    try:
        made.install(
            tmp_path / made.name,
            'scriptcontrol="on"',
            start_both=START,
            prestart='#!/bin/sh\n[ -e "$SAFEUSERVAR/first" ] && exec "$SAFE/safekit" farm open\nexit 0\n',
            start_prim='#!/bin/sh\n[ -e "$SAFEUSERVAR/early" ] && exec "$SAFE/safekit" farm open\nexit 0\n',
        )
        for host in SERVERS[:2]:
            farm.cli(host, "start", made.name, "--wait")
        assert made.state("server1") == "UP Ready"
        assert made.shares("server1") == {}
        farm.cli("server1", "farm", "open", made.name)
        wait_for(lambda: set(made.shares("server1")) == {"server1"})
        argv = ["env", f"SAFEMODULE={made.name}", "safekit-py", "-r", "saferpc_send", "vipd", "SETGROUPS"]
        assert farm.lab.run("server2", [*argv, "all", "all", "all"]).returncode == 0
        wait_for(lambda: set(made.shares("server1")) == {"server1", "server2"})
        with Clients(made) as clients:
            assert farm.lab.run("server2", [*argv, "none", "none", "none"]).returncode == 0
            wait_for(lambda: set(made.shares("server1")) == {"server1"})
            assert clients.ask("check")["alive"] == COUNT, "closed to new clients only"
        folder = farm.lab.root("server2") / "var/lib/safekit/modules" / made.name
        (folder / "early").touch()
        done = farm.cli("server2", "restart", made.name, "--wait", check=False)
        assert done.returncode == 0, (folder / "userlog").read_text()
        assert set(made.shares("server2")) == {"server1", "server2"}
        farm.cli("server2", "stop", made.name, "--wait")
        refused = farm.cli("server2", "farm", "open", made.name, check=False)
        assert "module.stopped" in refused.stderr
        (folder / "early").rename(folder / "first")
        farm.cli("server2", "start", made.name, "--wait")
        assert set(made.shares("server2")) == {"server1", "server2"}
    finally:
        made.remove()


def test_without_scriptcontrol_the_traffic_is_not_for_scripts(two):
    refused = two.farm.cli("server1", "farm", "close", two.name, check=False)
    assert refused.returncode == 1
    assert "farm.no-scriptcontrol" in refused.stderr
