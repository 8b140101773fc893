"""cluster.xml with one server more: what somebody wrote stays, and the result is as acceptable as before."""

import re

import pytest

from safekit_py.config import servers
from safekit_py.config.cluster import check_cluster
from safekit_py.errors import ConfigError

TWO = b"""<?xml version="1.0"?>
<!-- ours -->
<cluster>
  <lans port="4900">
    <!-- the switch in rack 3 -->
    <lan name="default">
      <node name="s1" addr="10.0.0.1"/>
    </lan>
    <lan name="repli"><node name="s1" addr="10.1.0.1"/></lan>
  </lans>
</cluster>
"""
NEW = {"default": "10.0.0.2", "repli": "10.1.0.2"}


def cluster(data):
    checked = check_cluster(data, "cluster.xml")
    assert checked.cluster is not None, checked.problems
    return checked.cluster


def test_a_first_server_makes_an_acceptable_file():
    found = cluster(servers.first("s1", {"default": "10.0.0.1", "lan2": "fd00::1"}))
    assert found.nodes == ("s1",)
    assert [(lan.name, lan.command) for lan in found.lans] == [("default", True), ("lan2", False)]


def test_a_server_is_added_to_each_lan_and_the_rest_stays():
    new = servers.added(TWO, "s2", NEW)
    found = cluster(new)
    assert found.nodes == ("s1", "s2")
    assert found.port == 4900
    assert [lan.nodes[1].addr for lan in found.lans] == ["10.0.0.2", "10.1.0.2"]
    without = re.sub(rb'\s*<node name="s2"[^>]*/>', b"", new)
    assert without.partition(b"<cluster>")[2].split() == TWO.partition(b"<cluster>")[2].split()
    assert b"<!-- ours -->" in new
    assert b'      <node name="s2" addr="10.0.0.2"/>\n    </lan>' in new
    third = servers.added(new, "s3", {"default": "10.0.0.3", "repli": "10.1.0.3"})
    assert cluster(third).nodes == ("s1", "s2", "s3")


def test_one_that_is_there_changes_nothing():
    new = servers.added(TWO, "s2", NEW)
    assert servers.added(new, "s2", NEW) == new


@pytest.mark.parametrize(
    ("name", "addresses", "code"),
    [
        ("s2", {"default": "10.0.0.2"}, "join.no-address"),
        ("s2", NEW | {"third": "10.2.0.2"}, "join.unknown-lan"),
        ("s1", NEW, "join.name-taken"),
        ("s2", NEW | {"repli": "10.1.0.1"}, "join.address-taken"),
    ],
)
def test_what_cannot_be(name, addresses, code):
    with pytest.raises(ConfigError) as caught:
        servers.added(TWO, name, addresses)
    assert caught.value.code == code


def test_a_name_cannot_bring_xml_with_it():
    new = servers.added(TWO, 'x"/><node name="y', NEW)
    assert check_cluster(new, "cluster.xml").cluster is None
    assert b'<node name="y' not in new
