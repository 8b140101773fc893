"""A cluster of three servers for the tests of this folder."""

import os
import shutil
import uuid

import pytest
from support import VIP, Farm, wait_for

from safekit_py.bundle.install import shipped
from safekit_py.lab import Lab

SERVERS = ("server1", "server2", "server3")


@pytest.fixture(scope="session")
def quick_apache(tmp_path_factory):
    """The shipped module, but that what fails is seen within a second and acted on a second later: as shipped, each
    fault would cost a test 20 seconds of waiting."""
    folder = tmp_path_factory.mktemp("quick") / "apache"
    shutil.copytree(next(each.folder for each in shipped() if each.name == "apache"), folder)
    path = folder / "conf/userconfig.xml"
    text = path.read_text()
    assert text.count('interval="10s"') == text.count("    <user ") == 1
    soon = '<failover period="500ms" handle_time="1s"/>'
    path.write_text(text.replace('interval="10s"', 'interval="1s"').replace("    <user ", f"    {soon}\n    <user "))
    return folder


@pytest.fixture(scope="session")
def farm(quick_apache):
    """Three servers with the apache module installed, not started."""

    name = f"t{uuid.uuid4().hex[:6]}"
    with Lab.up(name, servers=3, owner=os.getpid()) as lab:
        made = Farm(lab)
        for host in SERVERS:
            wait_for(lambda host=host: made.cli(host, "status", check=False).returncode == 0)
            made.install(host, str(quick_apache), VIP=VIP, PORT="80")
        yield made


@pytest.fixture
def running(farm):
    """The farm with every server up and every fault of an earlier test healed."""
    farm.lab.heal()
    for host in SERVERS:
        if farm.lab.alive(host):
            continue
        farm.lab.boot(host)
    for host in SERVERS:
        wait_for(lambda host=host: farm.state(host) is not None)
        if farm.state(host) != "UP Ready":
            farm.cli(host, "start", "apache", "--wait", check=False)
    for host in SERVERS:
        wait_for(lambda host=host: farm.state(host) == "UP Ready", 40)
    wait_for(lambda: all(farm.members(h) == 3 for h in SERVERS))
    wait_for(lambda: farm.serving() == set(SERVERS))
    return farm
