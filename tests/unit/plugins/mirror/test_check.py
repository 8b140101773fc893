"""What a mirror refuses beyond its schema."""

from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest
from safekit_py.plugins.mirror import check
from safekit_py.plugins.mirror.model import Heart, Heartbeat, Replicated, Rfs
from safekit_py.plugins.vip.model import Group, Interface, Vip, VirtualAddr

from safekit_py.model.config import Cluster, Lan, LanNode, ModuleConfig, Service
from safekit_py.model.paths import Paths


def lan(name, *servers):
    return Lan(name, tuple(LanNode(each, f"10.0.0.{number}") for number, each in enumerate(servers, 1)))


CLUSTER = Cluster(
    (lan("a", "s1", "s2"), lan("b", "s2", "s1"), lan("one", "s1"), lan("other", "s1", "s3")), nodes=("s1", "s2", "s3")
)
HEART = Heart((Heartbeat("a"), Heartbeat("b")))
ADDRESSES = (VirtualAddr(IPv4Address("10.0.0.50"), "one_side_alias"), VirtualAddr(IPv6Address("fd00::5"), "one_side"))
REAL = Interface(ADDRESSES, kind="real")
PATHS = Paths(Path("/tmp/server1"))


def codes(cluster=CLUSTER, paths=PATHS, service=None, **elements):
    values = {"heart": HEART, **elements}
    found = tuple((name, (value,)) for name, value in values.items() if value is not None)
    config = ModuleConfig(service or Service("mirror"), elements=found)
    problems = list(check.problems(config, cluster, paths))
    assert all(each.message and each.remedy for each in problems)
    return [each.code for each in problems]


def rfs(*directories):
    return Rfs(tuple(Replicated(each, f"v{number}") for number, each in enumerate(directories)))


def test_a_sound_mirror_has_no_problems():
    assert codes(vip=Vip((REAL, Interface((), "e1", kind=""))), rfs=rfs("/srv/a", "/srv/ab", "/var/lib/pg")) == []
    assert codes(cluster=None, heart=Heart((Heartbeat("nowhere"),))) == []


def test_heart_is_needed_and_farm_is_not():
    assert codes(heart=None) == ["mirror.no-heart"]
    assert codes(farm=object()) == ["mirror.no-farm"]


@pytest.mark.parametrize(
    ("lans", "found"),
    [
        (("nowhere",), ["heart.unknown-lan"]),
        (("one",), ["heart.not-two"]),
        (("a", "other"), ["heart.other-servers"]),
        (("nowhere", "a", "one"), ["heart.unknown-lan", "heart.not-two"]),
    ],
)
def test_its_lans_join_the_same_two_servers(lans, found):
    assert codes(heart=Heart(tuple(map(Heartbeat, lans)))) == found


@pytest.mark.parametrize(
    ("vip", "found"),
    [
        (Vip((Interface(ADDRESSES),)), ["vip.virtual-interface"]),
        (Vip((Interface((VirtualAddr(IPv4Address("10.0.0.50")),), kind="real"),)), ["vip.where"]),
        (Vip((REAL,), (Group("g", ()),)), ["vip.loadbalancing"]),
        (
            Vip((Interface((VirtualAddr(IPv4Address("10.0.0.2"), "one_side_alias"),), kind="real"),)),
            ["vip.address-of-server"],
        ),
    ],
)
def test_forms_of_vip_for_farms_are_refused(vip, found):
    assert codes(vip=vip) == found


@pytest.mark.parametrize(
    ("directories", "found"),
    [
        (("/srv/a", "/srv/a"), ["rfs.directory-twice"]),
        (("/srv/a", "/srv/a/b"), ["rfs.nested"]),
        (("/srv/a/b", "/srv/a"), ["rfs.nested"]),
        (("/tmp/server1/opt/safekit/modules",), ["rfs.own-directory"]),
        (("/tmp/server1/var",), ["rfs.own-directory"]),
        (("/tmp",), ["rfs.own-directory"]),
        (("/dev/shm/x",), ["rfs.system-directory"]),
        (("/usr",), ["rfs.system-directory"]),
        (("/usr/local/app",), []),
    ],
)
def test_directories_that_cannot_be_replicated(directories, found):
    assert codes(rfs=rfs(*directories)) == found


def test_the_real_server_s_own_folders(monkeypatch):
    monkeypatch.delenv("SAFEKIT_ROOT", raising=False)
    assert codes(paths=None, rfs=rfs("/var/lib")) == ["rfs.own-directory"]
    monkeypatch.setenv("SAFEKIT_ROOT", "/tmp/server1")
    assert codes(paths=None, rfs=rfs("/var/lib")) == []


@pytest.mark.parametrize(("name", "found"), [("s1", []), ("lastprim", []), ("s9", ["mirror.defaultprim"])])
def test_defaultprim_names_a_server(name, found):
    assert codes(service=Service("mirror", defaultprim=name)) == found


def test_scripts_do_not_control_the_traffic_of_a_mirror():
    assert codes(vip=Vip(scriptcontrol=True)) == ["config.not-acting"]


def test_one_side_of_ipv4_says_that_it_changes_no_source():
    address = VirtualAddr(IPv4Address("10.0.0.50"), "one_side")
    assert codes(vip=Vip((Interface((address,), kind="real"),))) == ["config.not-acting"]
