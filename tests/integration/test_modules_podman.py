"""The modules podman and podman-mirror, with real containers of a small image that is made here."""

import os
import shutil
import subprocess
import uuid
from pathlib import Path

import pytest
from support import VIP, Farm, wait_for

from safekit_py.bundle.install import shipped
from safekit_py.lab import Lab

needed = ("podman", "runc", "busybox")
pytestmark = [
    pytest.mark.lab,
    pytest.mark.timeout(240),
    pytest.mark.skipif(any(shutil.which(each) is None for each in needed), reason=f"needs {', '.join(needed)}"),
]
SERVERS = ("server1", "server2")
IMAGE = "localhost/web:1"
# Limits by number: the default ones may be higher than what the machine lets a program have.
GROUP = f"safekit-{uuid.uuid4().hex[:6]}"
LIMITS = f"--cgroup-parent /{GROUP} --ulimit nofile=1024:1024 --ulimit nproc=4096:4096"
COMMAND = "/bin/busybox httpd -f -p 8090 -h /web"


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Two servers, each with a podman and an image of its own."""
    top = tmp_path_factory.mktemp("podman")
    archive = _image(top)
    with Lab.up(f"c{uuid.uuid4().hex[:6]}", servers=2, owner=os.getpid()) as lab:
        farm = Farm(lab)
        for host in SERVERS:
            program = top / f"podman-{host}"
            places = f"--root {top}/{host} --runroot /run/podman --storage-driver vfs"
            options = f"{places} --cgroup-manager cgroupfs --runtime runc"
            program.write_text(f'#!/bin/sh\nexec podman {options} "$@"\n')
            program.chmod(0o755)
            _control_groups(lab, host)
            wait_for(lambda host=host: farm.cli(host, "status", check=False).returncode == 0)
            done = lab.run(host, [str(program), "import", str(archive), IMAGE], capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
        farm.programs = {host: str(top / f"podman-{host}") for host in SERVERS}
        yield farm
    shutil.rmtree(top, ignore_errors=True)  # the containers' processes have ended with their hosts
    for folder in sorted(Path("/sys/fs/cgroup").glob(f"**/{GROUP}/**/"), reverse=True):
        folder.rmdir()


def _control_groups(lab, host):
    """Mount in a host what this machine has of them: a lab's /sys is new, and podman wants some."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        source, target, kind, options, *_ = line.split()
        if target.startswith("/sys/fs/cgroup"):
            own = ",".join(each for each in options.split(",") if each not in ("nosuid", "nodev", "noexec", "relatime"))
            command = ["sh", "-c", f"mkdir -p {target} && mount -t {kind} -o {own} {source} {target}"]
            lab.run(host, command, check=True)


def _image(top):
    """An archive with one static program in it."""
    tree = top / "tree"
    for each in ("bin", "web", "tmp"):
        (tree / each).mkdir(parents=True)
    shutil.copy(shutil.which("busybox"), tree / "bin/busybox")
    subprocess.run(["tar", "-C", str(tree), "-cf", str(top / "web.tar"), "."], check=True)
    return top / "web.tar"


def install(farm, host, module, name, **macros):
    # As process 1, busybox takes no SIGTERM.
    given = {"VIP": VIP, "PORT": "8090", "IMAGE": IMAGE, "COMMAND": COMMAND, "STOP_SECONDS": "1", **macros}
    given["PROGRAM"] = farm.programs[host]
    return farm.cli(host, "module", "install", module, "-m", name, *(f"--set={k}={v}" for k, v in given.items()))


def containers(farm, host):
    return farm.lab.run(host, [farm.programs[host], "ps", "-q"], capture_output=True, text=True).stdout.split()


def page(farm):
    return farm.fetch(20, timeout=0.5, url=f"http://{VIP}:8090/name")


def test_a_farm_of_containers_serves_and_a_killed_one_is_started_anew(pair, tmp_path):
    for host in SERVERS:
        (tmp_path / host).mkdir()
        (tmp_path / host / "name").write_text(host)
        install(pair, host, "podman", "web", OPTIONS=f"{LIMITS} --volume {tmp_path / host}:/web:ro")
        config = pair.lab.root(host) / "opt/safekit/modules/web/conf/userconfig.xml"
        text = config.read_text().replace("on_addr", "on_port").replace('interval="10s"', 'interval="1s"')
        config.write_text(text.replace("    <user ", '    <failover period="500ms" handle_time="1s"/>\n    <user '))
        pair.cli(host, "start", "web", "--wait")
    wait_for(lambda: set(page(pair)[0]) == set(SERVERS))
    before = containers(pair, "server1")
    assert len(before) == 1
    pair.lab.run("server1", [pair.programs["server1"], "kill", *before], capture_output=True)
    wait_for(lambda: len(now := containers(pair, "server1")) == 1 and now != before)
    wait_for(lambda: pair.state("server1", "web") == "UP Ready" and set(page(pair)[0]) == set(SERVERS))
    for host in SERVERS:
        pair.cli(host, "stop", "web", "--wait")
        assert containers(pair, host) == []


def test_an_image_that_is_not_there_is_refused_with_the_command_that_brings_it(pair):
    install(pair, "server1", "podman", "absent", IMAGE="localhost/absent:1")
    refused = pair.cli("server1", "start", "absent", "--wait", check=False)
    assert refused.returncode == 1
    assert "config.confcheck" in refused.stderr
    said = (pair.lab.root("server1") / "var/lib/safekit/modules/absent/userlog").read_text()
    assert f"{pair.programs['server1']} pull localhost/absent:1" in said
    pair.cli("server1", "module", "uninstall", "absent")


def test_a_container_and_its_data_move_to_the_other_server(pair):
    one, two = SERVERS
    for host in SERVERS:
        data = pair.lab.root(host) / "data"
        data.mkdir()
        (data / "name").write_text(f"of {host}")
        install(pair, host, "podman-mirror", "data", DIR=str(data), MOUNT="/web", OPTIONS=LIMITS)
    pair.cli(one, "prim", "data", "--yes")
    wait_for(lambda: pair.state(one, "data") == "ALONE Ready")
    pair.cli(two, "second", "data", "--yes")
    wait_for(lambda: (pair.state(one, "data"), pair.state(two, "data")) == ("PRIM Ready", "SECOND Ready"), 60)
    assert page(pair) == [{f"of {one}": 20}, 0]
    assert containers(pair, two) == []
    pair.lab.run(one, ["sh", "-c", f"echo written >{pair.lab.root(one)}/data/name && sync"], check=True)
    pair.lab.kill(one)
    wait_for(lambda: pair.state(two, "data") == "ALONE Ready", 30)
    assert page(pair)[0] == {"written": 20}
    pair.cli(two, "stop", "data", "--wait")
    assert containers(pair, two) == []


def test_what_both_modules_do_with_a_container_is_one_text():
    """Each module is a folder of its own, so the file stands in both."""
    texts = {each.name: (each.folder / "bin/container.sh").read_bytes() for each in shipped() if "podman" in each.name}
    assert texts["podman"] == texts["podman-mirror"]
