"""What a plugin does while configurations are checked spoils its own file's check, never the others'."""

import asyncio

import pytest

from safekit_py.runtime.configcheck import check_blocking, check_modules

PLUGIN = '''
import os, sys
from dataclasses import dataclass
from safekit_py.api import Element, hookimpl
@dataclass(frozen=True)
class Value:
    how: str
XSD = """<xs:element name="odd"><xs:complexType>
<xs:attribute name="how" type="xs:string"/></xs:complexType></xs:element>"""
def build(node):
    how = node.get("how")
    if how == "exit":
        sys.exit(3)
    if how == "kill":
        os._exit(4)
    return (lambda: 1) if how == "lambda" else Value(how)
@hookimpl
def safekit_elements():
    return [Element("odd", "service", XSD, build)]
'''


@pytest.fixture
def source(tmp_path, monkeypatch):
    folder = tmp_path / "opt/safekit/plugins"
    folder.mkdir(parents=True)
    (folder / "odd-one.py").write_text(PLUGIN)
    monkeypatch.setenv("SAFEKIT_ROOT", str(tmp_path))

    def write(how):
        path = tmp_path / f"{how}.xml"
        path.write_text(f'<safe><service mode="light"><odd how="{how}"/></service></safe>')
        return path

    return write


def test_a_value_of_a_plugin_that_is_a_file_arrives(source):
    path = source("fine")
    checked = check_blocking(path.read_bytes(), "userconfig.xml", {})
    assert checked.problems == ()
    assert checked.config.one("odd").how == "fine"


@pytest.mark.parametrize(("how", "said"), [("exit", "SystemExit: 3"), ("lambda", "pickle")])
def test_an_exit_and_an_odd_value_are_findings(source, how, said):
    (problem,) = check_blocking(source(how).read_bytes(), "userconfig.xml", {}).problems
    assert problem.code == "config.plugin-failed"
    assert said in problem.message


def test_the_others_are_checked_when_one_kills_the_process(source):
    paths = [source(how) for how in ("fine", "kill", "exit", "other")]
    checked = asyncio.run(check_modules(paths))
    assert [each.config is not None for each in checked] == [True, False, False, True]
    assert [each.problems[0].code for each in checked[1:3]] == ["config.check-failed", "config.plugin-failed"]
