"""What a mirror module's userconfig.xml says, as frozen values. All durations are seconds."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """``<heartbeat name ident>``: one network between the two servers.

    :param name: a LAN of cluster.xml.
    :param flow: whether replication uses this network (``ident="flow"``).
    """

    name: str
    ident: str = ""
    pulse: float | None = None
    timeout: float | None = None

    @property
    def flow(self) -> bool:
        """Whether replication uses this network."""
        return self.ident == "flow"


@dataclass(frozen=True, slots=True)
class Heart:
    """``<heart>``: how the two servers watch each other.

    :param port: UDP port; 0 means 8888 and the module's number.
    :param pulse: seconds between two heartbeats.
    :param timeout: seconds of silence on every network after which the other server counts as lost.
    :param isolation: what a secondary does that has lost its primary while no witness is configured: ``alone`` takes
        over, ``wait`` waits for a person.
    """

    lans: tuple[Heartbeat, ...]
    port: int = 0
    pulse: float = 0.3
    timeout: float = 3.0
    permanent_arp: bool = False
    isolation: str = "alone"


@dataclass(frozen=True, slots=True)
class Replicated:
    """``<replicated dir>``: one directory, which is one volume.

    :param name: of the volume and its files; made of the directory's path.
    :param size: bytes of the volume; 0 means what the directory's file system has.
    :param filesystem: ``ext4`` or ``xfs``.
    :param read_only: whether the directory is mounted read-only on the secondary as well as ``mode="read_only"`` says.
    :param notreplicated: paths below the directory that stay local.
    :param tocheck: paths below the directory that must be there before a start.
    """

    dir: str
    name: str
    size: int = 0
    filesystem: str = "ext4"
    read_only: bool = False
    notreplicated: tuple[str, ...] = ()
    tocheck: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Rfs:
    """``<rfs>``: what is replicated, and how.

    :param engine: name of the replication engine; ``block`` is built in.
    :param sync: ``second`` acknowledges a flush when the secondary has it in memory, ``none`` when both have it on
        disk (``async="none"``: nothing is asynchronous).
    :param durability: ``fsync`` as any disk; ``write`` mounts synchronously.
    :param bandwidth: bytes a second that resynchronisation may take; 0 means no limit.
    :param compression: ``zstd``, ``auto`` or ``off``, of what is sent.
    :param iotimeout: seconds without an answer of the secondary after which it counts as lost.
    """

    replicated: tuple[Replicated, ...] = ()
    engine: str = "block"
    sync: str = "none"
    durability: str = "fsync"
    bandwidth: int = 0
    compression: str = "auto"
    iotimeout: float = 3.0
    mountoversuffix: str = "_For_SafeKit_Replication"
    port: int = 0


@dataclass(frozen=True, slots=True)
class Witness:
    """``<witness>`` below ``<splitbrain>``: who decides between two servers that have lost each other.

    :param kind: ``safekit`` (our own service) or ``etcd``.
    :param addresses: ``host:port`` of the service; several for etcd.
    :param lease: seconds.
    """

    kind: str
    addresses: tuple[str, ...]
    lease: float = 3.0
    options: tuple[tuple[str, str], ...] = field(default=())
