"""``<heart>`` and ``<rfs>`` of userconfig.xml -> the values of ``model``.

The other server is lost after 3 s of silence here, 300 ms at the least; SafeKit's own default is 30 s. A file that
names a time gets what it names.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from pathlib import PurePosixPath

from safekit_py.api import Element, ElementNode, hookimpl

from .model import Heart, Heartbeat, Replicated, Rfs
from .schema import FOREIGN, HEART_XSD, RFS_XSD
from .witness import element as witness

PULSES = 3  # heartbeats, at the least, that fit into the time of silence: one may be lost
PULSE, TIMEOUT = (0.01, 10.0), (0.3, 600.0)  # seconds
IOTIMEOUT = (0.1, 300.0)  # seconds
UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
SMALLEST, LARGEST = 16 << 20, 1 << 46  # bytes of a volume
ZONE = 4 << 20  # bytes; a volume has a whole number of zones


def build_heart(node: ElementNode) -> Heart:
    """How the two servers watch each other; a time out of its range, no LAN, or a LAN twice is reported."""
    beats = node.children("heartbeat")
    pulse, timeout = _within(node, "pulse", PULSE), _within(node, "timeout", TIMEOUT)
    lans = tuple(_beat(each, pulse or 0.3, timeout or 3.0) for each in beats)
    if timeout and pulse and timeout < PULSES * pulse:
        text = f"timeout is {timeout:g} s and pulse {pulse:g} s: one lost heartbeat would be a lost server"
        node.problem("heart.timeout", text, f"write at least {PULSES} times the pulse")
    if not lans:
        remedy = 'add <heartbeat name="default"/> with a LAN of cluster.xml'
        node.problem("heart.no-lan", "The heart has no LAN", remedy)
    names = [each.name for each in lans]
    for name in sorted({each for each in names if names.count(each) > 1}):
        node.problem("heart.lan-twice", f"The LAN '{name}' stands twice", "keep one of them")
    if sum(each.flow for each in lans) > 1:
        node.problem("heart.flow-twice", 'ident="flow" stands twice', "choose one network for replication")
    legacy = [inner for each in (node, *beats) for inner in each.children("server")]
    if legacy:
        text, remedy = "<server> inside <heart> is not used any more", "delete it; cluster.xml names the servers"
        legacy[0].problem("heart.legacy-server", text, remedy, warning=True)
    return Heart(
        lans=lans,
        port=int(node.get("port") or 0),
        pulse=pulse or 0.3,
        timeout=timeout or 3.0,
        permanent_arp=node.get("permanent_arp") == "on",
        isolation=node.get("isolation") or "alone",
    )


def _beat(node: ElementNode, pulse: float, timeout: float) -> Heartbeat:
    own = _within(node, "pulse", PULSE)
    if (own or pulse) > timeout / PULSES and own is not None:
        text = f"pulse is {own:g} s: one lost heartbeat on this network would be its loss"
        node.problem("heart.timeout", text, f"write at most a third of the timeout, {timeout:g} s")
    if node.get("timeout") is not None:
        text = "timeout of <heartbeat> is accepted but not acting: that of <heart> is for all networks together"
        node.problem("config.not-acting", text, "write it in <heart>", warning=True)
    return Heartbeat(node.get("name") or "", node.get("ident") or "", own, node.duration("timeout", "ms"))


def _within(node: ElementNode, attribute: str, limits: tuple[float, float], unit: str = "ms") -> float | None:
    value = node.duration(attribute, unit)
    low, high = limits
    if value is not None and not low <= value <= high:
        text = f"{attribute} is {value:g} s"
        node.problem("mirror.time", text, f"write a value from {low * 1000:g}ms to {high:g}s")
        return None
    return value


def build_rfs(node: ElementNode) -> Rfs:
    """What is replicated, and how."""
    found = tuple(_replicated(each) for each in node.children("replicated"))
    if not found:
        remedy = 'add <replicated dir="…"/>, or delete <rfs>'
        node.problem("rfs.no-directory", "<rfs> names no directory", remedy, warning=True)
    for name, why in FOREIGN:
        if why and node.get(name) is not None:
            text = f'{name}="{node.get(name)}" is accepted but not acting: {why}'
            node.problem("config.not-acting", text, f"delete {name}", warning=True)
    flows = node.children("flow")
    if flows:
        text = "<flow> inside <rfs> is not used any more"
        remedy = 'delete it, and write <heartbeat ident="flow"> in <heart>'
        flows[0].problem("rfs.legacy-flow", text, remedy, warning=True)
    fine = (node.get("iotimeout") or "").strip().endswith("ms")  # SafeKit counts whole seconds; finer ones fit here too
    return Rfs(
        replicated=found,
        engine=node.get("engine") or "block",
        sync=node.get("async") or "none",
        durability=node.get("durability") or "fsync",
        bandwidth=int(node.get("reiallowedbw") or 0) << 10,
        compression=node.get("compression") or "auto",
        iotimeout=_within(node, "iotimeout", IOTIMEOUT, "ms" if fine else "s") or 3.0,
        mountoversuffix=node.get("mountoversuffix") or "",
        port=int(node.get("port") or 0),
    )


def _replicated(node: ElementNode) -> Replicated:
    directory = _directory(node)
    for each in node.children("notreplicated"):
        if each.get("regexpath") is not None:
            text = "regexpath is not possible: the volume is replicated by blocks, which know no names of files"
            each.problem("rfs.regexpath", text, 'name each folder by <notreplicated path="…"/>')
        elif each.get("path") is None:
            each.problem("rfs.no-path", "<notreplicated> names no path", 'write path="…", below the directory')
    return Replicated(
        dir=directory,
        name=volume_name(directory),
        size=_size(node),
        filesystem=node.get("filesystem") or "ext4",
        read_only=node.get("mode") == "read_only",
        notreplicated=_below(node, "notreplicated", directory),
        tocheck=_below(node, "tocheck", directory),
    )


def volume_name(directory: str) -> str:
    """The name of a directory's volume: the end of its path in letters of file names, and what makes it unique."""
    readable = re.sub(r"[^A-Za-z0-9]+", "-", directory).strip("-")[-32:].strip("-") or "volume"
    return f"{readable}-{hashlib.sha256(directory.encode()).hexdigest()[:8]}"


def _directory(node: ElementNode) -> str:
    text = node.get("dir") or ""
    path = PurePosixPath(text)
    if not path.is_absolute() or ".." in path.parts or path == PurePosixPath("/") or _unprintable(text):
        remedy = "write its whole path, as /var/lib/postgresql"
        node.problem("rfs.bad-directory", f'dir="{text}" is no absolute path of a directory', remedy)
    return "/" + str(path).lstrip("/")


def _unprintable(text: str) -> bool:
    return any(ord(each) < 32 or ord(each) == 127 for each in text)


def _below(node: ElementNode, tag: str, directory: str) -> tuple[str, ...]:
    """The paths of these children, relative to the directory, those that hold others first."""
    found = []
    for each in node.children(tag):
        text = each.get("path")
        if text is None:
            continue
        path = PurePosixPath(text)
        if path.is_absolute() and path.is_relative_to(directory):
            path = path.relative_to(directory)
        if path.is_absolute() or ".." in path.parts or not path.parts or _unprintable(text):
            remedy = "write a path relative to it, without .."
            each.problem("rfs.bad-path", f'path="{text}" is not below {directory}', remedy)
            continue
        found.append(str(path))
    return tuple(sorted(dict.fromkeys(found)))


def _size(node: ElementNode) -> int:
    text = node.get("size")
    if text is None:
        return 0
    digits = text.rstrip("KMGTkmgt")
    size = int(digits) * UNITS[text[len(digits) :].upper()]
    if not SMALLEST <= size <= LARGEST:
        node.problem("rfs.size", f'size="{text}" is no size of a volume', "write a size from 16M to 64T, as 10G")
    return -(-size // ZONE) * ZONE


ELEMENTS = (
    Element("heart", "service", HEART_XSD, build_heart),
    Element("rfs", "service", RFS_XSD, build_rfs),
    witness.ELEMENT,
)


@hookimpl
def safekit_elements() -> Iterable[Element]:
    """``<heart>`` with its ``<witness>``, and ``<rfs>``."""
    return ELEMENTS
