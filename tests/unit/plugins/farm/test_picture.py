"""Whose a client is, by which rule, and what is said when that cannot be told."""

from ipaddress import ip_address

import pytest
from safekit_py.plugins.farm.hashing import bucket_of
from safekit_py.plugins.farm.history import History
from safekit_py.plugins.farm.picture import Asked, Picture, shown, traced
from safekit_py.plugins.vip.model import Group, Interface, Rule, Vip, VirtualAddr

from safekit_py.api import BUCKETS, NotFoundError, Table, View
from safekit_py.core.group import Member, Number
from safekit_py.core.trail import Trail

VIP, VIP6 = ip_address("10.0.0.100"), ip_address("fd00::100")
GROUPS = (
    Group("web", (Rule("tcp", "on_port", 80), Rule("tcp", "on_addr", 443, VIP))),
    Group("dns", (Rule("udp", "on_ipid", 53), Rule("tcp", "on_addr", 0), Rule("arp", "on_addr"))),
)
HALF = BUCKETS // 2
SLICES = [{"accepted": n} for n in range(256)]


def made(**changes):
    vip = Vip(interfaces=(Interface((VirtualAddr(VIP), VirtualAddr(VIP6))),), groups=GROUPS)
    tables = (Table(((HALF, 0), (HALF, 2))), Table(((BUCKETS, 255),)))
    trails = (Trail(((HALF, ()), (HALF, (0, 1)))), Trail())
    members = (Member(0, (1, 0)), Member(2, (3, 1)))
    view = View(Number(7, 0, 1), members, tables, "lost 1", trails)
    history = History()
    history.note(view, 90.0)
    heard = {"alive": [2], "coordinator": 0, "heard": {"default": {2: 0.0123456}}}
    values = {"nodes": ("a", "b", "c"), "me": 0, "seed": 5, "vip": vip, "arp_group": 1, "view": view, "owning": True}
    return Picture(**(values | {"heard": heard, "history": history, "now": 100.0} | changes))


def trace(*words, picture=None):
    found = traced(picture or made(), Asked.of((*words, *[""] * (5 - len(words)))), lambda _: SLICES, str.upper)
    return found["rows"]


@pytest.mark.parametrize("port", range(40000, 40020))
def test_the_owner_of_a_connection(port):
    (row,) = trace("10.1.1.1", str(port), str(VIP), "tcp", "80")
    bucket = bucket_of(ip_address("10.1.1.1"), 5, port)
    assert (row["bucket"], row["group"], row["hash"]) == (bucket, "web", "on_port")
    assert (row["owner"], row["holders"]) == (("a", []) if bucket < HALF else ("c", ["a", "b"]))
    assert row["slice"] == {"accepted": bucket >> 8}
    assert f"bucket {bucket}" in row["why"]
    assert row["since"] == {
        "view": 7,
        "cause": "LOST 1",
        "age": 10.0,
        "moved": 0,
        "members": ["a", "c"],
        "or_earlier": True,
    }


def test_the_first_rule_that_covers_a_packet_decides():
    assert [row["rule"] for row in trace("10.1.1.1", "1", str(VIP), "tcp", "443")] == [
        "tcp port 443 of 10.0.0.100, on_addr"
    ]
    assert [row["group"] for row in trace("10.1.1.1", "1", str(VIP), "tcp", "99")] == ["dns"]
    assert [row["rule"] for row in trace("fd00::1", "1", "", "tcp", "443")] == [
        "tcp port any of every address, on_addr"
    ]


def test_every_rule_when_none_is_chosen():
    assert len(trace("10.1.1.1", "1")) == 5
    assert len(trace("fd00::1", "1")) == 4
    assert [row["group"] for row in trace("10.1.1.1", "", "", "arp")] == ["dns"]


def test_what_cannot_be_told_says_what_is_missing():
    (row,) = trace("10.1.1.1", "", "", "tcp", "80")
    assert (row["owner"], row["bucket"]) == ("", None)
    assert "ADDR:PORT" in row["why"]
    (row,) = trace("10.1.1.1", "", "", "udp", "53")
    assert "identification" in row["why"]
    (row,) = trace("10.1.1.1", "9", "", "tcp", "80", picture=made(view=None))
    assert "no view" in row["why"]
    (row,) = trace("10.1.1.1", "", "", "arp")
    assert row["owner"] == ""
    assert "gives to nobody" in row["why"]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("10.1.1.1", "", "", "udp", "54"), "farm.no-rule"),
        (("10.1.1.1", "", "10.0.0.7"), "farm.no-rule"),
        (("10.1.1.1", "", str(VIP6)), "farm.no-rule"),
        (("nobody",), "farm.bad-client"),
        (("10.1.1.1", "x"), "farm.bad-client"),
        (("10.1.1.1", "70000"), "farm.bad-client"),
        (("10.1.1.1", "-1"), "farm.bad-client"),
        (("10.1.1.1", "", "", "sctp"), "farm.bad-client"),
        (("10.1.1.1", "", "", "", "", "more"), "farm.bad-client"),
        ((), "farm.bad-client"),
    ],
)
def test_refusals(words, code):
    with pytest.raises(NotFoundError) as error:
        trace(*words)
    assert error.value.code == code


def test_what_is_shown():
    found = shown(made(), {(0, "accepted"): 5, (None, "denied"): 1}, str.upper)
    states = {each["name"]: (each["state"], each["powers"], each["shares"]) for each in found["members"]}
    assert states == {
        "a": ("member", [1, 0], [50.0, 0.0]),
        "b": ("lost", [], [0.0, 0.0]),
        "c": ("member", [3, 1], [50.0, 0.0]),
    }
    assert found["change"]["cause"] == "LOST 1"
    assert [(each["name"], each["moved"], each["held"]) for each in found["groups"]] == [
        ("web", HALF, {"a": HALF, "b": HALF}),
        ("dns", 0, {}),
    ]
    assert {"group": "", "verdict": "denied", "packets": 1} in found["counters"]
    assert found["lans"] == {"default": {"c": 0.012}}


def test_before_the_first_view():
    found = shown(made(view=None, heard={}, history=History()), {}, str)
    assert (found["view"], found["members"], found["change"], found["coordinator"]) == (0, [], None, "")
    assert made(view=None, heard={}).report(str)["servers"] == {}


def test_a_server_that_may_not_use_its_share_has_none():
    assert made(owning=False).share(0, 0) == 0.0
    assert made(owning=False).share(0, 2) == 50.0
