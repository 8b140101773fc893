"""The command line: ``plugins check``, and commands that plugins bring."""

import json
import os
import subprocess
import sys

import pytest

GOOD = """
import click
from safekit_py.api import Action, Element, hookimpl
async def run(control, cause): ...
@click.command()
@click.option("--how")
def page(how):
    '''Page somebody.'''
    if how == "raise":
        raise ValueError("a mistake")
    if how == "usage":
        raise click.UsageError("not so")
    print("paged")
@hookimpl
def safekit_actions(): return [Action("page", run)]
@hookimpl
def safekit_commands(): return [page]
"""
XSD = '<xs:element name="{0}"><xs:complexType><xs:attribute name="v" type="{1}"/></xs:complexType></xs:element>'


def sound(tag):
    return XSD.format(tag, "xs:string")


HEAD = "import os, sys, time, click\nfrom safekit_py.api import *\nasync def run(control, cause): ...\n@hookimpl\n"


@pytest.fixture
def cli(tmp_path):
    folder = tmp_path / "opt/safekit/plugins"
    folder.mkdir(parents=True)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SAFEKIT_")}

    def run(*words, plugin=None, **more):
        if plugin is not None:
            (folder / "pager.py").write_text(plugin)
        command = [sys.executable, "-m", "safekit_py", "--root", str(tmp_path), *words]
        env = {**environment, **more}
        return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path)

    return run


def checked(cli, text):
    done = cli("plugins", "check", "pager", "--json", plugin=text)
    found = json.loads(done.stdout)
    assert done.returncode == (0 if found["accepted"] else 1)
    return {p["code"]: p for p in found["problems"]}


def test_a_good_one_is_accepted_with_what_it_brings(cli):
    done = cli("plugins", "check", "pager", plugin=GOOD)
    assert done.returncode == 0
    assert "actions: page" in done.stdout
    assert "accepted, 0 errors, 0 warnings" in done.stdout


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        (HEAD + "def safekit_action(): return []", "plugin.unknown-hook", "safekit_action"),
        (HEAD + "def safekit_actions(server): return []", "plugin.refused", "server"),
        (HEAD + "def safekit_actions(): return [Action('stop', run)]", "plugin.failed", "stop is already defined"),
        (HEAD + "def safekit_actions(): return [Action('a b', run)]", "plugin.bad-name", "'a b'"),
        (HEAD + "def safekit_actions(): return [Action('x', print)]", "plugin.incomplete", "no coroutine function"),
        (HEAD + "def safekit_commands(): return [click.Command('start')]", "plugin.failed", "built-in"),
        (
            HEAD + f"def safekit_elements(): return [Element('tcp', 'check', '''{sound('tcp')}''', id)]",
            "plugin.failed",
            "check/tcp is already defined",
        ),
        (
            HEAD + f"def safekit_elements(): return [Element('x', 'check', '''{XSD.format('x', 'xs:none')}''', id)]",
            "config.plugin-schema",
            "not valid",
        ),
        (
            HEAD + f"def safekit_elements(): return [Element('x', 'moon', '''{XSD.format('x', 'xs:string')}''', id)]",
            "config.plugin-schema",
            "moon",
        ),
        (
            HEAD + f"def safekit_elements(): return [Element('x', 'check', '''{XSD.format('x', 'xs:string')}''')]",
            "plugin.incomplete",
            "neither build nor note",
        ),
        (HEAD + "def safekit_metrics(): return [Metric('x', 'x', 'counter', ())]", "plugin.failed", "_total"),
        (HEAD + "def safekit_routes(): return [1]", "plugin.failed", "no APIRouter"),
        (HEAD + "def safekit_routes(server): return server.module('x')", "plugin.failed", "not installed"),
        ("raise ValueError('at import')", "plugin.load-failed", "at import"),
        ("import os; os._exit(3)", "plugin.load-failed", "status 3"),
    ],
)
def test_all_that_is_wrong_is_told(cli, text, code, said):
    found = checked(cli, text)
    assert code in found
    assert said in found[code]["message"]


def test_warnings_do_not_refuse(cli):
    found = checked(cli, "import safekit_py.runtime.plugins\n")
    assert {code: p["severity"] for code, p in found.items()} == {
        "plugin.no-hooks": "warning",
        "plugin.private": "warning",
    }
    assert found["plugin.private"]["line"] == 1


def test_a_file_anywhere_and_a_name_that_is_none(cli, tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(GOOD)
    path.chmod(0o666)
    assert cli("plugins", "check", str(path)).returncode == 0
    done = cli("plugins", "check", "nothing")
    assert (done.returncode, "plugin.not-found" in done.stderr) == (1, True)


def test_a_plugins_command_runs_and_is_listed(cli):
    assert cli("page", plugin=GOOD).stdout == "paged\n"
    text = cli("--help").stdout
    assert "Page somebody." in text.partition("Commands of plugins:")[2]


def test_a_command_that_fails_is_the_plugins_fault(cli):
    done = cli("page", "--how", "raise", plugin=GOOD)
    assert done.returncode == 1
    assert "plugin.failed" in done.stderr
    assert "plugin pager failed in its command page: ValueError: a mistake" in done.stderr
    assert "Traceback" not in done.stderr
    done = cli("page", "--how", "usage")
    assert (done.returncode, "not so" in done.stderr) == (2, True)


def test_a_mistyped_name_gets_a_suggestion_of_a_plugins_command_too(cli):
    done = cli("pag", plugin=GOOD)
    assert (done.returncode, "Did you mean page?" in done.stderr) == (2, True)


def test_built_in_commands_do_not_load_plugins(cli):
    done = cli("printi", "--help", plugin="raise SystemExit('loaded')")
    assert (done.returncode, done.stderr) == (0, "")


def test_the_trace_shows_every_hook_of_a_check(cli, tmp_path):
    path = tmp_path / "userconfig.xml"
    path.write_text('<safe><service mode="light"/></safe>')
    done = cli("--trace-hooks", "confcheck", str(path), plugin=GOOD)
    assert done.returncode == 0
    assert "hook safekit_actions plugin pager" in done.stderr
    assert "1 Action" in done.stderr


def test_without_an_agent_the_list_is_the_commands_own(cli):
    found = {each["name"]: each for each in json.loads(cli("plugins", "--json", plugin=GOOD).stdout)}
    assert found["pager"]["hooks"] == ["safekit_actions", "safekit_commands"]
    assert json.loads(cli("plugins", "info", "pager", "--json").stdout)["brings"]["commands"] == ["page"]
    listed = json.loads(cli("plugins", "list", "--json", SAFEKIT_DISABLED_PLUGINS="pager").stdout)
    (pager,) = [each for each in listed if each["name"] == "pager"]
    assert (pager["hooks"], pager["problems"][0]["code"]) == ([], "plugin.disabled")
