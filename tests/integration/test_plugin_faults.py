"""A plugin that raises, hangs or exits in a real agent: it is named, and everything else runs."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support import wait_for

REPOSITORY = Path(__file__).resolve().parents[2]
PLUGIN = '''
import asyncio, os, socket, sys, time
from fastapi import APIRouter
from safekit_py.api import CheckerType, Element, Metric, State, hookimpl

XSD = """<xs:element name="bad"><xs:complexType>
<xs:attribute name="ident" type="sk:ident" use="required"/></xs:complexType></xs:element>"""

async def fine(report):
    while True:
        report("up", "fine")
        await asyncio.sleep(0.2)

async def sleeps(report): time.sleep(600)

async def loops(report):
    while True: pass

async def reads(report):
    one, other = socket.socketpair()
    one.recv(1)

async def raises(report): raise ValueError("a mistake")

async def exits(report): sys.exit(3)

async def exits_in_a_task(report): await asyncio.create_task(exits(report))

def thread_exits(report, stop): sys.exit(3)

class Checker:
    when, action = "both", "noaction"
    def __init__(self, ident):
        self.resource, self.run = f"bad.{ident}", globals()[ident]

@hookimpl
def safekit_elements():
    return [Element("bad", "check", XSD, lambda node: node.get("ident"), many=True)]

@hookimpl
def safekit_checkers():
    return [CheckerType("bad", lambda context: [Checker(i) for i in context.config.all("check/bad")])]

@hookimpl
def safekit_event(event):
    raise RuntimeError("no ear for this")

@hookimpl
def safekit_routes(server):
    routes = APIRouter()
    @routes.get("/sleeps")
    async def sleeping() -> str:
        time.sleep(600)
    return [routes]

class Broken:
    name, goal, clustered = "broken", State.UP, False
    def check(self, config, cluster): return []
    def requirements(self, config): return []
    def runtime(self, context): sys.exit(4)

@hookimpl
def safekit_module_types():
    return [Broken()]
'''
IDENTS = ("fine", "sleeps", "loops", "reads", "raises", "exits", "exits_in_a_task", "thread_exits")
CONFIG = '<safe><service mode="light"><check>{}</check></service></safe>'


class Agent:
    def __init__(self, root):
        self.root = root
        self.env = {**os.environ, "SAFEKIT_ROOT": str(root), "PYTHONPATH": str(REPOSITORY), "SAFEKIT_HEALTH": "off"}
        self.log = root / "agent.log"
        with self.log.open("wb") as log:
            command = [sys.executable, "-m", "safekit_py", "agent"]
            self.process = subprocess.Popen(command, env=self.env, stderr=log)

    def cli(self, *words, check=True):
        command = [sys.executable, "-m", "safekit_py", *words]
        done = subprocess.run(command, env=self.env, capture_output=True, text=True, timeout=60, check=False)
        assert not check or done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
        return done

    def install(self, name, text):
        folder = self.root / "source" / name
        (folder / "conf").mkdir(parents=True)
        (folder / "conf/userconfig.xml").write_text(text)
        self.cli("module", "install", str(folder))

    def module(self, name):
        return json.loads(self.cli("status", name, "--json").stdout)["modules"][0]


@pytest.fixture(scope="module")
def agent(tmp_path_factory):
    root = tmp_path_factory.mktemp("root")
    folder = root / "opt/safekit/plugins"
    folder.mkdir(parents=True)
    (folder / "bad.py").write_text(PLUGIN)
    (folder / "worse.py").write_text("import sys\nsys.exit(5)\n")
    made = Agent(root)
    try:
        wait_for(lambda: made.cli("status", check=False).returncode == 0)
        made.install("good", CONFIG.format(""))
        made.cli("start", "good", "--wait")
        made.install("bad", CONFIG.format("".join(f'<bad ident="{each}"/>' for each in IDENTS)))
        made.install("broken", '<safe><service mode="broken"/></safe>')
        yield made
    finally:
        made.process.send_signal(signal.SIGTERM)
        try:
            assert made.process.wait(30) == 0
        finally:
            made.process.kill()


def test_each_bad_checker_shows_at_its_own_resource_and_the_good_one_works(agent):
    agent.cli("start", "bad", "--wait")
    bad = set(IDENTS) - {"fine"}
    causes = {}

    def all_told():
        for each in agent.module("bad")["resources"]:
            if each["value"] == "unknown":
                causes[each["name"].removeprefix("bad.")] = each["cause"]
        return bad <= set(causes)

    wait_for(all_told, 60)
    for ident in ("sleeps", "loops", "reads"):
        assert f"plugin bad, the checker bad.{ident} blocked the agent for more than 2 s" in causes[ident]
    assert "ValueError: a mistake" in causes["raises"]
    assert all("SystemExit" in causes[each] for each in ("exits", "exits_in_a_task", "thread_exits"))
    values = {each["name"]: each["value"] for each in agent.module("bad")["resources"]}
    assert values["bad.fine"] == "up"
    assert agent.module("good")["state"] == "UP"
    assert agent.process.poll() is None
    agent.cli("stop", "bad", "--wait")


def test_the_culprit_is_named_and_counted(agent):
    found = {each["name"]: each for each in json.loads(agent.cli("plugins", "list", "--json").stdout)}
    assert found["bad"]["faults"] >= len(IDENTS)
    assert found["worse"]["problems"][0]["code"] == "plugin.load-failed"
    assert "SystemExit: 5" in found["worse"]["problems"][0]["message"]
    assert "bad.py" in json.loads(agent.cli("plugins", "info", "bad", "--json").stdout)["last"]
    assert all(each["faults"] == 0 for name, each in found.items() if each["origin"] == "built-in"), found


def test_a_route_that_hangs_is_ended(agent):
    code = (
        "import httpx,sys\n"
        "client = httpx.Client(transport=httpx.HTTPTransport(uds=sys.argv[1]), timeout=30)\n"
        "print(client.get('http://agent/api/v1/plugins/bad/sleeps').text)\n"
    )
    began = time.monotonic()
    command = [sys.executable, "-c", code, str(agent.root / "run/safekit/agent.sock")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(done.stdout)["problems"][0]["code"] == "plugin.failed"
    assert time.monotonic() - began < 15


def test_a_module_type_that_exits_breaks_its_own_module_only(agent):
    found = agent.module("broken")
    assert found["state"] == "NOT_CONFIGURED"
    assert "plugin bad failed in the module type broken" in found["reason"]
    agent.cli("restart", "good", "--wait")
    assert agent.module("good")["readiness"] == "Ready"
