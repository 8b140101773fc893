"""Plugins' routes and figures in the agent's API: what a plugin does wrong stays its own."""

import asyncio
import sys

import httpx
import pytest
from callers import of_root
from fastapi import APIRouter

from safekit_py.control.app import create
from safekit_py.control.figures import wrong
from safekit_py.errors import Problem
from safekit_py.hookspecs import hookimpl
from safekit_py.model.paths import Paths
from safekit_py.model.plugin import Metric
from safekit_py.runtime.agent import Agent


class Plugin:
    metrics = ()

    @hookimpl
    def safekit_routes(self, server):
        routes = APIRouter()

        @routes.get("/modules")
        async def modules() -> list[str]:
            return list(server.modules())

        @routes.get("/status/{name}")
        async def status(name: str) -> dict:
            return dict(server.module(name).status())

        @routes.get("/raises")
        async def raises() -> str:
            raise ValueError("a mistake")

        @routes.get("/exits")
        async def exits() -> str:
            sys.exit(3)

        @routes.get("/odd")
        async def odd() -> int:
            return "no number"

        @routes.post("/asks")
        async def asks(count: int) -> int:
            return count

        return [routes, "no router"]

    @hookimpl
    def safekit_metrics(self):
        return self.metrics


@pytest.fixture
def agent(tmp_path):
    made = Agent(Paths(tmp_path))
    made.manager.register("mail", Plugin())
    made.broken["app"] = (Problem("config.bad", "its configuration is wrong", "repair it"),)
    return made


@pytest.fixture
def call(agent):
    app = create(agent)

    def call(path, method="GET"):
        async def ask():
            async with httpx.AsyncClient(
                transport=httpx.ASGITransport(of_root(app)), base_url="http://agent/api/v1"
            ) as client:
                return await client.request(method, path)

        return asyncio.run(ask())

    return call


def test_a_route_sees_the_server(call):
    assert call("/plugins/mail/modules").json() == ["app"]
    found = call("/plugins/mail/status/app").json()
    assert (found["state"], found["mode"]) == ("NOT_CONFIGURED", "")


def test_a_finding_has_its_own_status(call, agent):
    answer = call("/plugins/mail/status/none")
    assert (answer.status_code, answer.json()["problems"][0]["code"]) == (404, "module.not-installed")
    assert call("/plugins/mail/asks", "POST").status_code == 422
    assert call("/plugins/mail/none").status_code == 404
    assert agent.manager.entry("mail").faults == 1  # "no router"


@pytest.mark.parametrize("path", ["raises", "exits", "odd"])
def test_an_exception_is_a_problem_document_and_counted(call, agent, path):
    before = agent.manager.entry("mail").faults
    answer = call(f"/plugins/mail/{path}")
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["problems"][0]["code"] == "plugin.failed"
    assert agent.manager.entry("mail").faults == before + 1
    assert call("/status").status_code == 200


def test_a_plugin_without_routes(call):
    answer = call("/plugins/none/x")
    assert (answer.status_code, answer.json()["problems"][0]["code"]) == (404, "plugin.no-routes")


def test_plugins_are_shown(call):
    found = {each["name"]: each for each in call("/plugins").json()}
    assert found["mail"]["hooks"] == ["safekit_metrics", "safekit_routes"]
    assert "/modules" in call("/plugins/mail").json()["brings"]["routes"]
    assert call("/plugins/none").json()["problems"][0]["code"] == "plugin.not-found"


def test_figures_for_prometheus(call, monkeypatch):
    good = Metric("mail_sent_total", "Mails", "counter", (({"to": 'a"b'}, 3.0),))
    monkeypatch.setattr(Plugin, "metrics", (good, Metric("module_ready", "taken", "gauge", ())))
    answer = call("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    assert 'safekit_mail_sent_total{to="a\\"b"} 3.0' in answer.text
    assert 'safekit_module_state{module="app",state="NOT_CONFIGURED"} 1.0' in answer.text
    assert 'safekit_module_state{module="app",state="UP"} 0.0' in answer.text
    assert 'safekit_plugin_faults_total{plugin="mail"} 2.0' in answer.text
    assert answer.text.count("# TYPE safekit_module_ready ") == 1


@pytest.mark.parametrize(
    "metric",
    [
        Metric("Bad-Name", "x", "gauge", ()),
        Metric("safekit_x", "x", "gauge", ()),
        Metric("plugin_faults_total", "x", "counter", ()),
        Metric("x", "x", "histogram", ()),
        Metric("x", "x", "counter", ()),
        Metric("x_total", "x", "gauge", ()),
        Metric("x", "x", "gauge", (({"a": "1"}, 1.0), ({"b": "1"}, 1.0))),
        Metric("x", "x", "gauge", (({"a": "1"}, 1.0), ({"a": "1"}, 2.0))),
        Metric("x", "x", "gauge", (({"a-b": "1"}, 1.0),)),
        Metric("x", "x", "gauge", (({}, "1"),)),
        Metric("x_total", "x", "counter", (({}, -1.0),)),
    ],
)
def test_a_metric_that_cannot_be_shown_is_refused(metric):
    assert wrong(metric)


def test_a_metric_that_can_is_not():
    assert wrong(Metric("x", "x", "gauge", (({"a": "1"}, -1.0), ({"a": "2"}, float("nan"))))) == ""
