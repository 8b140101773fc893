"""Edited configurations, with a whole agent, real files and scripts, and modules of one server."""

import asyncio
import contextlib
import os
import shutil
import time
from pathlib import Path

import pytest

from safekit_py.bundle import install as bundle
from safekit_py.errors import ConfigError, NotFoundError, SafekitError, StateError
from safekit_py.model.paths import Paths
from safekit_py.model.state import State
from safekit_py.runtime.agent import Agent
from safekit_py.runtime.requests import Verb

XML = """<safe>
  <service mode="light"{service}>
    <check>
      <tcp ident="a" when="both" action="noaction"><to addr="127.0.0.1" port="9" interval="{interval}"/></tcp>
      <tcp ident="b" when="both" action="noaction"><to addr="127.0.0.1" port="9"/></tcp>
    </check>
    <user nicestoptimeout="10"/>
  </service>
</safe>
"""
SCRIPTS = ("start_both", "stop_both", "update", "config", "postconfig", "deconfig", "confcheck")


def module(folder, *, interval="10s", service="", scripts=SCRIPTS):
    """A module's folder whose scripts note that they were run."""
    (folder / "conf").mkdir(parents=True)
    (folder / "bin").mkdir()
    (folder / "conf/userconfig.xml").write_text(XML.format(interval=interval, service=service))
    for name in scripts:
        script(folder, name)
    return folder


def script(folder, name, text="true"):
    path = folder / "bin" / name
    path.write_text(f'#!/bin/sh\necho "{name} $*" | sed "s/ *$//" >> $SAFEUSERVAR/order\n{text}\n')
    path.chmod(0o755)


class Site:
    """A server with one module, app."""

    def __init__(self, root):
        self.paths = Paths(root)
        self.folder = self.paths.module("app")
        self.file = self.paths.userconfig("app")

    @property
    def runner(self):
        return self.agent.runners["app"]

    @property
    def codes(self):
        return [each.code for each in self.runner.pending]

    def edit(self, **values):
        self.file.write_text(XML.format(**{"interval": "10s", "service": "", **values}))

    def order(self, *, anew=False):
        path = self.paths.module_var("app") / "order"
        lines = path.read_text().splitlines() if path.exists() else []
        if anew:
            path.unlink(missing_ok=True)
        return lines

    def said(self, source="config"):
        return [e.message for _, e in self.runner.store.tail("app", 1000, 0) if e.source == source]

    async def until(self, what, limit=15.0):
        end = time.monotonic() + limit
        while not what():
            assert time.monotonic() < end, (self.agent.runners, self.agent.broken)
            await asyncio.sleep(0.02)

    async def start(self, name="app"):
        await asyncio.wait_for(await self.agent.command(name, Verb.START, None), 20)

    async def stop(self, name="app"):
        await asyncio.wait_for(await self.agent.command(name, Verb.STOP, None), 20)

    def versions(self):
        return [each.number for each in self.agent.configurations.activation.history("app").versions()]


@contextlib.asynccontextmanager
async def agent_of(site):
    site.agent = Agent(site.paths)
    await site.agent.start()
    try:
        yield site
    finally:
        await site.agent.stop()


@contextlib.asynccontextmanager
async def running(tmp_path, **values):
    site = Site(tmp_path / "root")
    async with agent_of(site):
        problems = await site.agent.installation.install(module(tmp_path / "app", **values), "app", {}, None)
        assert problems == ()
        await site.start()
        site.order(anew=True)
        yield site


def test_an_installation_is_activated_and_a_start_without_an_edit_adds_nothing(tmp_path):
    async def run():
        site = Site(tmp_path / "root")
        async with agent_of(site):
            await site.agent.installation.install(module(tmp_path / "app"), "app", {}, None)
            assert site.order() == ["confcheck", "config", "postconfig"]
            await site.start()
            assert site.order(anew=True)[3:] == ["start_both WAIT UP start"]
            assert site.versions() == [1]
            await site.stop()
            await site.start()
            assert site.versions() == [1]
            await asyncio.sleep(0.6)  # the watch has seen the file by now
            assert site.runner.pending == ()

    asyncio.run(run())


def test_a_checker_is_changed_and_nothing_else_moves(tmp_path):
    async def run():
        async with running(tmp_path) as site:
            runner, since = site.runner, {r.name: r.since for r in site.runner.board.all()}
            tasks = {e.checker.resource: e.task for e in runner.watch.entries()}
            site.edit(interval="3s")
            began = time.monotonic()
            await site.until(lambda: site.versions() == [1, 2] and "update" in site.order())
            assert time.monotonic() - began < 10
            assert site.runner is runner
            assert site.order() == ["confcheck", "update"]
            assert (runner.state, runner.starts) == (State.UP, 1)
            assert runner.config.all("check/tcp")[0].interval == 3.0
            now = {e.checker.resource: e.task for e in runner.watch.entries()}
            assert now["tcp.a"] is not tasks["tcp.a"]
            assert now["tcp.b"] is tasks["tcp.b"]
            assert {r.name: r.since for r in runner.board.all()}["tcp.b"] == since["tcp.b"]
            assert site.said()[-1] == "configuration active while the module runs: <tcp> changed; checkers: tcp.a"

    asyncio.run(run())


def test_what_needs_a_stop_is_reported_once_with_its_command(tmp_path):
    async def run():
        async with running(tmp_path) as site:
            site.edit(interval="3s", service=' failover="off"')
            await site.until(lambda: site.codes == ["config.needs-stop"])
            count = len(site.said())
            os.utime(site.file)
            await asyncio.sleep(1.5)
            assert len(site.said()) == count
            assert site.runner.config.all("check/tcp")[0].interval == 10.0
            with pytest.raises(StateError, match="config -m app --apply"):
                await site.agent.configurations.update("app")
            with pytest.raises(StateError, match="config -m app --apply"):
                await site.agent.configurations.configure("app", apply=False)
            assert not [each for each in site.order(anew=True) if each != "confcheck"]
            await site.agent.configurations.configure("app", apply=True)
            assert (site.runner.state, site.runner.config.service.failover, site.codes) == (State.UP, False, [])
            assert site.order() == [
                "confcheck",
                "stop_both UP WAIT stopstart",
                "stop_both force WAIT STOP stopstart",
                "config",
                "postconfig",
                "start_both WAIT UP start",
            ]
            assert site.runner.memory.now.started

    asyncio.run(run())


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "config.not-xml"),
        (XML.format(interval="10s", service="")[:150], "config.not-xml"),
        ('<safe>\n<service mode="light"><chek/></service></safe>', "config.unknown-element"),
        ("\x00" * 5000, "config.not-xml"),
    ],
)
def test_an_invalid_edit_leaves_all_as_it_is_and_is_said_once(tmp_path, text, code):
    async def run():
        async with running(tmp_path) as site:
            config = site.runner.config
            site.file.write_text(text)
            await site.until(lambda: site.runner.pending)
            assert site.runner.pending[0].file == str(site.file)
            assert all(each.remedy for each in site.runner.pending)
            assert site.runner.pending[0].line or not text.strip("\x00")
            assert site.codes[0].startswith("config.")
            assert code in site.codes or not text.strip("\x00")
            said = site.said()
            for _ in range(3):
                os.utime(site.file)
                await asyncio.sleep(0.5)
            assert site.said() == said
            assert site.runner.config is config
            assert (site.versions(), site.order()) == ([1], [])
            with pytest.raises(ConfigError):
                await site.agent.configurations.configure("app", apply=True)
            assert (site.runner.state, site.order()) == (State.UP, [])
            site.edit()
            await site.until(lambda: not site.runner.pending)
            assert site.said()[-1] == "userconfig.xml is as it is active"

    asyncio.run(run())


def test_confcheck_may_refuse(tmp_path):
    async def run():
        async with running(tmp_path) as site:
            script(site.folder, "confcheck", "exit 3")
            site.edit(interval="3s")
            await site.until(lambda: site.codes == ["config.confcheck"])
            assert site.runner.config.all("check/tcp")[0].interval == 10.0
            assert site.versions() == [1]

    asyncio.run(run())


def test_an_update_script_that_fails_is_a_warning(tmp_path):
    async def run():
        async with running(tmp_path) as site:
            script(site.folder, "update", "exit 3")
            site.edit(interval="3s")
            await site.until(lambda: site.said("update"))
            assert "script.failed" in site.said("update")[0]
            assert site.runner.state is State.UP

    asyncio.run(run())


def test_a_file_or_a_folder_that_is_deleted_leaves_the_module_running(tmp_path):
    async def run():
        async with running(tmp_path) as site:
            aside = tmp_path / "aside"
            shutil.move(site.file, aside)
            await site.until(lambda: site.codes == ["config.gone"])
            assert site.runner.pending[0].file == str(site.file)
            shutil.move(aside, site.file)
            await site.until(lambda: not site.codes)
            shutil.rmtree(site.folder)
            await site.until(lambda: site.codes == ["config.gone"])
            assert site.runner.pending[0].file == str(site.folder)
            assert site.runner.state is State.UP
            with pytest.raises(ConfigError, match="cannot be read"):
                await site.agent.configurations.update("app")
            with pytest.raises(StateError, match="its scripts or other files change"):
                await site.agent.installation.restore("app", 1, apply=False)
            await site.agent.installation.restore("app", 1, apply=True)
            assert (site.codes, site.runner.state) == ([], State.UP)
            assert site.folder.is_dir()

    asyncio.run(run())


def test_a_stopped_module_whose_folder_is_deleted_is_no_longer_there_and_may_come_back(tmp_path):
    async def run():
        async with running(tmp_path) as site:
            await site.stop()
            site.folder.rename(tmp_path / "away")
            await site.until(lambda: "app" not in {*site.agent.runners, *site.agent.broken})
            (tmp_path / "away").rename(site.folder)
            await site.until(lambda: "app" in site.agent.runners)
            await site.start()

    asyncio.run(run())


def test_a_stopped_module_takes_its_edit_at_the_start(tmp_path):
    async def run():
        async with running(tmp_path) as site:
            await site.stop()
            site.order(anew=True)
            site.edit(service=' failover="off"')
            await site.until(lambda: site.codes == ["config.next-start"])
            site.order(anew=True)
            await site.start()
            assert site.runner.config.service.failover is False
            assert site.order() == ["confcheck", "config", "postconfig", "start_both WAIT UP start"]
            await site.stop()
            site.file.write_text("<safe>")
            with pytest.raises(ConfigError):
                await site.start()
            assert site.runner.state is State.STOP

    asyncio.run(run())


def test_the_agents_next_start_takes_what_was_active_not_the_edit(tmp_path):
    async def run():
        site = Site(tmp_path / "root")
        async with agent_of(site):
            await site.agent.installation.install(module(tmp_path / "app"), "app", {}, None)
            await site.start()
        for text, code in (("<safe>", "config.not-xml"), (None, "config.needs-stop")):
            if text is None:
                site.edit(service=' failover="off"')
            else:
                site.file.write_text(text)
            async with agent_of(site):
                await site.until(lambda: site.runner.state is State.UP)
                await site.until(lambda code=code: site.codes == [code])
                assert site.runner.config.service.failover is True

    asyncio.run(run())


def test_a_module_of_an_agent_that_kept_no_history_goes_on(tmp_path):
    async def run():
        site = Site(tmp_path / "root")
        async with agent_of(site):
            await site.agent.installation.install(module(tmp_path / "app"), "app", {}, None)
            await site.start()
        shutil.rmtree(site.paths.var / "configurations")
        async with agent_of(site):
            await site.until(lambda: site.runner.state is State.UP)
            await site.until(lambda: site.versions() == [1])
            assert site.runner.starts == 1

    asyncio.run(run())


def test_a_full_disk_is_waited_out(tmp_path, monkeypatch):
    """The tests with a real one stand in tests/integration."""
    monkeypatch.setattr("safekit_py.runtime.reload.RESCAN", 0.2)

    async def run():
        async with running(tmp_path) as site:
            kept = site.paths.var / "configurations/app"
            kept.rename(tmp_path / "kept")
            kept.write_text("no folder")
            site.edit(interval="3s")
            await site.until(lambda: site.codes == ["config.not-stored"])
            assert site.runner.config.all("check/tcp")[0].interval == 10.0
            await asyncio.sleep(1.5)
            assert sum("not-stored" in each for each in site.said()) == 1
            kept.unlink()
            (tmp_path / "kept").rename(kept)
            await site.until(lambda: site.versions() == [1, 2])
            await site.until(lambda: site.codes == [])

    asyncio.run(run())


def test_a_new_version_replaces_a_running_one_only_when_asked(tmp_path):
    async def run():
        async with running(tmp_path) as site:
            new = module(tmp_path / "new", service=' failover="off"')
            (new / "bin/helper").write_text("x")
            with pytest.raises(StateError, match="--apply"):
                await site.agent.installation.install(new, "app", {}, None)
            bad = module(tmp_path / "bad")
            (bad / "conf/userconfig.xml").write_text("<safe>")
            with pytest.raises(ConfigError):
                await site.agent.installation.install(bad, "app", {}, None, apply=True)
            script(bad, "confcheck", "exit 1")
            (bad / "conf/userconfig.xml").write_text(XML.format(interval="1s", service=""))
            with pytest.raises(ConfigError, match="confcheck"):
                await site.agent.installation.install(bad, "app", {}, None, apply=True)
            assert [each for each in site.order(anew=True) if each != "confcheck"] == []
            assert not (site.folder / "bin/helper").exists()
            await site.agent.installation.install(new, "app", {}, None, apply=True)
            assert (site.runner.state, site.runner.config.service.failover) == (State.UP, False)
            assert (site.folder / "bin/helper").exists()
            assert not [each.name for each in site.paths.modules.iterdir() if each.name.startswith(".beside")]

    asyncio.run(run())


def test_a_new_version_whose_config_script_fails_is_taken_back(tmp_path):
    async def run():
        async with running(tmp_path) as site:
            bad = module(tmp_path / "bad", service=' failover="off"')
            script(bad, "config", "exit 1")
            with pytest.raises(ConfigError, match="config script failed"):
                await site.agent.installation.install(bad, "app", {}, None, apply=True)
            await site.until(lambda: site.runner.state is State.UP and not site.runner.busy)
            assert site.runner.config.service.failover is True
            assert "exit 1" not in (site.folder / "bin/config").read_text()
            assert (site.codes, site.versions()) == ([], [1])
            script(site.folder, "config", "exit 1")
            site.edit(service=' failover="off"')
            with pytest.raises(ConfigError, match="config script failed"):
                await site.agent.configurations.configure("app", apply=True)
            await site.until(lambda: site.runner.state is State.UP and not site.runner.busy)
            await asyncio.sleep(1.5)
            assert site.runner.config.service.failover is True
            assert site.codes in (
                ["config.script-failed"],
                ["config.needs-stop"],
            )  # whoever came last

    asyncio.run(run())


def test_a_config_script_that_fails_leaves_a_stopped_module_unconfigured(tmp_path):
    async def run():
        async with running(tmp_path) as site:
            await site.stop()
            script(site.folder, "config", "exit 1")
            site.edit(interval="2s")
            with pytest.raises(ConfigError, match="config script failed"):
                await site.start()
            assert site.agent.broken["app"][0].code == "config.script-failed"
            script(site.folder, "config")
            await site.start()
            assert site.runner.state is State.UP

    asyncio.run(run())


def test_restore_without_a_stop_where_that_is_enough(tmp_path):
    async def run():
        async with running(tmp_path) as site:
            site.edit(interval="3s")
            await site.until(lambda: site.versions() == [1, 2])
            await site.until(lambda: "update" in site.order())
            site.order(anew=True)
            await site.agent.installation.restore("app", 1, apply=False)
            assert site.runner.config.all("check/tcp")[0].interval == 10.0
            assert 'interval="10s"' in site.file.read_text()
            assert site.order() == ["confcheck", "update"]
            assert site.versions() == [1, 2, 3]
            with pytest.raises(NotFoundError):
                await site.agent.installation.restore("app", 9, apply=True)

    asyncio.run(run())


def test_restore_of_a_configuration_that_was_kept_alone(tmp_path):
    async def run():
        async with running(tmp_path) as site:
            (site.folder / "bin/link").symlink_to("start_both")
            site.edit(interval="3s")
            await site.until(lambda: site.versions() == [1, 2])
            site.edit(interval="4s")
            await site.until(lambda: site.versions() == [1, 2, 3])
            await site.agent.installation.restore("app", 2, apply=False)
            assert 'interval="3s"' in site.file.read_text()
            assert (site.folder / "bin/link").is_symlink()
            assert site.runner.config.all("check/tcp")[0].interval == 3.0

    asyncio.run(run())


def test_deconfig_and_back(tmp_path):
    async def run():
        async with running(tmp_path) as site:
            await site.agent.configurations.deconfigure("app")
            assert site.order(anew=True)[-1] == "deconfig"
            assert site.agent.broken["app"][0].code == "module.not-configured"
            with pytest.raises(ConfigError, match="no active configuration"):
                await site.start()
            information = await site.agent.configurations.information("app")
            assert (information.active, len(information.versions)) == (None, 1)
        async with agent_of(site):
            await site.until(lambda: "app" in site.agent.broken)
            assert "app" not in site.agent.runners
            await site.agent.configurations.configure("app", apply=False)
            await site.start()
            assert site.runner.state is State.UP

    asyncio.run(run())


def test_what_appears_is_available_and_does_nothing(tmp_path):
    async def run():
        async with running(tmp_path) as site:
            shelf = site.agent.configurations.reload.shelf
            module(site.paths.module("other"))
            bundle.package(module(tmp_path / "third"), site.paths.modules / "third.zip")
            (site.paths.modules / "half.zip").write_bytes((site.paths.modules / "third.zip").read_bytes()[:200])
            await site.until(lambda: len(shelf.all()) == 3)
            found = {each.name: [p.code for p in each.problems] for each in shelf.all()}
            assert found == {"other": [], "third": [], "half": ["bundle.not-a-zip"]}
            assert site.agent.broken["other"][0].code == "module.not-configured"
            with pytest.raises(ConfigError, match="config -m other"):
                await site.start("other")
            assert not (site.paths.module_var("other") / "order").exists()
            await site.agent.configurations.configure("other", apply=False)
            await site.start("other")
            (site.paths.modules / "half.zip").unlink()
            await site.until(lambda: [each.name for each in shelf.all()] == ["third"])

    asyncio.run(run())


def test_an_uninstalled_module_leaves_no_configuration(tmp_path):
    async def run():
        async with running(tmp_path) as site:
            with pytest.raises(StateError):
                await site.agent.installation.uninstall("app")
            await site.stop()
            await site.agent.installation.uninstall("app")
            assert site.order()[-1] == "deconfig"
            assert site.versions() == []
            module(site.folder)
            await site.until(lambda: "app" in site.agent.broken)
            assert site.agent.broken["app"][0].code == "module.not-configured"

    asyncio.run(run())


@pytest.mark.parametrize("name", ["..", ".", "A", "a/b", "", "x" * 40])
def test_a_name_that_no_module_can_have(tmp_path, name):
    async def run():
        site = Site(tmp_path / "root")
        async with agent_of(site):
            for call in (
                lambda: site.agent.configurations.configure(name, apply=True),
                lambda: site.agent.configurations.information(name),
                lambda: site.agent.configurations.difference(name, None),
                lambda: site.agent.installation.restore(name, 1, apply=True),
                lambda: site.agent.installation.install(Path("/x"), name, {}, None),
                lambda: site.start(name),
            ):
                with pytest.raises(SafekitError):
                    await call()
            assert not (site.paths.var / "configurations").exists()

    asyncio.run(run())
