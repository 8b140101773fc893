"""A server is killed, and people are told: real agents, a real mail server and a real HTTP receiver on the client."""

import hashlib
import hmac
import json
import os
import sys
import uuid

import pytest
from support import Farm, wait_for

from safekit_py.lab import Lab

pytestmark = [pytest.mark.lab, pytest.mark.timeout(240)]
SERVERS = ("server1", "server2")
CLIENT = "10.77.0.101"
CONFIG = """<safe><service mode="farm"><farm><lan name="default"/></farm>
<vip><interface_list><interface><virtual_interface type="vmac_directed">
<virtual_addr addr="10.77.0.100" where="alias"/></virtual_interface></interface></interface_list>
<loadbalancing_list><group name="g"><rule port="80" proto="tcp" filter="on_addr"/></group></loadbalancing_list></vip>
<user/></service></safe>"""
RECEIVER = """
import http.server, json, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        print(json.dumps([self.headers["X-Safekit-Signature"], body]), flush=True)
        self.send_response(204)
        self.end_headers()
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer(("0.0.0.0", 8080), Handler).serve_forever()
"""


@pytest.fixture
def told(tmp_path):
    """Two servers that tell a mail server and a webhook of the client; the mails' file and the webhook's."""
    mails, posts = tmp_path / "mails", tmp_path / "posts"
    with Lab.up(f"n{uuid.uuid4().hex[:6]}", servers=2, owner=os.getpid()) as lab:
        farm = Farm(lab)
        smtp = [sys.executable, "-u", "-m", "aiosmtpd", "-n", "-c", "aiosmtpd.handlers.Debugging", "stdout"]
        started = []
        try:
            for command, path in (([*smtp, "-l", "0.0.0.0:25"], mails), ([sys.executable, "-c", RECEIVER], posts)):
                with path.open("wb") as out:
                    started.append(lab.popen("client1", command, stdout=out))
            module = tmp_path / "app"
            (module / "conf").mkdir(parents=True)
            (module / "bin").mkdir()
            (module / "conf/userconfig.xml").write_text(CONFIG)
            for host in SERVERS:
                secret = lab.root(host) / "hook.secret"
                secret.write_text("s3cret\n")
                secret.chmod(0o600)
                file = tmp_path / f"{host}.xml"
                file.write_text(
                    f'<notify><mail name="admins" server="{CLIENT}" security="none" from="a@b.org" to="c@b.org"/>'
                    f'<webhook name="hook" url="http://{CLIENT}:8080/x" secret_file="{secret}"/></notify>'
                )
                wait_for(lambda host=host: farm.cli(host, "status", check=False).returncode == 0)
                farm.cli(host, "notify", "config", str(file))
                farm.install(host, str(module))
            wait_for(lambda: farm.cli("server2", "notify", "test", "admins", check=False).returncode == 0)
            yield farm, mails, posts
        finally:
            for each in started:
                each.kill()
                each.wait()


def _posts(path):
    return [(signature, body, json.loads(body)) for signature, body in map(json.loads, path.read_text().splitlines())]


def test_a_server_is_killed_and_people_are_told(told):
    farm, mails, posts = told
    assert "test of admins" in mails.read_text()
    for host in SERVERS:
        farm.cli(host, "start", "app", "--wait")
    wait_for(lambda: all(farm.members(host, "app") == 2 for host in SERVERS))
    wait_for(lambda: farm.cli("server2", "notify", "show").stdout.count("mail") == 1)
    farm.lab.kill("server1")  # the coordinator: the other one speaks from now on
    wait_for(lambda: "critical: app: server1 is lost" in mails.read_text())
    found = wait_for(lambda: [each for each in _posts(posts) if each[2]["ident"] == "app/server/server1"])
    ((signature, body, document),) = found
    assert (document["kind"], document["level"], document["server"]) == ("raised", "critical", "server2")
    assert signature == f"sha256={hmac.new(b's3cret', body.encode(), hashlib.sha256).hexdigest()}"
    counts = {
        each["name"]: each for each in json.loads(farm.cli("server2", "notify", "show", "--json").stdout)["targets"]
    }
    assert counts["admins"]["failed"] == counts["hook"]["failed"] == 0
    farm.lab.boot("server1")
    wait_for(lambda: "over: app: server1 is back" in mails.read_text())
    status = farm.status("server2", "app")
    assert status["state"] == "UP", "what tells people has no part in what is told"
