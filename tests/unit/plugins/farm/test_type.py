"""What a farm refuses beyond its schema."""

from safekit_py.plugins.farm.layout import MAX_SERVERS
from safekit_py.plugins.farm.model import Farm
from safekit_py.plugins.farm.type import FarmType

from safekit_py.model.config import Cluster, Lan, LanNode, ModuleConfig, Service


def codes(servers):
    names = tuple(f"s{number}" for number in range(servers))
    lan = Lan("default", tuple(LanNode(name, f"10.0.{number}.1") for number, name in enumerate(names)))
    config = ModuleConfig(Service("farm"), elements=(("farm", (Farm(("default",)),)),))
    return [each.code for each in FarmType().check(config, Cluster((lan,), nodes=names))]


def test_a_farm_has_at_most_as_many_servers_as_its_heartbeats_can_name():
    assert codes(MAX_SERVERS) == []
    assert codes(MAX_SERVERS + 1) == ["farm.too-many"]
