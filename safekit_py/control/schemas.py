"""The API's documents: dataclasses that ``binding`` fills from what comes in, and that make the OpenAPI document."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from safekit_py.control.routing import said


@dataclass(kw_only=True, slots=True)
class ProblemItem:
    """One finding."""

    code: str
    message: str
    remedy: str = ""
    file: str = ""
    line: int = 0
    severity: str = "error"


@dataclass(kw_only=True, slots=True)
class ProblemDocument:
    """Why a call was refused (RFC 9457)."""

    type: str = said("urn:safekit: and the first finding's code")
    title: str = said("the first finding's message")
    status: int
    problems: list[ProblemItem]


@dataclass(kw_only=True, slots=True)
class ResourceItem:
    """One watched thing."""

    name: str
    value: str
    age: float = said("seconds since it took this value")
    cause: str = ""


@dataclass(kw_only=True, slots=True)
class ModuleItem:
    """One installed module."""

    name: str
    mode: str = ""
    state: str = said("STOP WAIT UP ALONE PRIM SECOND, or NOT_CONFIGURED")
    readiness: str = ""
    age: float = said("seconds in this state", 0.0)
    busy: str = said("the command that is being carried out", "")
    reason: str = said("why it is in this state, one line", "")
    exit_code: int = said("what `state` exits with", 0)
    loop: str = said("automatic actions taken of those granted", "")
    starts: int = said("how often the application was started since the agent began", 0)
    failover: bool = said("whether automatic actions are taken", True)
    suspended: list[str] = said("patterns of the checkers that are switched off", [])
    boot: str = said("whether it starts with the server: on, off, auto", "")
    resources: list[ResourceItem] = said(default=[])
    report: dict[str, Any] = said("what the module type shows", {})
    problems: list[ProblemItem] = said(default=[])
    pending: list[ProblemItem] = said("why an edited configuration is not the active one", [])


@dataclass(kw_only=True, slots=True)
class RoleOrder:
    """A command of a module whose servers have roles."""

    arguments: list[str] = said(default=[], max_length=16)


@dataclass(kw_only=True, slots=True)
class RoleDone:
    """What came of it."""

    text: str = said("one line to be read")
    discards: str = said("the data that are given up by it, or would be; empty for none", "")
    data: dict[str, Any] = said(default={})
    module: ModuleItem
    operation: str = said("by which it can be followed; empty: there is nothing to follow", "")


@dataclass(kw_only=True, slots=True)
class StatusDocument:
    """This server and its modules."""

    server: str
    problems: list[ProblemItem] = said(default=[])
    modules: list[ModuleItem] = said(default=[])


@dataclass(kw_only=True, slots=True)
class LogEntry:
    """A line that a script or a person writes."""

    message: str = said(max_length=4096)
    severity: str = said(default="I", pattern="^[CEWID]$")
    source: str = said(default="user", max_length=64)


@dataclass(kw_only=True, slots=True)
class Done:
    """What a changing call answers."""

    done: bool = said("false: it goes on in the background")
    problems: list[ProblemItem] = said("warnings", [])
    module: ModuleItem | None = None
    operation: str = said("by which it can be followed; empty: there is nothing to follow", "")


@dataclass(kw_only=True, slots=True)
class OperationItem:
    """A long command."""

    ident: str
    module: str
    command: str
    user: str = said("who gave it; local: a process of this server")
    state: str = said("running, done, failed, or given up: another command took its place")
    began: float = said("seconds since the epoch")
    seconds: float = said("how long it took, or has been going on")
    progress: str = said("what the module is at", "")
    text: str = said("what came of it", "")
    problems: list[ProblemItem] = said("why it failed", [])


@dataclass(kw_only=True, slots=True)
class PluginItem:
    """One plugin."""

    name: str
    origin: str = said("built-in, a package with its version, or a file")
    version: str = ""
    hooks: list[str] = said(default=[])
    brings: dict[str, list[str]] = said("what it contributes, by kind, as far as asked for", {})
    faults: int = said("how often it has failed since the agent began", 0)
    last: str = said("the traceback of its last fault", "")
    problems: list[ProblemItem] = said(default=[])


@dataclass(kw_only=True, slots=True)
class ClusterNode:
    """One server of the cluster, as this one sees it."""

    name: str
    addresses: dict[str, str] = said("LAN to address")
    this: bool = False
    groups: dict[str, str] = said("farm module to alive, lost or itself", {})


@dataclass(kw_only=True, slots=True)
class ClusterDocument:
    """The cluster."""

    configured: bool
    key: str = said("fingerprint of the key, never the key", "")
    signature: str = said("fingerprint of cluster.xml; equal on all servers", "")
    locked: str = said("why it must not be changed; empty: it may", "")
    now: float = said("this server's clock, in seconds since the epoch", 0.0)
    nodes: list[ClusterNode] = said(default=[])
    problems: list[ProblemItem] = said(default=[])


@dataclass(kw_only=True, slots=True)
class OperandItem:
    """One operand of a failover rule."""

    operand: str
    values: dict[str, str] = said("resource to value; several for ? and *")


@dataclass(kw_only=True, slots=True)
class RuleItem:
    """One failover rule as things are."""

    label: str
    action: str
    origin: str = said("user: of <failover>; default: made for a checker")
    line: int = said("in userconfig.xml; 0 for a default one")
    text: str = said("as it is written")
    true: bool
    operands: list[OperandItem]
    causes: list[str] = said("what makes it true, or false")
    since: float | None = said("seconds for which its action has been wished")
    left: float | None = said("seconds until its action is due")
    taken: bool = said("its action is the next one if nothing changes")
    why: str = said("when it is taken, or why not")


@dataclass(kw_only=True, slots=True)
class FailoverDocument:
    """The failover rules of a module."""

    module: str
    on: bool = said("false: actions are logged and not taken")
    handle_time: float = said("seconds for which an action must be wished")
    simulated: dict[str, str]
    rules: list[RuleItem]


@dataclass(kw_only=True, slots=True)
class MembershipBody:
    """What makes a server one of a cluster."""

    cluster: str = said("the text of cluster.xml")
    node: str = said("the server's name in it")
    key: str = said("the content of a key file")
    certificates: dict[str, str] = said("the texts of ca.crt, ca.key, server.crt and server.key")


@dataclass(kw_only=True, slots=True)
class KeyBody:
    """The cluster's keys."""

    key: str = said("the content of a key file: 64 hexadecimal digits, or several keys")


@dataclass(kw_only=True, slots=True)
class KeyItem:
    """One of the cluster's keys."""

    number: int
    fingerprint: str = said("equal on all servers; it tells nothing of the key")


@dataclass(kw_only=True, slots=True)
class KeyUserItem:
    """Another server, or a witness."""

    name: str
    holds: list[int] = said("numbers of the keys that it holds; empty: not heard yet", [])
    signs: int = said("number of the key that it signed with last; 0: not heard yet", 0)
    gets: int = said("number of the key that signs what this server sends it")
    awaited: bool = said("the old keys stay for its sake")


@dataclass(kw_only=True, slots=True)
class KeysDocument:
    """The cluster's keys, never their secrets."""

    file: str
    keys: list[KeyItem] = said("from the oldest to the newest", [])
    users: list[KeyUserItem] = said(default=[])


@dataclass(kw_only=True, slots=True)
class RotateBody:
    """How to rotate the key."""

    key: str = said("the content of another server's key file; empty: make a new key", "")


@dataclass(kw_only=True, slots=True)
class BootItem:
    """Whether a module starts with the server."""

    boot: str = said("on, off, or auto: when it ran before")
    configured: str = said("what userconfig.xml says")
    command: str = said("what the command boot said, or empty")


@dataclass(kw_only=True, slots=True)
class CheckerItem:
    """One checker."""

    resource: str
    when: str
    action: str
    rule: str = said("the label of its failover rule")
    value: str
    cause: str = ""
    state: str = said("running, suspended, waiting to be enabled, or stopped")


@dataclass(kw_only=True, slots=True)
class LoopItem:
    """The loop counter."""

    count: int = said("automatic actions in the present window")
    maxloop: int
    interval: float = said("seconds that a window lasts; 0: nothing is counted")
    elapsed: float = said("seconds of it that have passed")
    allowed: bool = said("whether the next action would be taken")


@dataclass(kw_only=True, slots=True)
class LockBody:
    """Why the cluster's configuration is locked."""

    reason: str = said(default="", max_length=256)


@dataclass(kw_only=True, slots=True)
class PortItem:
    """A port that a firewall must let through."""

    port: int
    protocol: str
    purpose: str


@dataclass(kw_only=True, slots=True)
class Told:
    """What a script printed."""

    output: str


@dataclass(kw_only=True, slots=True)
class VersionItem:
    """One configuration of a module that was active."""

    number: int
    time: float = said("when it was activated, seconds since the epoch")
    cause: str
    signature: str = said("fingerprint of the module's files; empty when only userconfig.xml was kept")
    active: bool


@dataclass(kw_only=True, slots=True)
class ConfigurationDocument:
    """A module's configuration."""

    name: str
    edited: str = said("fingerprint of the module's files as they are; empty when it cannot be told")
    differs: bool = said("userconfig.xml is not as it is active")
    versions: list[VersionItem] = said("the oldest first", [])
    pending: list[ProblemItem] = said(default=[])


@dataclass(kw_only=True, slots=True)
class ConfigurationDone:
    """What became of a configuration."""

    text: str
    problems: list[ProblemItem] = said("warnings", [])
    module: ModuleItem
    operation: str = said("by which it can be followed")


@dataclass(kw_only=True, slots=True)
class TextDocument:
    """A file."""

    text: str = said("empty when it is not there")


@dataclass(kw_only=True, slots=True)
class FilesDocument:
    """A module's files as they stand in its folder."""

    signature: str = said("of all of them, to be compared between servers")
    files: dict[str, str] = said("by path; what is no text stands as its SHA-256")


@dataclass(kw_only=True, slots=True)
class DifferenceDocument:
    """What makes a module's files of a configuration."""

    diff: str = said("a unified diff; empty when they are equal")


@dataclass(kw_only=True, slots=True)
class AvailableItem:
    """An archive or a folder that could be installed."""

    name: str
    path: str
    remedy: str = said("the command that installs it")
    problems: list[ProblemItem] = said(default=[])


@dataclass(kw_only=True, slots=True)
class TokenBody:
    """A token to be made."""

    name: str = said("what it is for, or who has it")
    role: str = said("monitor, control or admin")
    expires: str = said("how long it lasts, such as 90d or 12h; never for ever", "90d", max_length=32)


@dataclass(kw_only=True, slots=True)
class TokenItem:
    """A token, without its secret."""

    ident: str
    name: str
    role: str
    made: float = said("seconds since the epoch")
    expires: float = said("seconds since the epoch; 0 for never")
    expired: bool


@dataclass(kw_only=True, slots=True)
class TokenMade:
    """A token that was just made."""

    token: TokenItem
    secret: str = said("what the caller presents; it is shown this once")


@dataclass(kw_only=True, slots=True)
class UserBody:
    """A user to be added or changed."""

    role: str = said("monitor, control or admin; empty to leave it", "")
    hash: str = said("of the password, by Argon2id; empty to leave it", "", max_length=256)


@dataclass(kw_only=True, slots=True)
class UserItem:
    """A user."""

    name: str
    role: str
