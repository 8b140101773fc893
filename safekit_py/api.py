"""All that a plugin may import from safekit_py."""

from safekit_py.errors import Problem, SafekitError, SystemProblem
from safekit_py.hookspecs import hookimpl
from safekit_py.model.config import Cluster, Lan, LanNode, ModuleConfig, Service, User
from safekit_py.model.event import Event
from safekit_py.model.paths import Paths
from safekit_py.model.plugin import (
    Action,
    Checker,
    CheckerType,
    Element,
    ElementNode,
    ModuleContext,
    ModuleControl,
    ModuleRuntime,
    ModuleType,
)
from safekit_py.model.state import Readiness, Resource, Severity, State, Status

__all__ = [
    "Action",
    "Checker",
    "CheckerType",
    "Cluster",
    "Element",
    "ElementNode",
    "Event",
    "Lan",
    "LanNode",
    "ModuleConfig",
    "ModuleContext",
    "ModuleControl",
    "ModuleRuntime",
    "ModuleType",
    "Paths",
    "Problem",
    "Readiness",
    "Resource",
    "SafekitError",
    "Service",
    "Severity",
    "State",
    "Status",
    "SystemProblem",
    "User",
    "hookimpl",
]
