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
    resources: list[ResourceItem] = []
    report: dict[str, Any] = Field(default={}, description="what the module type shows")
    problems: list[ProblemItem] = []


class StatusDocument(BaseModel):
    """This server and its modules."""

    server: str
    problems: list[ProblemItem] = []
    modules: list[ModuleItem] = []


class LogLine(BaseModel):
    """One event of a module's log."""

    number: int
    time: float = Field(description="seconds since the epoch")
    severity: str
    kind: str
    source: str
    message: str


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
    origin: str
    hooks: list[str]
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
    nodes: list[ClusterNode] = []
    problems: list[ProblemItem] = []


class KeyBody(BaseModel):
    """A cluster key."""

    key: str = Field(pattern="^[0-9a-f]{64}$")
