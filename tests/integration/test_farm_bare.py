"""Servers with neither compiler nor kernel headers run a farm with the filter that ships."""

import pytest
from support import wait_for

pytestmark = [pytest.mark.lab, pytest.mark.timeout(240)]
SERVERS = ("server1", "server2", "server3")
HIDDEN = ("/usr/lib/python3/dist-packages/bcc", "/lib/modules", "/usr/src")  # each server has mounts of its own


@pytest.fixture
def bare(running):
    for host in SERVERS:
        running.cli(host, "stop", "apache", "--wait")
        for folder in HIDDEN:
            assert running.lab.run(host, ["mount", "-t", "tmpfs", "none", folder]).returncode == 0
    yield running
    for host in SERVERS:
        for folder in HIDDEN:
            running.lab.run(host, ["umount", folder])


def test_a_farm_without_compiler_and_headers(bare):
    for host in SERVERS:
        refused = bare.cli(host, "farm", "build", check=False)
        assert refused.returncode == 69
        assert "filter.no-bcc" in refused.stderr
        assert "filter.no-headers" in refused.stderr
        bare.cli(host, "start", "apache", "--wait")
        assert "the filter is in the kernel, as it ships" in bare.cli(host, "log", "apache").stdout
    wait_for(lambda: bare.serving() == set(SERVERS))
    got, bad = bare.fetch(100)
    assert bad == 0
    assert set(got) == set(SERVERS)
