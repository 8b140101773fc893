"""What a light module may hold, and that its type asks for nothing."""

import asyncio

import pytest
from safekit_py.plugins.light.plugin import ELSEWHERE, LightType

from safekit_py.model.config import Cluster, ModuleConfig, Service
from safekit_py.model.state import State
from safekit_py.runtime.configcheck import check_blocking

CHECK = '<check><tcp ident="web" when="both"><to addr="127.0.0.1" port="80"/></tcp></check>'


def config(*tags):
    return ModuleConfig(Service("light"), None, tuple((tag, ("value",)) for tag in tags))


@pytest.mark.parametrize("cluster", [None, Cluster()])
def test_scripts_and_checkers_are_enough(cluster):
    assert list(LightType().check(config("check/tcp", "errd"), cluster)) == []
    assert list(LightType().requirements(config())) == []


@pytest.mark.parametrize("tag", ELSEWHERE)
def test_what_needs_several_servers_is_refused(tag):
    (problem,) = LightType().check(config(tag), None)
    assert problem.code == "light.not-for-one-server"
    assert problem.message.startswith(f"<{tag}> ")
    assert problem.severity == "error"


def test_each_of_them_is_told():
    assert len(list(LightType().check(config(*ELSEWHERE), None))) == len(ELSEWHERE)


def test_it_needs_no_cluster_and_runs_as_up():
    assert LightType.clustered is False
    assert LightType.goal is State.UP


def test_its_runtime_has_nothing_to_do():
    runtime = LightType().runtime(None)

    async def life():
        return [
            await step() for step in (runtime.recover, runtime.prepare, runtime.open, runtime.close, runtime.release)
        ]

    assert asyncio.run(life()) == [None] * 5
    assert runtime.report() == {}


def test_a_file_of_this_mode_is_accepted_without_a_warning():
    source = f'<safe><service mode="light">{CHECK}<user/></service></safe>'
    checked = check_blocking(source.encode(), "userconfig.xml", {})
    assert checked.problems == ()
    assert checked.config.service.mode == "light"


def test_a_virtual_address_in_the_file_is_refused_by_its_name():
    vip = (
        '<vip><interface_list><interface><virtual_interface type="vmac_directed">'
        '<virtual_addr addr="10.0.0.50" where="alias"/></virtual_interface></interface></interface_list></vip>'
    )
    source = f'<safe><service mode="light">{vip}<user/></service></safe>'
    checked = check_blocking(source.encode(), "userconfig.xml", {})
    assert checked.config is None
    assert [each.code for each in checked.problems] == ["light.not-for-one-server"]
    assert checked.problems[0].file == "userconfig.xml"
