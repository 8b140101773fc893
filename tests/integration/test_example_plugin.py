"""The example package of docs/examples: installed with pip, found by its entry point, and used."""

import http.server
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
EXAMPLE = REPOSITORY / "docs/examples/safekit-http-checker"
CONFIG = """<!DOCTYPE safe>
<safe><service mode="farm"><farm><lan name="default"/></farm>
<check><http ident="home" url="URL" interval="1"/></check></service></safe>
"""
USE = """
import asyncio, sys
from pathlib import Path
from safekit_py.runtime import configcheck, plugins
from safekit_py.model.config import Cluster
checked = configcheck.check_blocking(Path(sys.argv[1]).read_bytes(), "userconfig.xml", {})
assert checked.config is not None, checked.problems
class Context:
    config = checked.config
(checker,) = plugins.load().checkers()["http"].create(Context)
async def main():
    seen = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(checker.run(lambda status, cause: seen.done() or seen.set_result((status, cause))))
    print(checker.resource, *await asyncio.wait_for(seen, 10), sep="|")
    task.cancel()
asyncio.run(main())
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run(
        [*command, "--target", str(folder), str(EXAMPLE)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{REPOSITORY}"}


@pytest.fixture
def page():
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200 if self.path == "/" else 404)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def use(installed, tmp_path, url):
    path = tmp_path / "userconfig.xml"
    path.write_text(CONFIG.replace("URL", url))
    done = subprocess.run(
        [sys.executable, "-c", USE, str(path)], env=installed, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().split("|")


def test_the_plugin_is_found_and_its_page_is_up(installed, tmp_path, page):
    assert use(installed, tmp_path, f"{page}/")[:2] == ["http.home", "up"]


def test_a_missing_page_is_down(installed, tmp_path, page):
    resource, status, cause = use(installed, tmp_path, f"{page}/none")
    assert (resource, status) == ("http.home", "down")
    assert "404" in cause


def test_its_own_problem_comes_with_the_line(installed, tmp_path):
    path = tmp_path / "userconfig.xml"
    path.write_text(CONFIG.replace("URL", "ftp://nowhere"))
    done = subprocess.run(
        [sys.executable, "-m", "safekit_py", "confcheck", str(path), "--json"],
        env=installed,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    (problem,) = [p for p in json.loads(done.stdout)["problems"] if p["severity"] == "error"]
    assert (problem["code"], problem["line"]) == ("http.bad-url", 3)
    assert done.returncode == 1
