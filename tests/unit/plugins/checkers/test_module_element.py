"""``<module>``: values and defaults."""

import pytest
from safekit_py.plugins.checkers.module_element import ELEMENT, ModuleCheck

from safekit_py.config.load import check


def load(text):
    return check(f'<safe><service mode="farm"><check>{text}</check></service></safe>'.encode(), "f", [ELEMENT])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('<module name="db"/>', ModuleCheck("db", "module.db_127.0.0.1")),
        ('<module name="db" ident="d" when="both"/>', ModuleCheck("db", "module.d", "both")),
        ('<module name="db"><to/></module>', ModuleCheck("db", "module.db_127.0.0.1")),
        ('<module name="db"><to addr="10.0.0.1"/></module>', ModuleCheck("db", "module.db_10.0.0.1", addr="10.0.0.1")),
        (
            '<module name="db"><to addr="[fd00::1]" port="80" interval="3" timeout="2" secure="on"/></module>',
            ModuleCheck("db", "module.db_fd00::1", "pre", "fd00::1", 80, 3.0, 2.0, secure=True),
        ),
    ],
)
def test_values(text, value):
    found = load(text)
    assert not found.problems
    assert found.config.one("check/module") == value


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ('<module name="db"><to addr="10.0.0.300"/></module>', "module.bad-address"),
        ('<module name="db"><to interval="0"/></module>', "module.zero"),
        ('<module name="a/b"/>', "config.bad-value"),
    ],
)
def test_refused(text, code):
    assert [each.code for each in load(text).problems] == [code]


@pytest.mark.parametrize(
    ("addr", "local"), [("127.0.0.1", True), ("::1", True), ("localhost", True), ("10.0.0.1", False), ("web", False)]
)
def test_which_address_is_this_server(addr, local):
    assert ModuleCheck("db", "module.d", addr=addr).local is local
