"""Manual pages and completion: of every command, well-formed for man, and working in the shell."""

import shutil
import subprocess

import click
import pytest
from click.testing import CliRunner

from safekit_py.cli import manual
from safekit_py.cli.main import cli


@pytest.fixture(scope="module")
def pages():
    return manual.pages(cli)


def test_every_command_that_is_not_hidden_has_a_page_and_stands_on_the_first(pages):
    context = click.Context(cli)
    shown = {name for name in cli.list_commands(context) if not cli.get_command(context, name).hidden}
    assert set(pages) == {"safekit-py.1", *(f"safekit-py-{name}.1" for name in shown)}
    assert all(f".BR safekit\\-py\\-{manual.escaped(name)} (1)" in pages["safekit-py.1"] for name in shown)


def test_a_group_s_page_has_the_commands_of_its_groups_with_their_options(pages):
    page = pages["safekit-py-cluster.1"]
    assert ".SS key rotate\n" in page
    assert ".B \\-\\-node NAME\n" in page


def test_no_text_becomes_a_request_of_troff():
    assert manual.escaped(".TH x\n'y\\z -a") == "\\&.TH x\n\\&'y\\ez \\-a"


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is not here")
def test_groff_has_nothing_to_say_of_a_page(pages):
    for name, text in pages.items():
        done = subprocess.run(
            ["groff", "-man", "-Tutf8", "-ww"], input=text, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, ""), name


def test_the_pages_are_written_where_one_says(tmp_path):
    done = CliRunner().invoke(cli, ["manual", str(tmp_path / "man1")])
    assert done.exit_code == 0, done.output
    assert "safekit\\-py start" in (tmp_path / "man1/safekit-py-start.1").read_text()
    (tmp_path / "file").write_text("")
    refused = CliRunner().invoke(cli, ["manual", str(tmp_path / "file/man1")])
    assert refused.exit_code == 69
    assert "manual.not-written" in refused.output


@pytest.mark.parametrize("shell", manual.SHELLS)
def test_a_completion_asks_the_program(shell):
    done = CliRunner().invoke(cli, ["completion", shell])
    assert done.exit_code == 0, done.output
    assert f"_SAFEKIT_PY_COMPLETE={shell}_complete" in done.output


def test_bash_completes_a_command(tmp_path):
    program = tmp_path / "safekit-py"
    program.write_text('#!/bin/sh\nexec python -m safekit_py "$@"\n')
    program.chmod(0o755)
    (tmp_path / "completion").write_text(manual.script(cli, "bash"))
    text = (
        f"PATH={tmp_path}:$PATH; . {tmp_path}/completion; COMP_WORDS=(safekit-py sta); COMP_CWORD=1\n"
        '_safekit_py_completion safekit-py; echo "${COMPREPLY[@]}"'
    )
    done = subprocess.run(["bash", "-c", text], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.split() == ["start", "state", "status"], done.stderr
