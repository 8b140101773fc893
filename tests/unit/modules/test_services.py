"""What the scripts of the generic modules do with SERVICES: called as the engine calls them, with real processes."""

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[3]
MODULES = REPOSITORY / "modules"
SYSTEMCTL = Path(__file__).with_name("systemctl")
FORMS = {"generic": "both", "generic-mirror": "prim"}
BOTH = pytest.mark.parametrize("server", FORMS, indirect=True)
SLEEP = "sleep\n3600\n"
STUBBORN = "sh\n-c\ntrap '' TERM; while :; do sleep 0.1; done\n"


class Server:
    """A server with a module's folder, a service manager, and a command that records printe."""

    def __init__(self, root, form):
        self.form, self.root = form, root
        self.standin, self.var = root / "standin", root / "var of it"
        self.bin = root / "modules" / "my app" / "bin"
        shutil.copytree(MODULES / form / "bin", self.bin)
        for folder in ("units", "enabled", "run"):
            (self.standin / folder).mkdir(parents=True)
        self.var.mkdir()
        safe = root / "safe kit"
        safe.mkdir()
        (safe / "safekit").write_text('#!/bin/sh\nshift\nprintf "%s\\n" "$*" >>"$0.told"\n')
        (safe / "safekit").chmod(0o755)
        self.told = safe / "safekit.told"
        self.env = {
            "PATH": os.environ["PATH"],
            "SAFE": str(safe),
            "SAFEMODULE": "myapp",
            "SAFEUSERBIN": str(self.bin),
            "SAFEUSERVAR": str(self.var),
            "SAFEKIT_SYSTEMCTL": str(SYSTEMCTL),
            "STANDIN": str(self.standin),
        }

    def unit(self, name, words=SLEEP, *, enabled=False):
        (self.standin / "units" / name).write_text(words)
        if enabled:
            (self.standin / "enabled" / name).touch()

    def call(self, script, *arguments, services="a, b,c", **env):
        name = script.replace("_role", f"_{FORMS[self.form]}")
        return subprocess.run(
            [self.bin / name, *arguments],
            env={**self.env, "SERVICES": services, **env},
            cwd=self.var,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def running(self):
        found = []
        for each in sorted((self.standin / "run").iterdir()):
            pid = each.read_text().split()[0]
            status = Path(f"/proc/{pid}/stat")
            if status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z":
                found.append(each.name)
        return found

    def enabled(self):
        return sorted(each.name for each in (self.standin / "enabled").iterdir())

    def calls(self):
        path = self.standin / "calls"
        text = path.read_text() if path.exists() else ""
        path.unlink(missing_ok=True)
        return text.splitlines()

    def messages(self):
        return self.told.read_text() if self.told.exists() else ""

    def end(self):
        for each in (self.standin / "run").iterdir():
            try:
                os.killpg(int(each.read_text().split()[0]), signal.SIGKILL)
            except ProcessLookupError:
                continue


@pytest.fixture
def server(request, tmp_path):
    """The farm form: the two differ in the names of two scripts; BOTH is for the tests that see to these."""
    made = Server(tmp_path, getattr(request, "param", "generic"))
    for name in ("a", "b", "c"):
        made.unit(f"{name}.service")
    yield made
    made.end()


def test_both_forms_share_one_file():
    first, second = (MODULES / form / "bin/services.sh" for form in FORMS)
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("form", FORMS)
def test_scripts_can_be_run_and_parsed(form):
    for path in (MODULES / form / "bin").iterdir():
        assert subprocess.run(["sh", "-n", path], check=False).returncode == 0
        assert (path.stat().st_mode & 0o111 == 0o111) == (path.name != "services.sh")


@BOTH
def test_started_in_order_and_stopped_in_reverse(server):
    assert server.call("start_role", "WAIT", "UP", "start").returncode == 0
    assert server.calls() == ["start a.service", "start b.service", "start c.service"]
    assert server.running() == ["a.service", "b.service", "c.service"]
    assert server.call("start_role", "WAIT", "UP", "start").returncode == 0, "a second start changes nothing"
    server.calls()
    assert server.call("stop_role", "UP", "WAIT", "stop").returncode == 0
    assert server.calls() == ["stop c.service", "stop b.service", "stop a.service"]
    assert server.running() == []
    assert server.call("stop_role", "UP", "WAIT", "stop").returncode == 0, "nothing runs: that is what was asked for"
    assert server.messages() == ""


@pytest.mark.parametrize("services", ["none", "", " , "])
def test_without_services_nothing_is_asked_of_the_service_manager(server, services):
    for script in ("confcheck", "config", "start_role", "stop_role", "deconfig"):
        done = server.call(script, "WAIT", "UP", "start", services=services, SAFEKIT_SYSTEMCTL="/nowhere")
        assert done.returncode == 0, (script, done.stderr)
    assert server.call("stop_role", "force", services=services, SAFEKIT_SYSTEMCTL="/nowhere").returncode == 0
    assert server.messages() == ""


def test_a_service_that_does_not_start_fails_the_start(server):
    server.unit("b.service", "false\n")
    assert server.call("start_role", "WAIT", "UP", "start").returncode == 1
    assert server.calls() == ["start a.service", "start b.service"]
    assert "b.service does not start" in server.messages()


def test_a_service_that_ends_at_once_fails_the_start(server):
    server.unit("b.service", "true\n")
    assert server.call("start_role", "WAIT", "UP", "start").returncode == 1
    assert "b.service has ended already: journalctl -u b.service" in server.messages()


@BOTH
def test_what_does_not_stop_is_killed_by_force(server):
    server.unit("b.service", STUBBORN)
    server.call("start_role")
    done = server.call("stop_role", "UP", "WAIT", "stop")
    assert done.returncode == 1
    assert server.running() == ["b.service"], "one that does not stop keeps no other from stopping"
    assert "b.service does not stop: Job for b.service timed out." in server.messages()
    server.calls()
    assert server.call("stop_role", "force", "WAIT", "STOP", "stop").returncode == 0
    assert server.running() == []
    assert {"kill b.service", "stop b.service"} <= set(server.calls())
    assert server.call("stop_role", "force", "WAIT", "STOP", "stop").returncode == 0


def test_force_leaves_no_unit_failed(server):
    server.unit("b.service", "true\n")
    server.call("start_role")
    assert server.call("stop_role", "force").returncode == 0
    state = [SYSTEMCTL, "is-active", "--", "b.service"]
    assert subprocess.run(state, env=server.env, capture_output=True, text=True, check=False).stdout == "inactive\n"


@BOTH
def test_some_services_are_restarted(server):
    server.call("start_role")
    server.calls()
    some = ("UP", "UP", "stop", "-Services", "c, a")
    assert server.call("stop_role", *some).returncode == 0
    assert server.running() == ["b.service"]
    assert server.call("start_role", "UP", "UP", "start", "-Services", "c, a").returncode == 0
    assert server.calls() == ["stop c.service", "stop a.service", "start a.service", "start c.service"]


def test_one_that_the_module_does_not_own_means_the_whole_application(server):
    server.call("start_role")
    assert server.call("stop_role", "UP", "UP", "stop", "-Services", "a, stranger").returncode == 0
    assert server.running() == []


@BOTH
def test_the_authors_commands_run_only_for_the_whole_application(server):
    for script in ("start", "stop"):
        path = server.bin / f"{script}_{FORMS[server.form]}"
        text = path.read_text()
        assert text.count("/opt/myapp/bin/myapp --") == 1
        marked = [
            f"echo mine; ls {server.root}/*/run" if "/opt/myapp/bin" in line else line for line in text.splitlines()
        ]
        path.write_text("\n".join(marked))
        done = server.call(f"{script}_role")
        assert "mine\n" in done.stdout
        assert done.returncode == 0, "the scripts' own setting for lists is not left to the author's commands"
        assert "mine\n" not in server.call(f"{script}_role", "-Services", "a").stdout


@BOTH
def test_config_takes_services_off_the_boot_and_deconfig_gives_it_back(server):
    for name in ("a", "c"):
        server.unit(f"{name}.service", enabled=True)
    assert server.call("config").returncode == 0
    assert server.enabled() == []
    assert server.call("config").returncode == 0
    assert server.enabled() == []
    assert server.call("deconfig").returncode == 0
    assert server.enabled() == ["a.service", "c.service"], "b did not start with the server before"
    assert server.call("deconfig").returncode == 0
    assert list(server.var.iterdir()) == []


def test_a_service_that_leaves_the_list_gets_its_boot_back(server):
    for name in ("a", "b"):
        server.unit(f"{name}.service", enabled=True)
    server.call("config")
    assert server.call("config", services="b").returncode == 0
    assert server.enabled() == ["a.service"]
    assert server.call("deconfig", services="none").returncode == 0
    assert server.enabled() == ["a.service", "b.service"]


def test_deconfig_forgets_a_service_that_was_removed_meanwhile(server):
    server.unit("a.service", enabled=True)
    server.call("config")
    (server.standin / "units/a.service").unlink()
    assert server.call("deconfig").returncode == 0
    assert list(server.var.iterdir()) == []


def test_confcheck_tells_of_each_service_that_cannot_be_started(server):
    server.unit("b.service", "masked")
    done = server.call("confcheck", services="a, nosuch.timer b x;y")
    assert done.returncode == 1
    told = server.messages().splitlines()
    assert len(told) == 3
    assert "no nosuch.timer on this server" in told[0]
    assert "b.service is masked" in told[1]
    assert "'x;y.service' cannot be the name" in told[2]
    assert server.call("confcheck", services="a, c").returncode == 0


def test_config_changes_nothing_when_a_service_is_missing(server):
    server.unit("a.service", enabled=True)
    assert server.call("config", services="a, nosuch").returncode == 1
    assert server.enabled() == ["a.service"]


@pytest.mark.parametrize("script", ["confcheck", "config", "start_role", "stop_role"])
def test_a_server_without_systemctl_is_one_clear_message(server, script):
    done = server.call(script, SAFEKIT_SYSTEMCTL="/nowhere/systemctl")
    assert done.returncode == 1
    assert server.messages().count("SERVICES needs /nowhere/systemctl, which is not there") == 1


def test_a_service_manager_that_does_not_work_is_one_clear_message(server):
    broken = server.root / "broken"
    broken.write_text("#!/bin/sh\necho 'not booted with systemd' >&2\nexit 1\n")
    broken.chmod(0o755)
    assert server.call("confcheck", SAFEKIT_SYSTEMCTL=str(broken)).returncode == 1
    assert server.messages().endswith("broken does not work on this server: not booted with systemd\n")


def test_a_star_in_the_list_is_no_file(server):
    (server.var / "a.service").touch()
    assert server.call("confcheck", services="*").returncode == 1
    assert "'*.service' cannot be the name" in server.messages()


def test_the_scripts_work_when_the_log_cannot_be_written(server):
    (Path(server.env["SAFE"]) / "safekit").write_text("#!/bin/sh\nexit 69\n")
    server.unit("b.service", "false\n")
    done = server.call("start_role")
    assert done.returncode == 1
    assert "b.service does not start" in done.stderr
