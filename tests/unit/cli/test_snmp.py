"""What snmpd is answered."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safekit_py.cli import snmp

BASE = snmp.oid(snmp.BASE)
TOP = f".{snmp.BASE}.3"
MODULE = {
    "name": "web",
    "mode": "farm",
    "state": "UP",
    "readiness": "Ready",
    "age": 61.9,
    "starts": 2,
    "reason": "a\nb\x1b[2J",
}
STATUS = {
    "server": "server1",
    "modules": [{**MODULE, "resources": [{"name": "tcp.a", "value": "up"}, {"name": "intf.b", "value": "down"}]}],
}
CLUSTER = {
    "nodes": [
        {"name": "server1", "this": True, "groups": {"web": "itself"}},
        {"name": "server2", "this": False, "groups": {"web": "alive", "db": "lost"}},
        {"name": "server3", "this": False, "groups": {}},
    ]
}
TABLE = snmp.table(BASE, STATUS, CLUSTER, {"web": 41})


def said(*lines, found=None):
    out = io.StringIO()
    snmp.serve([f"{each}\n" for each in lines], out, lambda: TABLE if found is None else found)
    return out.getvalue().splitlines()


def test_a_walk_meets_every_object_once_and_in_order():
    seen, asked = [], TOP
    while (answer := said("getnext", asked)) != ["NONE"]:
        asked = answer[0]
        seen.append((asked.removeprefix(TOP + "."), *answer[1:]))
    assert seen == [
        ("1.0", "integer", "1"),
        ("2.0", "string", "server1"),
        ("3.1.2.42", "string", "web"),
        ("3.1.3.42", "string", "farm"),
        ("3.1.4.42", "string", "UP"),
        ("3.1.5.42", "string", "Ready"),
        ("3.1.6.42", "integer", "1"),
        ("3.1.7.42", "gauge", "61"),
        ("3.1.8.42", "string", "a b␛[2J"),
        ("3.1.9.42", "gauge", "2"),
        ("4.1.2.42.1", "string", "intf.b"),
        ("4.1.2.42.2", "string", "tcp.a"),
        ("4.1.3.42.1", "string", "down"),
        ("4.1.3.42.2", "string", "up"),
        ("5.1.2.1", "string", "server1"),
        ("5.1.2.2", "string", "server2"),
        ("5.1.2.3", "string", "server3"),
        ("5.1.3.1", "string", "itself"),
        ("5.1.3.2", "string", "lost"),
        ("5.1.3.3", "string", "unknown"),
    ]


def test_the_protocol():
    assert said("PING") == ["PONG"]
    assert said("get", f"{TOP}.2.0") == [f"{TOP}.2.0", "string", "server1"]
    assert said("get", f"{TOP}.2.9") == ["NONE"]
    assert said("set", f"{TOP}.2.0", "string x", "PING") == ["not-writable", "PONG"]
    assert said("", "PING") == []
    assert said("get") == said("get", "x") == said("what", "PING")[:1] == ["NONE"]


def test_an_agent_that_does_not_answer_is_told():
    found = snmp.table(BASE, None, {}, {})
    assert said("getnext", TOP, found=found) == [f"{TOP}.1.0", "integer", "2"]
    assert said("getnext", f"{TOP}.1.0", found=found) == ["NONE"]


@given(st.text(max_size=600))
def test_a_text_is_one_line_that_fits(text):
    kind, value = snmp._text(text)
    assert kind == "string"
    assert len(value.encode()) <= snmp.LARGEST
    assert len(value.splitlines()) <= 1


@pytest.mark.parametrize("number", [-1.0, 0.0, 1e12])
def test_a_number_fits(number):
    assert 0 <= int(snmp._number(number)[1]) <= 0xFFFFFFFF
