"""Answers that are told again, and which requests may have them."""

import pytest

from safekit_py.control.access import Role
from safekit_py.web import kept
from safekit_py.web.kept import Answers, hardened, written
from safekit_py.web.serve import LONGEST_ASKED, repeatable

TARGET = b"/api/v1/status"
GOOD = [
    {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]},
    {"type": "http.response.body", "body": b"{", "more_body": True},
    {"type": "http.response.body", "body": b"}"},
]


def test_an_answer_is_for_its_role_and_its_time(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(kept.time, "monotonic", lambda: now[0])
    answers = Answers(secure=True)
    answers.keep(Role.MONITOR, TARGET, GOOD, 0)
    assert answers.find(Role.MONITOR, TARGET) == GOOD
    assert not answers.find(Role.ADMIN, TARGET)
    assert not answers.find(Role.MONITOR, TARGET + b"?x")
    now[0] += kept.FRESH
    assert not answers.find(Role.MONITOR, TARGET)
    assert answers.whole(Role.MONITOR, TARGET) == b""
    answers.keep(Role.MONITOR, TARGET, GOOD, 0)
    answers.clear()
    assert not answers.find(Role.MONITOR, TARGET)
    answers.keep(Role.MONITOR, TARGET, GOOD, 0)
    assert not answers.find(Role.MONITOR, TARGET), "read before the change"
    answers.keep(Role.MONITOR, TARGET, GOOD, 1)
    assert answers.find(Role.MONITOR, TARGET) == GOOD


@pytest.mark.parametrize(
    "messages",
    [[], [GOOD[0]], GOOD[:2], [{**GOOD[0], "status": 403}, GOOD[2]]],
    ids=["none", "head", "half", "refused"],
)
def test_only_a_whole_good_one_is_kept(messages):
    answers = Answers(secure=False)
    answers.keep(Role.MONITOR, TARGET, messages, 0)
    assert not answers.find(Role.MONITOR, TARGET)


def test_there_is_an_end_to_them():
    answers = Answers(secure=False)
    for number in range(kept.MOST + 5):
        answers.keep(Role.MONITOR, b"%d" % number, GOOD, 0)
    assert not answers.find(Role.MONITOR, b"4")
    assert answers.find(Role.MONITOR, b"5") == GOOD


def test_its_bytes_have_the_heads_of_every_answer():
    head, _, body = written(GOOD, secure=True).partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert (lines[0], body) == (b"HTTP/1.1 200 OK", b"{}")
    assert b"content-length: 2" in lines
    for name, value in hardened([], secure=True):
        assert name + b": " + value in lines
    assert b"strict-transport-security" not in written(GOOD, secure=False)


DATA = b"GET /api/v1/status HTTP/1.1\r\nHost: a\r\n\r\n"
SCOPE = {"method": "GET", "http_version": "1.1", "path": "/api/v1/status", "headers": [(b"host", b"a")]}


def test_a_plain_call_for_a_state_may_be_repeated():
    assert repeatable(DATA, SCOPE)
    assert repeatable(DATA, SCOPE | {"headers": [(b"connection", b"Keep-Alive")]})


@pytest.mark.parametrize(
    ("data", "changed"),
    [
        (DATA * 2, {}),
        (DATA + b"x", {}),
        (DATA[:-2], {}),
        (b"x" * LONGEST_ASKED + DATA, {}),
        (DATA, {"method": "HEAD"}),
        (DATA, {"http_version": "1.0"}),
        (DATA, {"path": "/api/v1/commands"}),
        (DATA, {"path": "/nodes/a/api/v1/status"}),
        (DATA, {"headers": [(b"connection", b"close")]}),
        (DATA, {"headers": [(b"content-length", b"3")]}),
        (DATA, {"headers": [(b"transfer-encoding", b"chunked")]}),
        (DATA, {"headers": [(b"expect", b"100-continue")]}),
    ],
)
def test_any_other_is_parsed_each_time(data, changed):
    assert not repeatable(data, SCOPE | changed)
