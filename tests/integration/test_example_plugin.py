"""The example packages of docs/examples: installed into a fresh environment, and used by a real agent."""

import http.server
import json
import os
import signal
import subprocess
import sys
import sysconfig
import threading
import venv
from pathlib import Path

import pytest
from support import wait_for

REPOSITORY = Path(__file__).resolve().parents[2]
EXAMPLES = {"http-checker": "safekit-http-checker", "webhook": "safekit-webhook"}
MODULE = """<!DOCTYPE safe>
<safe><service mode="light">
<webhook url="URL/hook" events="state resource" timeout="2"/>
<failover handle_time="0"/>
<check>
<http ident="home" url="URL/" body="Welcome" interval="1" action="webhook"/>
</check></service></safe>
"""


class Site(http.server.ThreadingHTTPServer):
    """A page that the checker fetches, and a hook that keeps what is posted."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.page, self.documents = b"Welcome", []
        self.url = f"http://127.0.0.1:{self.server_port}"

    def seen(self, **wanted):
        return [d for d in self.documents if all(d.get(k) == v or d["data"].get(k) == v for k, v in wanted.items())]


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.server.page)

    def do_POST(self):
        document = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.documents.append({"data": {}, **document})
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def site():
    server = Site()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """The interpreter of a fresh environment with both examples; what safekit_py needs is this environment's."""
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, system_site_packages=True, symlinks=True)
    site_packages = next((folder / "lib").glob("python*/site-packages"))
    outer = sysconfig.get_path("purelib")
    (site_packages / "outer.pth").write_text(f"import site; site.addsitedir({outer!r})\n{REPOSITORY}\n")
    found = folder / "bin/python"
    command = [str(found), "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--no-index"]
    sources = [str(REPOSITORY / "docs/examples" / name) for name in EXAMPLES.values()]
    if subprocess.run([str(found), "-c", "import pip"], capture_output=True, check=False).returncode:
        command = [sys.executable, "-m", "pip", "--python", str(found), *command[3:]]
    done = subprocess.run([*command, *sources], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return found


class Agent:
    """An agent of that environment on a root of its own."""

    def __init__(self, python, root):
        self.python, self.root = python, root
        names = {k: v for k, v in os.environ.items() if k not in {"PYTHONPATH", "SAFEKIT_DISABLED_PLUGINS"}}
        self.env = {**names, "SAFEKIT_ROOT": str(root), "SAFEKIT_HEALTH": "off"}
        with (root / "agent.log").open("wb") as log:
            self.process = subprocess.Popen([str(python), "-m", "safekit_py", "agent"], env=self.env, stderr=log)

    def cli(self, *words, check=True):
        command = [str(self.python), "-m", "safekit_py", *words]
        done = subprocess.run(command, env=self.env, capture_output=True, text=True, timeout=60, check=False)
        assert not check or done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
        return done

    def json(self, *words):
        return json.loads(self.cli(*words, "--json").stdout)

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(30) == 0


@pytest.fixture(scope="module")
def agent(python, site, tmp_path_factory):
    root = tmp_path_factory.mktemp("root")
    module = root / "app"
    (module / "conf").mkdir(parents=True)
    (module / "conf/userconfig.xml").write_text(MODULE.replace("URL", site.url))
    made = Agent(python, root)
    try:
        wait_for(lambda: made.cli("status", check=False).returncode == 0)
        made.cli("module", "install", str(module))
        made.cli("start", "app", "--wait")
        yield made
    finally:
        made.end()


@pytest.mark.parametrize("name", EXAMPLES.values())
def test_its_own_tests_pass_where_it_is_installed(python, name, tmp_path):
    folder = REPOSITORY / "docs/examples" / name / "tests"
    command = [str(python), "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), str(folder)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_check_finds_nothing_wrong(agent, name):
    found = agent.json("plugins", "check", name)
    assert (found["accepted"], found["problems"]) == (True, [])


def test_what_they_bring_is_shown(agent):
    listed = {each["name"]: each for each in agent.json("plugins", "list")}
    assert listed["http-checker"]["origin"] == "safekit-http-checker 1.1.0"
    assert listed["webhook"]["faults"] == 0
    brings = agent.json("plugins", "info", "webhook")["brings"]
    assert {kind: sorted(names) for kind, names in brings.items()} == {
        "actions": ["webhook"],
        "checkers": ["webhook"],
        "commands": ["webhook"],
        "elements": ["service/webhook"],
        "metrics": ["webhook_documents_total", "webhook_waiting"],
        "routes": ["/status", "/test/{module}"],
    }


def test_the_page_is_watched_and_its_fall_is_told(agent, site):
    wait_for(lambda: site.seen(resource="http.home", value="up"))
    site.page = b"Goodbye"
    wait_for(lambda: site.seen(resource="http.home", value="down"))
    (told,) = wait_for(lambda: site.seen(kind="action"))[:1]
    assert "http.home is down" in told["message"]
    assert told["module"] == "app"
    site.page = b"Welcome"
    wait_for(lambda: site.seen(resource="http.home", value="up")[1:])
    item = agent.json("status", "app")["modules"][0]
    assert (item["state"], item["starts"]) == ("UP", 1)


def test_a_change_of_state_is_told(agent, site):
    agent.cli("stop", "app", "--wait")
    wait_for(lambda: site.seen(kind="state", state="STOP"))
    agent.cli("start", "app", "--wait")


def test_its_command_and_its_route(agent, site):
    assert "answers 204" in agent.cli("webhook", "test", "-m", "app").stdout
    assert site.seen(kind="test")
    assert f"app -> {site.url}/hook" in agent.cli("webhook", "status").stdout
    unknown = agent.cli("webhook", "test", "-m", "none", check=False)
    assert (unknown.returncode, "module.not-installed" in unknown.stderr) == (1, True)
    assert "Commands of plugins" in agent.cli("--help").stdout


def test_its_figures_are_beside_the_agents_own(agent):
    code = (
        "import httpx,sys\n"
        "transport = httpx.HTTPTransport(uds=sys.argv[1])\n"
        "print(httpx.Client(transport=transport).get('http://agent/api/v1/metrics').text)\n"
    )
    command = [str(agent.python), "-c", code, str(agent.root / "run/safekit/agent.sock")]
    text = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    assert 'safekit_webhook_documents_total{result="delivered"}' in text
    assert 'safekit_module_ready{module="app"} 1.0' in text
    assert 'safekit_resource_up{module="app",resource="http.home"} 1.0' in text
    assert 'safekit_plugin_faults_total{plugin="webhook"} 0.0' in text


def test_a_mistake_is_told_with_its_line(agent, tmp_path):
    path = tmp_path / "userconfig.xml"
    path.write_text(MODULE.replace("URL/", "ftp:/"))
    done = agent.cli("confcheck", str(path), "--json", check=False)
    found = {(p["code"], p["line"]) for p in json.loads(done.stdout)["problems"] if p["severity"] == "error"}
    assert found == {("webhook.bad-url", 3), ("http.bad-url", 6)}
    assert done.returncode == 1


def test_the_agent_stays_small(agent):
    """The examples bring threads and pages, not libraries."""
    status = Path(f"/proc/{agent.process.pid}/status").read_text()
    resident = int(status.split("VmRSS:")[1].split()[0])
    assert resident < 120_000, f"{resident} kB"
