"""Installing, replacing, removing and packaging real folders."""

import fcntl
import io
import os
import stat
import threading
import zipfile
from pathlib import Path

import pytest
from safekit_py.plugins.checkers.tcp_element import ELEMENT
from safekit_py.plugins.farm.elements import ELEMENTS as FARM
from safekit_py.plugins.vip.elements import ELEMENTS as VIP

from safekit_py.bundle import disk
from safekit_py.bundle import install as bundle
from safekit_py.config.checked import Checked
from safekit_py.config.load import check as check_all
from safekit_py.errors import ConfigError, NotFoundError, Problem, StateError
from safekit_py.model.config import ModuleConfig, Service
from safekit_py.model.paths import Paths

GENERIC = Path(bundle.__file__).parents[2] / "modules/generic"


def real(data, file, macros):
    return check_all(data, file, (*FARM, *VIP, ELEMENT), macros=macros)


def accept(_data, _file, _macros):
    return Checked(ModuleConfig(Service("farm")), (Problem("x.y", "mind", severity="warning"),))


@pytest.fixture
def paths(tmp_path):
    return Paths(tmp_path / "root")


@pytest.fixture
def module(tmp_path):
    folder = tmp_path / "app"
    (folder / "conf").mkdir(parents=True)
    (folder / "bin/deep").mkdir(parents=True)
    (folder / "conf/userconfig.xml").write_text("<safe><macro name='A' value='1'/></safe>")
    (folder / "bin/start_both").write_text("#!/bin/sh\n")
    (folder / "bin/deep/helper").write_text("#!/bin/sh\n")
    (folder / "README.md").write_text("# Title\n")
    return folder


def hidden(paths):
    return [each.name for each in paths.modules.iterdir() if each.name.startswith(".") and each.name != ".lock"]


def test_folder_and_zip_install_alike(module, paths, tmp_path):
    archive = bundle.package(module, tmp_path)
    assert archive.name == "app.zip"
    for name, source in (("one", module), ("two", archive), ("three", io.BytesIO(archive.read_bytes()))):
        done = bundle.install(source, name, paths, {}, accept)
        assert (done.name, done.folder, done.replaced, len(done.problems)) == (name, paths.module(name), False, 1)
        modes = {
            each.relative_to(done.folder).as_posix(): stat.S_IMODE(each.stat().st_mode)
            for each in done.folder.rglob("*")
        }
        assert modes == {
            "conf": 0o755,
            "bin": 0o755,
            "bin/deep": 0o755,
            "conf/userconfig.xml": 0o644,
            "bin/start_both": 0o755,
            "bin/deep/helper": 0o755,
            "README.md": 0o644,
        }
        assert stat.S_IMODE(done.folder.stat().st_mode) == 0o755
    assert [each.name for each in bundle.installed(paths)] == ["one", "three", "two"]
    assert hidden(paths) == []


def test_a_single_folder_at_the_top(paths):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as target:
        target.writestr("app-1.0/", b"")
        target.writestr("app-1.0/conf/userconfig.xml", b"<safe/>")
        target.writestr("app-1.0/bin/start_both", b"")
    folder = bundle.install(buffer, "app", paths, {}, accept).folder
    assert (folder / "bin/start_both").is_file()


@pytest.mark.parametrize("swap", [True, False])
def test_replacing(module, paths, swap, monkeypatch):
    if not swap:
        monkeypatch.setattr(disk, "exchange", lambda *_: False)
    bundle.install(module, "app", paths, {}, accept)
    (module / "bin/start_both").rename(module / "bin/stop_both")
    assert bundle.install(module, "app", paths, {}, accept).replaced
    assert sorted(each.name for each in (paths.module("app") / "bin").iterdir()) == ["deep", "stop_both"]
    assert hidden(paths) == []


def test_replacing_never_shows_half_a_module(module, paths):
    bundle.install(module, "app", paths, {}, accept)
    seen, stop = set(), threading.Event()

    def watch():
        while not stop.is_set():
            seen.add((paths.userconfig("app").exists(), (paths.module("app") / "README.md").exists()))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        for _ in range(20):
            bundle.install(module, "app", paths, {}, accept)
    finally:
        stop.set()
        watcher.join()
    assert seen == {(True, True)}


def test_a_rejected_configuration_keeps_the_old_module(module, paths):
    bundle.install(module, "app", paths, {}, accept)
    before = sorted(each for each in paths.root.rglob("*"))
    (module / "README.md").write_text("# New\n")
    with pytest.raises(ConfigError) as caught:
        bundle.install(module, "app", paths, {}, lambda *_: Checked(None, (Problem("config.x", "bad"),)))
    assert caught.value.code == "config.x"
    assert sorted(each for each in paths.root.rglob("*")) == before
    assert (paths.module("app") / "README.md").read_text() == "# Title\n"


@pytest.mark.parametrize("name", ["", "A", "../x", "a b", "-a", "a" * 33, "a/b", ".lock"])
def test_bad_names(module, paths, name):
    with pytest.raises(ConfigError) as caught:
        bundle.install(module, name, paths, {}, accept)
    assert caught.value.code == "bundle.bad-name"
    assert not paths.root.exists()


def test_recovery_after_a_crash(module, paths):
    bundle.install(module, "app", paths, {}, accept)
    bundle.install(module, "other", paths, {}, accept)
    paths.module("app").rename(paths.modules / ".old-app")
    (paths.modules / ".old-other/conf").mkdir(parents=True)
    (paths.modules / ".stage-x/conf").mkdir(parents=True)
    bundle.recover(paths)
    assert [each.name for each in bundle.installed(paths)] == ["app", "other"]
    assert hidden(paths) == []


def test_one_change_at_a_time(module, paths):
    paths.modules.mkdir(parents=True)
    descriptor = os.open(paths.modules / ".lock", os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with pytest.raises(StateError):
            bundle.install(module, "app", paths, {}, accept)
    finally:
        os.close(descriptor)
    assert bundle.installed(paths) == []


def test_a_link_in_the_place_of_a_module_is_replaced_not_followed(module, paths, tmp_path):
    paths.modules.mkdir(parents=True)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "keep").write_text("x")
    paths.module("app").symlink_to(elsewhere)
    bundle.install(module, "app", paths, {}, accept)
    assert not paths.module("app").is_symlink()
    assert (elsewhere / "keep").exists()
    assert hidden(paths) == []


def test_uninstall(module, paths):
    bundle.install(module, "app", paths, {}, accept)
    bundle.uninstall("app", paths)
    assert bundle.installed(paths) == []
    assert hidden(paths) == []
    with pytest.raises(NotFoundError):
        bundle.uninstall("app", paths)


def test_packages_are_the_same_each_time(module, tmp_path):
    one = bundle.package(module, tmp_path / "one.zip").read_bytes()
    for each in module.rglob("*"):
        os.utime(each, (1, 1))
    assert bundle.package(module, tmp_path / "two.zip").read_bytes() == one
    assert zipfile.ZipFile(tmp_path / "one.zip").namelist() == sorted(
        ["conf/userconfig.xml", "bin/start_both", "bin/deep/helper", "README.md"]
    )


def test_package_refuses_what_install_would(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError):
        bundle.package(tmp_path / "empty", tmp_path / "x.zip")
    assert not (tmp_path / "x.zip").exists()
    with pytest.raises(NotFoundError):
        bundle.package(tmp_path / "nothing", tmp_path / "x.zip")


def test_generic_is_shipped_and_says_which_macros_are_open(paths):
    assert {each.name: each.folder for each in bundle.shipped()}["generic"] == GENERIC
    with pytest.raises(ConfigError) as caught:
        bundle.install(GENERIC, "app", paths, {}, real)
    assert [each.code for each in caught.value.problems] == ["config.open-macro"] * 2
    assert "--set VIP=VALUE" in caught.value.problems[0].remedy
    assert not paths.root.exists()


def test_generic_with_its_macros(paths):
    done = bundle.install(GENERIC, "myapp", paths, {"VIP": "10.0.0.50", "PORT": "8080"}, real)
    assert done.problems == ()
    written = paths.userconfig("myapp").read_text().splitlines()
    shipped = (GENERIC / "conf/userconfig.xml").read_text().splitlines()
    changed = [line.strip() for line, old in zip(written, shipped, strict=True) if line != old]
    assert changed == ['<macro name="VIP" value="10.0.0.50"/>', '<macro name="PORT" value="8080"/>']
