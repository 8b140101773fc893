"""Hostile and broken XML stops in the first pass, quickly."""

import time

import pytest

from safekit_py.config.scan import scan
from safekit_py.errors import ConfigError

BOMB = (
    '<!DOCTYPE safe [<!ENTITY a "aaaaaaaaaa">'
    + "".join(f'<!ENTITY a{n} "{f"&a{n - 1 if n else str()};" * 10}">' for n in range(9))
    + "]><safe>&a8;</safe>"
)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "not-xml"),
        (b"hello", "not-xml"),
        (b"PK\x03\x04zip", "not-xml"),
        (b"<safe><a></safe>", "not-xml"),
        (b"<safe>&nope;</safe>", "not-xml"),
        (b"<safe a='1' a='2'/>", "not-xml"),
        (b"<safe/><safe/>", "not-xml"),
        (b"<safe>\xff</safe>", "not-xml"),
        (b"<html/>", "root"),
        (BOMB.encode(), "doctype"),
        (b'<!DOCTYPE safe [<!ENTITY x SYSTEM "file:///etc/passwd">]><safe>&x;</safe>', "doctype"),
        (b'<!DOCTYPE safe SYSTEM "http://127.0.0.1:1/x.dtd"><safe/>', "doctype"),
        (b'<!DOCTYPE safe PUBLIC "-//x" "x.dtd"><safe/>', "doctype"),
        (b"<!DOCTYPE safe []><safe/>", "doctype"),
        (b"<!DOCTYPE html><safe/>", "doctype"),
        (b'<safe xmlns="urn:x"/>', "namespace"),
        (b'<safe xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:nil="true"/>', "namespace"),
        ("<safe/>".encode("utf-16"), "encoding"),
        (b'<?xml version="1.0" encoding="utf-9000"?><safe/>', "encoding"),
        (b"<safe a='" + b"x" * 12_000_000 + b"'/>", "too-big"),
        (b"<a>" * 300_000, "root"),
        (b"<safe>" + b"<a>" * 300_000, "too-deep"),
        (b"<safe>" + b"<a/>" * 6_000 + b"</safe>", "too-many-elements"),
        (b"<safe " + b" ".join(b'a%d="x"' % n for n in range(80_000)) + b"/>", "too-many-attributes"),
    ],
)
def test_refused_quickly(data, code):
    began = time.process_time()
    with pytest.raises(ConfigError) as caught:
        scan(data, "x.xml", "safe")
    assert caught.value.code == f"config.{code}"
    assert caught.value.problems[0].remedy
    assert time.process_time() - began < 1


def test_lines_and_places():
    data = b"<!DOCTYPE safe>\n<safe\n  a = 'x'\n  b=\"y>z\"><macro\n/>\n</safe>"
    root, macro = scan(data, "x.xml", "safe")
    assert (root.line, root.places["a"].line, root.places["b"].line, macro.line, macro.depth) == (2, 3, 4, 4, 2)
    place = root.places["b"]
    assert data[place.start : place.end] == b"y>z"
