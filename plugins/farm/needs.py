"""What a server needs for the filter, and lacks."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from pathlib import Path

from safekit_py.api import Problem

from . import compiler, ready
from .bpf import NUMBERS

BPFFS = Path("/sys/fs/bpf")
CAP_NET_ADMIN, CAP_SYS_ADMIN, CAP_PERFMON, CAP_BPF = 12, 21, 38, 39


def capabilities() -> int:
    """The effective capabilities of this process, as a set of bits."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("CapEff:"):
            return int(line.split()[1], 16)
    return 0


def requirements(bpffs: Path = BPFFS) -> list[Problem]:
    """What this server lacks for the filter; empty when all is there. Cheap, and changes nothing.

    :param bpffs: where the BPF file system must be mounted.
    """
    return list(_missing(bpffs))


def _missing(bpffs: Path) -> Iterator[Problem]:
    if platform.system() != "Linux" or platform.machine() not in NUMBERS:
        yield Problem(
            "filter.machine",
            f"the filter knows no {platform.system()} on {platform.machine()}",
            "use one of: " + ", ".join(NUMBERS),
        )
        return
    held = capabilities()
    if not held >> CAP_SYS_ADMIN & 1 and not (held >> CAP_BPF & 1 and held >> CAP_PERFMON & 1):
        yield Problem(
            "filter.no-cap-bpf",
            "this process may not load programs into the kernel",
            "run the agent as root, or give it CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN",
        )
    if not held >> CAP_NET_ADMIN & 1:
        yield Problem(
            "filter.no-cap-net-admin",
            "this process may not change network devices",
            "run the agent as root, or give it CAP_NET_ADMIN",
        )
    mounts = [line.split()[1:3] for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()]
    if [str(bpffs), "bpf"] not in mounts:
        yield Problem("filter.no-bpffs", f"no BPF file system is mounted at {bpffs}", f"mount -t bpf bpf {bpffs}")
    if ready.shipped() is None:
        yield from for_building()


def for_building() -> Iterator[Problem]:
    """What this server lacks for compiling the filter."""
    release = os.uname().release
    if compiler.bcc_folder() is None:
        yield Problem("filter.no-bcc", "the filter's compiler, bcc, is not installed", "apt-get install python3-bpfcc")
    headers = Path(os.environ.get("BCC_KERNEL_SOURCE", f"/lib/modules/{release}/build"))
    if not headers.is_dir() and not any(Path("/sys/kernel").glob("kheaders.tar.xz")):
        package = "linux-headers-amd64" if platform.machine() == "x86_64" else f"linux-headers-{release}"
        yield Problem(
            "filter.no-headers",
            f"the kernel's headers are not in {headers}",
            f"apt-get install linux-headers-{release}, or {package} and a reboot",
        )
