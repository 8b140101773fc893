"""Scripts in the shape of the classic generic module: they log with printe and stop the module from inside."""

import pytest
from support import wait_for

pytestmark = [pytest.mark.lab, pytest.mark.timeout(120)]

START = """#!/bin/sh
echo "Running start_both $*"
res=1
if [ $res -ne 0 ] ; then
  $SAFE/safekit printe "start_both failed"
  $SAFE/safekit stop -i "start_both"
fi
"""
STOP = """#!/bin/sh
echo "Running stop_both $*"
res=0
[ "$1" = "force" ] && exit 0
[ $res -ne 0 ] && $SAFE/safekit printe "stop_both failed"
"""
GOOD = """#!/bin/sh
echo "Running start_both $*"
$SAFE/safekit printi "it is fine"
python3 -m http.server 8088 --bind 0.0.0.0 >/dev/null 2>&1 &
"""


@pytest.fixture
def generic(farm):
    farm.lab.run("server1", ["safekit-py", "stop", "apache", "--wait"], check=True)
    words = ["-m", "myapp", "--set", "VIP=10.77.0.120", "--set", "PORT=8088"]
    farm.cli("server1", "module", "install", "generic", *words)
    folder = farm.lab.root("server1") / "opt/safekit/modules/myapp/bin"

    def write(start):
        (folder / "start_both").write_text(start)
        (folder / "stop_both").write_text(STOP)

    yield write
    farm.cli("server1", "stop", "myapp", "--wait", check=False)
    farm.cli("server1", "module", "uninstall", "myapp")


def test_a_script_that_finds_a_fault_stops_its_module(farm, generic):
    generic(START)
    farm.cli("server1", "start", "myapp")
    wait_for(lambda: "asked by start_both" in (farm.status("server1", "myapp") or {}).get("reason", ""))
    wait_for(lambda: farm.state("server1", "myapp") == "STOP NotReady")
    log = farm.cli("server1", "log", "myapp").stdout
    assert "| E | user | start_both failed" in log
    assert "UP Ready" not in log
    # The last line of that stop_both leaves status 1 when all is well: worth a warning, no more.
    assert "| W | stop_both | warning [script.failed]" in log
    userlog = (farm.lab.root("server1") / "var/lib/safekit/modules/myapp/userlog").read_text()
    assert [line for line in userlog.splitlines() if line.startswith("Running")] == [
        "Running start_both WAIT UP start",
        "Running stop_both UP WAIT stop",
        "Running stop_both force WAIT STOP stop",
    ]


def test_traffic_opens_when_the_application_answers(farm, generic):
    generic(GOOD)
    farm.cli("server1", "start", "myapp", "--wait")
    assert farm.state("server1", "myapp") == "UP Ready"
    log = farm.cli("server1", "log", "myapp").stdout
    assert "| I | user | it is fine" in log
    assert log.index("traffic is shut") < log.index("start_both | WAIT UP start: done") < log.index("UP Ready")
    got, bad = farm.fetch(3, url="http://10.77.0.120:8088/")
    assert bad == 0
    assert sum(got.values()) == 3
