"""Plugins that are single files: what counts as one, and what is refused."""

import os
import sys

import pytest

from safekit_py.errors import AccessError, ConfigError
from safekit_py.runtime import plugindir, plugins

GOOD = """
from dataclasses import dataclass
from safekit_py.api import Action, hookimpl
__version__ = "2.5"
@dataclass(frozen=True)
class Value:
    text: str
async def run(control, cause): ...
@hookimpl
def safekit_actions():
    return [Action("page", run)]
"""


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "plugins"
    made.mkdir(mode=0o755)
    yield made
    for name in [name for name in sys.modules if name.startswith(plugindir.PREFIX)]:
        del sys.modules[name]


def write(folder, name, text=GOOD, mode=0o644):
    path = folder / name
    path.write_text(text)
    path.chmod(mode)
    return path


def test_a_file_is_a_plugin_with_its_name(folder):
    write(folder, "page-me.py")
    manager = plugins.Manager()
    manager.load_files(folder)
    (entry,) = manager.plugins
    assert (entry.name, entry.version, entry.hooks, entry.problems) == ("page-me", "2.5", ("safekit_actions",), [])
    assert set(manager.actions()) == {"page"}


@pytest.mark.parametrize(
    "name", [".hidden.py", "x.py~", "x.py.swp", "#x.py#", ".#x.py", "_part.py", "x.txt", "x.bak.py"]
)
def test_hidden_files_and_copies_are_none(folder, name):
    write(folder, name)
    (folder / "sub.py").mkdir()
    assert plugindir.files(folder) == []


def test_no_folder_is_no_plugin(tmp_path):
    assert plugindir.files(tmp_path / "none") == []


@pytest.mark.parametrize("mode", [0o664, 0o646, 0o666])
def test_a_file_that_others_can_write_is_refused(folder, mode):
    path = write(folder, "x.py", mode=mode)
    with pytest.raises(AccessError) as caught:
        plugindir.load(path)
    assert caught.value.code == "plugin.unsafe"
    assert "chmod go-w" in caught.value.problems[0].remedy
    assert plugindir.load(path, anywhere=True).__version__ == "2.5"


def test_a_folder_that_others_can_write_is_refused(folder):
    path = write(folder, "x.py")
    folder.chmod(0o777)
    with pytest.raises(AccessError):
        plugindir.load(path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_file_of_somebody_else_is_refused(folder):
    path = write(folder, "x.py")
    os.chown(path, 12345, -1)
    with pytest.raises(AccessError):
        plugindir.load(path)


def test_links_pipes_and_huge_files_are_refused(folder):
    good = write(folder, "good.py")
    (folder / "link.py").symlink_to(good)
    os.mkfifo(folder / "pipe.py")
    write(folder, "huge.py", "#" * (plugindir.LARGEST + 1))
    for name in ("link.py", "pipe.py", "huge.py"):
        with pytest.raises(ConfigError) as caught:
            plugindir.load(folder / name)
        assert caught.value.code == "plugin.not-a-file"


@pytest.mark.parametrize(
    ("text", "said"),
    [("def (:", "SyntaxError"), ("import sys; sys.exit(3)", "SystemExit"), ("import no_such_thing", "No module named")],
)
def test_a_file_that_does_not_run_is_named_and_the_next_is_loaded(folder, text, said):
    write(folder, "a.py", text)
    write(folder, "b.py")
    manager = plugins.Manager()
    manager.load_files(folder)
    first, second = manager.plugins
    assert [p.code for p in first.problems] == ["plugin.load-failed"]
    assert said in first.problems[0].message
    assert second.problems == []
    assert plugindir.PREFIX + "a" not in sys.modules


def test_a_file_that_hangs_while_it_is_loaded(folder, monkeypatch):
    monkeypatch.setattr(plugins, "IMPORT_LIMIT", 0.3)
    write(folder, "a.py", "import time; time.sleep(60)")
    manager = plugins.Manager()
    manager.load_files(folder)
    assert "took more than 0.3 s" in manager.plugins[0].problems[0].message


def test_the_module_is_found_again_for_what_was_pickled(folder):
    write(folder, "val-ue.py")
    plugindir.ensure(folder, "safekit_plugin_val_ue")
    assert sys.modules["safekit_plugin_val_ue"].Value("x").text == "x"
    plugindir.ensure(folder, "safekit_plugin_none")
    assert "safekit_plugin_none" not in sys.modules
