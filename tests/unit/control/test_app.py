"""The application serves what the routes declare, with neither FastAPI nor pydantic, and says what is wrong."""

import asyncio
import subprocess
import sys

import httpx
import pytest
from callers import of_root

from safekit_py.control import routes
from safekit_py.control.app import create
from safekit_py.model.paths import Paths
from safekit_py.runtime.agent import Agent


@pytest.fixture
def call(tmp_path):
    (tmp_path / "var/lib/safekit").mkdir(parents=True)
    app = create(Agent(Paths(tmp_path)))

    def called(method, path, **arguments):
        async def once():
            transport = httpx.ASGITransport(app=of_root(app), raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://agent") as client:
                return await client.request(method, path, **arguments)

        return asyncio.run(once())

    yield called
    app.state.commands.close()


def test_a_document(call):
    answer = call("GET", "/api/v1/status")
    assert (answer.status_code, answer.json()["modules"]) == (200, [])
    assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/api/v1/nothing", 404, "request.unknown"),
        ("PATCH", "/api/v1/status", 405, "request.unknown"),
        ("GET", "/api/v1/modules/web/log?lines=many", 422, "request.bad-value"),
        ("GET", "/api/v1/modules/web/log", 404, "module.not-installed"),
        ("PUT", "/api/v1/cluster/key", 422, "request.bad-value"),
        ("GET", "/api/v1/plugins/nothing/x", 404, "plugin.no-routes"),
    ],
)
def test_refusals_are_problem_documents(call, method, path, status, code):
    answer = call(method, path)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert (body["type"], body["status"], body["problems"][0]["code"]) == (f"urn:safekit:{code}", status, code)


def test_the_openapi_document_has_every_operation(call):
    answer = call("GET", "/openapi.json")
    assert answer.status_code == 200, answer.text
    found = {(m.upper(), p.replace(":path", "")) for p, methods in answer.json()["paths"].items() for m in methods}
    declared = {(o.method, o.path.replace(":path", "")) for part in routes.ALL for o in part.router(None).operations}
    assert found == declared


def test_an_agent_has_neither_fastapi_nor_pydantic(tmp_path):
    code = (
        "import sys; from pathlib import Path; import safekit_py.cli.agent\n"
        "from safekit_py.control.app import create; from safekit_py.model.paths import Paths\n"
        "from safekit_py.runtime.agent import Agent\n"
        "create(Agent(Paths(Path(sys.argv[1])))); heavy = {'fastapi', 'pydantic', 'lxml', 'lark', 'rich', 'pyroute2'}\n"
        "heavy |= {'httpx', 'argon2', 'cryptography'}\n"
        "print(sorted(heavy & set(sys.modules)), 'safekit_py.plugins.mirror.runtime' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout == "[] False\n"
