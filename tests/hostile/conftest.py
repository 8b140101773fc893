"""A real agent with one module of mode light, to be attacked."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
USERCONFIG = """<safe><service mode="light" maxloop="1">
<user nicestoptimeout="2" forcestoptimeout="2" userlogsize="64"><var name="GREETING" value="{greeting}"/></user>
</service></safe>"""


class Target:
    """An agent below a folder of its own."""

    def __init__(self, root):
        self.root = root
        self.temporary = root / "tmp"
        self.temporary.mkdir()
        self.env = {**os.environ, "SAFEKIT_ROOT": str(root), "PYTHONPATH": str(REPOSITORY), "SAFEKIT_HEALTH": "off"}
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]  # of the API over the network, as soon as somebody can log in
        self.env["SAFEKIT_WEB"] = f"127.0.0.1:{self.port}"
        self.env["TMPDIR"] = str(self.temporary)
        command = [sys.executable, "-m", "safekit_py", "agent"]
        self.log = root / "agent.log"
        with self.log.open("wb") as log:
            self.agent = subprocess.Popen(command, env=self.env, stderr=log)
        end = time.monotonic() + 30
        while self.cli("status").returncode:
            assert time.monotonic() < end, "the agent does not answer"

    def cli(self, *words, text=None):
        command = [sys.executable, "-m", "safekit_py", *words]
        return subprocess.run(
            command, env=self.env, capture_output=True, text=True, timeout=90, check=False, input=text
        )

    def module(self, folder, greeting="hello", **scripts):
        """A module's folder with these scripts."""
        (folder / "conf").mkdir(parents=True)
        (folder / "bin").mkdir()
        (folder / "conf/userconfig.xml").write_text(USERCONFIG.format(greeting=greeting))
        for name, text in scripts.items():
            (folder / "bin" / name).write_text(f"#!/bin/sh\n{text}\n")
            (folder / "bin" / name).chmod(0o755)
        return folder

    def installed(self, tmp_path, name="app", **parts):
        """Install such a module under this name."""
        done = self.cli("module", "install", str(self.module(tmp_path / name, **parts)), "-m", name)
        assert done.returncode == 0, done.stderr
        return self.root / "opt/safekit/modules" / name

    def remove(self, name="app"):
        self.cli("forcestop", name, "--wait")
        self.cli("module", "uninstall", name)

    def tree(self):
        """Every file of the server and its size, but for logs that grow by themselves."""
        found = {}
        for path in sorted(self.root.rglob("*")):
            grows = path.suffix in (".db", ".db-wal", ".db-shm") or path == self.log
            if path.is_file() and not grows and "run" not in path.parts:
                found[str(path.relative_to(self.root))] = path.stat().st_size
        return found

    def answers(self):
        """It still does, and fast."""
        began = time.monotonic()
        assert self.cli("status").returncode == 0
        return time.monotonic() - began


@pytest.fixture(scope="session")
def target(tmp_path_factory):
    made = Target(tmp_path_factory.mktemp("target"))
    yield made
    made.agent.send_signal(signal.SIGTERM)
    made.agent.wait(30)


@pytest.fixture
def cleaned(target):
    yield target
    target.remove()
