"""``<errd>`` on a server of the lab: real processes and a service end, and what is written follows."""

import json
import re
import shutil
import time

import pytest
from support import kill, wait_for

pytestmark = [pytest.mark.lab, pytest.mark.timeout(240)]
HOST, MODULE = "server1", "watched"
CONFIG = """<safe><service mode="light" maxloop="1000"><user nicestoptimeout="20s" forcestoptimeout="20s">
<var name="SAFEKIT_SYSTEMCTL" value="BIN/systemctl"/></user>
<errd polltimer="60s">
<proc name="e-restart" action="restart" restart_services="A, B"/>
<proc name="e-stopstart"/>
<proc name="e-note" action="noaction"/>
<proc name="e-few" atmax="1" action="restart" argregex="e-few 7"/>
<proc name="e-custom" class="custom" action="restart"/>
<proc name="e-fix" action="repair"/>
<proc name="e-bad" action="fails"/>
<proc name="e-unit.service" service="yes" action="restart"/>
</errd></service></safe>"""
NAMES = ("e-restart", "e-stopstart", "e-note", "e-few", "e-custom", "e-unit", "e-fix", "e-bad")
START = f"""#!/bin/sh
echo "start $*" >>$SAFEUSERVAR/calls
for name in {" ".join(NAMES)}; do
  pgrep -x $name >/dev/null || setsid $SAFEUSERVAR/$name 7000 &
done
"""
STOP = f"""#!/bin/sh
echo "stop $*" >>$SAFEUSERVAR/calls
for name in {" ".join(NAMES)}; do pkill -KILL -x $name; done
exit 0
"""
REPAIR = """#!/bin/sh
echo "repair $*" >>$SAFEUSERVAR/calls
$SAFE/safekit incloop -i repair
setsid $SAFEUSERVAR/e-fix 7000 &
"""
FAILS = """#!/bin/sh
exit 3
"""
SYSTEMCTL = """#!/bin/sh
pid=$(pgrep -o -x e-unit) && active=active || active=failed
printf 'LoadState=loaded\\nActiveState=%s\\nSubState=x\\nMainPID=%s\\n' $active ${pid:-0}
"""


class Module:
    """The module, and how often its application was started."""

    def __init__(self, farm, folder):
        self.farm, self.var = farm, farm.lab.root(HOST) / "var/lib/safekit/modules" / MODULE
        text = CONFIG.replace("BIN", str(farm.lab.root(HOST) / "opt/safekit/modules" / MODULE / "bin"))
        (folder / "conf").mkdir(parents=True)
        (folder / "bin").mkdir()
        (folder / "conf/userconfig.xml").write_text(text)
        for name, script in (
            ("start_both", START),
            ("stop_both", STOP),
            ("systemctl", SYSTEMCTL),
            ("repair", REPAIR),
            ("fails", FAILS),
        ):
            (folder / "bin" / name).write_text(script)
            (folder / "bin" / name).chmod(0o755)
        farm.cli(HOST, "module", "install", str(folder), "-m", MODULE)
        self.var.mkdir(parents=True, exist_ok=True)
        for name in NAMES:
            shutil.copy("/bin/sleep", self.var / name)

    def cli(self, *words, check=True):
        return self.farm.cli(HOST, *words, "-m", MODULE, check=check)

    def pids(self, name):
        done = self.farm.lab.run(HOST, ["pgrep", "-x", name], capture_output=True, text=True)
        return [int(each) for each in done.stdout.split()]

    def shown(self):
        """State, starts, and the value of each resource, from one command."""
        found = self.farm.status(HOST, MODULE)
        return found | {"values": {each["name"]: each["value"] for each in found["resources"]}}

    def starts(self):
        return self.shown()["starts"]

    def listed(self):
        return {e["resource"].removeprefix("proc."): e for e in json.loads(self.cli("errd", "list", "--json").stdout)}

    def value(self, name):
        return self.shown()["values"].get(f"proc.{name}", "")

    def ready(self, least=0):
        """All is well, after at least so many starts of the application."""
        found = self.shown()
        values = [value for name, value in found["values"].items() if name.startswith("proc.")]
        well = found["readiness"] == "Ready" and set(values) == {"up"} and len(values) >= len(NAMES) - 1
        return well and found["starts"] >= least and not found["suspended"]

    def calls(self):
        return (self.var / "calls").read_text().splitlines()

    def changes(self, resource):
        """When the log says that it went down, seconds since the epoch."""
        log = self.cli("log", "--json", "--lines", "5000").stdout
        events = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
        found = [e for e in events if e.get("data", {}).get("resource") == resource and e["data"]["value"] == "down"]
        return [e["time"] for e in found]

    def end(self, name):
        """Kill it; seconds until its resource was down."""
        killed = time.time()
        kill(self.farm, HOST, self.pids(name))
        resource = "proc.e-unit.service" if name == "e-unit" else f"proc.{name}"
        wait_for(lambda: any(each >= killed for each in self.changes(resource)))
        return min(each for each in self.changes(resource) if each >= killed) - killed


@pytest.fixture(scope="module")
def module(farm, tmp_path_factory):
    if not farm.lab.alive(HOST):
        farm.lab.boot(HOST)
    wait_for(lambda: farm.cli(HOST, "status", check=False).returncode == 0)
    try:
        yield Module(farm, tmp_path_factory.mktemp("errd") / MODULE)
    finally:
        farm.cli(HOST, "forcestop", MODULE, "--wait", check=False)
        farm.cli(HOST, "module", "uninstall", MODULE, check=False)


@pytest.fixture
def watched(module):
    """The module at work, with all of its processes."""
    if not module.ready():
        module.cli("errd", "on")
        module.cli("forcestop", "--wait", check=False)
        module.cli("start", "--wait")
        wait_for(module.ready)
    return module


def again(module, before):
    """The application was started again, and all is well."""
    wait_for(lambda: module.ready(before + 1), 40)


def test_a_killed_process_is_seen_at_once_and_the_application_restarted_with_its_services(watched):
    before, pid = watched.starts(), watched.pids("e-restart")
    # The time of the command that kills is in it: starting one in another namespace takes a while on a busy machine.
    assert watched.end("e-restart") < 15.0  # polltimer is 60 s
    again(watched, before)
    assert watched.starts() == before + 1
    assert watched.pids("e-restart") != pid
    assert watched.calls()[-2:] == ["stop UP UP stop -Services A, B", "start UP UP start -Services A, B"]
    log = watched.cli("log").stdout
    assert re.search(r"no process e-restart runs, and at least 1 must \(errd\): restart \(\d+ of 1000\)", log)


def test_without_an_action_of_its_own_it_is_stopped_and_started(watched):
    before = watched.starts()
    watched.end("e-stopstart")
    again(watched, before)
    assert watched.calls()[-3:] == ["stop UP WAIT stopstart", "stop force WAIT STOP stopstart", "start WAIT UP start"]


def test_noaction_only_shows(watched):
    before = watched.starts()
    watched.end("e-note")
    assert watched.listed()["e-note"]["cause"] == "no process e-note runs, and at least 1 must"
    time.sleep(2)
    assert (watched.starts(), watched.farm.state(HOST, MODULE)) == (before, "UP Ready")


def test_a_service_whose_process_ends_is_seen_at_once(watched):
    before = watched.starts()
    assert watched.end("e-unit") < 15.0
    again(watched, before)
    assert "the service e-unit.service is failed (x) (errd): restart" in watched.cli("log").stdout


def test_too_many_are_seen_by_the_look_after_another_event(watched):
    before = watched.starts()
    extra = watched.farm.lab.popen(HOST, [str(watched.var / "e-few"), "7001"])
    try:
        wait_for(lambda: len(watched.pids("e-few")) == 2)
        watched.cli("errd", "off")
        watched.cli("errd", "on")  # looks anew, and polltimer is long
        again(watched, before)
    finally:
        extra.kill()
        extra.wait()
    assert "2 processes e-few run, and at most 1 may (errd): restart" in watched.cli("log").stdout


def test_switched_off_nothing_follows_until_it_is_switched_on(watched):
    before = watched.starts()
    watched.cli("errd", "off")
    assert {each["state"] for each in watched.listed().values()} == {"suspended"}
    kill(watched.farm, HOST, watched.pids("e-restart"))
    time.sleep(3)
    assert watched.starts() == before
    watched.cli("errd", "on")
    again(watched, before)


def test_class_custom_is_watched_once_it_is_enabled(watched):
    assert watched.listed()["e-custom"]["state"] == "waiting"
    before = watched.starts()
    watched.cli("errd", "enable", "custom", "e-custom")
    wait_for(lambda: watched.value("e-custom") == "up")
    watched.end("e-custom")
    again(watched, before)
    watched.cli("errd", "disable", "custom")
    assert watched.listed()["e-custom"]["state"] == "waiting"
    assert watched.cli("errd", "enable", "pre", check=False).returncode == 1


def test_a_handler_repairs_what_is_missing(watched):
    before, pid = watched.starts(), watched.pids("e-fix")
    count = json.loads(watched.cli("checkloop", "--json").stdout)["count"]
    watched.end("e-fix")
    wait_for(lambda: watched.value("e-fix") == "up")
    assert watched.pids("e-fix") != pid
    assert watched.calls()[-1] == "repair proc.e-fix"
    assert watched.starts() == before
    assert json.loads(watched.cli("checkloop", "--json").stdout)["count"] == count + 1


def test_after_a_handler_that_fails_it_is_stopped_and_started(watched):
    before = watched.starts()
    watched.end("e-bad")
    again(watched, before)
    assert "runs, and at least 1 must; fails ended with status 3 (errd): stopstart" in watched.cli("log").stdout


def test_a_handler_that_others_can_change_is_not_run(watched):
    before = watched.starts()
    handler = watched.farm.lab.root(HOST) / "opt/safekit/modules" / MODULE / "bin/repair"
    handler.chmod(0o777)
    repairs = watched.calls().count("repair proc.e-fix")
    try:
        watched.end("e-fix")
        again(watched, before)
    finally:
        handler.chmod(0o755)
    assert watched.calls().count("repair proc.e-fix") == repairs
    assert "can be changed by others than root, so it is not run (errd): stopstart" in watched.cli("log").stdout
