"""Setting macros changes their values only, and any value comes back as it was given."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from safekit_py.bundle.fill import fill
from safekit_py.errors import ConfigError

TEXT = b"""<?xml version="1.0" encoding="ISO-8859-1"?>
<safe><!-- <macro name="A" value="no"/> caf\xe9 -->
<macro  value = 'old'
   name="A"  /><service><macro name="B" value=""/></service></safe>"""

values = st.text(st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="\ufffe\uffff"), max_size=20)


@given(values, values)
def test_values_come_back(one, two):
    filled = fill(TEXT, {"A": one, "B": two})
    root = etree.fromstring(filled)
    assert [each.get("value") for each in root.iter("macro")] == [one, two]
    assert etree.tostring(root[0]) == etree.tostring(etree.fromstring(TEXT)[0])


def test_the_smallest_change():
    assert fill(TEXT, {"A": "new"}) == TEXT.replace(b"'old'", b"'new'")
    assert fill(TEXT, {}) is TEXT
    assert b"&quot;&lt;&amp;&apos;&#10;" in fill(TEXT, {"A": "\"<&'\n"})


def test_unknown_macro():
    with pytest.raises(ConfigError) as caught:
        fill(TEXT, {"C": "1"})
    assert caught.value.code == "bundle.unknown-macro"
    assert "A, B" in caught.value.problems[0].remedy


@pytest.mark.parametrize("value", ["\0", "\x1b", "\ud800", "\uffff"])
def test_what_xml_cannot_hold(value):
    with pytest.raises(ConfigError) as caught:
        fill(TEXT, {"A": value})
    assert caught.value.code == "bundle.macro-value"
