"""``<splitbrain>``: values and defaults."""

import pytest
from safekit_py.plugins.checkers.splitbrain_element import ELEMENT, SplitbrainCheck

from safekit_py.config.load import check


def load(text):
    return check(f'<safe><service mode="farm"><check>{text}</check></service></safe>'.encode(), "f", [ELEMENT])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('<splitbrain ident="w" arg="10.0.0.1"/>', SplitbrainCheck("w", ("10.0.0.1",))),
        (
            '<splitbrain ident="w" exec="ping" arg=" 10.0.0.1  [fd00::1] router 10.0.0.1 " when="pre"/>',
            SplitbrainCheck("w", ("10.0.0.1", "fd00::1", "router")),
        ),
    ],
)
def test_values(text, value):
    found = load(text)
    assert not found.problems
    assert found.config.one("check/splitbrain") == value


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ('<splitbrain ident="uptodate" arg="10.0.0.1"/>', "splitbrain.bad-ident"),
        ('<splitbrain ident="w" arg=" "/>', "splitbrain.no-witness"),
        ('<splitbrain ident="w" arg="10.0.0.1 10.0.0.300"/>', "splitbrain.bad-address"),
        ('<splitbrain ident="w" arg="10.0.0.1" exec="look"/>', "config.bad-value"),
        ('<splitbrain ident="w" arg="10.0.0.1" when="both"/>', "config.bad-value"),
    ],
)
def test_refused(text, code):
    assert [each.code for each in load(text).problems] == [code]
