"""Macros: an expansion ends, and text without a percent sign is unchanged."""

import contextlib
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safekit_py.config.macros import BrokenMacroError, MacroError, Table, apply, declared
from safekit_py.config.xml import parse

names = st.sampled_from("abcd")
texts = st.lists(st.one_of(st.sampled_from(string.ascii_letters + "% "), names.map("%{}%".format)), max_size=8).map(
    "".join
)


def look(body, overrides=None, environment=None):
    document = parse(f"<safe>{body}</safe>".encode(), "f.xml", "safe")
    found, problems = declared(document, overrides or {})
    expanded, more, unresolved = apply(document, found, environment)
    return document, expanded, {each.code for each in problems + more}, unresolved


@given(st.text().filter(lambda each: "%" not in each), st.dictionaries(names, texts))
def test_text_without_percent_is_unchanged(text, values):
    assert Table(values).expand(text) == text


@given(st.dictionaries(names, texts), texts)
def test_every_expansion_ends(values, text):
    with contextlib.suppress(MacroError, BrokenMacroError):
        assert len(Table(values).expand(text)) <= 65_536


@given(st.text(max_size=30), st.text(max_size=30).filter(lambda each: "%" not in each))
def test_percent_is_written_twice(text, value):
    assert Table({"a": value}).expand(text.replace("%", "%%") + "%a%") == text + value


def test_order_override_then_file_then_environment():
    macros = '<macro name="A" value="file"/><service x="%A% %B%"/>'
    environment = {"A": "env", "B": "env"}
    document, _, codes, _ = look(macros, environment=environment)
    assert document.root[1].get("x") == "file env"
    assert not codes
    document, expanded, _, _ = look(macros, {"A": "given"}, environment)
    assert document.root[1].get("x") == "given env"
    assert dict(expanded) == {"A": "given"}


def test_environment_is_not_looked_at_by_itself(monkeypatch):
    monkeypatch.setenv("HOME_OF_X", "1")
    assert look('<service x="%HOME_OF_X%"/>')[2] == {"config.unknown-macro"}


def test_inside_service_and_nested():
    document, _, codes, _ = look(
        '<service x="%B%!"><macro name="A" value="1"/><macro name="B" value="%A%2"/></service>'
    )
    assert document.root[0].get("x") == "12!"
    assert not codes


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ('<macro name="A" value="%A%"/>', "macro-loop"),
        ('<macro name="A" value="%B%"/><macro name="B" value="%A%"/>', "macro-loop"),
        ('<service x="%nope%"/>', "unknown-macro"),
        ('<macro name="A" value=""/>', "open-macro"),
        ('<macro name="A" value="IP_TO_BE_DEFINED"/><service x="%A%"/>', "open-macro"),
        ('<service x="IP_TO_BE_DEFINED"/>', "placeholder"),
        ('<macro name="A" value="1"/><macro name="A" value="2"/>', "macro-twice"),
        ('<macro name="1 2" value="1"/>', "macro-name"),
    ],
)
def test_wrong(body, code):
    assert look(body)[2] == {f"config.{code}"}


def test_a_bomb_is_refused():
    levels = "".join(f'<macro name="m{n}" value="{f"%m{n - 1}%" * 10}"/>' for n in range(1, 12))
    assert "config.macro-too-long" in look(f'<macro name="m0" value="0123456789"/>{levels}')[2]


def test_a_chain_is_refused():
    levels = "".join(f'<macro name="m{n}" value="%m{n + 1}%"/>' for n in range(2000))
    assert "config.macro-too-deep" in look(levels + '<macro name="m2000" value="x"/>')[2]
