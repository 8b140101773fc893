"""filter.c -> a file of instructions, made once by a short-lived child.

The compiler costs 150 MB that it never gives back, so it runs in a child, ``python -m safekit_py.plugins.farm.compiler
OUT.json``; the agent reads the file and talks to the kernel itself (``loader``). Files are kept by a hash of everything
that could change them, so a server compiles once for each version and kernel.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from safekit_py.api import Problem, SystemProblem

from .bpf import NUMBERS, Map
from .compiled import FilterObject

SOURCE = Path(__file__).with_name("filter.c")
HEADER = SOURCE.with_name("filter.h")
FUNCTION = "safekit_filter"
MAPS = ("settings", "gate", "owners", "macs", "peers", "clients", "fragments", "superseded", "scratch", "counters")
DEBIAN_PACKAGES = "/usr/lib/python3/dist-packages"  # where Debian installs bcc; a plain venv does not look there
BPFFS = Path("/sys/fs/bpf")
PATIENCE = 180.0  # seconds for the child, on a machine that is busy with other things
CAP_NET_ADMIN, CAP_SYS_ADMIN, CAP_PERFMON, CAP_BPF = 12, 21, 38, 39


def _bcc_folder() -> Path | None:
    """Where Debian's bcc is; the registry has an unrelated project of the same name."""
    spec = importlib.util.find_spec("bcc")
    places = list(spec.submodule_search_locations or ()) if spec else []
    for place in (*places, f"{DEBIAN_PACKAGES}/bcc"):
        if Path(place, "libbcc.py").exists():
            return Path(place)
    return None


def _capabilities() -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("CapEff:"):
            return int(line.split()[1], 16)
    return 0


def requirements(cache: Path | None = None, bpffs: Path = BPFFS) -> list[Problem]:
    """What this server lacks for the filter; empty when all is there. Cheap, and changes nothing.

    :param cache: where compiled filters are kept: with one there, no compiler is needed.
    :param bpffs: where the BPF file system must be mounted.
    """
    return list(_missing(cache, bpffs))


def _missing(cache: Path | None, bpffs: Path) -> Iterator[Problem]:
    release = os.uname().release
    if platform.system() != "Linux" or platform.machine() not in NUMBERS:
        yield Problem(
            "filter.machine",
            f"the filter knows no {platform.system()} on {platform.machine()}",
            "use one of: " + ", ".join(NUMBERS),
        )
        return
    held = _capabilities()
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
    if cache is not None and object_path(cache).exists():
        return
    if _bcc_folder() is None:
        yield Problem("filter.no-bcc", "the filter's compiler, bcc, is not installed", "apt-get install python3-bpfcc")
    headers = Path(os.environ.get("BCC_KERNEL_SOURCE", f"/lib/modules/{release}/build"))
    if not headers.is_dir() and not any(Path("/sys/kernel").glob("kheaders.tar.xz")):
        package = "linux-headers-amd64" if platform.machine() == "x86_64" else f"linux-headers-{release}"
        yield Problem(
            "filter.no-headers",
            f"the kernel's headers are not in {headers}",
            f"apt-get install linux-headers-{release}, or {package} and a reboot",
        )


def object_path(cache: Path) -> Path:
    """The file for this source, compiler, machine and kernel."""
    folder = _bcc_folder()
    version = folder / "version.py" if folder else None
    parts = (
        SOURCE.read_bytes(),
        HEADER.read_bytes(),
        version.read_bytes() if version and version.exists() else b"",
        platform.machine().encode(),
        os.uname().release.encode(),
    )
    return cache / f"filter-{hashlib.sha256(b'|'.join(parts)).hexdigest()[:24]}.json"


def object_for(cache: Path) -> FilterObject:
    """The compiled filter, from the cache or compiled now; several agents at once compile once.

    :raises SystemProblem: it cannot be compiled here, with the compiler's last words.
    """
    cache.mkdir(parents=True, exist_ok=True)
    path = object_path(cache)
    with (cache / "filter.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (known := _read(path)) is not None:
            return known
        _compile_in_child(path)
    if (fresh := _read(path)) is None:
        raise SystemProblem(
            Problem("filter.compile", f"the compiler left no filter in {path}", "see whether the disk is full")
        )
    return fresh


def _read(path: Path) -> FilterObject | None:
    try:
        return FilterObject.from_json(path.read_text(encoding="ascii"))
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None  # a damaged file is compiled anew


def _compile_in_child(path: Path) -> None:
    package = __name__ if __name__ != "__main__" else "safekit_py.plugins.farm.compiler"
    root = Path(sys.modules["safekit_py"].__file__ or "").parents[1]  # a checkout is not on the child's path by itself
    paths = [str(root), *filter(None, [os.environ.get("PYTHONPATH")])]
    try:
        done = subprocess.run(
            [sys.executable, "-m", package, str(path)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise SystemProblem(
            Problem(
                "filter.compile",
                f"compiling the filter took more than {PATIENCE:.0f} s",
                "try again when the machine is less busy",
            )
        ) from None
    if done.returncode:
        words = [line for line in done.stderr.splitlines() if line.strip()][-3:]
        raise SystemProblem(
            Problem(
                "filter.compile",
                "the filter cannot be compiled: " + " | ".join(words),
                "see docs/messages.md, filter.compile",
            )
        )


def compile_to(out: Path) -> None:
    """Compile, let the kernel's verifier have its say, and write the file in one piece; runs in the child."""
    if (folder := _bcc_folder()) is not None and str(folder.parent) not in sys.path:
        sys.path.append(str(folder.parent))
    from bcc import BPF  # noqa: PLC0415 - 150 MB that only the child may cost

    program = BPF(src_file=str(SOURCE), cflags=[f"-I{SOURCE.parent}"])
    program.load_func(FUNCTION, BPF.SCHED_CLS)
    layouts = {program[name].map_fd: Map.from_fd(program[name].map_fd).layout for name in MAPS}
    text = FilterObject.from_dump(program.dump_func(FUNCTION), layouts).to_json()
    staged = out.with_suffix(f".{os.getpid()}")
    with staged.open("w", encoding="ascii") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    staged.replace(out)


if __name__ == "__main__":
    compile_to(Path(sys.argv[1]))
