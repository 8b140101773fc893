"""The console's texts and words, and its pages as HTML: whatever a name or message holds, it is text."""

import asyncio
import io
import json
import re
import zipfile
from pathlib import Path

import pytest
from starlette.requests import Request

from safekit_py.control.access import Caller, Role
from safekit_py.errors import Problem, SafekitError
from safekit_py.web.console import pages, texts, timeline, wizard, words
from safekit_py.web.console.cluster import Server
from safekit_py.web.console.pages import Pages

CONSOLE = Path(pages.__file__).parent
EVIL = "<script>alert('x')</script>\"'&"


def spoken():
    """Every English text that a page or the code translates."""
    found = set()
    for path in CONSOLE.rglob("*.html"):
        found |= {a or b for a, b in re.findall(r"_\((?:\"([^\"]*)\"|'([^']*)')", path.read_text(encoding="utf-8"))}
    found |= set(re.findall(r"visit\.text\(\"([^\"]*)\"", (CONSOLE / "pages.py").read_text(encoding="utf-8")))
    return found | {word for group in (words.ALWAYS, words.ROLES, words.FORCE) for _, word, _ in group}


def test_every_text_is_there_in_french_and_none_too_many():
    french = texts.catalog("fr")
    assert spoken() == set(french)
    for english, other in french.items():
        assert sorted(re.findall(r"{\w+}", english)) == sorted(re.findall(r"{\w+}", other)), english


@pytest.mark.parametrize(
    ("cookie", "accepted", "language"),
    [
        ("", "fr-CH, en;q=0.8", "fr"),
        ("en", "fr", "en"),
        ("", "de, en", "en"),
        ("xx", "", "en"),
        ("", "de,fr;q=0.3", "fr"),
    ],
)
def test_the_language_is_the_one_chosen_or_accepted(cookie, accepted, language):
    assert texts.chosen(cookie, accepted) == language


def test_a_module_has_the_actions_that_its_state_allows():
    def verbs(state, mode="farm"):
        return [verb for verb, _, _ in words.actions({"state": state, "mode": mode})]

    assert verbs("STOP") == ["start"]
    assert verbs("UP") == ["stop", "restart", "stopstart", "forcestop"]
    assert verbs("STOP", "mirror") == ["start", "prim", "second"]
    assert "swap" in verbs("PRIM", "mirror")
    assert verbs("NOT_CONFIGURED") == []
    assert words.actions(None) == []


def test_sizes_and_durations():
    assert [words.size(n) for n in (0, 999, 1000, 2_500_000, 3e15)] == ["0 B", "999 B", "1.0 kB", "2.5 MB", "3000.0 TB"]
    assert [words.duration(s) for s in (5, 61, 7200, 200_000)] == ["5 s", "1 min", "2 h", "2 d"]


class Fixed:
    """A cluster with fixed values."""

    def __init__(self, servers):
        self._servers = servers

    async def servers(self, who):
        return self._servers

    async def nodes(self):
        return [{"name": each.name, "this": each.this, "addresses": {}} for each in self._servers]

    async def node(self, name):
        return {"name": name, "this": True, "addresses": {}}

    async def ask(self, node, who, path):
        if node["name"] == "gone":
            raise SafekitError(Problem("node.unreachable", f"{EVIL} does not answer"))
        if "/log" in path:
            line = {"number": 1, "time": 1.0, "severity": "W", "source": EVIL, "message": EVIL}
            return [line]
        if "/history" in path:
            return [{"time": 1.0, "name": EVIL, "value": EVIL, "before": EVIL, "cause": EVIL}]
        return [{"time": 1.0, "user": EVIL, "command": EVIL, "module": EVIL, "arguments": EVIL, "result": EVIL}]


def module(name, **changed):
    problem = {"code": "x.y", "message": EVIL, "remedy": EVIL, "file": EVIL, "line": 3}
    report = {
        "members": [{"name": "s1", "state": "member", "shares": [100.0]}],
        "view": 3,
        "cause": EVIL,
        "packets": {"accepted": 7},
        "moved": 0,
        "coordinator": "s1",
        "groups": [EVIL],
        "uptodate": True,
        "replicated": False,
        "peer": EVIL,
        "peer_state": EVIL,
        "notes": [EVIL],
        "volumes": {"resynchronisation": {"total": 10, "compared": 5, "left": 3.0}},
    }
    made = {
        "name": name,
        "mode": "farm",
        "state": "UP",
        "readiness": "Ready",
        "age": 70.0,
        "busy": EVIL,
        "reason": EVIL,
        "resources": [{"name": EVIL, "value": EVIL, "age": 3.0, "cause": EVIL}],
        "report": report,
        "problems": [problem],
        "pending": [problem],
    }
    return made | changed


SERVERS = [
    Server(
        "s1", True, {"web": module("web"), "db": module("db", mode="mirror")}, "", [{"code": "a.b", "message": EVIL}]
    ),
    Server("s2", False, {"web": module("web", state="STOP", readiness="NotReady")}),
    Server("gone", False, {}, EVIL),
]
PATHS = [
    "/ui/",
    "/ui/part/overview",
    "/ui/module/web",
    "/ui/part/module/web",
    "/ui/module/db",
    "/ui/log/web",
    "/ui/part/log/web",
    "/ui/farm/web",
    "/ui/mirror/db",
    "/ui/part/mirror/db",
    "/ui/commands",
    "/ui/history/web",
    "/ui/new",
    "/ui/edit/web",
]


def page(path, role=Role.ADMIN, language="en", query=""):
    heads = [(b"accept-language", language.encode())]
    scope = {"type": "http", "method": "GET", "path": path, "query_string": query.encode(), "headers": heads}
    made = Pages(Fixed(SERVERS), secure=True)
    return asyncio.run(made.answer(Request(scope), Caller(role, "alice", "test"), "proof"))


@pytest.mark.parametrize("language", ["en", "fr"])
@pytest.mark.parametrize("path", PATHS)
def test_nothing_that_is_shown_is_markup(path, language):
    answer = page(path, language=language)
    text = answer.body.decode()
    assert answer.status_code == 200
    assert "<script>alert" not in text
    assert "onerror" not in text
    assert not re.search(r"<[^>]*\sstyle=|<style|\son\w+=", text), "the content security policy forbids it"


def test_who_may_only_look_sees_no_buttons_that_act():
    assert "data-act" in page("/ui/module/web").body.decode()
    assert "data-act" not in page("/ui/module/web", Role.MONITOR).body.decode()


def test_what_interrupts_service_is_asked_back():
    text = page("/ui/module/web").body.decode()
    buttons = re.findall(r"<button[^>]*data-act=\"(\w+)\"[^>]*>", text)
    assert {"start", "stop", "restart"} <= set(buttons)
    for whole in re.findall(r"<button[^>]*data-act[^>]*>", text):
        assert ("data-ask" in whole) == ('data-act="start"' not in whole), whole


@pytest.mark.parametrize("path", ["/ui/new", "/ui/data/shipped", "/ui/edit/web"])
def test_only_an_administrator_makes_modules(path):
    assert page(path, Role.CONTROL).status_code == 403
    assert page(path).status_code == 200


@pytest.mark.parametrize(
    "body", [b"", b"[]", b'{"module": 1, "xml": ""}', b'{"module": "../x", "xml": ""}', b"[" * 10_000]
)
def test_a_strange_wish_for_an_archive_is_refused(body):
    for make in (wizard.archive, wizard.difference):
        with pytest.raises(SafekitError):
            make(body)


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a/../../b", "", "bin//x", ".hidden", "bin/\n"])
def test_an_edited_file_stands_in_the_module_only(path):
    with pytest.raises(SafekitError):
        wizard.archive(json.dumps({"module": "web", "files": {path: "x"}}).encode())


def test_edited_files_become_an_archive_and_a_difference():
    before = {"conf/userconfig.xml": "<safe/>\n", "bin/start_both": "#!/bin/sh\n"}
    after = {**before, "bin/start_both": "#!/bin/sh\nexit 0\n", "bin/new": "x\n"}
    packed = zipfile.ZipFile(io.BytesIO(wizard.archive(json.dumps({"module": "web", "files": after}).encode())))
    assert {each: packed.read(each).decode() for each in packed.namelist()} == after
    told = wizard.difference(json.dumps({"before": before, "after": after}).encode())
    assert "+exit 0" in told
    assert "b/bin/new" in told
    assert wizard.difference(json.dumps({"before": before, "after": before}).encode()) == ""


@pytest.mark.parametrize("path", ["/ui/module/nothing", "/ui/farm/%3Cb%3E", "/ui/other"])
def test_what_is_not_there_is_said(path):
    answer = page(path)
    assert answer.status_code in (404, 502)
    assert "<h1>" in answer.body.decode()


@pytest.mark.parametrize("target", ["https://evil.example/", "//evil.example", "javascript:alert(1)", '/ui/"onload=x'])
def test_a_login_leads_nowhere_else(target):
    scope = {
        "type": "http",
        "method": "GET",
        "path": "/ui/login",
        "headers": [],
        "query_string": f"next={target}".encode(),
    }
    text = Pages(Fixed(SERVERS), secure=True).login(Request(scope), ended=False).body.decode()
    assert 'data-target="/ui/"' in text


def test_the_first_load_is_small():
    """Everything that the overview needs, as it is stored: nothing is compressed on the way."""
    asked = re.findall(r"(?:src|href)=\"/ui/static/([\w.]+)\"", page("/ui/").body.decode())
    assert {"console.js", "htmx.min.js", "console.css"} <= set(asked)
    assert len(page("/ui/").body) + sum((CONSOLE / "static" / name).stat().st_size for name in asked) < 300_000


def test_no_page_asks_another_server():
    for path in (*CONSOLE.rglob("*.html"), *(CONSOLE / "static").glob("console.*"), CONSOLE / "static/farm.js"):
        found = set(re.findall(r"https?://[^\s\"')]+", path.read_text(encoding="utf-8")))
        assert found <= {"http://www.w3.org/2000/svg"}, path


def test_the_past_of_a_resource_is_a_row_of_spans():
    def change(at, value, before):
        return {"time": at, "name": "tcp.x", "value": value, "before": before, "cause": f"{value} at {at}"}

    changes = [change(50, "up", "init"), change(120, "down", "up"), change(180, "up", "down")]
    (row,) = timeline.rows("s1", changes, {"tcp.x": "up", "ip.y": "up"}, 100.0, 200.0)
    assert [(span.value, span.kind) for span in row.spans] == [("up", "up"), ("down", "down"), ("up", "up")]
    assert [round(span.begin, 3) for span in row.spans] == [0.0, 0.2, 0.8]
    assert sum(span.length for span in row.spans) == pytest.approx(1.0)
    (row,) = timeline.rows("s1", changes, {}, 100.0, 200.0)
    assert row.spans[-1].kind == "none", "it is there no more"
    (row,) = timeline.rows("s1", changes, {"tcp.x": "up"}, 0.0, 200.0)
    assert [span.kind for span in row.spans] == ["none", "up", "down", "up"]
