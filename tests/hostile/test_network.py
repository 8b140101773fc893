"""Callers over the network who may not, or do it badly: each is refused with a reason, and nothing changes or leaks."""

import contextlib
import hashlib
import io
import json
import os
import re
import socket
import ssl
import subprocess
import threading
import time
import zipfile
from pathlib import Path

import httpx
import pytest

from safekit_py.model.paths import Paths

PASSWORD = "four words on paper"
ROLES = {"monitor": 1, "control": 2, "admin": 3}
SLOW = 30.0  # seconds after which all that is slow must have been cut off: 20 for a head, 5 for a handshake


def until(what, limit=40.0):
    end = time.monotonic() + limit
    while not what():
        assert time.monotonic() < end
        time.sleep(0.1)


class Caller:
    """A server that is called over the network, and what its callers may have."""

    def __init__(self, target):
        self.target, self.tls = target, target.root / "var/lib/safekit/tls"
        target.cli("user", "add", "alice", "--role", "control", "--password-file", "-", text=f"{PASSWORD}\n")
        self.tokens = {
            role: target.cli("token", "create", role, "--role", role).stdout.strip()
            for role in ("monitor", "control", "admin")
        }
        until(self.listens)
        with self.client("monitor") as client:
            self.document = client.get("/openapi.json").json()

    def listens(self):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.target.port), 1):
            return True
        return False

    def context(self):
        return ssl.create_default_context(cafile=str(self.tls / "ca.crt"))

    def client(self, role="", **heads):
        if role:
            heads["Authorization"] = f"Bearer {self.tokens[role]}"
        base = f"https://127.0.0.1:{self.target.port}"
        return httpx.Client(base_url=base, verify=self.context(), headers=heads, timeout=30)

    def raw(self):
        made = socket.create_connection(("127.0.0.1", self.target.port), 20)
        return self.context().wrap_socket(made, server_hostname="127.0.0.1")

    def login(self, client):
        answer = client.post("/login", json={"user": "alice", "password": PASSWORD})
        assert answer.status_code == 200, answer.text
        return answer.json()["csrf"]

    def operations(self):
        """Method, path and least role of every operation; the module of each path is ``app``."""
        for path, methods in self.document["paths"].items():
            for method, operation in methods.items():
                filled = re.sub(r"\{number\}", "1", path)
                filled = re.sub(r"\{name\}", "app", filled)
                yield method.upper(), re.sub(r"\{\w+\}", "x", filled), ROLES[operation["x-least-role"]]

    def kept(self):
        """Every file of the server with its content, and what the module does."""
        files = {
            name: hashlib.sha256((self.target.root / name).read_bytes()).hexdigest() for name in self.target.tree()
        }
        shown = json.loads(self.target.cli("status", "app", "--json").stdout)
        return files, (shown["modules"][0] if "modules" in shown else shown)["state"]


@pytest.fixture(scope="module")
def caller(target, tmp_path_factory):
    target.installed(tmp_path_factory.mktemp("net"))
    assert target.cli("start", "app", "--wait").returncode == 0
    yield Caller(target)
    target.remove()


def head(extra=b"", line=b"GET /api/v1/status HTTP/1.1"):
    return line + b"\r\nHost: a\r\n" + extra


@pytest.fixture(scope="module")
def slow(caller):
    """Connections that do not go on, and when they began; those of the last test, so that the others run meanwhile."""
    held = {"no handshake": [], "no head": [], "head in drops": []}
    for _ in range(100):
        held["no handshake"].append(socket.create_connection(("127.0.0.1", caller.target.port), 5))
    held["no head"] = [caller.raw() for _ in range(5)]
    held["head in drops"] = [caller.raw() for _ in range(5)]
    for each in held["head in drops"]:
        each.sendall(head())
    over = threading.Event()

    def drip():
        while not over.wait(1):
            for each in held["head in drops"]:
                with contextlib.suppress(OSError):
                    each.sendall(b"x")

    dripping = threading.Thread(target=drip)
    dripping.start()
    yield time.monotonic(), held
    over.set()
    dripping.join()
    for all_of in held.values():
        for each in all_of:
            each.close()


def refused(answer, status, code):
    assert (answer.status_code, answer.json()["problems"][0]["code"]) == (status, code), (
        f"{answer.request}: {answer.text}"
    )
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["title"]


def test_every_call_asks_who_it_is_from_and_what_they_may(caller, slow):
    before = caller.kept()
    operations = list(caller.operations())
    assert sum(least > 1 for _, _, least in operations) > 30
    with caller.client() as nobody, caller.client("monitor") as monitor, caller.client("control") as control:
        for method, path, least in operations:
            refused(nobody.request(method, path), 401, "access.nobody")
            refused(nobody.request(method, f"/nodes/x{path}"), 401, "access.nobody")
            if least > ROLES["monitor"]:
                refused(monitor.request(method, path), 403, "access.role")
            if least > ROLES["control"]:
                refused(control.request(method, path), 403, "access.role")
    with caller.client() as client, caller.client() as other:
        csrf, foreign = caller.login(client), caller.login(other)
        for method, path, least in operations:
            if method != "GET":
                for proof in ({}, {"X-CSRF-Token": ""}, {"X-CSRF-Token": foreign}):
                    refused(client.request(method, path, headers=proof), 403, "access.no-csrf")
            if least > ROLES["control"]:
                refused(client.request(method, path, headers={"X-CSRF-Token": csrf}), 403, "access.role")
    assert caller.kept() == before


def test_a_session_that_was_ended_is_worth_nothing(caller):
    before = caller.kept()
    with caller.client() as client:
        csrf = caller.login(client)
        stolen = {"Cookie": "; ".join(f"{k}={v}" for k, v in client.cookies.items()), "X-CSRF-Token": csrf}
        assert client.post("/logout", headers={"X-CSRF-Token": csrf}).status_code == 200
    with caller.client(**stolen) as again:
        refused(again.get("/api/v1/status"), 401, "access.no-session")
        refused(again.post("/api/v1/modules/app/stop"), 401, "access.no-session")
        assert again.get("/ui/").status_code == 303
    assert caller.kept() == before


def test_a_body_that_is_too_large_is_refused_before_it_is_read(caller):
    before = caller.kept()
    for method, path, _ in caller.operations():
        if method in ("PUT", "POST"):
            with caller.raw() as made:
                extra = f"Authorization: Bearer {caller.tokens['admin']}\r\nContent-Length: {1 << 31}\r\n\r\n"
                made.sendall(head(extra.encode(), f"{method} {path} HTTP/1.1".encode()))
                answer = made.recv(65536)
                assert answer.startswith(b"HTTP/1.1 413 "), (method, path, answer)
                assert b"request.too-large" in answer + made.recv(65536)
    assert caller.kept() == before


def bomb(entries=1, size=300 << 20):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as packed:
        packed.writestr("conf/userconfig.xml", '<safe><service mode="light"/></safe>')
        for number in range(entries):
            packed.writestr(f"bin/x{number}", b"\0" * size)
    return stream.getvalue()


@pytest.mark.parametrize(("entries", "size"), [(1, 200 << 20), (10_001, 0)], ids=["zeros", "entries"])
def test_a_bomb_that_is_uploaded_unpacks_nowhere(caller, entries, size):
    before, data = caller.kept(), bomb(entries, size)
    with caller.client("admin") as client:
        answer = client.put("/api/v1/modules/bomb", content=data)
    assert answer.status_code == 422, answer.text
    assert answer.json()["problems"][0]["code"].startswith("bundle.")
    assert caller.kept() == before
    assert not list(caller.target.temporary.glob("safekit-*"))


def test_an_upload_that_breaks_off_leaves_nothing(caller):
    before = caller.kept()
    with caller.raw() as made:
        extra = f"Authorization: Bearer {caller.tokens['admin']}\r\nContent-Length: 9000000\r\n\r\n"
        made.sendall(head(extra.encode(), b"PUT /api/v1/modules/broken HTTP/1.1") + b"PK" * 100_000)
    until(lambda: not list(caller.target.temporary.glob("safekit-*")), 10)
    assert caller.kept() == before


NONSENSE = {
    "bytes": b"\0\xff" * 200 + b"\r\n\r\n",
    "version": b"GET /api/v1/status HTTP/9.9\r\n\r\n",
    "no-host": b"GET /api/v1/status HTTP/1.1\r\n\r\n",
    "long-head": head(b"X: " + b"a" * 70_000),
    "negative-length": head(b"Content-Length: -1\r\n\r\n", b"PUT /api/v1/cluster/lock HTTP/1.1"),
    "two-lengths": head(b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n", b"PUT /api/v1/cluster/lock HTTP/1.1"),
    "chunk": head(b"Transfer-Encoding: chunked\r\n\r\nZZ\r\n", b"POST /login HTTP/1.1"),
    "huge-chunk": head(b"Transfer-Encoding: chunked\r\n\r\n" + b"F" * 40 + b"\r\n", b"POST /login HTTP/1.1"),
    "name-of-a-head": head(b"X Y: 1\r\n\r\n"),
    "feed-in-a-head": head(b"X: a\rb\r\n\r\n"),
    "no-tls": None,
}


@pytest.mark.parametrize("kind", NONSENSE)
def test_what_is_no_request_ends_its_own_connection_alone(caller, kind):
    before = caller.kept()
    if NONSENSE[kind] is None:
        with socket.create_connection(("127.0.0.1", caller.target.port), 20) as made:
            made.sendall(b"GET /api/v1/status HTTP/1.1\r\nHost: a\r\n\r\n")
            with contextlib.suppress(ConnectionError):
                assert not made.recv(100).startswith(b"HTTP/1.1 2")
    else:
        with caller.raw() as made:
            made.settimeout(10)
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                made.sendall(NONSENSE[kind])
                answer = made.recv(65536)
                assert answer == b"" or re.match(rb"HTTP/1.1 4\d\d ", answer), answer
    with caller.client("monitor") as client:
        assert client.get("/api/v1/status").status_code == 200
    assert caller.kept() == before


@pytest.mark.parametrize("name", ["../../../etc", "h", "--help", "/etc"])
def test_a_snapshot_is_of_a_module_and_of_no_path(caller, name):
    with caller.client("admin") as client:
        refused(client.get("/api/v1/snapshot", params={"module": name}), 404, "module.not-installed")
    assert not list(caller.target.temporary.glob("safekit-*"))


def test_old_tls_is_refused(caller):
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.load_verify_locations(str(caller.tls / "ca.crt"))
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    with (
        socket.create_connection(("127.0.0.1", caller.target.port), 20) as made,
        pytest.raises((ssl.SSLError, OSError)),
    ):
        old.wrap_socket(made, server_hostname="127.0.0.1")


def test_one_address_does_not_take_all_connections(caller):
    """Past its share an address is refused, and gets in again when others of its connections end."""
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(caller.raw()) for _ in range(100)]
        time.sleep(0.5)  # a refused client notices after the handshake
        over = sum(ended(each) for each in held)
        assert 30 <= over < 100
        other = stack.enter_context(socket.create_connection(("127.0.0.1", caller.target.port), 5, ("127.0.0.2", 0)))
        with caller.context().wrap_socket(other, server_hostname="127.0.0.1") as made:
            made.sendall(head(f"Authorization: Bearer {caller.tokens['monitor']}\r\n\r\n".encode()))
            assert made.recv(100).startswith(b"HTTP/1.1 200")
    until(lambda: _asked(caller), 10)


def _asked(caller):
    with contextlib.suppress(httpx.TransportError), caller.client("monitor") as client:
        return client.get("/api/v1/status").status_code == 200
    return False


def test_a_port_scan_changes_nothing(caller):
    before = caller.kept()
    for _ in range(3):
        for port in (caller.target.port, *range(9440, 9470)):
            with contextlib.suppress(OSError), socket.socket() as made:
                made.settimeout(0.2)
                made.connect(("127.0.0.1", port))
                made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # a reset, as scanners send
    assert _asked(caller)
    assert caller.kept() == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
@pytest.mark.parametrize("name", ["agent.sock", "web.sock"])
def test_another_user_is_turned_away_at_both_sockets(caller, name):
    """The folder is handed over open: nobody could come to it by its path, which is the test's own protection."""
    before = caller.kept()
    code = (
        "import socket,sys\n"
        "for call in ('GET /api/v1/status', 'GET /nodes/x/api/v1/status', 'POST /api/v1/modules/app/stop'):\n"
        "  s=socket.socket(socket.AF_UNIX)\n  s.connect(f'/proc/self/fd/{sys.argv[1]}/{sys.argv[2]}')\n"
        "  heads = 'Host: a\\r\\nX-Safekit-User: root\\r\\nX-Safekit-Role: admin'\n"
        "  s.sendall(f'{call} HTTP/1.1\\r\\n{heads}\\r\\n\\r\\n'.encode())\n"
        "  print(s.makefile().read())\n"
    )
    folder = os.open(caller.target.root / "run/safekit", os.O_RDONLY | os.O_DIRECTORY)
    try:
        command = ["/usr/bin/python3", "-c", code, str(folder), name]
        who = {"user": 65534, "group": 65534, "extra_groups": []}
        done = subprocess.run(command, pass_fds=[folder], capture_output=True, text=True, check=False, **who)
    finally:
        os.close(folder)
    assert done.stdout.count("403 Forbidden") == 3, done.stdout + done.stderr
    assert done.stdout.count('"code":"access.denied"') == 3
    assert caller.kept() == before


class Listening(threading.Thread):
    """What every process of this machine shows in its list of arguments, while something is done."""

    def __init__(self):
        super().__init__(daemon=True)
        self.seen, self.over = set(), threading.Event()

    def run(self):
        while not self.over.is_set():
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                with contextlib.suppress(OSError):
                    self.seen.add(path.read_bytes())

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.join()


def unpacked(name, data):
    with zipfile.ZipFile(io.BytesIO(data)) as packed:
        return {f"{name}: {each}": packed.read(each) for each in packed.namelist()}


def test_secrets_are_neither_told_nor_shown_nor_packed(caller, tmp_path):
    target, root = caller.target, caller.target.root
    assert target.cli("stop", "app", "--wait").returncode == 0
    with Listening() as listening, caller.client() as client:
        assert target.cli("cluster", "genkey").returncode == 0
        target.cli("user", "password", "alice", "--password-file", "-", text=f"{PASSWORD}\n")
        token = target.cli("token", "create", "secret", "--role", "admin").stdout.strip()
        csrf = caller.login(client)
        cookie = next(iter(client.cookies.values()))
        assert client.post("/api/v1/modules/app/start?wait=true", headers={"X-CSRF-Token": csrf}).status_code == 200
        assert target.cli("snapshot", "-o", str(tmp_path / "all.zip")).returncode == 0
    key_file = Paths(root).cluster_key
    key = key_file.read_text().split()[-1]
    secrets = {
        "password": PASSWORD,
        "token": token.split("_", 2)[2],
        "csrf": csrf,
        "cookie": cookie,
        "cluster key": key,
        "authority": (caller.tls / "ca.key").read_text().splitlines()[1],
        "server key": (caller.tls / "server.key").read_text().splitlines()[1],
    }
    assert any(b"genkey" in each for each in listening.seen)  # it did look
    places = {"arguments": b"\n".join(listening.seen), "log": target.log.read_bytes()}
    places |= unpacked("snapshot", (tmp_path / "all.zip").read_bytes())
    assert any("userconfig.xml" in name for name in places)
    for words in (
        ["log", "app"],
        ["cmdlog"],
        ["dump", "-m", "app"],
        ["status", "-v"],
        ["cluster", "key", "show"],
        ["token", "list"],
    ):
        done = target.cli(*words)
        places[" ".join(words)] = f"{done.stdout}{done.stderr}".encode()
    with caller.client("admin") as admin:
        for method, path, _ in caller.operations():
            if method == "GET" and not path.endswith(("/events", "/wait")):
                data = admin.get(path).content
                places |= unpacked(path, data) if data.startswith(b"PK") else {path: data}
    for path in root.rglob("*"):
        if path.is_file() and path.suffix != ".key" and path != key_file:
            places[str(path)] = path.read_bytes()
    assert len(places) > 40
    found = [
        (place, name) for place, data in places.items() for name, secret in secrets.items() if secret.encode() in data
    ]
    assert not found
    for path in (*caller.tls.glob("*.key"), key_file, Paths(root).access):
        assert path.stat().st_mode & 0o077 == 0, path


def ended(made):
    """Whether the other end has closed the connection."""
    made.settimeout(0.005)
    try:
        while made.recv(65536):
            pass
    except (TimeoutError, ssl.SSLWantReadError):
        return False
    except OSError:
        return True
    return True


def test_who_does_not_go_on_is_cut_off(caller, slow):
    """The last test: what it looks at began with the first. Meanwhile others were served."""
    began, held = slow
    left = dict(held)
    while True:
        late = time.monotonic() - began > SLOW
        left = {kind: [each for each in all_of if not ended(each)] for kind, all_of in left.items()}
        if not any(left.values()):
            return
        assert not late, {kind: len(each) for kind, each in left.items()}
        assert _asked(caller)
        time.sleep(0.2)
