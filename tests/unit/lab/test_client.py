"""Requests over real connections on loopback -> what is reported of them."""

import http.server
import json
import socket
import subprocess
import sys
import threading
import time
from urllib.parse import urlsplit

import pytest

from safekit_py.lab import client


@pytest.fixture
def page():
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            time.sleep(0.2 if self.path == "/slow" else 0)
            self.send_response(500 if self.path == "/broken" else 200)
            self.end_headers()
            self.wfile.write(b"here\n")

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def run(url, *options, **more):
    done = subprocess.run(
        [sys.executable, "-m", "safekit_py.lab.client", url, *options],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
        **more,
    )
    return json.loads(done.stdout)


def test_answers_are_counted_by_server(page):
    assert run(page, "--count=20") == {"requests": 20, "servers": {"here": 20}, "trouble": []}


def test_a_slow_answer_is_trouble_but_an_answer(page):
    begin = time.monotonic()
    seen = run(f"{page}/slow", "--count=1", "--slow=0.1")
    assert seen["servers"] == {"here": 1}
    assert [each["what"] for each in seen["trouble"]] == [""]
    assert 0.2 <= seen["trouble"][0]["took"] < time.monotonic() - begin


def test_a_refusal_by_the_server_is_a_failure(page):
    answer = client.ask(urlsplit(f"{page}/broken"), 1.0)
    assert (answer.server, answer.what) == ("", "status 500")


def test_silence_ends_at_the_limit_and_holds_no_other_request_up():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        begin = time.monotonic()
        seen = run(f"http://127.0.0.1:{silent.getsockname()[1]}/", "--count=20", "--rate=50", "--timeout=0.5")
    assert time.monotonic() - begin < 9  # one after the other, they would take ten seconds
    assert seen["servers"] == {}
    assert [each["what"] for each in seen["trouble"]] == ["timed out"] * 20


def test_it_ends_with_its_input(page):
    seen = run(page, "--count=100000", "--until-eof", stdin=subprocess.DEVNULL)
    assert seen["requests"] <= 1
