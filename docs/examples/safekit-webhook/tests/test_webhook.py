"""The plugin against a real server that may refuse, fail, or be silent."""

import http.server
import json
import threading
import time

import pytest
from fastapi import FastAPI
from safekit_webhook import Delivery, Letter, WebhookPlugin, delivery

from safekit_py.api import SafekitError, Severity, State


class Receiver(http.server.ThreadingHTTPServer):
    """Keeps what is posted; ``answers`` are the next statuses, then 200."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.documents, self.answers, self.delay = [], [], 0.0
        self.url = f"http://127.0.0.1:{self.server_port}/hook"

    def wait_for(self, count, limit=10.0):
        end = time.monotonic() + limit
        while len(self.documents) < count and time.monotonic() < end:
            time.sleep(0.01)
        return self.documents


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        time.sleep(self.server.delay)
        self.send_response(self.server.answers.pop(0) if self.server.answers else 200)
        self.end_headers()
        self.server.documents.append(json.loads(body))

    def log_message(self, *_):
        pass


@pytest.fixture
def receiver():
    server = Receiver()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def plugin():
    made = WebhookPlugin()
    made.delivery = Delivery(pause=0.02)
    yield made
    made.delivery.close(0.1)


@pytest.fixture
def plugins_under_test(plugin):
    return (plugin,)


@pytest.fixture
def group(module_config, fake_group, plugin_manager, receiver):
    """A module with the element."""
    made = fake_group(module_config(f'<webhook url="{receiver.url}" events="state resource" timeout="1"/>'))
    for kind in plugin_manager.checkers().values():
        list(kind.create(made.context))
    return made


def test_events_of_the_wanted_kinds_are_told(group, receiver):
    group.log(Severity.INFO, "a line that nobody wants")
    group.set_resource("tcp.a", "down", "no answer")
    group.enter(State.UP)
    first, second = receiver.wait_for(2)
    assert (first["kind"], first["data"]["value"], first["module"]) == ("resource", "down", "app")
    assert (second["kind"], second["data"]["state"], second["server"]) == ("state", "UP", "server1")


def test_a_module_without_the_element_is_silent(fake_group, plugin):
    fake_group().enter(State.UP)
    assert len(plugin.delivery) == 0


def test_it_tries_again_until_it_is_taken(group, receiver, plugin):
    receiver.answers = [503, 429]
    group.enter(State.UP)
    assert len(receiver.wait_for(3)) == 3
    plugin.delivery.close()
    assert plugin.delivery.counts == {"delivered": 1, "failed": 0, "dropped": 0}


def test_what_is_not_wanted_is_not_sent_again(group, receiver, plugin):
    receiver.answers = [410]
    group.enter(State.UP)
    receiver.wait_for(1)
    plugin.delivery.close()
    assert (len(receiver.documents), plugin.delivery.counts["failed"]) == (1, 1)
    assert "410" in plugin.delivery.last_error


def test_nobody_waits_for_a_slow_receiver(group, receiver):
    receiver.delay = 0.5
    began = time.monotonic()
    for number in range(20):
        group.set_resource("tcp.a", str(number))
    assert time.monotonic() - began < 0.4


def test_the_queue_is_bounded_and_the_newest_stay(receiver):
    queue = Delivery()
    receiver.delay = 1.0
    for number in range(delivery.FULL + 50):
        queue.put(Letter(receiver.url, {"number": number}))
    assert len(queue) <= delivery.FULL + 1
    assert queue.counts["dropped"] >= 49
    assert queue._waiting[-1].document == {"number": delivery.FULL + 49}
    queue.close(0.0)


def test_the_action_tells_and_leaves_the_module_alone(group, receiver, plugin_manager, fake_clock):
    fake_clock.run(plugin_manager.actions()["webhook"].run(group, "tcp.a is down"))
    (document,) = receiver.wait_for(1)
    assert (document["kind"], document["message"]) == ("action", "tcp.a is down")
    assert group.controlled == []


def test_the_action_without_the_element_says_what_to_write(fake_group, plugin_manager, fake_clock):
    with pytest.raises(SafekitError, match="add <webhook"):
        fake_clock.run(plugin_manager.actions()["webhook"].run(fake_group(), "x"))


def test_metrics_and_routes(group, receiver, plugin, plugin_manager):
    metrics = {each.name: each for each in plugin_manager.metrics(group)}
    assert metrics["webhook_documents_total"].samples[0][0] == {"result": "delivered"}
    assert metrics["webhook_waiting"].kind == "gauge"
    app = FastAPI()
    ((router,),) = [routers for name, routers in plugin_manager.routes(group).items() if routers]
    app.include_router(router)
    assert {"/status", "/test/{module}"} <= set(app.openapi()["paths"])


@pytest.mark.parametrize(
    ("attributes", "code"),
    [
        ('url="mail:me"', "webhook.bad-url"),
        ('url="http://here" events="weather"', "webhook.bad-events"),
        ('url="http://here" timeout="0"', "webhook.zero"),
    ],
)
def test_what_is_wrong_is_told(module_config, attributes, code):
    with pytest.raises(SafekitError) as caught:
        module_config(f"<webhook {attributes}/>")
    assert caught.value.code == code
