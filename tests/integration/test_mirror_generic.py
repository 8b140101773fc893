"""The generic mirror as its page says: services by name on the primary, with a directory that both servers have."""

import os
import shutil
import uuid
from pathlib import Path

import pytest
from database_support import MODULES, SERVERS, VIP, wait_for
from support import Farm

from safekit_py.lab import Lab

pytestmark = [pytest.mark.lab, pytest.mark.timeout(120)]
SYSTEMCTL = Path(__file__).resolve().parents[1] / "unit/modules/systemctl"


def module(folder, standin, web):
    """The shipped module; each server has a service manager of its own, since both are on one machine."""
    for part in ("units", "enabled", "run"):
        (standin / part).mkdir(parents=True)
    words = ("python3", "-m", "http.server", "8089", "--directory", str(web))
    (standin / "units/web.service").write_text("\n".join(words) + "\n")
    shutil.copytree(MODULES / "generic-mirror", folder)
    config = folder / "conf/userconfig.xml"
    variables = f'<var name="SAFEKIT_SYSTEMCTL" value="{SYSTEMCTL}"/><var name="STANDIN" value="{standin}"/>'
    config.write_text(config.read_text().replace("    </user>", f"      {variables}\n    </user>"))
    return folder


def test_the_application_and_its_files_follow_the_roles(tmp_path):
    one, two = SERVERS
    with Lab.up(f"g{uuid.uuid4().hex[:6]}", servers=2, owner=os.getpid()) as lab:
        pair = Farm(lab)

        def state(host):
            return pair.state(host, "mydata")

        def page(name):
            return pair.fetch(1, url=f"http://{VIP}:8089/{name}")[0]

        for host in SERVERS:
            wait_for(lambda host=host: pair.cli(host, "status", check=False).returncode == 0)
            data = lab.root(host) / "data"
            data.mkdir()
            (data / "name").write_text(f"of {host}\n")
            folder = module(tmp_path / host / "mydata", tmp_path / host / "standin", data)
            values = ("--set", f"VIP={VIP}", "--set", f"DIR={data}", "--set", "SERVICES=web")
            pair.cli(host, "module", "install", str(folder), "-m", "mydata", *values)
        pair.cli(one, "prim", "mydata", "--yes")
        wait_for(lambda: state(one) == "ALONE Ready", 30)
        wait_for(lambda: page("name") == {f"of {one}": 1}, 10)
        pair.cli(two, "second", "mydata", "--yes")
        wait_for(lambda: (state(one), state(two)) == ("PRIM Ready", "SECOND Ready"), 60)
        pair.cli(one, "renew")
        assert state(one) == "PRIM Ready"
        assert (tmp_path / one / "standin/calls").read_text().splitlines()[-1] == "start web.service"
        calls = tmp_path / two / "standin/calls"
        assert not calls.exists() or "start web.service" not in calls.read_text().splitlines()
        data = lab.root(one) / "data"
        lab.run(one, ["sh", "-c", f"echo written >{data}/later && sync {data}/later"], check=True)
        lab.kill(one)
        wait_for(lambda: state(two) == "ALONE Ready", 30)
        wait_for(lambda: page("later") == {"written": 1}, 10)
        assert page("name") == {f"of {one}": 1}, "what the other server had is replaced, as its page says"
        lab.boot(one)
        wait_for(lambda: (state(two), state(one)) == ("PRIM Ready", "SECOND Ready"), 60)
