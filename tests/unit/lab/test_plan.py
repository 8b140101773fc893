"""Servers and LANs -> addresses, ports and the cluster's configuration."""

import pytest

from safekit_py.config.cluster import check_cluster
from safekit_py.errors import ConfigError
from safekit_py.lab import plan


def test_addresses_are_as_documented():
    made = {host.name: host for host in plan.hosts(3, 2)}
    assert list(made) == ["server1", "server2", "server3", "client1"]
    assert [p.address for p in made["server2"].ports] == ["10.77.0.12/24", "10.78.0.12/24"]
    assert made["client1"].ports[0].address == "10.77.0.101/24"
    assert [made[name].server for name in made] == [True, True, True, False]


def test_every_mac_and_port_of_the_largest_lab_is_its_own_and_fits():
    ports = [port for host in plan.hosts(plan.MAX_SERVERS, plan.MAX_LANS) for port in host.ports]
    assert len({p.mac for p in ports}) == len({p.port for p in ports}) == len({p.address for p in ports}) == len(ports)
    assert all(len(p.port) <= 15 for p in ports)  # IFNAMSIZ, without its zero
    assert all(int(p.mac[:2], 16) & 3 == 2 for p in ports)  # locally administered, not multicast


def test_the_configuration_is_accepted_and_holds_the_servers_only():
    checked = check_cluster(plan.cluster_xml(plan.hosts(3, 2)).encode(), "cluster.xml")
    assert checked.problems == ()
    assert checked.cluster.nodes == ("server1", "server2", "server3")
    assert [lan.name for lan in checked.cluster.lans] == ["default", "lan2"]


def test_a_host_survives_the_registry():
    host = plan.hosts(1, 2)[0]
    assert plan.Host.from_dict(host.as_dict()) == host


@pytest.mark.parametrize(
    ("servers", "lans", "code"), [(0, 1, "lab.servers"), (33, 1, "lab.servers"), (3, 0, "lab.lans")]
)
def test_impossible_sizes(servers, lans, code):
    with pytest.raises(ConfigError) as caught:
        plan.hosts(servers, lans)
    assert caught.value.code == code


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "Ä", "-x", "a" * 32, "a\n"])
def test_a_name_that_leads_elsewhere_is_refused(name):
    with pytest.raises(ConfigError):
        plan.check_name(name)
