"""cluster.xml -> the servers and their addresses."""

import pytest

from safekit_py.config.cluster import check_cluster
from safekit_py.model.config import Cluster, Lan, LanNode


def cluster(inside, attributes=""):
    return check_cluster(f"<cluster><lans {attributes}>{inside}</lans></cluster>".encode(), "cluster.xml")


def node(name, addr, more=""):
    return f'<node name="{name}" addr="{addr}" {more}/>'


def lan(*nodes, name="default"):
    return f'<lan name="{name}">{"".join(nodes)}</lan>'


def test_two_lans():
    one = lan(node("s2", "10.0.0.2"), node("s1", "[fd00::1]"))
    checked = cluster(one + lan(node("s1", "s1.example"), node("s3", "10.1.0.3"), name="b"), 'pulse="1s"')
    assert checked.problems == ()
    lans = (
        Lan("default", (LanNode("s2", "10.0.0.2"), LanNode("s1", "fd00::1")), True),
        Lan("b", (LanNode("s1", "s1.example"), LanNode("s3", "10.1.0.3"))),
    )
    assert checked.cluster == Cluster(lans, 4800, 1.0, 20, 10, ("s2", "s1", "s3"))


def test_obsolete_attributes_are_ignored_with_a_warning():
    checked = cluster(f'<lan name="d" console="on">{node("a", "10.0.0.1")}</lan>', 'framework="x"')
    assert checked.cluster is not None
    assert [(each.code, each.severity) for each in checked.problems] == [("cluster.obsolete", "warning")] * 2


@pytest.mark.parametrize(
    ("inside", "attributes", "code"),
    [
        (lan(node("s 1", "10.0.0.1")), "", "config.bad-value"),
        (lan(node("s1", "10.0.0.300")), "", "cluster.bad-address"),
        (lan(node("s1", "224.0.0.1")), "", "cluster.bad-address"),
        (lan(node("s1", "0.0.0.0")), "", "cluster.bad-address"),
        (lan(node("s1", "a b")), "", "cluster.bad-address"),
        (lan(node("s1", "10.0.0.1"), node("s1", "10.0.0.2")), "", "cluster.server-twice"),
        (lan(node("s1", "10.0.0.1"), node("s2", "10.0.0.1")), "", "cluster.address-twice"),
        (lan(node("s1", "10.0.0.1")) * 2, "", "cluster.lan-twice"),
        (lan(), "", "config.missing-element"),
        ("", "", "config.missing-element"),
        (lan(node("s1", "10.0.0.1")), 'port="70000"', "config.bad-value"),
        (lan(node("s1", "10.0.0.1")), 'pulse="1us"', "config.bad-duration"),
        (lan(node("s1", "10.0.0.1")), 'pulse="1ms"', "cluster.pulse"),
        (lan(node("s1", "10.0.0.1")), 'slost_count="0"', "config.bad-value"),
        (lan(*(node(f"s{n}", f"10.0.{n // 250}.{n % 250 + 1}") for n in range(255))), "", "cluster.too-many"),
    ],
)
def test_wrong(inside, attributes, code):
    checked = cluster(inside, attributes)
    assert checked.cluster is None
    assert [each.code for each in checked.problems] == [code]


def test_the_most_servers():
    assert cluster(lan(*(node(f"s{n}", f"10.0.0.{n + 1}") for n in range(254)))).cluster is not None


def test_another_file():
    assert check_cluster(b"<safe/>", "c").problems[0].code == "config.root"
