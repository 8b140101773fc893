"""The pytest plugin for authors of plugins: fixtures for configurations, checkers, modules and whole clusters.

``plugins_under_test`` is the author's: it names the plugin objects under test.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from safekit_py.lab import Lab
    from safekit_py.model.config import ModuleConfig
    from safekit_py.model.plugin import Checker
    from safekit_py.runtime.plugins import Manager
    from safekit_py.testing.checkers import Report
    from safekit_py.testing.clock import FakeClock
    from safekit_py.testing.group import FakeGroup

# Everything is imported where it is used: pytest loads this file in every run, also of projects that need none of it.
# ruff: noqa: PLC0415


@pytest.fixture
def plugins_under_test() -> tuple[object, ...]:
    """The plugins under test, modules or objects: override it. Without any, the installed ones are there."""
    return ()


@pytest.fixture
def plugin_manager(plugins_under_test: tuple[object, ...]) -> Manager:
    """The engine's manager with the built-in plugins and those under test; a bad one fails the test."""
    from safekit_py.runtime.plugins import load

    manager = load(third_party=not plugins_under_test)
    for number, plugin in enumerate(plugins_under_test):
        manager.register(str(getattr(plugin, "__name__", f"plugin{number}")).rpartition(".")[2], plugin, "test")
    bad = [str(p) for entry in manager.plugins for p in entry.problems if p.severity == "error"]
    assert not bad, "\n".join(bad)
    return manager


@pytest.fixture
def fake_clock() -> Iterator[FakeClock]:
    """An event loop whose time the test turns."""
    from safekit_py.testing.clock import FakeClock

    clock = FakeClock()
    yield clock
    clock.close()


@pytest.fixture
def module_config(plugin_manager: Manager) -> Callable[[str], ModuleConfig]:
    """Makes the configuration of a module out of the text of userconfig.xml, by the real check.

    A fragment, such as ``<check>…</check>``, stands in a module of the mode light. A text that is refused raises
    ``ConfigError`` with its problems; warnings are in order.
    """
    from safekit_py.errors import ConfigError
    from safekit_py.runtime.configcheck import Request
    from safekit_py.runtime.configchild import answer

    def make(text: str) -> ModuleConfig:
        whole = text if "<safe" in text else f'<safe><service mode="light">{text}</service></safe>'
        checked: Any = answer(Request(label="userconfig.xml", data=whole.encode()), plugin_manager)
        if checked.config is None:
            raise ConfigError(checked.problems)
        config: ModuleConfig = checked.config
        return config

    return make


@pytest.fixture
def run_checker(fake_clock: FakeClock) -> Callable[..., list[Report]]:
    """Runs a checker for some seconds of the fake clock and gives back what it reported."""
    from safekit_py.testing.checkers import watch

    def run(checker: Checker, seconds: float = 30.0) -> list[Report]:
        return watch(fake_clock, checker, seconds)

    return run


@pytest.fixture
def fake_group(tmp_path: Path, plugin_manager: Manager) -> Callable[..., FakeGroup]:
    """Makes a module that records what plugins do with it; its events go to the plugins."""
    from safekit_py.testing.group import in_folder

    def make(config: ModuleConfig | None = None, **fields: Any) -> FakeGroup:
        return in_folder(tmp_path, config, publish=plugin_manager.event, **fields)

    return make


@pytest.fixture(scope="session")
def lab_cluster() -> Iterator[Callable[..., Lab]]:
    """Makes real clusters on this machine: ``lab_cluster(servers=2)``. Needs root; the test is skipped without."""
    import os
    import uuid

    from safekit_py.errors import SystemProblem
    from safekit_py.lab import Lab
    from safekit_py.lab.lab import require

    try:
        require()
    except SystemProblem as error:
        pytest.skip(str(error))
    labs: list[Lab] = []

    def make(servers: int = 2, **options: Any) -> Lab:
        lab = Lab.up(f"p{uuid.uuid4().hex[:6]}", servers, owner=os.getpid(), **options)
        labs.append(lab)
        return lab

    yield make
    for lab in labs:
        lab.down()
