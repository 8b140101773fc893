"""The checker against a real server, on a clock that the test turns."""

import http.server
import threading

import pytest
import safekit_http_checker

from safekit_py.api import SafekitError


@pytest.fixture
def plugins_under_test():
    return (safekit_http_checker,)


@pytest.fixture
def page():
    """A server whose answer a test may change: ``page.answer = (status, body)``."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            status, body = self.server.answer
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.answer = (200, b"Welcome home")
    server.url = f"http://127.0.0.1:{server.server_port}/"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def made(module_config, fake_group, plugin_manager):
    """The checker of an element with these attributes."""

    def make(**attributes):
        text = " ".join(f'{name}="{value}"' for name, value in attributes.items())
        group = fake_group(module_config(f"<check><http {text}/></check>"))
        (checker,) = plugin_manager.checkers()["http"].create(group.context)
        return checker

    return make


def statuses(reports):
    return [report.status for report in reports]


def test_it_looks_at_each_interval(made, page, run_checker):
    checker = made(ident="home", url=page.url, interval="10")
    reports = run_checker(checker, seconds=25)
    assert [(r.at, r.status) for r in reports] == [(0, "up"), (10, "up"), (20, "up")]
    assert (checker.resource, checker.rule, checker.action) == ("http.home", "h_home", "restart")
    assert checker.limit > 10


def test_another_status_is_down(made, page, run_checker):
    page.answer = (503, b"Welcome home")
    (report,) = run_checker(made(ident="home", url=page.url), seconds=5)
    assert report.status == "down"
    assert "answers 503, not 200" in report.cause


def test_a_status_may_be_wanted_that_is_an_error(made, page, run_checker):
    page.answer = (401, b"who are you")
    assert statuses(run_checker(made(ident="home", url=page.url, status="401", body="who"), seconds=5)) == ["up"]


@pytest.mark.parametrize(("body", "status"), [("W.lcome", "up"), ("^home", "down")])
def test_the_body_counts(made, page, run_checker, body, status):
    assert statuses(run_checker(made(ident="home", url=page.url, body=body), seconds=5)) == [status]


def test_a_server_that_is_gone_is_down_and_comes_back(made, page, fake_clock):
    checker, reports = made(ident="home", url=page.url, interval="10"), []
    fake_clock.start(checker.run(lambda status, cause: reports.append(str(status))))
    fake_clock.advance(1)
    page.answer = (500, b"")
    fake_clock.advance(10)
    page.answer = (200, b"")
    fake_clock.advance(10)
    assert reports == ["up", "down", "up"]


def test_no_server_at_all(made, run_checker):
    (report,) = run_checker(made(ident="home", url="http://127.0.0.1:9/"), seconds=5)
    assert report.status == "down"
    assert "does not answer" in report.cause


@pytest.mark.parametrize(
    ("attributes", "code"),
    [
        ({"url": "ftp://here"}, "http.bad-url"),
        ({"url": "http://here", "body": "("}, "http.bad-body"),
        ({"url": "http://here", "interval": "0"}, "http.zero"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(made, attributes, code):
    with pytest.raises(SafekitError) as caught:
        made(ident="home", **attributes)
    assert (caught.value.code, caught.value.problems[0].line) == (code, 1)
