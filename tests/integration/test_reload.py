"""Edited configurations of modules that serve: agents as processes, real files, real disks, a real farm."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from support import VIP, wait_for

from safekit_py.model.paths import Paths

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = (REPOSITORY / "docs/reload.md").read_text(encoding="utf-8")
CONFIG = re.search(r"^```xml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)[1]
SCRIPT = '#!/bin/sh\necho "$(basename $0) $*" >> $SAFEUSERVAR/order\n'
SCRIPTS = ("start_both", "stop_both", "update", "config", "postconfig")


class Server:
    """An agent below a folder of its own."""

    def __init__(self, root):
        self.paths = Paths(root)
        self.env = {**os.environ, "SAFEKIT_ROOT": str(root), "PYTHONPATH": str(REPOSITORY)}
        self.file = self.paths.userconfig("app")

    def boot(self):
        command = [sys.executable, "-m", "safekit_py", "agent"]
        self.agent = subprocess.Popen(command, env=self.env, stderr=subprocess.DEVNULL)
        wait_for(lambda: self.cli("status").returncode == 0)
        return self

    def end(self, number=signal.SIGTERM):
        self.agent.send_signal(number)
        return self.agent.wait(60)

    def cli(self, *words):
        command = [sys.executable, "-m", "safekit_py", *words]
        return subprocess.run(command, env=self.env, capture_output=True, text=True, timeout=60, check=False)

    def install(self, folder):
        (folder / "conf").mkdir(parents=True)
        (folder / "bin").mkdir()
        (folder / "conf/userconfig.xml").write_text(CONFIG)
        for name in SCRIPTS:
            (folder / "bin" / name).write_text(SCRIPT)
        done = self.cli("module", "install", str(folder), "-m", "app")
        assert done.returncode == 0, done.stderr
        assert self.cli("start", "app", "--wait").returncode == 0

    def module(self):
        return json.loads(self.cli("status", "app", "--json").stdout)["modules"][0]

    def codes(self):
        return [each["code"] for each in self.module()["pending"]]

    def active(self):
        document = json.loads(self.cli("confinfo", "app", "--json").stdout)
        return next(each["number"] for each in document["versions"] if each["active"])

    def order(self):
        return (self.paths.module_var("app") / "order").read_text().splitlines()

    def edit(self, old, new):
        text = self.file.read_text()
        assert old in text
        self.file.write_text(text.replace(old, new))


@pytest.fixture
def server(tmp_path):
    made = Server(tmp_path / "root").boot()
    yield made
    made.end()


@pytest.fixture
def app(server, tmp_path):
    server.install(tmp_path / "app")
    return server


def test_the_session_of_the_page(app, tmp_path):
    """Every block of docs/reload.md in order, with what its comments say stands in the output."""
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "safekit-py").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m safekit_py "$@"\n')
    (programs / "safekit-py").chmod(0o755)
    env = {**app.env, "SAFE": str(app.paths.safe), "PATH": f"{programs}:{os.environ['PATH']}", "COLUMNS": "300"}
    blocks = re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 5
    for block in blocks:
        folder = Path.cwd()
        for line in block.splitlines():
            command, _, expected = line.partition("#")
            if command.startswith("cd "):
                folder = Path(command.split()[1].replace("$SAFE", str(app.paths.safe)))
                continue
            done = subprocess.run(
                ["sh", "-c", command], env=env, cwd=folder, capture_output=True, text=True, check=False
            )
            said = done.stdout + done.stderr
            assert expected.strip() in said, (command, expected, said)
            assert done.returncode == 0 or "confinfo" in command, (command, said)


def test_the_agent_killed_with_a_broken_edit_starts_with_what_was_active(app):
    app.edit("10s", "7s")
    wait_for(lambda: app.active() == 2)
    app.file.write_text(app.file.read_text()[:100])
    wait_for(lambda: app.codes() == ["config.not-xml"])
    app.end(signal.SIGKILL)
    app.boot()
    wait_for(lambda: app.module()["readiness"] == "Ready")
    wait_for(lambda: app.codes() == ["config.not-xml"])
    assert app.active() == 2


def test_an_overflow_of_the_events_is_survived(app):
    """The agent is held while more happens than the kernel's queue takes, and something that counts in the midst."""
    wait_for(lambda: app.active() == 1)
    time.sleep(0.5)
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    noise = app.file.parent / "noise"
    app.agent.send_signal(signal.SIGSTOP)
    try:
        for _ in range(limit // 4 + 100):  # each makes four events at least
            noise.write_text("x")
            noise.unlink()
        app.edit("10s", "7s")
    finally:
        app.agent.send_signal(signal.SIGCONT)
    wait_for(lambda: app.active() == 2)
    app.edit("7s", "8s")
    wait_for(lambda: app.active() == 3)


def test_thousands_of_changes_cost_nothing(app):
    before, order = app.module(), app.order()
    processor = _processor(app.agent.pid)
    text, began = app.file.read_text(), time.monotonic()
    for count in range(2000):
        app.file.write_text(text.replace("10s", f"{count % 90 + 10}s"))
        for name in (".userconfig.xml.swp", "userconfig.xml~", "#userconfig.xml#", ".#userconfig.xml", "4913"):
            (app.file.parent / name).write_text("<<<")
    took = time.monotonic() - began
    used = _processor(app.agent.pid) - processor
    app.file.write_text(text.replace("10s", "5s"))
    wait_for(lambda: not json.loads(app.cli("confinfo", "app", "--json").stdout)["differs"])
    assert used < took
    after = app.module()
    assert (after["state"], after["starts"], after["pending"]) == (before["state"], before["starts"], [])
    assert set(app.order()[len(order) :]) <= {"update "}
    assert app.active() <= 4


def _fill(path):
    with path.open("wb", buffering=0) as stream, contextlib.suppress(OSError):
        while True:
            stream.write(b"x" * 4096)


def _processor(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.lab
def test_a_full_disk(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m,mode=755", "tmpfs", str(root)], check=True)
    server = None
    try:
        server = Server(root).boot()
        server.install(tmp_path / "app")
        server.edit("10s", "07s")
        wait_for(lambda: server.active() == 2)
        order = server.order()
        filler = root / "filler"
        _fill(filler)
        with server.file.open("r+") as stream:  # as long as before: it needs no new block
            stream.write(server.file.read_text().replace("07s", "08s"))
        wait_for(lambda: server.codes() == ["config.not-stored"])
        time.sleep(6)  # a rescan
        module = server.module()
        assert (module["state"], module["readiness"], module["starts"]) == ("UP", "Ready", 1)
        assert server.order() == order
        assert server.active() == 2
        done = server.cli("config", "restore", "1", "-m", "app")
        assert (done.returncode, "config.not-stored" in done.stderr) == (1, True), done.stderr
        assert "08s" in server.file.read_text()
        done = server.cli("module", "install", str(tmp_path / "app"), "-m", "app", "--apply")
        assert done.returncode == 1
        filler.unlink()
        wait_for(lambda: server.active() == 3, 30)
        assert server.codes() == []
        assert not [each.name for each in server.paths.modules.iterdir() if each.name.startswith(".beside")]
    finally:
        if server is not None:
            server.end()
        subprocess.run(["umount", str(root)], check=True)


# --- a farm ---------------------------------------------------------------------------------------


@pytest.fixture
def edited(running):
    """server1's apache, to be edited; as it was, afterwards."""
    wait_for(lambda: not running.status("server1")["report"]["moved"])  # no view of its own accord comes any more
    file = Paths(running.lab.root("server1")).userconfig("apache")
    kept = file.parent.parent.with_name(".kept")
    shutil.copytree(file.parent.parent, kept)
    yield running, file
    shutil.copyfile(kept / "conf/userconfig.xml", file)
    shutil.rmtree(file.parent.parent / "bin")
    shutil.copytree(kept / "bin", file.parent.parent / "bin")
    shutil.rmtree(kept)
    wait_for(lambda: not running.status("server1")["pending"])


def _lines(farm):
    lines = farm.cli("server1", "log", "apache", "-n", "2000", "--json").stdout.splitlines()
    return [json.loads(line) for line in lines]


@pytest.mark.lab
def test_a_checker_is_changed_while_clients_are_served(edited):
    farm, file = edited
    update = file.parent.parent / "bin/update"
    update.write_text("#!/bin/sh\necho seen > $SAFEUSERVAR/updated\n")
    update.chmod(0o755)
    before, since, outcome = len(_lines(farm)), farm.status("server1")["starts"], []
    client = threading.Thread(target=lambda: outcome.append(farm.fetch(400, rate=0.005)))
    client.start()
    time.sleep(0.5)
    file.write_text(file.read_text().replace('interval="1s"', 'interval="7s"'))
    mark = Paths(farm.lab.root("server1")).module_var("apache") / "updated"
    wait_for(mark.exists)
    client.join()
    (got, failed), lines = outcome[0], _lines(farm)[before:]
    assert (set(got), failed) == ({"server1", "server2", "server3"}, 0)
    assert farm.status("server1")["starts"] == since
    assert {line["source"] for line in lines} <= {"config", "update", "resource"}
    assert [line["message"] for line in lines if line["source"] == "config"] == [
        "configuration active while the module runs: <tcp> changed; checkers: tcp.Check_Apache"
    ]


@pytest.mark.lab
def test_another_address_is_reported_with_the_command_and_broken_xml_is_said_once(edited):
    farm, file = edited
    good, before = file.read_text(), len(_lines(farm))
    file.write_text(good.replace(VIP, "10.77.0.101"))
    wait_for(lambda: [p["code"] for p in farm.status("server1")["pending"]] == ["config.needs-stop"])
    (problem,) = farm.status("server1")["pending"]
    assert "<vip> changed" in problem["message"]
    assert "safekit-py config -m apache --apply" in problem["remedy"]
    broken = good.replace("</vip>", "")
    file.write_text(broken)
    wait_for(lambda: farm.status("server1")["pending"][0]["code"] == "config.not-xml")
    (problem,) = farm.status("server1")["pending"]
    assert problem["line"] > 1
    assert problem["remedy"]
    for _ in range(1000):
        file.touch()
    time.sleep(6)  # a rescan
    said = [line["message"] for line in _lines(farm)[before:] if line["source"] == "config"]
    assert sum("config.needs-stop" in each for each in said) == 1
    assert sum("config.not-xml" in each for each in said) == 1
    assert farm.state("server1") == "UP Ready"
    assert farm.serving() == {"server1", "server2", "server3"}
