"""All that a plugin may import from safekit_py."""

from safekit_py.core.buckets import BUCKETS, NOBODY, Table
from safekit_py.core.group import Settings, View
from safekit_py.core.keys import choose as choose_key
from safekit_py.core.membership import owner_entries
from safekit_py.core.trail import admitted
from safekit_py.errors import NotFoundError, Problem, SafekitError, StateError, SystemProblem
from safekit_py.hookspecs import hookimpl
from safekit_py.model.config import Cluster, Lan, LanNode, ModuleConfig, Service, User
from safekit_py.model.event import Event
from safekit_py.model.keys import Key, Keyring, Ring
from safekit_py.model.keys import parse as parse_keys
from safekit_py.model.notice import Notice, Notifier
from safekit_py.model.paths import Paths
from safekit_py.model.plugin import (
    Action,
    Checker,
    CheckerType,
    Drains,
    Element,
    ElementNode,
    Gated,
    Lasting,
    Metric,
    ModuleContext,
    ModuleControl,
    ModuleHandle,
    ModuleRuntime,
    ModuleType,
    Roles,
    Server,
)
from safekit_py.model.state import Readiness, Resource, Severity, State, Status
from safekit_py.net.link import Link, is_literal, resolve
from safekit_py.net.pair import Heard, Pair, PairListener
from safekit_py.net.pulse import RealtimeThread
from safekit_py.net.transport import Callbacks, GroupTransport, LanAddresses, Left, PulseThread
from safekit_py.net.wire import group_id
from safekit_py.programs import ScriptFailed, environment, open_log, refuse_if_unsafe, turn_over

__all__ = [
    "BUCKETS",
    "NOBODY",
    "Action",
    "Callbacks",
    "Checker",
    "CheckerType",
    "Cluster",
    "Drains",
    "Element",
    "ElementNode",
    "Event",
    "Gated",
    "GroupTransport",
    "Heard",
    "Key",
    "Keyring",
    "Lan",
    "LanAddresses",
    "LanNode",
    "Lasting",
    "Left",
    "Link",
    "Metric",
    "ModuleConfig",
    "ModuleContext",
    "ModuleControl",
    "ModuleHandle",
    "ModuleRuntime",
    "ModuleType",
    "NotFoundError",
    "Notice",
    "Notifier",
    "Pair",
    "PairListener",
    "Paths",
    "Problem",
    "PulseThread",
    "Readiness",
    "RealtimeThread",
    "Resource",
    "Ring",
    "Roles",
    "SafekitError",
    "ScriptFailed",
    "Server",
    "Service",
    "Settings",
    "Severity",
    "State",
    "StateError",
    "Status",
    "SystemProblem",
    "Table",
    "User",
    "View",
    "admitted",
    "choose_key",
    "environment",
    "group_id",
    "hookimpl",
    "is_literal",
    "open_log",
    "owner_entries",
    "parse_keys",
    "refuse_if_unsafe",
    "resolve",
    "turn_over",
]
