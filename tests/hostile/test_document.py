"""The API's own document, held against a real server by schemathesis: every operation, with good values and bad ones.

The agent runs on a lab server and is called from another host, over TLS. SAFEKIT_FUZZ sets the seconds.
"""

import json
import os
import sys
import time
from pathlib import Path

import pytest

from safekit_py.lab import Lab

SECONDS = os.environ.get("SAFEKIT_FUZZ", "20")
FUZZ = str(Path(__file__).with_name("fuzz.py"))
URL = "https://10.77.0.11:9453"


def until(what, limit=40.0):
    end = time.monotonic() + limit
    while not what():
        assert time.monotonic() < end
        time.sleep(0.2)


@pytest.mark.lab
def test_no_call_is_answered_otherwise_than_the_document_says(tmp_path):
    (tmp_path / "app/conf").mkdir(parents=True)
    (tmp_path / "app/bin").mkdir()
    (tmp_path / "app/conf/userconfig.xml").write_text('<safe><service mode="light"/></safe>')
    with Lab.up(f"f{os.getpid()}", servers=1, owner=os.getpid()) as lab:

        def cli(*words):
            return lab.run("server1", ["safekit-py", *words], capture_output=True, text=True)

        until(lambda: cli("status").returncode == 0)
        assert cli("module", "install", str(tmp_path / "app"), "-m", "app").returncode == 0
        assert cli("start", "app", "--wait").returncode == 0
        token = cli("token", "create", "fuzz", "--role", "admin").stdout.strip()
        authority = lab.root("server1") / "var/lib/safekit/tls/ca.crt"
        until(authority.exists)
        command = [sys.executable, FUZZ, URL, str(authority), token, "app", SECONDS]
        done = lab.run("client1", command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]
        said = json.loads(done.stdout)
        assert not said["failures"], "\n".join(f"{key}\n{text}" for key, text in said["failures"].items())
        assert min(said["calls"].values()) > 0
        # Half of the operations can be done with what the document tells; what is never done is never really tested.
        assert len(said["done"]) > len(said["calls"]) / 2, sorted(set(said["calls"]) - set(said["done"]))
        until(lambda: cli("status").returncode == 0)  # another process answers after renew
        log = (lab.root("server1") / "var/log/agent.log").read_text()
        assert "Traceback" not in log, log[max(0, log.index("Traceback") - 500) :][:4000]
        assert token.split("_")[2] not in log
