"""Figures of the agent and of its plugins, as prometheus_client's metric families.

Flows through it: modules, resources and plugins' metrics in; families out. A name is taken once; a plugin's metric that
does not fit is left out and counted as the plugin's fault.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from safekit_py import __version__
from safekit_py.model.plugin import Metric, ModuleHandle, Server
from safekit_py.model.state import State
from safekit_py.runtime.plugins import Manager
from safekit_py.runtime.runner import ModuleRunner

PREFIX = "safekit_"
NAME = re.compile(r"[a-z][a-z0-9_]{0,100}")
LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
OWN = {
    "build_info": "the version of safekit_py, and this server's name",
    "module_state": "1 for the state that the module is in, 0 for the others",
    "module_ready": "1 when the module is Ready in its state",
    "module_starts": "how often the application was started since the agent began",
    "module_since_seconds": "for how long the module has been in its state",
    "module_state_entered": "how often the module entered the state since the agent began",
    "module_actions": "what the module carried out since the agent began, by who asked: a person, or the module itself",
    "module_loop_actions": "automatic actions in the present window of maxloop",
    "module_loop_limit": "maxloop: automatic actions that a window grants",
    "module_failover": "1 when automatic actions are taken",
    "module_pending": "problems of an edited configuration that is not active",
    "script_runs": "runs of the script since the agent began, by their result",
    "script_seconds": "seconds that the runs of the script took together",
    "script_last_seconds": "seconds that the script's last run took",
    "server_alive": "1 when this server hears the other one in that module; of itself always 1",
    "datagrams_rejected": "heartbeats and others that were refused, by the reason",
    "notify_sent": "notices that the target took since its process began",
    "notify_failed": "notices that could not be sent to the target",
    "notify_held": "notices that were not sent to the target, because there were too many",
    "notify_waiting": "notices on their way to the target",
    "resource_up": "1 when the resource is up",
    "plugin_faults": "how often the plugin has failed since the agent began",
}


class Figures(Collector):
    """Collected at each look.

    :param server: its modules.
    :param manager: its plugins.
    :param runners: its modules that can run, by name.
    :param notified: what became of notifications, by target.
    """

    def __init__(
        self,
        server: Server,
        manager: Manager,
        runners: Mapping[str, ModuleRunner],
        notified: Mapping[str, Mapping[str, Any]],
    ) -> None:
        self._server, self._manager, self._runners, self._notified = server, manager, runners, notified

    def collect(self) -> Iterator[Family]:
        """Our own figures, then the plugins'."""
        build = _gauge("build_info", "version", "server")
        build.add_metric([__version__, self._server.node], 1)
        yield build
        modules = [self._server.module(name) for name in self._server.modules()]
        yield from _modules(modules)
        yield from _counted(self._runners.values())
        yield from _servers(modules)
        yield from _notified(self._notified)
        faults = _counter("plugin_faults", "plugin")
        brought = [_family(each) for each in self._manager.metrics(self._server, wrong)]
        for entry in self._manager.plugins:
            faults.add_metric([entry.name], entry.faults)
        yield faults
        yield from brought


def _modules(modules: list[ModuleHandle]) -> Iterator[Family]:
    state, ready = _gauge("module_state", "module", "state"), _gauge("module_ready", "module")
    starts, up = _counter("module_starts", "module"), _gauge("resource_up", "module", "resource")
    for module in modules:
        status = module.status()
        for each in (*State, *({status["state"]} - set(State))):
            state.add_metric([module.name, str(each)], each == status["state"])
        ready.add_metric([module.name], status["readiness"] == "Ready")
        starts.add_metric([module.name], status["starts"])
        for name, value in module.resources().items():
            if value in {"init", "up", "down", "unknown"}:  # others are for people to read
                up.add_metric([module.name, name], value == "up")
    yield from (state, ready, starts, up)


def _counted(runners: Iterable[ModuleRunner]) -> Iterator[Family]:
    """What only the engine knows of its modules."""
    since = _gauge("module_since_seconds", "module", "state")
    entered = _counter("module_state_entered", "module", "state")
    actions = _counter("module_actions", "module", "action", "by")
    loop, limit = _gauge("module_loop_actions", "module"), _gauge("module_loop_limit", "module")
    failover, pending = _gauge("module_failover", "module"), _gauge("module_pending", "module")
    runs, seconds = (
        _counter("script_runs", "module", "script", "result"),
        _counter("script_seconds", "module", "script"),
    )
    last = _gauge("script_last_seconds", "module", "script")
    now = time.monotonic()
    for each in runners:
        name = each.name
        since.add_metric([name, each.state.value], now - each.since)
        for state, count in sorted(each.tally.states.items()):
            entered.add_metric([name, state], count)
        for (verb, person), count in sorted(each.tally.actions.items()):
            actions.add_metric([name, verb, "person" if person else "itself"], count)
        loop.add_metric([name], each.loop.count)
        limit.add_metric([name], each.loop.maxloop)
        failover.add_metric([name], each.failover_on)
        pending.add_metric([name], len(each.pending))
        for script, found in sorted(each.tally.scripts.items()):
            runs.add_metric([name, script, "done"], found.count - found.failed)
            runs.add_metric([name, script, "failed"], found.failed)
            seconds.add_metric([name, script], found.seconds)
            last.add_metric([name, script], found.last)
    yield from (since, entered, actions, loop, limit, failover, pending, runs, seconds, last)


def _servers(modules: Iterable[ModuleHandle]) -> Iterator[Family]:
    """The other servers, as each module hears them."""
    alive, rejected = _gauge("server_alive", "module", "server"), _counter("datagrams_rejected", "module", "reason")
    for module in modules:
        report: Mapping[str, Any] = module.report()
        for server, word in report.get("servers", {}).items():
            alive.add_metric([module.name, server], word == "alive")
        for reason, count in report.get("rejected", {}).items():
            rejected.add_metric([module.name, str(reason)], count)
    yield from (alive, rejected)


def _notified(targets: Mapping[str, Mapping[str, Any]]) -> Iterator[Family]:
    sent, failed = _counter("notify_sent", "target"), _counter("notify_failed", "target")
    held, waiting = _counter("notify_held", "target"), _gauge("notify_waiting", "target")
    for name, counts in sorted(targets.items()):
        sent.add_metric([name], counts["sent"])
        failed.add_metric([name], counts["failed"])
        held.add_metric([name], counts["held"])
        waiting.add_metric([name], counts["waiting"])
    yield from (sent, failed, held, waiting)


def _gauge(name: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"{PREFIX}{name}", OWN[name], labels=labels)


def _counter(name: str, *labels: str) -> CounterMetricFamily:
    return CounterMetricFamily(f"{PREFIX}{name}", OWN[name], labels=labels)


def wrong(metric: Metric) -> str:
    """Why a plugin's metric cannot be shown; empty when it can."""
    if not NAME.fullmatch(metric.name) or metric.name.startswith(PREFIX):
        return f"{metric.name!r} is no name of a metric: small letters, digits and _, without {PREFIX}"
    if metric.name.removesuffix("_total") in OWN:
        return f"the metric {metric.name} is a built-in one"
    if metric.kind not in {"gauge", "counter"}:
        return f"the metric {metric.name} is of kind {metric.kind!r}, not gauge or counter"
    if metric.kind == "counter" and not metric.name.endswith("_total"):
        return f"the counter {metric.name} must end with _total"
    if metric.kind == "gauge" and metric.name.endswith("_total"):
        return f"the gauge {metric.name} must not end with _total"
    keys = {tuple(sorted(labels)) for labels, _ in metric.samples}
    if len(keys) > 1:
        return f"the samples of {metric.name} have different labels"
    if len({tuple(sorted(labels.items())) for labels, _ in metric.samples}) < len(metric.samples):
        return f"two samples of {metric.name} have the same labels"
    bad = [label for each in keys for label in each if not LABEL.fullmatch(label) or label.startswith("__")]
    if bad:
        return f"{bad[0]!r} is no label of a metric"
    values = [value for _, value in metric.samples]
    if not all(isinstance(each, int | float) for each in values):
        return f"a sample of {metric.name} is no number"
    if metric.kind == "counter" and any(math.isnan(each) or each < 0 for each in values):
        return f"the counter {metric.name} is below 0"
    return ""


def _family(metric: Metric) -> Family:
    labels = sorted(metric.samples[0][0]) if metric.samples else []
    kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    family = kind(PREFIX + metric.name, metric.help, labels=labels)
    for given, value in metric.samples:
        family.add_metric([str(given[label]) for label in labels], float(value))
    return family
