"""The application modules that ship with it, each with its real server."""

import shutil
from pathlib import Path

import pytest
from support import kill, wait_for

pytestmark = [pytest.mark.lab, pytest.mark.timeout(240)]
SERVERS = ("server1", "server2", "server3")
NGINX = "http://10.77.0.110/server-name.txt"
SYSTEMCTL = Path(__file__).resolve().parents[1] / "unit/modules/systemctl"
WEB = "python3\n-m\nhttp.server\n8089\n--directory\n/usr/share/doc/python3\n"


def remove(farm, host, module):
    farm.cli(host, "stop", module, "--wait", check=False)
    farm.cli(host, "module", "uninstall", module, check=False)


def restarted(farm, host, module, before):
    """Whether the application was started again since ``before`` and clients are let in."""
    shown = farm.status(host, module)
    return shown["starts"] > before and f"{shown['state']} {shown['readiness']}" == "UP Ready"


def processes(farm, host, words):
    done = farm.lab.run(host, ["pgrep", "-f", words], capture_output=True, text=True)
    return [int(each) for each in done.stdout.split()]


@pytest.fixture(scope="module")
def nginx(farm):
    """The module nginx on every server, started."""
    farm.lab.heal()
    try:
        for host in SERVERS:
            if not farm.lab.alive(host):
                farm.lab.boot(host)
            wait_for(lambda host=host: farm.cli(host, "status", check=False).returncode == 0)
            farm.install(host, "nginx", VIP="10.77.0.110")
            farm.cli(host, "start", "nginx", "--wait")
        wait_for(lambda: all(farm.members(host, "nginx") == 3 for host in SERVERS))
        yield farm
    finally:
        for host in SERVERS:
            remove(farm, host, "nginx")


def serving(farm):
    return set(farm.fetch(30, timeout=0.3, url=NGINX)[0])


def test_nginx_spreads_requests_over_the_servers(nginx):
    wait_for(lambda: serving(nginx) == set(SERVERS))
    got, bad = nginx.fetch(150, url=NGINX)
    assert bad == 0
    assert set(got) == set(SERVERS)
    assert all(25 <= count <= 75 for count in got.values()), got


def test_nginx_stopped_on_one_server_moves_its_requests(nginx):
    nginx.cli("server2", "stop", "nginx", "--wait")
    assert processes(nginx, "server2", "nginx:") == []
    got, bad = nginx.fetch(60, url=NGINX)
    assert bad == 0
    assert set(got) == {"server1", "server3"}
    nginx.cli("server2", "start", "nginx", "--wait")
    wait_for(lambda: serving(nginx) == set(SERVERS))


@pytest.mark.parametrize("killed", ["nginx: master", "nginx:"])
def test_killed_nginx_is_restarted_there(nginx, killed):
    """Its workers outlive the master: they are replaced too."""
    before = nginx.status("server1", "nginx")["starts"]
    numbers = processes(nginx, "server1", "nginx:")
    kill(nginx, "server1", processes(nginx, "server1", killed))
    wait_for(lambda: restarted(nginx, "server1", "nginx", before), 60)
    assert not set(numbers) & set(processes(nginx, "server1", "nginx:"))
    wait_for(lambda: serving(nginx) == set(SERVERS))


def test_a_mistake_in_the_site_is_told_with_its_line(nginx):
    site = nginx.lab.root("server3") / "opt/safekit/modules/nginx/conf/site.conf"
    original = site.read_text()
    try:
        site.write_text("server {\n    no_such_word;\n}\n")
        nginx.cli("server3", "stop", "nginx", "--wait")
        nginx.cli("server3", "start", "nginx", "--wait", check=False)
        wait_for(lambda: "conf/site.conf:2" in nginx.cli("server3", "log", "nginx").stdout)
        assert "server3" not in serving(nginx)
    finally:
        site.write_text(original)
        nginx.cli("server3", "stop", "nginx", "--wait", check=False)
        nginx.cli("server3", "start", "nginx", "--wait")


def with_services(tmp_path, form, standin):
    """A copy of a shipped module whose services are managed by the stand-in."""
    folder = tmp_path / "module"
    shutil.copytree(Path(__file__).resolve().parents[2] / "modules" / form, folder)
    config = folder / "conf/userconfig.xml"
    variables = f'<var name="SAFEKIT_SYSTEMCTL" value="{SYSTEMCTL}"/><var name="STANDIN" value="{standin}"/>'
    text = config.read_text().replace("    </user>", f"      {variables}\n    </user>")
    soon = '<failover period="500ms" handle_time="1s"/>'
    config.write_text(text.replace('interval="10s"', 'interval="1s"').replace("    <user ", f"    {soon}<user "))
    return folder


def test_generic_runs_services_by_their_names(farm, tmp_path):
    """One service answers on the port, the other one sleeps; the killed one is started again by the checker."""
    standin = tmp_path / "standin"
    for part in ("units", "enabled"):
        (standin / part).mkdir(parents=True)
    (standin / "enabled/web.service").touch()
    (standin / "units/web.service").write_text(WEB)
    (standin / "units/helper.service").write_text("sleep\n987654\n")
    folder = with_services(tmp_path, "generic", standin)
    macros = ["--set", "VIP=10.77.0.121", "--set", "PORT=8089", "--set", "SERVICES=helper, web"]
    farm.cli("server1", "module", "install", str(folder), "-m", "myservices", *macros)
    try:
        assert list((standin / "enabled").iterdir()) == [], "the module starts it now, not the boot"
        farm.cli("server1", "start", "myservices", "--wait")
        assert farm.state("server1", "myservices") == "UP Ready"
        assert (standin / "calls").read_text().splitlines() == ["start helper.service", "start web.service"]
        got, bad = farm.fetch(3, url="http://10.77.0.121:8089/")
        assert bad == 0
        before = farm.status("server1", "myservices")["starts"]
        kill(farm, "server1", processes(farm, "server1", "http.server 8089"))
        wait_for(lambda: restarted(farm, "server1", "myservices", before), 60)
        got, bad = farm.fetch(3, url="http://10.77.0.121:8089/")
        assert (sum(got.values()), bad) == (3, 0)
        farm.cli("server1", "stop", "myservices", "--wait")
        assert processes(farm, "server1", "http.server 8089|sleep 987654") == []
    finally:
        remove(farm, "server1", "myservices")
    assert [each.name for each in (standin / "enabled").iterdir()] == ["web.service"]


def test_a_service_that_is_not_there_is_told_when_the_module_is_installed(farm, tmp_path):
    (tmp_path / "standin/units").mkdir(parents=True)
    folder = with_services(tmp_path, "generic", tmp_path / "standin")
    macros = ["--set", "VIP=10.77.0.121", "--set", "PORT=8089", "--set", "SERVICES=nosuch"]
    farm.cli("server1", "module", "install", str(folder), "-m", "noservice", *macros, check=False)
    try:
        assert "confcheck" in farm.status("server1", "noservice")["reason"]
        userlog = (farm.lab.root("server1") / "var/lib/safekit/modules/noservice/userlog").read_text()
        assert "there is no nosuch.service on this server" in userlog
    finally:
        remove(farm, "server1", "noservice")


def test_the_mirror_form_is_installed_for_two_servers_only(farm):
    words = ["-m", "mymirror", "--set", "VIP=10.77.0.100", "--set", "DIR=/srv/mydata"]
    try:
        done = farm.cli("server1", "module", "install", "generic-mirror", *words, check=False)
        assert "heart.not-two" in done.stdout + done.stderr
        started = farm.cli("server1", "prim", "mymirror", check=False)
        assert started.returncode == 1
        assert "heart.not-two" in started.stderr
    finally:
        remove(farm, "server1", "mymirror")
