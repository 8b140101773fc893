"""A request's values become the arguments that a signature asks for, or findings that name each wrong one."""

import asyncio
import enum
from dataclasses import dataclass
from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from safekit_py.control.binding import LARGEST, Binding
from safekit_py.control.routing import Query, said
from safekit_py.errors import ConfigError


class Level(enum.StrEnum):
    LOW = "L"
    HIGH = "H"


@dataclass(kw_only=True)
class Entry:
    text: str = said(max_length=5)
    kind: str = said(default="I", pattern="^[IW]$")
    words: list[str] = said(default=[], max_length=2)


async def look(
    name: str,
    request: Request,
    verb: Literal["on", "off"] = "on",
    lines: Annotated[int, Query(ge=1, le=20)] = 7,
    wait: Annotated[float | None, Query(gt=0, lt=60)] = None,
    level: Level = Level.LOW,
    sure: bool = False,
    sets: Annotated[list[str] | None, Query(alias="set")] = None,
): ...


async def write(entry: Entry): ...


def bound(endpoint, query=b"", body=b"", path=None):
    pieces = [{"type": "http.request", "body": body[:7], "more_body": True}, {"type": "http.request", "body": body[7:]}]

    async def receive():
        return pieces.pop(0)

    scope = {"type": "http", "method": "GET", "query_string": query, "headers": [], "path_params": path or {}}
    return asyncio.run(Binding(endpoint).arguments(Request(scope, receive)))


def refused(*arguments, **named):
    with pytest.raises(ConfigError) as error:
        bound(*arguments, **named)
    assert {each.code for each in error.value.problems} == {"request.bad-value"}
    return [each.message for each in error.value.problems]


def test_only_what_was_given_is_handed_over():
    found = bound(look, path={"name": "web"})
    assert isinstance(found.pop("request"), Request)
    assert found == {"name": "web"}


def test_each_type():
    query = b"verb=off&lines=20&wait=.5&level=H&sure=yes&set=A%3D1&set=B%3D2&unknown=1"
    found = bound(look, query, path={"name": "web"})
    del found["request"]
    wanted = {"name": "web", "verb": "off", "lines": 20, "wait": 0.5, "level": Level.HIGH, "sure": True}
    assert found == {**wanted, "sets": ["A=1", "B=2"]}


def test_every_finding_at_once():
    found = refused(look, b"verb=up&lines=0&wait=60&level=X&sure=perhaps")
    assert found == [
        "name is missing",
        "verb is none of on, off",
        "lines is less than 1",
        "wait is not below 60",
        "level is none of L, H",
        "sure is neither true nor false",
    ]


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        (b"lines=21", "lines is more than 20"),
        (b"lines=1e3", "lines is no whole number"),
        (b"lines=" + b"9" * 30, "lines is no whole number"),
        (b"lines=", "lines is no whole number"),
        (b"wait=nan", "wait is no number"),
        (b"wait=inf", "wait is no number"),
        (b"wait=0", "wait is not above 0"),
    ],
)
def test_numbers(query, wanted):
    assert refused(look, query, path={"name": "web"}) == [wanted]


def test_a_document():
    assert bound(write, body=b'{"text": "short", "other": 3}') == {"entry": Entry(text="short")}
    assert bound(write, body=b'{"text": "", "kind": "W", "words": ["a"]}')["entry"].words == ["a"]


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        (b"", "the body is no JSON"),
        (b"\xff", "the body is no JSON"),
        (b"[" * 200_000, "the body is no JSON"),
        (b"[]", "the body is no JSON object"),
        (b"{}", "the body lacks text"),
        (b'{"text": 3}', "the body has a wrong text: it is no text"),
        (b'{"text": "longer"}', "the body has a wrong text: it is longer than 5"),
        (b'{"text": "", "kind": "X"}', "the body has a wrong kind: it does not match ^[IW]$"),
        (b'{"text": "", "words": "ab"}', "the body has a wrong words: it is no list of texts"),
        (b'{"text": "", "words": ["a", 1]}', "the body has a wrong words: it is no list of texts"),
        (b'{"text": "", "words": ["a", "b", "c"]}', "the body has a wrong words: it is longer than 2"),
        (b'"' + b"x" * LARGEST + b'"', f"the body is longer than {LARGEST} bytes"),
    ],
)
def test_a_wrong_document(body, wanted):
    assert refused(write, body=body) == [wanted]


def test_a_signature_that_no_request_can_fill():
    async def odd(value: bytes): ...

    async def either(value: int | str): ...

    for each in (odd, either):
        with pytest.raises(TypeError, match="cannot be read from a request"):
            Binding(each)


@given(st.binary(max_size=60), st.binary(max_size=60))
def test_nothing_else_comes_out(query, body):
    for endpoint in (look, write):
        try:
            bound(endpoint, query, body, {"name": "web"})
        except ConfigError as error:
            assert all(each.message for each in error.problems)  # noqa: PT017 - either way is right
