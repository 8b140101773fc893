"""``<custom>``: values and defaults."""

import pytest
from safekit_py.plugins.checkers.custom_element import ELEMENT, CustomCheck

from safekit_py.config.load import check


def load(text):
    return check(f'<safe><service mode="farm"><check>{text}</check></service></safe>'.encode(), "f", [ELEMENT])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('<custom ident="c" when="prim" exec="look"/>', CustomCheck("c", "prim", "look", (), "noaction")),
        (
            """<custom ident="c" when="pre" exec="/usr/lib/look" arg="a 'b c' $HOME; rm" action="wait"/>""",
            CustomCheck("c", "pre", "/usr/lib/look", ("a", "b c", "$HOME;", "rm"), "wait"),
        ),
    ],
)
def test_values(text, value):
    found = load(text)
    assert not found.problems
    assert found.config.one("check/custom") == value


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ('<custom ident="c" when="prim" exec="../look"/>', "custom.bad-exec"),
        ('<custom ident="c" when="prim" exec=".."/>', "custom.bad-exec"),
        ('<custom ident="c" when="prim" exec="look" arg="a \'b"/>', "custom.bad-arg"),
        ('<custom ident="c" when="custom" exec="look"/>', "config.bad-value"),
        ('<custom ident="c" when="prim"/>', "config.missing-attribute"),
    ],
)
def test_refused(text, code):
    assert [each.code for each in load(text).problems] == [code]
