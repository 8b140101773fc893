"""``<witness>`` inside another plugin's ``<heart>``: what it says as a value, and what is wrong with it."""

import pytest
from safekit_py.plugins.mirror.model import Witness
from safekit_py.plugins.mirror.witness.addresses import endpoint
from safekit_py.plugins.mirror.witness.element import ELEMENT

from safekit_py.config.load import check
from safekit_py.model.plugin import Element

HEART = """<xs:element name="heart"><xs:complexType>
<xs:choice minOccurs="0" maxOccurs="unbounded"><xs:element name="heartbeat"><xs:complexType>
  <xs:attribute name="name" type="sk:ident" use="required"/></xs:complexType></xs:element></xs:choice>
<xs:attribute name="port" type="sk:port"/></xs:complexType></xs:element>"""


def checked(inside, heart=HEART):
    source = f'<safe><service mode="x"><heart><heartbeat name="a"/>{inside}</heart></service></safe>'
    elements = (ELEMENT, Element("heart", "service", heart, lambda node: len(node.children("heartbeat"))))
    return check(source.encode(), "userconfig.xml", elements)


def codes(inside):
    found = checked(inside)
    assert found.config is None
    return [(each.code, each.line) for each in found.problems]


def test_it_becomes_a_value_beside_that_of_the_heart():
    config = checked('<witness addr=" 10.0.0.9:4850"/><heartbeat name="b"/>').config
    assert config.one("heart") == 2
    assert config.one("heart/witness") == Witness("safekit", ("10.0.0.9:4850",), 3.0)
    config = checked(
        '<witness kind="etcd" addr="https://a:1, [::1]:2" lease="2500ms" ca="/ca" cert="/c" keyfile="/k"/>'
    )
    assert config.problems[0].code == "config.bad-duration", "as anywhere, no finer than the unit"
    config = checked(
        '<witness kind="etcd" addr="https://a:1, [::1]:2" lease="4s" ca="/ca" cert="/c" keyfile="/k"/>'
    ).config
    assert config.one("heart/witness") == Witness(
        "etcd", ("https://a:1", "[::1]:2"), 4.0, (("ca", "/ca"), ("cert", "/c"), ("keyfile", "/k"))
    )
    assert checked("").config.one("heart/witness") is None


@pytest.mark.parametrize(
    ("inside", "expected"),
    [
        ("<witness/>", "config.missing-attribute"),
        ('<witness addr=" , "/>', "witness.addresses"),
        ('<witness addr="a:1,b:2"/>', "witness.addresses"),
        ('<witness addr="a:0"/>', "witness.bad-address"),
        ('<witness addr="https://a:1"/>', "witness.bad-address"),
        ('<witness addr="a:1" lease="0"/>', "witness.lease"),
        ('<witness addr="a:1" lease="61"/>', "witness.lease"),
        ('<witness kind="etcd" addr="a:1" lease="1"/>', "witness.lease"),
        ('<witness addr="a:1" ca="/x"/>', "witness.option"),
        ('<witness kind="etcd" addr="a:1" key="/x"/>', "witness.option"),
        ('<witness kind="other" addr="a:1"/>', "config.bad-value"),
        ('<witness addr="a"/><witness addr="b"/>', "config.element-twice"),
    ],
)
def test_what_is_wrong_is_said_in_its_line(inside, expected):
    assert codes(inside) == [(expected, 1)]


def test_an_element_takes_guests_only_where_its_children_stand_in_any_order():
    heart = HEART.replace("xs:choice", "xs:sequence")
    found = checked('<witness addr="a:1"/>', heart)
    assert [each.code for each in found.problems] == ["config.plugin-schema"]
    assert "<heart> takes no element" in found.problems[0].message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a", ("a", 7)),
        ("a:1", ("a", 1)),
        ("10.0.0.1:65535", ("10.0.0.1", 65535)),
        ("::1", ("::1", 7)),
        ("[::1]", ("::1", 7)),
        ("[::1]:9", ("::1", 9)),
    ],
)
def test_addresses(text, expected):
    assert endpoint(text, 7) == expected


@pytest.mark.parametrize("text", ["", ":1", "a:", "a:x", "a:65536", "a:-1", "[::1", "[::1]9", "[]:1", "a:٣"])
def test_what_is_no_address(text):
    if text == "a:":
        assert endpoint(text, 7) == ("a", 7)
        return
    with pytest.raises(ValueError, match="no address"):
        endpoint(text, 7)
