"""The filter on a device: tc ingress (clsact) of the network namespace that this process is in, by netlink.

A filter is known by its name, ``safekit_<module>``, so a later agent finds what an earlier one left. Other programs'
qdiscs and filters are never changed. A clsact qdisc that we made is marked by a file, and goes with its last filter.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from safekit_py.api import Problem, SystemProblem

PREFIX = "safekit_"
INGRESS, EGRESS = 0xFFFFFFF2, 0xFFFFFFF3  # of a clsact qdisc
ALL_PROTOCOLS = 0x0003
FIRST_PRIORITY = 100  # lower ones stay free for the administrator's own filters


@dataclass(frozen=True, slots=True)
class Attachment:
    """A filter of ours on a device."""

    index: int
    module: str
    priority: int
    handle: int


def attach(netlink: IPRoute, index: int, module: str, program: int, marks: Path) -> Attachment:
    """Put a loaded program on a device, in place of the same module's earlier one, without a gap.

    :param index: the device's interface index.
    :param program: the program's descriptor.
    :param marks: a folder, the same for all modules of this server, that remembers which qdiscs are ours.
    :raises SystemProblem: the kernel refused.
    """
    try:
        _ensure_clsact(netlink, index, marks)
        present = _filters(netlink, index, INGRESS)
        earlier = [each for each in _ours(present, index) if each.module == module]
        if earlier:
            priority, handle = earlier[0].priority, earlier[0].handle
        else:
            taken = {message["info"] >> 16 for message in present}
            priority = next(p for p in range(FIRST_PRIORITY, 0xFFFF) if p not in taken)
            handle = 1
        netlink.tc(
            "replace-filter", "bpf", index, handle, parent=INGRESS, prio=priority, protocol=ALL_PROTOCOLS,
            fd=program, name=PREFIX + module, direct_action=True,
        )  # fmt: skip
    except NetlinkError as error:
        raise SystemProblem(
            Problem(
                "filter.attach",
                f"the filter cannot be put on device {index}: {error}",
                "see docs/messages.md, filter.attach",
            )
        ) from error
    return Attachment(index, module, priority, handle)


def detach(netlink: IPRoute, module: str, marks: Path) -> list[Attachment]:
    """Take a module's filter off every device that has it; none is fine, and so is a device that is gone.

    :returns: what was taken off.
    """
    gone = [each for each in leftovers(netlink) if each.module == module]
    for each in gone:
        _tolerant(
            netlink,
            "del-filter",
            "bpf",
            each.index,
            each.handle,
            parent=INGRESS,
            prio=each.priority,
            protocol=ALL_PROTOCOLS,
        )
        _release_clsact(netlink, each.index, marks)
    return gone


def leftovers(netlink: IPRoute) -> list[Attachment]:
    """Every filter of ours on any device of this namespace, whoever put it there."""
    found = []
    for index in sorted({q["index"] for q in netlink.get_qdiscs() if q.get_attr("TCA_KIND") == "clsact"}):
        found += _ours(_filters(netlink, index, INGRESS), index)
    return found


def _filters(netlink: IPRoute, index: int, parent: int) -> list[Any]:
    try:
        return [m for m in netlink.get_filters(index=index, parent=parent) if m.get_attr("TCA_OPTIONS") is not None]
    except NetlinkError as error:
        if error.code in {errno.ENODEV, errno.EINVAL, errno.ENOENT}:
            return []  # the device or its qdisc went away meanwhile
        raise


def _ours(filters: list[Any], index: int) -> list[Attachment]:
    found = []
    for message in filters:
        if message.get_attr("TCA_KIND") != "bpf":
            continue
        name = message.get_attr("TCA_OPTIONS").get_attr("TCA_BPF_NAME") or ""
        if name.startswith(PREFIX):
            found.append(Attachment(index, name.removeprefix(PREFIX), message["info"] >> 16, message["handle"]))
    return found


def _has_clsact(netlink: IPRoute, index: int) -> bool:
    return any(q["index"] == index and q.get_attr("TCA_KIND") == "clsact" for q in netlink.get_qdiscs())


def _mark(marks: Path, index: int) -> Path:
    # A namespace has its own numbers; its inode tells it apart from the others of this machine.
    return marks / f"clsact-{Path('/proc/thread-self/ns/net').stat().st_ino}-{index}"


def _ensure_clsact(netlink: IPRoute, index: int, marks: Path) -> None:
    if _has_clsact(netlink, index):
        return
    marks.mkdir(parents=True, exist_ok=True)
    _mark(marks, index).touch()
    try:
        netlink.tc("add", "clsact", index)
    except NetlinkError as error:
        _mark(marks, index).unlink()
        if error.code != errno.EEXIST:  # another program was faster: it is not ours
            raise


def _release_clsact(netlink: IPRoute, index: int, marks: Path) -> None:
    mark = _mark(marks, index)
    if mark.exists() and not any(_filters(netlink, index, parent) for parent in (INGRESS, EGRESS)):
        _tolerant(netlink, "del", "clsact", index)
        mark.unlink()


def _tolerant(netlink: IPRoute, command: str, kind: str, index: int, handle: int = 0, **options: int) -> None:
    try:
        netlink.tc(command, kind, index, handle, **options)
    except NetlinkError as error:
        if error.code not in {errno.ENODEV, errno.ENOENT, errno.EINVAL}:
            raise
