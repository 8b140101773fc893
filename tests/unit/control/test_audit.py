"""Every call that changes something is recorded with its caller, nothing a client sends changes who that is."""

import asyncio
import os

import httpx
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from safekit_py.control.audit import Audit, described, masked
from safekit_py.runtime.commandlog import CommandLog, Peer


@pytest.mark.parametrize(
    ("call", "wanted"),
    [
        (("POST", "/api/v1/modules/web/start", "wait=true"), ("start", "web", "wait=true", "")),
        (("POST", "/api/v1/modules/web/restart", "identity=check"), ("restart", "web", "", "check")),
        (
            ("PUT", "/api/v1/modules/web", "set=VIP%3D10.0.0.1&set=DB_PASSWORD%3Dabc&number=3"),
            ("module install", "web", "--set VIP=10.0.0.1 --set DB_PASSWORD=*** number=3", ""),
        ),
        (("DELETE", "/api/v1/modules/web", ""), ("module uninstall", "web", "", "")),
        (("PUT", "/api/v1/configurations/web", "apply=true"), ("config", "web", "apply=true", "")),
        (("POST", "/api/v1/configurations/web/update", ""), ("update", "web", "", "")),
        (("POST", "/api/v1/configurations/web/versions/3", ""), ("config restore 3", "web", "", "")),
        (("DELETE", "/api/v1/configurations/web", ""), ("deconfig", "web", "", "")),
        (("PUT", "/api/v1/cluster/key", ""), ("cluster genkey", "", "", "")),
        (("PUT", "/api/v1/cluster/lock", ""), ("cluster lock", "", "", "")),
        (("DELETE", "/api/v1/cluster/lock", ""), ("cluster unlock", "", "", "")),
        (("PUT", "/api/v1/modules/web/boot/off", ""), ("boot off", "web", "", "")),
        (("POST", "/api/v1/modules/web/checkers/off", "resource=*"), ("checker off", "web", "resource=*", "")),
        (
            ("PUT", "/api/v1/modules/web/resources/custom.a", "value=down"),
            ("set -r custom.a", "web", "value=down", ""),
        ),
        (("POST", "/api/v1/modules/web/loop/inc", ""), ("incloop", "web", "", "")),
        (("POST", "/api/v1/shutdown", ""), ("shutdown", "", "", "")),
        (("PUT", "/api/v1/modules/web/log", ""), ("", "", "", "")),
        (("DELETE", "/api/v1/plugins/mail/queue", "token=abc"), ("delete plugins mail queue", "", "token=***", "")),
        (("POST", "/api/v1/", ""), ("", "", "", "")),
    ],
)
def test_a_call_in_words(call, wanted):
    assert described(*call) == wanted


def test_masks():
    assert masked("API_KEY", "x") == masked("userPassword", "x") == masked("secret", "x") == "***"
    assert masked("VIP", "x") == masked("keyboard", "x") == "x"


@pytest.fixture
def log(tmp_path):
    made = CommandLog(tmp_path / "commands.db")
    yield made
    made.close()


def asked(log, method, path, peer=None, **arguments):
    """One call through the middleware; the answer and what the log then has."""
    app = FastAPI()
    app.add_middleware(Audit, log=log)

    @app.post("/api/v1/modules/{name}/{verb}")
    async def command(name: str, verb: str, request: Request):
        assert log.tail(1)[0][1].result == "running"
        request.state.note.unchanged = verb == "nothing"
        if verb == "crash":
            raise RuntimeError("inside")
        if verb == "refuse":
            body = {"problems": [{"code": "module.stopped"}]}
            return JSONResponse(body, 409, media_type="application/problem+json")
        return {"done": True}

    @app.get("/api/v1/status")
    async def status():
        return {}

    async def with_peer(scope, receive, send):
        if peer is not None:
            scope["state"] = {"peer": peer}
        await app(scope, receive, send)

    async def call():
        transport = httpx.ASGITransport(with_peer, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://agent") as client:
            return await client.request(method, path, **arguments)

    return asyncio.run(call()), [ordered for _, ordered in log.tail(100)]


def test_a_command_and_who_gave_it(log):
    answer, (ordered,) = asked(log, "POST", "/api/v1/modules/web/start", Peer(os.geteuid(), os.getpid()))
    assert answer.status_code == 200
    assert (ordered.command, ordered.module, ordered.result) == ("start", "web", "ok")
    assert ordered.uid == os.geteuid()
    assert ordered.user.startswith("root") or os.geteuid()
    assert ordered.program


def test_nothing_that_a_client_sends_names_the_caller(log):
    forged = {"x-peer": "0", "peer": "uid=0", "x-forwarded-user": "root", "state": '{"peer": {"uid": 0}}'}
    _, (ordered,) = asked(
        log, "POST", "/api/v1/modules/web/start?peer=0&uid=0", Peer(65534, 1), headers=forged, json={"peer": {"uid": 0}}
    )
    assert ordered.uid == 65534
    _, (*_, ordered) = asked(log, "POST", "/api/v1/modules/web/stop", headers=forged)
    assert (ordered.uid, ordered.user) == (-1, "unknown")


@pytest.mark.parametrize(
    ("verb", "result"), [("refuse", "refused: module.stopped"), ("crash", "refused: 500"), ("start", "ok")]
)
def test_results(log, verb, result):
    _, (ordered,) = asked(log, "POST", f"/api/v1/modules/web/{verb}")
    assert ordered.result == result


def test_what_only_looks_or_changes_nothing_is_not_recorded(log):
    assert asked(log, "GET", "/api/v1/status")[1] == []
    assert asked(log, "POST", "/api/v1/modules/web/nothing")[1] == []


def test_a_body_is_never_recorded(log, tmp_path):
    asked(log, "POST", "/api/v1/modules/web/start", json={"key": "0123456789abcdef" * 4})
    log.close()
    assert b"0123456789abcdef" not in b"".join(each.read_bytes() for each in tmp_path.iterdir())
