"""What the plugin brings, and where it refuses."""

from types import SimpleNamespace

import pytest
from safekit_py.plugins.checkers.errd import plugin
from safekit_py.plugins.checkers.errd.model import Errd, Proc

from safekit_py.errors import SafekitError
from safekit_py.model.config import ModuleConfig, Service, User
from safekit_py.runtime.configcheck import check_blocking


def config(errd, user=None):
    elements = () if errd is None else (("errd", (errd,)),)
    return ModuleConfig(Service("light"), user, elements)


def made(given):
    return list(next(iter(plugin.safekit_checkers())).create(SimpleNamespace(config=given)))


def test_a_checker_for_each_process():
    procs = (Proc("a"), Proc("b", service=True))
    assert [each.resource for each in made(config(Errd(5.0, procs), User()))] == ["proc.a", "proc.b"]
    assert made(config(Errd())) == []
    assert made(config(None)) == []


def test_without_user_no_script_could_follow():
    given = config(Errd(5.0, (Proc("a"),)))
    assert [each.code for each in plugin.check(given)] == ["errd.no-user"]
    text = '<safe><service mode="light"><errd><proc name="a"/></errd></service></safe>'
    found = check_blocking(text.encode(), "userconfig.xml", {})
    assert [(each.code, found.config) for each in found.problems] == [("errd.no-user", None)]
    with pytest.raises(SafekitError, match="without <user>"):
        made(given)
    assert list(plugin.check(config(Errd(), User()))) == []
