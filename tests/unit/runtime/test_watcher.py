"""The watch over the modules' folder: with real files, real events, and events that are lost."""

import asyncio
import contextlib
import shutil
import time

import pytest

from safekit_py.bundle import disk
from safekit_py.runtime import watcher as module
from safekit_py.runtime.watcher import Watcher, look


class Watched:
    def __init__(self, folder):
        self.folder, self.told = folder, []
        self.watcher = Watcher(folder, self.told.append)

    def write(self, name, text):
        path = self.folder / name / "conf/userconfig.xml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    async def until(self, what, limit=10.0):
        end = time.monotonic() + limit
        while not what():
            assert time.monotonic() < end, self.told
            await asyncio.sleep(0.02)

    async def hears(self, name, limit=10.0):
        await self.until(lambda: name in self.told, limit)
        self.told.clear()


@contextlib.asynccontextmanager
async def watched(folder):
    made = Watched(folder)
    made.watcher.start()
    try:
        yield made
    finally:
        await made.watcher.stop()


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "modules"
    (made / "app/conf").mkdir(parents=True)
    (made / "app/conf/userconfig.xml").write_text("1")
    return made


def test_a_look_sees_modules_and_archives_and_nothing_else(folder):
    for name in ("app/conf/.userconfig.xml.swp", "app/conf/userconfig.xml~", "app/conf/4913", ".lock", "README.md"):
        (folder / name).write_text("x")
    (folder / ".stage-x/conf").mkdir(parents=True)
    (folder / ".stage-x/conf/userconfig.xml").write_text("x")
    (folder / "empty").mkdir()
    (folder / "new.zip").write_text("x")
    (folder / ".new.zip").write_text("x")
    (folder / "folder.zip").mkdir()
    assert sorted(look(folder)) == ["app", "new.zip"]


def test_a_look_at_a_folder_that_is_gone_sees_nothing(tmp_path):
    assert look(tmp_path / "none") == {}


def test_what_is_there_is_told_once_and_each_change_after_it(folder, monkeypatch):
    monkeypatch.setattr(module, "RESCAN", 60.0)  # only the events can bring it

    async def run():
        async with watched(folder) as it:
            await it.hears("app")
            await asyncio.sleep(0.5)
            assert it.told == []
            began = time.monotonic()
            it.write("app", "22")
            await it.hears("app")
            assert 0.3 <= time.monotonic() - began < 30
            it.write("other", "1")
            await it.hears("other")
            (folder / "x.zip").write_text("x")
            await it.hears("x.zip")
            (folder / "x.zip").unlink()
            await it.hears("x.zip")

    asyncio.run(run())


def test_a_file_that_is_replaced_by_a_rename_is_told(folder, monkeypatch):
    monkeypatch.setattr(module, "RESCAN", 60.0)

    async def run():
        async with watched(folder) as it:
            await it.hears("app")
            new = folder / "app/conf/userconfig.xml.new"
            new.write_text("2")
            new.replace(folder / "app/conf/userconfig.xml")
            await it.hears("app")

    asyncio.run(run())


def test_folders_that_are_exchanged_are_watched_on(folder, monkeypatch):
    """As an installation exchanges them; a watch over the whole tree would lose its thread here."""
    monkeypatch.setattr(module, "RESCAN", 60.0)

    async def run():
        async with watched(folder) as it:
            await it.hears("app")
            for number in range(3):
                beside = folder / ".beside-x/app"
                (beside / "conf").mkdir(parents=True)
                (beside / "conf/userconfig.xml").write_text(f"new {number}")
                assert disk.exchange(beside, folder / "app")
                shutil.rmtree(folder / ".beside-x")
                await it.hears("app")
                it.write("app", f"edited {number}")
                await it.hears("app")

    asyncio.run(run())


def test_a_storm_of_changes_is_told_when_it_is_over(folder):
    async def run():
        async with watched(folder) as it:
            await it.hears("app")
            end = time.monotonic() + 1.0

            def storm():
                number = 0
                while time.monotonic() < end:
                    it.write("app", str(number))
                    (folder / f"app/conf/x{number % 50}").write_text("x")
                    number += 1
                return number

            assert await asyncio.to_thread(storm) > 100
            (folder / "app/conf/userconfig.xml").write_text("last")
            await it.hears("app")
            assert it.told == []

    asyncio.run(run())


@pytest.mark.parametrize("harm", ["dead", "deaf", "folder", "none"])
def test_the_rescan_finds_what_no_event_brings(folder, monkeypatch, harm):
    monkeypatch.setattr(module, "RESCAN", 0.5)

    async def run():
        async with watched(folder) as it:
            await it.hears("app")
            old = it.watcher._observer
            if harm == "dead":
                old.stop()
                await asyncio.to_thread(old.join)
            elif harm == "deaf":
                for _, watch in it.watcher._watches.values():
                    old.remove_handler_for_watch(it.watcher, watch)
            elif harm == "folder":
                shutil.rmtree(folder)
                await it.hears("app")
            else:
                monkeypatch.setattr(it.watcher, "dispatch", lambda event: None)
            it.write("app", "changed")
            await it.hears("app")
            if harm == "dead":
                assert it.watcher._observer is not old
            if harm in {"dead", "folder"}:
                await it.until(lambda: it.watcher.watching)
                monkeypatch.setattr(module, "RESCAN", 60.0)
                await asyncio.sleep(0.6)
                it.write("app", "and heard again")
                await it.hears("app")

    asyncio.run(run())


def test_without_a_watch_it_is_said_once_and_the_rescan_goes_on(folder, monkeypatch, caplog):
    monkeypatch.setattr(module, "RESCAN", 0.2)

    def refuse():
        raise OSError(24, "inotify instance limit reached")

    monkeypatch.setattr(module, "_observe", refuse)

    async def run():
        async with watched(folder) as it:
            await it.hears("app")
            it.write("app", "changed")
            await it.hears("app")
            assert not it.watcher.watching

    asyncio.run(run())
    assert [r.getMessage() for r in caplog.records] == [
        f"changes in {folder} are seen after up to 0.2 s: [Errno 24] inotify instance limit reached"
    ]


def test_a_fault_with_one_does_not_end_the_watch(folder, caplog):
    async def run():
        told = []

        def settled(name):
            told.append(name)
            if len(told) == 1:
                raise RuntimeError("oops")

        made = Watcher(folder, settled)
        made.start()
        try:
            while len(told) < 2:
                (folder / "app/conf/userconfig.xml").write_text(str(time.monotonic()))
                await asyncio.sleep(0.5)
        finally:
            await made.stop()

    asyncio.run(asyncio.wait_for(run(), 20))
    assert "oops" in caplog.text


def test_what_should_be_there_and_was_never_seen_is_told(folder):
    async def run():
        told = []
        made = Watcher(folder, told.append, lambda: ["app", "missing"])
        made.start()
        try:
            await asyncio.sleep(1.5)
        finally:
            await made.stop()
        assert sorted(told) == ["app", "missing"]

    asyncio.run(run())


def test_again_tells_it_once_more(folder, monkeypatch):
    monkeypatch.setattr(module, "RESCAN", 0.3)

    async def run():
        async with watched(folder) as it:
            await it.hears("app")
            it.watcher.again("app")
            await it.hears("app")

    asyncio.run(run())
