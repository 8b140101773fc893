"""The shipped modules: their configurations; of the database modules the file that they share, what their checks tell
of a server that lacks something, and whom their stops end. With their real servers they run in tests/integration."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from safekit_py.runtime import plugins
from safekit_py.runtime.configcheck import Request
from safekit_py.runtime.configchild import answer

MODULES = Path(__file__).resolve().parents[3] / "modules"
ALL = sorted(each.name for each in MODULES.iterdir() if (each / "conf/userconfig.xml").exists())
DATABASES = ("postgresql", "mysql", "firebird", "oracle")
EACH = pytest.mark.parametrize("module", DATABASES)


@pytest.fixture(scope="module")
def manager():
    return plugins.load(third_party=False)


def open_macros(module):
    """Macros without a value, with one that fits."""
    text = (MODULES / module / "conf/userconfig.xml").read_text()
    fitting = {"VIP": "10.77.0.100", "PORT": "80", "ORACLE_SID": "ORCL"}
    return {name: fitting.get(name, f"/srv/{name}") for name in re.findall(r'value="(\w+)_TO_BE_DEFINED"', text)}


@pytest.mark.parametrize("module", ALL)
def test_every_shipped_configuration_is_accepted_once_its_open_macros_are_set(module, manager):
    macros = open_macros(module)
    request = Request(path=str(MODULES / module / "conf/userconfig.xml"), macros=tuple(macros.items()))
    checked = answer(request, manager)
    assert [each for each in checked.problems if each.severity == "error"] == []
    assert checked.config is not None
    told = answer(Request(path=request.path), manager).problems
    assert all(any(f"{name}_TO_BE_DEFINED" in str(each) or name in each.message for each in told) for name in macros)


@pytest.mark.parametrize("module", ALL)
def test_scripts_can_be_run_and_parsed(module):
    for path in (MODULES / module / "bin").iterdir():
        assert subprocess.run(["sh", "-n", path], check=False).returncode == 0
        assert (path.stat().st_mode & 0o111 == 0o111) == (path.suffix != ".sh"), path


@EACH
def test_each_macro_reaches_the_scripts_and_is_explained(module):
    config = (MODULES / module / "conf/userconfig.xml").read_text()
    page = (MODULES / module / "README.md").read_text()
    for name in re.findall(r'<macro name="(\w+)"', config):
        assert f'<var name="{name}" value="%{name}%"/>' in config
        assert f"| `{name}` |" in page


def test_they_share_one_file():
    assert len({(MODULES / each / "bin/owned.sh").read_bytes() for each in DATABASES}) == 1


class Server:
    """A server with a module's scripts, a directory for its data, and stand-ins for its program."""

    def __init__(self, root, module):
        self.root, self.module, self.processes = root, module, []
        for name in ("var of it", "data dir", "elsewhere", "run", "home/bin", "home/dbs", "safe kit"):
            (root / name).mkdir(parents=True)
        (root / "safe kit/safekit").write_text('#!/bin/sh\nshift\nprintf "%s\\n" "$*" >>"$0.told"\n')
        (root / "safe kit/safekit").chmod(0o755)
        self.env = {
            "PATH": os.environ["PATH"],
            "SAFE": str(root / "safe kit"),
            "SAFEUSERBIN": str(MODULES / module / "bin"),
            "SAFEUSERVAR": str(root / "var of it"),
            **dict(re.findall(r'<macro name="(\w+)" value="(.*?)"', self.config())),
            "VIP": "127.0.0.1",
            "DATADIR": str(root / "data dir"),
            "RUNDIR": str(root / "run"),
            "ORACLE_HOME": str(root / "home"),
        }

    def config(self):
        return (MODULES / self.module / "conf/userconfig.xml").read_text()

    def call(self, script, *arguments, **env):
        path = MODULES / self.module / "bin" / script
        return subprocess.run(
            [path, *arguments],
            env={**self.env, **env},
            cwd=self.root,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def start(self, program, where, *, lock=False):
        """A process that runs ``program``, works in ``where``, and shares a file as Firebird's processes do."""
        path = self.root / "home/bin" / program
        if not path.exists():
            shutil.copy2(shutil.which("sleep"), path)
        (self.root / "run/lock").mkdir(exist_ok=True)
        shared = (self.root / ("run/lock/fb_init" if lock else "run/other")).open("w")
        with shared:
            made = subprocess.Popen([path, "600"], cwd=self.root / where, stdout=shared)
        self.processes.append(made)
        return made

    def end(self):
        for each in self.processes:
            each.kill()
            each.wait()


@pytest.fixture
def server(request, tmp_path):
    made = Server(tmp_path, request.param)
    yield made
    made.end()


ON_EACH = pytest.mark.parametrize("server", DATABASES, indirect=True)
LACKING = {
    "postgresql": {"BINDIR": "auto", "INITDB": "perhaps"},
    "mysql": {"BINDIR": "/nowhere", "INITDB": "perhaps", "CONFFILE": "/nowhere/my.cnf"},
    "firebird": {"ROOTDIR": "/nowhere", "INITDB": "perhaps"},
    "oracle": {"ORACLE_HOME": "/nowhere"},
}


@ON_EACH
def test_all_that_is_missing_is_told_at_once(server):
    lacking = {"OWNER": "nosuchuser", "DATADIR": "relative/path", **LACKING[server.module]}
    done = server.call("confcheck", **lacking)
    assert done.returncode == 1
    for wanted in ("there is no user nosuchuser", "DATADIR is relative/path", *LACKING[server.module].values()):
        assert wanted in done.stderr or wanted == "auto", (wanted, done.stderr)
    assert server.call("config", **lacking).returncode == 1


@ON_EACH
@pytest.mark.parametrize("arguments", [("PRIM", "STOP", "stop"), ("force", "PRIM", "STOP", "stop")])
def test_a_stop_ends_its_own_processes_and_no_others(server, arguments):
    program = {"postgresql": "postgres", "mysql": "mariadbd", "firebird": "firebird", "oracle": "oracle"}[server.module]
    assert server.call("stop_prim", *arguments).returncode == 0, "nothing runs: that is what was asked for"
    own = server.start(program, "data dir", lock=True)
    others = [server.start("sleep", "data dir")]
    if server.module != "oracle":  # whatever runs the programs of ORACLE_HOME is the module's
        others.append(server.start(program, "elsewhere"))
    done = server.call("stop_prim", *arguments)
    assert done.returncode == 0, done.stderr
    assert own.wait(timeout=10) < 0
    assert [each.poll() for each in others] == [None] * len(others)


@pytest.mark.parametrize("server", ["mysql"], indirect=True)
def test_settings_that_lose_commits_or_leave_files_behind_are_told(server, tmp_path):
    """The stand-in answers as the server does when it is asked for the options that it finds."""
    tool = tmp_path / "home/bin/mariadbd"
    tool.write_text('#!/bin/sh\ntr "\\n" " " <"${1#--defaults-file=}"\n')
    tool.chmod(0o755)
    file = tmp_path / "my.cnf"
    words = {"OWNER": "root", "BINDIR": str(tool.parent), "CONFFILE": str(file)}
    file.write_text("--innodb_flush_log_at_trx_commit=1\n--innodb-doublewrite=1\n")
    done = server.call("confcheck", **words)
    assert (done.returncode, done.stderr) == (0, "")
    file.write_text("--innodb-flush-log-at-trx-commit=1\n--innodb_flush_log_at_trx_commit=2\n--log-bin\n")
    done = server.call("confcheck", **words)
    assert done.returncode == 0
    assert "can lose transactions" in done.stderr
    assert "sync_binlog" in done.stderr
    file.write_text(f"--innodb_data_home_dir={tmp_path}/elsewhere\n")
    done = server.call("confcheck", **words)
    assert done.returncode == 1
    assert f"{tmp_path}/elsewhere, which is not replicated" in done.stderr
