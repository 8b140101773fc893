"""Roles: what the kernel says of a process, whom root may speak for, and that every operation asks."""

import asyncio
import contextlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import httpx
import pytest
from callers import of_role
from hypothesis import given
from hypothesis import strategies as st

from safekit_py.control import routes, server
from safekit_py.control.access import ROLES, Role, caller, demand, role_of, trusted
from safekit_py.control.app import create
from safekit_py.errors import AccessError
from safekit_py.model.paths import Paths
from safekit_py.runtime.agent import Agent
from safekit_py.runtime.commandlog import Peer

ROOT, STRANGER = Peer(0, 1), Peer(65534, 1)
HEADS = st.dictionaries(
    st.sampled_from(("x-safekit-user", "x-safekit-role", "x-safekit-via", "host")),
    st.sampled_from(("admin", "control", "monitor", "nobody", "alice", "", "x" * 200)),
)


@given(st.sampled_from((ROOT, STRANGER, Peer())), st.sampled_from(Role), HEADS)
def test_no_head_gives_more_than_the_process_has(peer, role, heads):
    with contextlib.suppress(AccessError):
        found = caller(peer, role, heads)
        assert found.role <= role
        assert found == caller(peer, role, {}) or trusted(peer)


def test_root_speaks_for_somebody():
    found = caller(ROOT, Role.ADMIN, {"x-safekit-user": "alice", "x-safekit-role": "monitor", "x-safekit-via": "token"})
    assert (found.role, found.name, found.via) == (Role.MONITOR, "alice", "token")


@given(st.integers(-1, 70_000), st.frozensets(st.integers(0, 3)), st.frozensets(st.integers(0, 3)))
def test_the_role_of_a_process(uid, groups, allowed):
    found = role_of(Peer(uid, 1), groups, allowed)
    if uid in (0, os.geteuid()):
        assert found is Role.ADMIN
    else:
        assert found is (Role.CONTROL if uid >= 0 and groups & allowed else Role.NOBODY)


def test_a_role_may_what_those_below_it_may():
    for have in Role:
        for least in Role:
            refused = False
            try:
                demand(caller(ROOT, have, {}), least)
            except AccessError:
                refused = True
            assert refused == (have < least)


def ask(app, role, method, path, **arguments):
    async def once():
        transport = httpx.ASGITransport(app=of_role(app, role), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://agent") as client:
            return await client.request(method, path, **arguments)

    return asyncio.run(once())


@pytest.fixture
def app(tmp_path):
    (tmp_path / "var/lib/safekit").mkdir(parents=True)
    made = create(Agent(Paths(tmp_path)))
    yield made
    made.state.commands.close()


PLAIN = [
    (each.method, each.path.replace(":path", "").replace("{", "").replace("}", ""), each.role)
    for part in routes.ALL
    for each in part.router(None).operations
]


def test_every_operation_refuses_the_roles_below_its_own(app):
    assert all(least >= Role.MONITOR for _, path, least in PLAIN if path.startswith("/api/"))
    for method, path, least in PLAIN:
        for role in (each for each in Role if each < least):
            answer = ask(app, role, method, path)
            assert (answer.status_code, answer.json()["problems"][0]["code"]) == (403, "access.role"), (method, path)
    for path in ("/openapi.json", "/api/v1/plugins/none/x"):
        assert ask(app, Role.NOBODY, "GET", path).status_code == 403
    assert ask(app, Role.CONTROL, "POST", "/api/v1/plugins/none/x").status_code == 403


def test_what_configures_is_for_administrators():
    admin = {(m, p.partition("/api/v1/")[2]) for m, p, least in PLAIN if least is Role.ADMIN}
    assert {("PUT", "modules/name"), ("PUT", "cluster/key"), ("DELETE", "configurations/name")} <= admin
    assert ROLES["admin"] is Role.ADMIN


def test_a_head_that_stands_twice_is_refused(app):
    heads = [("x-safekit-user", "a"), ("x-safekit-role", "monitor"), ("x-safekit-role", "admin")]
    answer = ask(app, Role.ADMIN, "GET", "/api/v1/status", headers=heads)
    assert answer.json()["problems"][0]["code"] == "access.bad-caller"


def test_the_command_log_names_whom_root_speaks_for(app):
    heads = {"x-safekit-user": "alice", "x-safekit-role": "control", "x-safekit-via": "https 10.0.0.9 session"}
    assert ask(app, Role.ADMIN, "POST", "/api/v1/modules/none/start", headers=heads).status_code == 404
    ((_, ordered),) = app.state.commands.tail(1)
    assert (ordered.user, ordered.program) == ("alice", "https 10.0.0.9 session")


CALL = """
import socket, sys
s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])
s.sendall(f"{sys.argv[2]} HTTP/1.1\\r\\nHost: a\\r\\n{sys.argv[3]}Connection: close\\r\\n\\r\\n".encode())
text = b""
while part := s.recv(65536): text += part
print(text.decode())
"""


@pytest.fixture
def open_path():
    """A folder that other users can reach; pytest's own they cannot."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can call as somebody else")
def test_the_kernel_says_who_calls(open_path, monkeypatch):
    monkeypatch.setenv("SAFEKIT_GROUP", "daemon")
    (open_path / "var/lib/safekit").mkdir(parents=True)
    paths = Paths(open_path)
    forged = "X-Safekit-User: a\r\nX-Safekit-Role: admin\r\n"

    async def as_other(groups, call, heads=""):
        command = ["setpriv", "--reuid", "65534", "--regid", "65534", *groups, sys.executable, "-I", "-c", CALL]
        process = await asyncio.create_subprocess_exec(*command, str(paths.socket), call, heads, stdout=subprocess.PIPE)
        text, _ = await asyncio.wait_for(process.communicate(), 30)
        return text.decode()

    async def all_calls():
        until = asyncio.Event()
        app = create(Agent(paths))
        serving = asyncio.create_task(server.serve(app, server.listen(paths), until))
        try:
            member = ["--groups", "daemon"]
            return [
                await as_other(["--clear-groups"], "GET /api/v1/status"),
                await as_other(["--clear-groups"], "GET /api/v1/status", forged),
                await as_other(member, "GET /api/v1/status"),
                await as_other(member, "POST /api/v1/shutdown"),
                await as_other(member, "DELETE /api/v1/cluster/key"),
                await as_other(member, "GET /api/v1/status", forged),
            ]
        finally:
            until.set()
            await serving
            app.state.commands.close()

    nobody, liar, looks, controls, configures, member_liar = asyncio.run(all_calls())
    assert "access.denied" in nobody
    assert "access.denied" in liar
    assert " 200 " in looks.partition("\r\n")[0]
    assert " 200 " in controls.partition("\r\n")[0]
    assert "access.role" in configures
    assert "access.bad-caller" in member_liar
