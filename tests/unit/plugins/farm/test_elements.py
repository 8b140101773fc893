"""``<farm>``: every attribute, and what is refused; and which forms of ``<vip>`` a farm refuses, with their lines."""

import pytest
from safekit_py.plugins.farm import elements
from safekit_py.plugins.farm.model import Farm
from safekit_py.plugins.farm.type import FarmType
from safekit_py.plugins.vip import elements as vip_elements

from safekit_py.config.load import check

ELEMENTS = (*elements.ELEMENTS, *vip_elements.ELEMENTS)
FARM = "<farm><lan/></farm>"


def look(inside):
    return check(f'<safe><service mode="farm">{inside}</service></safe>'.encode(), "f.xml", ELEMENTS)


def vip(inside):
    return f"{FARM}<vip><interface_list>\n<interface>\n{inside}</interface></interface_list></vip>"


def directed(address):
    return vip(f'<virtual_interface type="vmac_directed">\n{address}\n</virtual_interface>')


def test_farm_defaults():
    assert look('<farm><lan name="a"/><lan name="b"/></farm>').config.one("farm") == Farm(("a", "b"), 0, 0.035, 5, 5)


def test_farm_attributes():
    text = '<farm port="4900" pulse="1s" mlost_count="20" slost_count="10"><lan/></farm>'
    assert look(text).config.one("farm") == Farm(("default",), 4900, 1.0, 20, 10)


@pytest.mark.parametrize(
    ("inside", "code"),
    [
        ("<farm/>", "farm.no-lan"),
        ('<farm pulse="9"><lan/></farm>', "farm.pulse"),
        ('<farm pulse="11s"><lan/></farm>', "farm.pulse"),
        ('<farm slost_count="2"><lan/></farm>', "config.bad-value"),
        ('<farm mlost_count="1001"><lan/></farm>', "config.bad-value"),
        ('<farm port="0"><lan/></farm>', "config.bad-value"),
        ("<farm><lan/><lan/></farm>", "farm.lan-twice"),
    ],
)
def test_refused(inside, code):
    checked = look(inside)
    assert checked.config is None
    assert [each.code for each in checked.problems] == [code]
    assert checked.problems[0].remedy


@pytest.mark.parametrize(
    ("inside", "code", "line"),
    [
        (directed('<virtual_addr addr="10.0.0.5" where="one_side_alias"/>'), "vip.where", 4),
        (vip(""), "vip.no-virtual-interface", 2),
        (vip('<real_interface><virtual_addr addr="10.0.0.5"/></real_interface>'), "vip.real-interface", 2),
    ],
)
def test_forms_for_mirrors_are_refused_in_a_farm(inside, code, line):
    checked = look(inside)
    assert checked.problems == ()
    (found,) = FarmType().check(checked.config, None)
    assert (found.code, found.line) == (code, line)
    assert found.remedy


def test_a_farm_s_own_forms_are_fine():
    checked = look(directed('<virtual_addr addr="10.0.0.5" where="alias"/>'))
    assert list(FarmType().check(checked.config, None)) == []


def test_legacy_node_is_a_warning():
    checked = look('<farm><lan><node name="a" addr="10.0.0.1"/></lan><node name="b" addr="10.0.0.2"/></farm>')
    assert checked.config is not None
    assert [each.code for each in checked.problems] == ["farm.legacy-node"]
