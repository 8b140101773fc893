"""The client against a real HTTP server on a UNIX socket."""

import http.server
import json
import socketserver
import threading

import pytest

from safekit_py.control.client import Client
from safekit_py.errors import AccessError, ConfigError, NotFoundError, SafekitError, StateError, SystemProblem
from safekit_py.model.paths import Paths


class Handler(http.server.BaseHTTPRequestHandler):
    """Says what it was asked; a path that begins with a number is answered with that status."""

    protocol_version = "HTTP/1.1"

    def address_string(self):
        return "local"

    def log_message(self, *_):
        pass

    def body(self):
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        pieces = []
        while size := int(self.rfile.readline(), 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(pieces)

    def do_GET(self):
        word = self.path.removeprefix("/api/v1/").partition("?")[0]
        if word == "early":  # refused before the body is read
            status, answer = 422, {"problems": [{"code": "upload.too-big", "message": "too big", "unknown": 1}]}
        elif word == "silent":
            self.close_connection = True
            return
        elif word.isdigit():
            status, answer = int(word), self.server.answer
        else:
            got = {"method": self.command, "path": self.path, "body": self.body().decode(), **dict(self.headers)}
            status, answer = 200, got
        text = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)
        self.close_connection = True

    do_PUT = do_POST = do_DELETE = do_GET


@pytest.fixture
def server(tmp_path):
    """A server on the socket of the agent of ``tmp_path``."""
    paths = Paths(tmp_path)
    paths.run.mkdir(parents=True)
    with socketserver.ThreadingUnixStreamServer(str(paths.socket), Handler) as made:
        made.paths = paths
        made.answer = {}
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def test_what_is_asked_arrives(server):
    client = Client(server.paths)
    got = client.call(
        "GET", "/modules/app/x y?z%2F", params={"wait": True, "lines": 3, "s": ["a=1", "b&c"], "no": None}
    )
    assert got["path"] == "/api/v1/modules/app/x%20y%3Fz%2F?wait=true&lines=3&s=a%3D1&s=b%26c"
    assert (got["method"], got["Host"], got["body"]) == ("GET", "agent", "")


def test_a_body_of_values(server):
    got = Client(server.paths).call("PUT", "/x", json={"key": "é"})
    assert json.loads(got["body"]) == {"key": "é"}
    assert got["Content-Type"] == "application/json"


def test_a_body_of_bytes_and_one_of_pieces(server):
    client = Client(server.paths)
    assert client.call("PUT", "/x", content=b"<safe/>")["body"] == "<safe/>"
    got = client.call("PUT", "/x", content=iter([b"a" * 70_000, b"b"]), headers={"content-type": "application/zip"})
    assert got["body"] == "a" * 70_000 + "b"
    assert got["content-type"] == "application/zip"


def test_an_answer_that_comes_before_the_body_is_read_counts(server):
    with pytest.raises(ConfigError) as caught:
        Client(server.paths).call("PUT", "/early", content=(b"x" * 65536 for _ in range(200)))
    assert caught.value.code == "upload.too-big"


@pytest.mark.parametrize(
    ("status", "kind"),
    [(403, AccessError), (404, NotFoundError), (409, StateError), (422, ConfigError), (500, SafekitError)],
)
def test_findings_become_the_error_of_their_status(server, status, kind):
    server.answer = {"problems": [{"code": "a.b", "message": "no", "remedy": "do", "line": 3}]}
    with pytest.raises(kind) as caught:
        Client(server.paths).call("GET", f"/{status}")
    assert type(caught.value) is kind
    assert (caught.value.code, caught.value.problems[0].line) == ("a.b", 3)


@pytest.mark.parametrize(
    ("answer", "text"),
    [({"detail": "what?"}, "what?"), (b"Internal Server Error", "Internal Server Error"), ([1], "[1]"), (b"\xff", "�")],
)
def test_an_answer_without_findings_is_told_as_it_is(server, answer, text):
    server.answer = answer
    with pytest.raises(SafekitError) as caught:
        Client(server.paths).call("GET", "/500")
    assert caught.value.code == "agent.refused"
    assert caught.value.problems[0].message == f"the agent answered 500: {text}"


def test_no_agent(server, tmp_path):
    for paths, path in ((Paths(tmp_path / "other"), "/x"), (server.paths, "/silent")):
        with pytest.raises(SystemProblem) as caught:
            Client(paths).call("GET", path)
        assert caught.value.code == "agent.not-running"
