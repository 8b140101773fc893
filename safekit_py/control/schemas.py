"""The API's documents, as pydantic models: they make the OpenAPI description and check what comes in."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field


class ProblemItem(BaseModel):
    """One finding."""

    code: str
    message: str
    remedy: str = ""
    file: str = ""
    line: int = 0
    severity: str = "error"


class ResourceItem(BaseModel):
    """One watched thing."""

    name: str
    value: str
    age: float = Field(description="seconds since it took this value")
    cause: str = ""


class ModuleItem(BaseModel):
    """One installed module."""

    name: str
    mode: str = ""
    state: str = Field(description="STOP WAIT UP ALONE PRIM SECOND, or NOT_CONFIGURED")
    readiness: str = ""
    age: float = Field(default=0.0, description="seconds in this state")
    busy: str = Field(default="", description="the command that is being carried out")
    reason: str = Field(default="", description="why it is in this state, one line")
    exit_code: int = Field(default=0, description="what `state` exits with")
    loop: str = Field(default="", description="automatic actions taken of those granted")
    starts: int = Field(default=0, description="how often the application was started since the agent began")
    failover: bool = Field(default=True, description="whether automatic actions are taken")
    suspended: list[str] = Field(default=[], description="patterns of the checkers that are switched off")
    boot: str = Field(default="", description="whether it starts with the server: on, off, auto")
    resources: list[ResourceItem] = []
    report: dict[str, Any] = Field(default={}, description="what the module type shows")
    problems: list[ProblemItem] = []
    pending: list[ProblemItem] = Field(default=[], description="why an edited configuration is not the active one")


class RoleOrder(BaseModel):
    """A command of a module whose servers have roles."""

    arguments: list[str] = Field(default=[], max_length=16)


class RoleDone(BaseModel):
    """What came of it."""

    text: str = Field(description="one line to be read")
    discards: str = Field(default="", description="the data that are given up by it, or would be; empty for none")
    data: dict[str, Any] = {}
    module: ModuleItem


class StatusDocument(BaseModel):
    """This server and its modules."""

    server: str
    problems: list[ProblemItem] = []
    modules: list[ModuleItem] = []


class LogEntry(BaseModel):
    """A line that a script or a person writes."""

    message: str = Field(max_length=4096)
    severity: str = Field(default="I", pattern="^[CEWID]$")
    source: str = Field(default="user", max_length=64)


class Done(BaseModel):
    """What a changing call answers."""

    done: bool = Field(description="false: it goes on in the background")
    problems: list[ProblemItem] = Field(default=[], description="warnings")
    module: ModuleItem | None = None


class PluginItem(BaseModel):
    """One plugin."""

    name: str
    origin: str = Field(description="built-in, a package with its version, or a file")
    version: str = ""
    hooks: list[str] = []
    brings: dict[str, list[str]] = Field(default={}, description="what it contributes, by kind, as far as asked for")
    faults: int = Field(default=0, description="how often it has failed since the agent began")
    last: str = Field(default="", description="the traceback of its last fault")
    problems: list[ProblemItem] = []


class ClusterNode(BaseModel):
    """One server of the cluster, as this one sees it."""

    name: str
    addresses: dict[str, str] = Field(description="LAN to address")
    this: bool = False
    groups: dict[str, str] = Field(default={}, description="farm module to alive, lost or itself")


class ClusterDocument(BaseModel):
    """The cluster."""

    configured: bool
    key: str = Field(default="", description="fingerprint of the key, never the key")
    signature: str = Field(default="", description="fingerprint of cluster.xml; equal on all servers")
    locked: str = Field(default="", description="why it must not be changed; empty: it may")
    nodes: list[ClusterNode] = []
    problems: list[ProblemItem] = []


class OperandItem(BaseModel):
    """One operand of a failover rule."""

    operand: str
    values: dict[str, str] = Field(description="resource to value; several for ? and *")


class RuleItem(BaseModel):
    """One failover rule as things are."""

    label: str
    action: str
    origin: str = Field(description="user: of <failover>; default: made for a checker")
    line: int = Field(description="in userconfig.xml; 0 for a default one")
    text: str = Field(description="as it is written")
    true: bool
    operands: list[OperandItem]
    causes: list[str] = Field(description="what makes it true, or false")
    since: float | None = Field(description="seconds for which its action has been wished")
    left: float | None = Field(description="seconds until its action is due")
    taken: bool = Field(description="its action is the next one if nothing changes")
    why: str = Field(description="when it is taken, or why not")


class FailoverDocument(BaseModel):
    """The failover rules of a module."""

    module: str
    on: bool = Field(description="false: actions are logged and not taken")
    handle_time: float = Field(description="seconds for which an action must be wished")
    simulated: dict[str, str]
    rules: list[RuleItem]


class KeyBody(BaseModel):
    """A cluster key."""

    key: str = Field(pattern="^[0-9a-f]{64}$")


class BootItem(BaseModel):
    """Whether a module starts with the server."""

    boot: str = Field(description="on, off, or auto: when it ran before")
    configured: str = Field(description="what userconfig.xml says")
    command: str = Field(description="what the command boot said, or empty")


class CheckerItem(BaseModel):
    """One checker."""

    resource: str
    when: str
    action: str
    rule: str = Field(description="the label of its failover rule")
    value: str
    cause: str = ""
    state: str = Field(description="running, suspended, waiting to be enabled, or stopped")


class LoopItem(BaseModel):
    """The loop counter."""

    count: int = Field(description="automatic actions in the present window")
    maxloop: int
    interval: float = Field(description="seconds that a window lasts; 0: nothing is counted")
    elapsed: float = Field(description="seconds of it that have passed")
    allowed: bool = Field(description="whether the next action would be taken")


class LockBody(BaseModel):
    """Why the cluster's configuration is locked."""

    reason: str = Field(default="", max_length=256)


class PortItem(BaseModel):
    """A port that a firewall must let through."""

    port: int
    protocol: str
    purpose: str


class Told(BaseModel):
    """What a script printed."""

    output: str


class VersionItem(BaseModel):
    """One configuration of a module that was active."""

    number: int
    time: float = Field(description="when it was activated, seconds since the epoch")
    cause: str
    signature: str = Field(description="fingerprint of the module's files; empty when only userconfig.xml was kept")
    active: bool


class ConfigurationDocument(BaseModel):
    """A module's configuration."""

    name: str
    edited: str = Field(description="fingerprint of the module's files as they are; empty when it cannot be told")
    differs: bool = Field(description="userconfig.xml is not as it is active")
    versions: list[VersionItem] = Field(default=[], description="the oldest first")
    pending: list[ProblemItem] = []


class ConfigurationDone(BaseModel):
    """What became of a configuration."""

    text: str
    problems: list[ProblemItem] = Field(default=[], description="warnings")
    module: ModuleItem


class DifferenceDocument(BaseModel):
    """What makes a module's files of a configuration."""

    diff: str = Field(description="a unified diff; empty when they are equal")


class AvailableItem(BaseModel):
    """An archive or a folder that could be installed."""

    name: str
    path: str
    remedy: str = Field(description="the command that installs it")
    problems: list[ProblemItem] = []
