"""A whole userconfig.xml: the seed's is accepted, and every error of a bad one is told at once."""

import pickle
import time
from pathlib import Path

import pytest
from safekit_py.plugins import compat
from safekit_py.plugins.checkers.tcp_element import ELEMENT
from safekit_py.plugins.farm.elements import ELEMENTS as FARM
from safekit_py.plugins.vip.elements import ELEMENTS as VIP

from safekit_py.config.load import check
from safekit_py.errors import Problem, SafekitError
from safekit_py.model.config import Service, User
from safekit_py.model.plugin import Element

ELEMENTS = (*FARM, *VIP)
ALL = (*ELEMENTS, ELEMENT, *compat.safekit_elements())
SEED = Path(__file__).parent / "data/seed.xml"
BARE = '<xs:element name="x"><xs:complexType><xs:attribute name="n" type="sk:duration"/></xs:complexType></xs:element>'


def codes(text, elements=ALL, **more):
    return [(each.line, each.code) for each in check(text.encode(), "f.xml", elements, **more).problems]


def service(inside, attributes='mode="farm"'):
    return f"<safe>\n<service {attributes}>\n{inside}\n</service></safe>"


def test_the_seed_is_accepted_unchanged():
    checked = check(SEED.read_bytes(), "userconfig.xml", ALL)
    assert checked.problems == ()
    assert checked.config.service == Service("farm", maxloop=3, loop_interval=86400.0)
    assert checked.config.user == User()
    assert checked.config.one("farm").lans == ("default",)
    assert checked.config.one("vip").groups[0].rules[0].port == 8080
    assert checked.config.one("check/tcp").interval == 10.0
    assert pickle.loads(pickle.dumps(checked)) == checked


def test_defaults():
    config = check(service("").encode(), "f.xml", ()).config
    assert config.service == Service("farm")
    assert config.user is None
    assert check(service("<user/>").encode(), "f.xml", ()).config.user == User()


def test_every_error_at_once_sorted_by_line():
    text = service(
        '<frm/>\n<farm/>\n<vip pulse="1"/>\n<check><tcp ident="a"/><pong/></check>\n'
        '<user nicestoptimeout="5y"/>\n<user/>',
        'mode="farm" boot="never" maxlop="1"',
    )
    found = codes(text)
    assert found == sorted(found, key=lambda each: each[0])
    assert {
        (2, "config.bad-value"),
        (2, "config.unknown-attribute"),
        (3, "config.unknown-element"),
        (4, "farm.no-lan"),
        (5, "config.unknown-attribute"),
        (5, "config.missing-element"),
        (6, "config.missing-attribute"),
        (6, "config.missing-element"),
        (6, "config.unknown-element"),
        (7, "config.bad-value"),
        (8, "config.element-twice"),
    } == set(found)


@pytest.mark.parametrize(
    ("inside", "said"),
    [
        ("<frm/>", "did you mean <farm>?"),
        ('<user loging="none"/>', "did you mean logging?"),
        ('<user logging="some"/>', "write userlog or none"),
        ('<user userlogsize="0"/>', "a whole number from 1 to 1048576"),
        ('<check><tcp ident="a" when="both"><to addr="1.2.3.4" port="0"/></tcp></check>', "a port from 1 to 65535"),
        ('<check><tcp ident="a" when="both"><to port="1"/></tcp></check>', 'add addr="..."'),
        ('<user><var name="a" value="1"/><var name="a" value="2"/></user>', "keep one"),
        ("<user>text</user>", "make it a comment"),
    ],
)
def test_the_remedy_says_what_to_write(inside, said):
    (problem,) = check(service(inside).encode(), "f.xml", ALL).problems
    assert said in problem.remedy
    assert problem.line == 3


def test_a_misspelt_child_is_not_called_missing_too():
    found = codes(service('<check><tcp ident="a" when="both"><too/></tcp></check>'))
    assert found == [(3, "config.unknown-element")]


def test_the_line_of_an_attribute_in_a_long_tag():
    assert codes(service('<user\n\n logging="x"/>')) == [(5, "config.bad-value")]


def test_any_order():
    assert check(service("<user/><check/><farm><lan/></farm>").encode(), "f.xml", ALL).problems == ()


def test_macros_reach_the_model():
    text = '<safe><macro name="N" value="N_TO_BE_DEFINED"/><service mode="farm" maxloop="%N%"/></safe>'
    checked = check(text.encode(), "f.xml", ())
    assert [each.code for each in checked.problems] == ["config.open-macro"]
    assert [each.name for each in checked.macros if each.open] == ["N"]
    config = check(text.encode(), "f.xml", (), macros={"N": "7"}).config
    assert config.service.maxloop == 7
    assert config.macros == (("N", "7"),)


def test_not_acting_is_a_warning():
    element = Element("x", "service", BARE, note="it waits for its day")
    checked = check(service("<x/>").encode(), "f.xml", [element])
    assert checked.config is not None
    assert checked.config.elements == ()
    assert [(each.code, each.severity) for each in checked.problems] == [("config.not-acting", "warning")]
    assert "it waits for its day" in checked.problems[0].message


def test_a_plugin_that_raises_is_one_problem():
    def boom(_node):
        raise RuntimeError("boom")

    def says(_node):
        raise SafekitError(Problem("x.y", "no"))

    elements = [Element("x", "service", BARE, boom), Element("y", "service", BARE.replace('"x"', '"y"'), says)]
    assert codes(service("<x/>\n<y/>"), elements) == [(3, "config.plugin-failed"), (4, "x.y")]


def test_a_duration_finer_than_its_unit():
    element = Element("x", "service", BARE, lambda node: node.duration("n", "s"), many=True)
    assert codes(service('<x n="1500ms"/>'), [element]) == [(3, "config.bad-duration")]
    assert check(service('<x n="2"/><x n="3m"/>').encode(), "f", [element]).config.all("x") == (2.0, 180.0)


@pytest.mark.parametrize(
    "element",
    [
        Element("x", "nowhere", BARE),
        Element("y", "service", BARE),
        Element("x", "service", "<oops"),
        Element("x", "service", BARE.replace("sk:duration", "sk:nothing")),
        Element("user", "service", BARE.replace('"x"', '"user"')),
    ],
)
def test_a_bad_plugin_schema_is_named(element):
    (problem,) = check(service("").encode(), "f.xml", [element]).problems
    assert problem.code == "config.plugin-schema"


def test_the_same_ident_twice():
    tcp = '<tcp ident="a" when="both"><to addr="10.0.0.1" port="1"/></tcp>'
    assert codes(service(f"<check>{tcp}{tcp}</check>")) == [(3, "config.ident-twice")]


def test_no_service():
    assert codes("<safe/>") == [(1, "config.missing-element")]
    assert codes("<safe>") == [(1, "config.not-xml")]


def test_thousands_of_errors_take_no_time():
    began = time.process_time()
    tcp = '<tcp ident="a" when="x"><to/><to/></tcp>'
    assert len(codes(service("<x/>" * 2000 + "<check>" + tcp * 900 + "</check>"))) > 1
    assert time.process_time() - began < 2
