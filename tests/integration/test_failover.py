"""`failover explain` on an agent that runs: the example of docs/failover.md, with the answers that stand there."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support import wait_for

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = (REPOSITORY / "docs/failover.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def words(text):
    """Its lines without what only aligns them."""
    return [line.split() for line in text.splitlines()]


@pytest.fixture(scope="module")
def cli(tmp_path_factory):
    """An agent with the page's module ``web``, and the way to call it."""
    root = tmp_path_factory.mktemp("server")
    env = {**os.environ, "SAFEKIT_ROOT": str(root), "PYTHONPATH": str(REPOSITORY)}

    def call(*arguments):
        command = [sys.executable, "-m", "safekit_py", *arguments]
        return subprocess.run(command, env=env, cwd=root, capture_output=True, text=True, timeout=60, check=False)

    agent = subprocess.Popen([sys.executable, "-m", "safekit_py", "agent"], env=env, stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: call("status").returncode == 0)
        (root / "web/conf").mkdir(parents=True)
        (root / "web/bin").mkdir()
        (root / "web/conf/userconfig.xml").write_text(blocks("xml")[0])
        done = call("module", "install", "web")
        assert done.returncode == 0, done.stderr
        yield call
    finally:
        agent.send_signal(signal.SIGTERM)
        try:
            agent.wait(30)
        except subprocess.TimeoutExpired:
            agent.kill()
            agent.wait(10)


def test_the_answers_of_the_page(cli):
    commands = re.findall(r"^\$ safekit-py (.*)\n((?:[^$].*\n)+)", blocks("console")[0], re.MULTILINE)
    assert len(commands) == 2
    for line, answer in commands:
        done = cli(*shlex.split(line))
        assert done.returncode == 0, done.stderr
        assert words(done.stdout) == words(answer)


def test_a_simulation_changes_nothing_and_json_holds_all(cli):
    arguments = ("failover", "explain", "web", "--json")
    before = json.loads(cli(*arguments).stdout)
    simulated = json.loads(cli(*arguments, "--simulate", "tcp.db1=down", "--simulate", "tcp.db2=down").stdout)
    assert simulated["simulated"] == {"tcp.db1": "down", "tcp.db2": "down"}
    rule = next(each for each in simulated["rules"] if each["label"] == "no_database")
    assert (rule["true"], rule["taken"], rule["since"], rule["left"]) == (True, True, 0.0, 10.0)
    assert (rule["origin"], rule["line"]) == ("user", 5)
    assert rule["text"] == "no_database: if (tcp.db1 == down && tcp.db2 == down) then wait;"
    assert {each["operand"]: each["values"] for each in rule["operands"]}["tcp.db1"] == {"tcp.db1": "down"}
    assert not any(each["true"] for each in before["rules"])
    assert json.loads(cli(*arguments).stdout) == before
    assert json.loads(cli("status", "web", "--json").stdout)["modules"][0]["resources"] == []


def test_the_rules_as_they_are_written(cli):
    assert "t_Check_Appli: if (tcp.Check_Appli == down) then restart;" in cli("failover", "explain", "web", "-v").stdout


@pytest.mark.parametrize("wrong", ["tcp.db1", "tcp=down", "tcp.db1=", "=down", ".x=up"])
def test_a_simulation_that_says_nothing(cli, wrong):
    done = cli("failover", "explain", "web", "--simulate", wrong)
    assert done.returncode == 1
    assert "failover.bad-simulation" in done.stderr
    assert "tcp.Check_Appli=down" in done.stderr


def test_no_such_module(cli):
    assert "module.not-installed" in cli("failover", "explain", "nothing").stderr


def test_the_fault_of_the_page(cli, tmp_path):
    """confcheck shows the fault as the page does."""
    broken = tmp_path / "userconfig.xml"
    broken.write_text(blocks("xml")[0].replace("tcp.db1 == down", "tcp.db1 = down"))
    done = cli("confcheck", str(broken))
    assert done.returncode == 1
    shown = PAGE[PAGE.index("    userconfig.xml:5:") :].split("\n\n")[0]
    unindented = "\n".join(line[4:] for line in shown.splitlines())
    assert unindented in done.stderr.replace(f"{tmp_path}/", "")
