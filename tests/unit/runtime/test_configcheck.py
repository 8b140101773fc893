"""Configurations are checked in a process of their own; this side stays free of the XML library."""

import asyncio
import subprocess
import sys

import pytest

from safekit_py.errors import SystemProblem
from safekit_py.runtime import configcheck
from safekit_py.runtime.configcheck import Request

GOOD = (
    b'<safe><macro name="M" value="3"/><service mode="farm" maxloop="%M%">'
    b'<farm><lan name="default"/></farm></service></safe>'
)
CLUSTER = b'<cluster><lans><lan name="d"><node name="a" addr="10.0.0.1"/></lan></lans></cluster>'


def test_several_files_in_one_process(tmp_path):
    (tmp_path / "userconfig.xml").write_bytes(GOOD)
    requests = [
        Request(str(tmp_path / "userconfig.xml"), macros=(("M", "5"),)),
        Request(str(tmp_path / "nothing.xml")),
        Request(label="bad.xml", data=b"<safe>"),
        Request(data=CLUSTER, cluster=True),
    ]
    one, two, three, four = asyncio.run(configcheck.check_in_child(requests))
    assert one.config.service.maxloop == 5
    assert [each.code for each in two.problems] == ["config.unreadable"]
    assert (three.problems[0].code, three.problems[0].file) == ("config.not-xml", "bad.xml")
    assert four.cluster.nodes == ("a",)


def test_the_short_forms(tmp_path):
    (tmp_path / "userconfig.xml").write_bytes(GOOD)
    (tmp_path / "cluster.xml").write_bytes(CLUSTER)

    async def run():
        assert (await configcheck.check_modules([tmp_path / "userconfig.xml"]))[0].config.service.maxloop == 3
        assert (await configcheck.check_cluster(tmp_path / "cluster.xml"))[0].nodes == ("a",)
        assert (await configcheck.check_cluster_bytes(b"x"))[1][0].file == "cluster.xml"

    asyncio.run(run())
    assert configcheck.check_blocking(GOOD, "f.xml", {"M": "4"}).config.service.maxloop == 4


def test_a_process_that_fails_is_told(monkeypatch):
    monkeypatch.setattr(configcheck, "COMMAND", (sys.executable, "-c", "raise SystemExit('it broke')"))
    with pytest.raises(SystemProblem, match="it broke"):
        asyncio.run(configcheck.check_in_child([Request(data=GOOD)]))
    with pytest.raises(SystemProblem, match="it broke"):
        configcheck.check_blocking(GOOD, "f.xml", {})


def test_a_process_that_hangs_is_killed(monkeypatch):
    monkeypatch.setattr(configcheck, "COMMAND", (sys.executable, "-c", "import time; time.sleep(60)"))
    monkeypatch.setattr(configcheck, "TIMEOUT", 0.5)
    with pytest.raises(SystemProblem, match="took more than"):
        asyncio.run(configcheck.check_in_child([Request(data=GOOD)]))
    with pytest.raises(SystemProblem, match="took more than"):
        configcheck.check_blocking(GOOD, "f.xml", {})


def test_this_side_does_not_load_the_xml_library():
    code = (
        "import sys, safekit_py.runtime.configcheck, safekit_py.bundle.install; raise SystemExit('lxml' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_modes_and_actions_that_no_plugin_brings_are_said():
    base = (
        '<safe>\n<service mode="{}"><farm><lan name="default"/></farm>\n<check><tcp ident="a" when="both" action="{}">'
        '<to addr="10.0.0.1" port="80"/></tcp></check></service></safe>'
    )
    codes = {}
    for mode, action in (("farm", "restart"), ("farm", "fly"), ("mirror", "restart"), ("odd", "stop")):
        checked = configcheck.check_blocking(base.format(mode, action).encode(), "f.xml", {})
        codes[mode, action] = [(p.code, p.severity) for p in checked.problems], checked.config is not None
    assert codes == {
        ("farm", "restart"): ([], True),
        ("farm", "fly"): ([("config.unknown-action", "error")], False),
        ("mirror", "restart"): ([("mirror.no-farm", "error"), ("mirror.no-heart", "error")], False),
        ("odd", "stop"): ([("config.unknown-mode", "error")], False),
    }


@pytest.mark.parametrize(
    ("when", "codes"), [("pre", []), ("both", ["config.wait-cycles"]), ("prim", ["config.wait-cycles"])]
)
def test_a_checker_that_cannot_keep_the_module_in_wait_is_told(when, codes):
    text = (
        f'<safe><service mode="light"><check><tcp ident="db" when="{when}" action="wait">'
        '<to addr="10.0.0.1" port="80"/></tcp></check></service></safe>'
    )
    checked = configcheck.check_blocking(text.encode(), "f.xml", {})
    assert [each.code for each in checked.problems] == codes
    assert checked.config is not None, "a warning"
    assert all('<tcp ident="db">' in each.message for each in checked.problems)
