"""The API over the network: a real agent, its web process, real TLS. What is wrong is refused, and changes nothing."""

import contextlib
import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import psutil
import pytest

from safekit_py.web import certificates

REPOSITORY = Path(__file__).resolve().parents[2]
PASSWORD = "four words on paper"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    def __init__(self, root):
        self.root, self.port, self.agent = root, free_port(), None
        self.tls = root / "var/lib/safekit/tls"
        places = {"SAFEKIT_WEB": f"127.0.0.1:{self.port}", "SAFEKIT_HEALTH": "off"}
        self.env = {**os.environ, **places, "SAFEKIT_ROOT": str(root), "PYTHONPATH": str(REPOSITORY)}
        self.log = root / "agent.log"

    def cli(self, *words, text=None):
        command = [sys.executable, "-m", "safekit_py", *words]
        done = subprocess.run(
            command, env=self.env, capture_output=True, text=True, timeout=60, input=text, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def boot(self):
        with self.log.open("ab") as log:
            self.agent = subprocess.Popen([sys.executable, "-m", "safekit_py", "agent"], env=self.env, stderr=log)
        until((self.root / "run/safekit/agent.sock").exists)
        return self

    def child(self):
        found = [each for each in psutil.Process(self.agent.pid).children() if "web" in each.cmdline()]
        return found[0] if found else None

    def context(self, certificate=None):
        made = ssl.create_default_context(cafile=str(self.tls / "ca.crt"))
        if certificate:
            made.load_cert_chain(certificate / "server.crt", certificate / "server.key")
        return made

    def client(self, token="", certificate=None, **heads):
        if token:
            heads["Authorization"] = f"Bearer {token}"
        context = self.context(certificate)
        return httpx.Client(base_url=f"https://127.0.0.1:{self.port}", verify=context, headers=heads, timeout=30)

    def end(self):
        self.agent.send_signal(signal.SIGTERM)
        self.agent.wait(30)


def until(what, limit=40.0):
    end = time.monotonic() + limit
    while not what():
        assert time.monotonic() < end
        time.sleep(0.1)


def answers(server):
    try:
        with socket.create_connection(("127.0.0.1", server.port), 1):
            return True
    except OSError:
        return False


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    made = Server(tmp_path_factory.mktemp("web")).boot()
    try:
        assert not answers(made)
        made.cli("user", "add", "alice", "--role", "control", "--password-file", "-", text=f"{PASSWORD}\n")
        until(lambda: answers(made))
        yield made
    finally:
        made.end()


@pytest.fixture(scope="module")
def tokens(server):
    return {
        each: server.cli("token", "create", "ci", "--role", each).strip() for each in ("monitor", "control", "admin")
    }


@pytest.fixture
def session(server):
    with server.client() as client:
        answer = client.post("/login", json={"user": "alice", "password": PASSWORD})
        assert answer.status_code == 200, answer.text
        yield client, answer.json()


def refused(answer, status, code):
    assert (answer.status_code, answer.json()["problems"][0]["code"]) == (status, code), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"] == f"urn:safekit:{code}"


def locked(server):
    return (server.root / "var/lib/safekit/cluster/lock").exists()


def test_a_token_gives_its_role_and_no_more(server, tokens):
    for role, token in tokens.items():
        with server.client(token) as client:
            assert client.get("/api/v1/status").json()["modules"] == []
            lock = client.put("/api/v1/cluster/lock", json={"reason": "x"})
            if role == "admin":
                assert lock.status_code == 200
                assert client.delete("/api/v1/cluster/lock").status_code == 200
            else:
                refused(lock, 403, "access.role")
                refused(client.get("/api/v1/access/tokens"), 403, "access.role")
                assert not locked(server)


def test_nobody_without_a_word(server):
    with server.client() as client:
        for path in ("/api/v1/status", "/openapi.json", "/api/v1/events"):
            answer = client.get(path)
            refused(answer, 401, "access.nobody")
            assert answer.headers["www-authenticate"] == "Bearer"
        refused(client.put("/api/v1/cluster/lock", json={"reason": "x"}), 401, "access.nobody")
        refused(client.get("/else"), 404, "request.unknown")
    assert not locked(server)


def test_a_client_cannot_name_itself(server, tokens):
    heads = {"X-Safekit-User": "root", "X-Safekit-Role": "admin", "X-Safekit-Via": "x"}
    with server.client(**heads) as client:
        refused(client.get("/api/v1/status"), 401, "access.nobody")
        refused(client.put("/health/x/../../api/v1/cluster/lock"), 401, "access.nobody")
    with server.client(tokens["monitor"], **heads) as client:
        refused(client.put("/api/v1/cluster/lock", json={"reason": "x"}), 403, "access.role")


def test_paths_of_health_lead_nowhere_else(server):
    raw = http.client.HTTPSConnection("127.0.0.1", server.port, context=server.context(), timeout=20)
    for path in ("/health/../api/v1/status", "/health/%2e%2e/api/v1/status", "/var/modules/../../api/v1/status"):
        raw.request("GET", path)
        answer = raw.getresponse()
        assert answer.status in (403, 404)
        assert b"modules" not in answer.read().replace(path.encode(), b"")
    raw.close()


def test_health_answers_for_anybody(server):
    with server.client() as client:
        assert client.get("/health/none").status_code == 404
        assert client.get("/var/modules/none/ready.txt").text == "not ready\n"


def test_tokens_end(server):
    short = server.cli("token", "create", "short", "--role", "monitor", "--expires", "1s").strip()
    gone = server.cli("token", "create", "gone", "--role", "monitor").strip()
    with server.client(gone) as client:
        assert client.get("/api/v1/status").status_code == 200
        server.cli("token", "revoke", gone.split("_")[1])
        refused(client.get("/api/v1/status"), 401, "access.bad-token")
    time.sleep(1.1)
    with server.client(short) as client:
        refused(client.get("/api/v1/status"), 401, "access.bad-token")
    with server.client(gone[:-2] + "xx") as client:
        refused(client.get("/api/v1/status"), 401, "access.bad-token")
    assert "expired" in server.cli("token", "list")


def test_a_session_needs_its_proof_to_change_something(server, session):
    client, said = session
    assert said["role"] == "control"
    assert client.get("/session").json() == said
    assert client.get("/api/v1/status").status_code == 200
    for heads in ({}, {"X-CSRF-Token": "guess"}):
        refused(client.post("/api/v1/modules/none/start", headers=heads), 403, "access.no-csrf")
        refused(client.post("/logout", headers=heads), 403, "access.no-csrf")
    proof = {"X-CSRF-Token": said["csrf"]}
    refused(client.post("/api/v1/modules/none/start", headers=proof), 404, "module.not-installed")
    refused(client.put("/api/v1/cluster/lock", json={"reason": "x"}, headers=proof), 403, "access.role")
    cookie = next(iter(client.cookies.jar))
    assert (cookie.name, cookie.secure, cookie.path) == ("__Host-safekit", True, "/")
    assert "alice" in server.cli("cmdlog")


def test_a_session_is_not_replayed_after_its_end(server, session):
    client, said = session
    kept = dict(client.cookies)
    answer = client.post("/logout", headers={"X-CSRF-Token": said["csrf"]})
    assert answer.status_code == 200
    with server.client(Cookie="; ".join(f"{k}={v}" for k, v in kept.items())) as again:
        refused(again.get("/api/v1/status"), 401, "access.no-session")
        refused(again.get("/session"), 401, "access.no-session")


def test_a_new_password_ends_sessions(server, session):
    client, _ = session
    server.cli("user", "password", "alice", "--password-file", "-", text=f"{PASSWORD}\n")
    refused(client.get("/api/v1/status"), 401, "access.no-session")


def test_logins_that_fail_are_slowed_down(server):
    with server.client() as client:
        form = client.post("/login", data={"user": "alice", "password": PASSWORD})
        refused(form, 422, "request.bad-value")
        refused(client.post("/login", json={"user": "alice"}), 422, "request.bad-value")
        refused(client.post("/login", json={"user": "a", "password": "x" * 5000}), 413, "request.too-large")
        for name in ("alice", "nobody", "eve\nroot", "", "alice"):
            refused(client.post("/login", json={"user": name, "password": "wrong"}), 401, "access.bad-login")
        answer = client.post("/login", json={"user": "alice", "password": PASSWORD})
        refused(answer, 429, "access.too-often")
        assert 0 < int(answer.headers["retry-after"]) <= 60
    server.child().kill()  # forgets the failures: the other tests log in too; and it comes back
    until(lambda: not answers(server))
    until(lambda: answers(server))


def test_a_body_has_a_largest_size(server, tokens):
    with server.client(tokens["admin"]) as client:
        big = b"x" * ((1 << 20) + 1)
        refused(client.put("/api/v1/cluster/config", content=big), 413, "request.too-large")
        refused(client.put("/api/v1/cluster/config", content=iter([big[:700_000]] * 2)), 413, "request.too-large")
    assert not (server.root / "var/lib/safekit/cluster/cluster.xml").exists()


def test_an_upload_leads_out_of_no_folder(server, tokens):
    import io
    import zipfile

    for name in ("../../../evil", "/evil", "conf/../../evil"):
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            archive.writestr("conf/userconfig.xml", "<safe/>")
            archive.writestr(name, "x")
        with server.client(tokens["admin"]) as client:
            answer = client.put("/api/v1/modules/web", content=packed.getvalue())
            assert answer.status_code == 422, answer.text
    with server.client(tokens["admin"]) as client:
        assert client.put("/api/v1/modules/..%2f..%2fevil", content=b"x").status_code in (404, 422)
    assert not list(server.root.rglob("*evil*"))


def test_events_are_followed(server, tokens):
    seen = []
    with server.client(tokens["monitor"]) as client, client.stream("GET", "/api/v1/events") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        for line in answer.iter_lines():
            seen.append(line)
            break
    assert seen == ["event: hello"]


def test_a_slow_reader_and_idle_connections_hold_up_nobody(server, tokens):
    held = []
    with contextlib.ExitStack() as stack:
        for number in range(20):
            raw = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), 5))
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            made = server.context().wrap_socket(raw, server_hostname="127.0.0.1")
            if number % 2:
                made.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: a\r\n")  # and never an end
            else:
                head = f"GET /api/v1/metrics HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {tokens['monitor']}\r\n\r\n"
                made.sendall(head.encode())
            held.append(made)
        with server.client(tokens["monitor"]) as client:
            assert client.get("/api/v1/status").status_code == 200
        for each in held:
            each.close()


def test_certificates(server, tmp_path):
    good, old, other = tmp_path / "good", tmp_path / "old", tmp_path / "other"
    server.cli("cert", "issue", "server2", "--name", "10.0.0.2", "--out", str(good))
    assert (good / "server.key").stat().st_mode & 0o077 == 0
    certificates.issue(server.tls, "server2", [], old, days=-1)
    certificates.make_authority(other)
    certificates.issue(other, "server2", [], other)
    with server.client(certificate=good) as client:
        assert client.put("/api/v1/cluster/lock", json={"reason": "x"}).status_code == 200
        assert client.delete("/api/v1/cluster/lock").status_code == 200
    assert "server2" in server.cli("cmdlog")
    for wrong in (old, other):
        with server.client(certificate=wrong) as client, pytest.raises(httpx.TransportError):
            client.get("/api/v1/status")
    stranger = ssl.create_default_context(cafile=str(other / "ca.crt"))
    with httpx.Client(verify=stranger) as client, pytest.raises(httpx.ConnectError):
        client.get(f"https://127.0.0.1:{server.port}/api/v1/status")
    assert "ca.crt" in server.cli("cert", "show")


def test_secrets_are_nowhere(server, tokens):
    kept = b"".join(p.read_bytes() for p in server.root.rglob("*") if p.is_file() and p.suffix != ".sock")
    for secret in (PASSWORD, *(each.split("_", 2)[2] for each in tokens.values())):
        assert secret.encode() not in kept
    assert (server.root / "var/lib/safekit/access.json").stat().st_mode & 0o077 == 0
    assert (server.tls / "ca.key").stat().st_mode & 0o077 == 0
    assert json.loads((server.root / "var/lib/safekit/access.json").read_text())["users"][0]["hash"].startswith(
        "$argon2id"
    )


def test_many_at_once(server, tokens):
    statuses = []

    def ask():
        with server.client(tokens["monitor"]) as client:
            statuses.extend(client.get("/api/v1/status").status_code for _ in range(10))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(60)
    assert statuses == [200] * 80


def test_a_change_is_seen_by_who_asks_after_it(server, tokens):
    def lock(client):
        return client.get("/api/v1/cluster").json()["locked"]

    with server.client(tokens["admin"]) as client:
        before = lock(client)
        for _ in range(5):
            assert client.put("/api/v1/cluster/lock", json={"reason": "seen-at-once"}).status_code == 200
            assert "seen-at-once" in lock(client)
            assert client.delete("/api/v1/cluster/lock").status_code == 200
            assert lock(client) == before
    with server.client(tokens["monitor"]) as client:
        refused(client.get("/api/v1/access/tokens"), 403, "access.role")


def asked(connection, path, token):
    """Status, heads and body; http.client sends the same bytes each time."""
    connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
    answer = connection.getresponse()
    return answer.status, dict(answer.getheaders()), answer.read()


def test_a_call_that_is_repeated_gets_what_any_other_gets(server, tokens):
    """The same bytes again on one connection are not parsed again; all else stays as it is."""
    connection = http.client.HTTPSConnection("127.0.0.1", server.port, context=server.context(), timeout=20)
    gone = server.cli("token", "create", "gone", "--role", "monitor").strip()
    seen = [asked(connection, "/api/v1/cluster", gone) for _ in range(20)]
    assert {status for status, _, _ in seen} == {200}
    assert len({body for _, _, body in seen}) < 10  # most are told again
    first, last = (
        {name.lower(): value for name, value in each[1].items() if name.lower() != "date"}
        for each in (seen[0], seen[-1])
    )
    assert first == last
    with server.client(tokens["admin"]) as client:
        assert client.put("/api/v1/cluster/lock", json={"reason": "repeated"}).status_code == 200
        assert b"repeated" in asked(connection, "/api/v1/cluster", gone)[2]
        assert client.delete("/api/v1/cluster/lock").status_code == 200
    assert b"repeated" not in asked(connection, "/api/v1/cluster", gone)[2]
    server.cli("token", "revoke", gone.split("_")[1])
    assert asked(connection, "/api/v1/cluster", gone)[0] == 401
    assert asked(connection, "/api/v1/cluster", tokens["monitor"])[0] == 200
    connection.close()


def test_calls_sent_at_once_are_answered_in_their_order(server, tokens):
    with socket.create_connection(("127.0.0.1", server.port), 5) as raw:
        made = server.context().wrap_socket(raw, server_hostname="127.0.0.1")
        made.settimeout(20)
        call = f"GET /api/v1/%s HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {tokens['monitor']}\r\n\r\n"
        status, cluster = (call % each for each in ("status", "cluster"))
        for data in (status, status, cluster + status, status, status[:40], status[40:] + cluster):
            made.sendall(data.encode())
        got = b""
        while got.count(b"HTTP/1.1 200") < 7 or not got.endswith(b"}"):
            got += made.recv(65536)
        kinds = ["s" if b'"modules"' in each else "c" for each in got.split(b"HTTP/1.1 200")[1:]]
        assert "".join(kinds) == "sscsssc"
        made.close()


def test_damaged_accounts_let_nobody_in(server, tokens):
    path = server.root / "var/lib/safekit/access.json"
    good = path.read_bytes()
    try:
        path.write_bytes(b"{")
        with server.client(tokens["monitor"]) as client:
            refused(client.get("/api/v1/status"), 500, "access.damaged")
    finally:
        path.write_bytes(good)


def test_the_web_process_ends_with_the_agent(tmp_path):
    made = Server(tmp_path).boot()
    made.cli("token", "create", "ci", "--role", "monitor")
    until(lambda: answers(made))
    child = made.child()
    made.agent.kill()
    made.agent.wait(10)
    until(lambda: not child.is_running())
