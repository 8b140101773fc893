"""The configurations that were active: kept whole, bounded, and readable after whatever happened."""

import os
import resource
import signal
import stat
import subprocess
import sys
import time

import pytest

from safekit_py.bundle import history as module
from safekit_py.bundle import install as bundle
from safekit_py.bundle.history import KEPT, History, contents, present
from safekit_py.config.checked import Checked
from safekit_py.errors import NotFoundError
from safekit_py.model.config import ModuleConfig, Service
from safekit_py.model.paths import Paths

XML = b"<safe>%d</safe>\n"


@pytest.fixture
def paths(tmp_path):
    made = Paths(tmp_path)
    folder = made.module("app")
    (folder / "conf").mkdir(parents=True)
    (folder / "bin").mkdir()
    (folder / "conf/userconfig.xml").write_bytes(XML % 1)
    (folder / "bin/start_both").write_bytes(b"#!/bin/sh\n")
    return made


@pytest.fixture
def history(paths):
    return History(paths, "app")


def test_nothing_was_active(history):
    assert history.versions() == []
    assert history.active() is None
    assert not history.deconfigured


def test_a_configuration_is_kept_with_its_scripts(history, paths):
    made = history.record(XML % 1, "first start", 5.0)
    assert (made.number, made.cause, made.time, made.whole) == (1, "first start", 5.0, True)
    assert history.active() == made
    assert contents(made.path) == {"bin/start_both": b"#!/bin/sh\n", "conf/userconfig.xml": XML % 1}
    assert made.signature == present(paths, "app")


def test_the_bytes_that_were_checked_count_not_what_the_file_holds_by_then(history, paths):
    paths.userconfig("app").write_text("half wri")
    made = history.record(XML % 7, "x", 0.0)
    assert contents(made.path)["conf/userconfig.xml"] == XML % 7
    assert made.signature != present(paths, "app")


def test_only_the_last_ones_are_kept(history):
    for number in range(9):
        history.record(XML % number, "x", 0.0)
    assert [each.number for each in history.versions()] == [6, 7, 8, 9]
    assert len(history.versions()) == KEPT + 1


def test_others_cannot_read_them(history):
    made = history.record(XML % 1, "x", 0.0)
    assert stat.S_IMODE(made.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(made.path.parent.stat().st_mode) == 0o700


def test_it_can_be_installed_again(history, paths):
    made = history.record(XML % 1, "x", 0.0)
    checked = Checked(ModuleConfig(Service("farm")))
    bundle.install(made.path, "other", paths, {}, lambda *_: checked)
    assert paths.userconfig("other").read_bytes() == XML % 1
    assert os.access(paths.module("other") / "bin/start_both", os.X_OK)


def test_a_folder_that_no_archive_may_hold_is_kept_as_its_configuration(history, paths):
    (paths.module("app") / "bin/link").symlink_to("/etc/passwd")
    made = history.record(XML % 1, "x", 0.0)
    assert (made.whole, made.signature) == (False, "")
    assert contents(made.path) == {"conf/userconfig.xml": XML % 1}


def test_a_large_folder_is_kept_as_its_configuration(history, paths, monkeypatch):
    monkeypatch.setattr(module, "MAX_KEPT", 1000)
    (paths.module("app") / "bin/big").write_bytes(b"x" * 1001)
    assert not history.record(XML % 1, "x", 0.0).whole


def test_a_folder_that_is_gone_is_kept_as_its_configuration(history, paths):
    paths.module("app").rename(paths.modules / ".away")
    assert contents(history.record(XML % 1, "x", 0.0).path) == {"conf/userconfig.xml": XML % 1}


def test_find(history):
    history.record(XML % 1, "x", 0.0)
    assert history.find(1).number == 1
    with pytest.raises(NotFoundError, match="kept: 1"):
        history.find(2)


def test_the_difference_is_a_diff_of_all_files(history, paths):
    made = history.record(XML % 1, "x", 0.0)
    assert history.difference(made) == ""
    paths.userconfig("app").write_bytes(XML % 2)
    (paths.module("app") / "bin/start_both").unlink()
    (paths.module("app") / "bin/new").write_bytes(b"\xff\x00")
    text = history.difference(made)
    assert "-<safe>1</safe>\n+<safe>2</safe>\n" in text
    assert "--- 1/bin/start_both\n+++ /dev/null\n" in text
    assert "Binary files /dev/null and app/bin/new differ" in text


def test_deconfigured_until_the_next_one_is_active(history):
    history.record(XML % 1, "x", 0.0)
    history.deconfigure()
    assert history.deconfigured
    assert history.active().number == 1
    history.record(XML % 2, "x", 0.0)
    assert not history.deconfigured


def test_removed_with_its_module(history):
    history.record(XML % 1, "x", 0.0)
    history.remove()
    assert history.versions() == []
    assert history.deconfigured


def test_what_cannot_be_read_is_left_out_and_its_number_is_not_used_again(history):
    made = history.record(XML % 1, "x", 0.0)
    made.path.with_name("000005.zip").write_bytes(b"torn")
    assert [each.number for each in history.versions()] == [1]
    assert history.record(XML % 2, "x", 0.0).number == 6


def test_a_full_disk_leaves_all_as_it_was(history, paths):
    """A limit on the size of a file fails a write as a full disk does, in the middle."""
    history.record(XML % 1, "x", 0.0)
    (paths.module("app") / "bin/noise").write_bytes(os.urandom(100_000))
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            history.record(XML % 2, "x", 0.0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, old)
    assert [each.number for each in history.versions()] == [1]
    assert [each.name for each in history.active().path.parent.iterdir()] == ["000001.zip"]


def test_a_writer_killed_anywhere_leaves_whole_ones_only(history, paths, tmp_path):
    (paths.module("app") / "bin/noise").write_bytes(os.urandom(200_000))
    code = (
        "import sys\nfrom pathlib import Path\nfrom safekit_py.bundle.history import History\n"
        "from safekit_py.model.paths import Paths\nh = History(Paths(Path(sys.argv[1])), 'app')\nprint(flush=True)\n"
        "while True: h.record(b'<safe/>', 'x', 0.0)\n"
    )
    for _ in range(3):
        writer = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE)
        writer.stdout.readline()
        end = time.monotonic() + 30
        while len(history.versions()) <= KEPT:
            assert time.monotonic() < end
            time.sleep(0.01)
        with pytest.raises(subprocess.TimeoutExpired):
            writer.wait(0.15)
        writer.kill()
        writer.wait()
        writer.stdout.close()
        found = history.versions()
        assert 1 <= len(found) <= KEPT + 2
        assert all(contents(each.path)["bin/noise"] for each in found)
        history.record(XML % 3, "x", 0.0)
        folder = history.active().path.parent
        assert not [each for each in folder.iterdir() if each.name.startswith(".new-")]
        assert len(history.versions()) == KEPT + 1
