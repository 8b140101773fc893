"""Figures of the agent and of its plugins, as prometheus_client's metric families.

Flows through it: modules, resources and plugins' metrics in; families out. A name is taken once; a plugin's metric that
does not fit is left out and counted as the plugin's fault.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from safekit_py import __version__
from safekit_py.model.plugin import Metric, ModuleHandle, Server
from safekit_py.model.state import State
from safekit_py.runtime.plugins import Manager

PREFIX = "safekit_"
NAME = re.compile(r"[a-z][a-z0-9_]{0,100}")
LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
OWN = {
    "build_info": "the version of safekit_py",
    "module_state": "1 for the state that the module is in, 0 for the others",
    "module_ready": "1 when the module is Ready in its state",
    "module_starts": "how often the application was started since the agent began",
    "resource_up": "1 when the resource is up",
    "plugin_faults": "how often the plugin has failed since the agent began",
}


class Figures(Collector):
    """Collected at each look.

    :param server: its modules.
    :param manager: its plugins.
    """

    def __init__(self, server: Server, manager: Manager) -> None:
        self._server, self._manager = server, manager

    def collect(self) -> Iterator[Family]:
        """Our own figures, then the plugins'."""
        build = GaugeMetricFamily(f"{PREFIX}build_info", OWN["build_info"], labels=["version"])
        build.add_metric([__version__], 1)
        yield build
        modules = [self._server.module(name) for name in self._server.modules()]
        yield from _modules(modules)
        faults = CounterMetricFamily(f"{PREFIX}plugin_faults", OWN["plugin_faults"], labels=["plugin"])
        brought = [_family(each) for each in self._manager.metrics(self._server, wrong)]
        for entry in self._manager.plugins:
            faults.add_metric([entry.name], entry.faults)
        yield faults
        yield from brought


def _modules(modules: list[ModuleHandle]) -> Iterator[Family]:
    state = GaugeMetricFamily(f"{PREFIX}module_state", OWN["module_state"], labels=["module", "state"])
    ready = GaugeMetricFamily(f"{PREFIX}module_ready", OWN["module_ready"], labels=["module"])
    starts = CounterMetricFamily(f"{PREFIX}module_starts", OWN["module_starts"], labels=["module"])
    up = GaugeMetricFamily(f"{PREFIX}resource_up", OWN["resource_up"], labels=["module", "resource"])
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


def wrong(metric: Metric) -> str:
    """Why a plugin's metric cannot be shown; empty when it can."""
    name = metric.name.removesuffix("_total")
    if not NAME.fullmatch(metric.name) or metric.name.startswith(PREFIX):
        return f"{metric.name!r} is no name of a metric: small letters, digits and _, without {PREFIX}"
    if name in OWN or name in {f"{each}_total" for each in OWN}:
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
