"""A farm over two LANs: a server is alive as long as one of them hears it."""

import os
import shutil
import time
import uuid

import pytest
from support import VIP, Farm, wait_for

from safekit_py.bundle.install import shipped
from safekit_py.lab import Lab

pytestmark = [pytest.mark.lab, pytest.mark.timeout(120)]


def test_the_loss_of_one_lan_is_no_loss_of_a_server(tmp_path):
    module = tmp_path / "apache"
    shutil.copytree(next(m.folder for m in shipped() if m.name == "apache"), module)
    path = module / "conf/userconfig.xml"
    path.write_text(path.read_text().replace('<lan name="default"/>', '<lan name="default"/><lan name="lan2"/>'))
    with Lab.up(f"t{uuid.uuid4().hex[:6]}", servers=2, lans=2, owner=os.getpid()) as lab:
        farm = Farm(lab)
        for host in ("server1", "server2"):
            wait_for(lambda host=host: farm.cli(host, "status", check=False).returncode == 0)
            farm.cli(host, "module", "install", str(module), f"--set=VIP={VIP}")
            farm.cli(host, "start", "apache", "--wait")
        wait_for(lambda: farm.status("server1")["report"]["moved"] == 0)  # nothing of the start is on its way
        before = farm.status("server1")["report"]
        assert farm.members("server1") == 2
        rule = f"iifname eth0 udp dport {before['port']} drop"
        silence = f"table inet t {{ chain i {{ type filter hook input priority 0; {rule}; }}; }}"
        lab.run("server1", ["nft", silence], check=True)
        time.sleep(1.5)
        report = farm.status("server1")["report"]
        assert report["view"] == before["view"], "nothing may change"
        ages = {name: max(heard.values()) for name, heard in report["lans"].items()}
        assert ages["default"] > 1.0 > ages["lan2"]
        assert farm.serving() == {"server1", "server2"}
