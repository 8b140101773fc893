"""filter.c -> a file of instructions, made by a short-lived child with bcc; most servers never need it (``ready``).

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
from pathlib import Path

from safekit_py.api import Problem, SystemProblem

from .bpf import Map
from .compiled import FilterObject

SOURCE = Path(__file__).with_name("filter.c")
HEADER = SOURCE.with_name("filter.h")
FUNCTION = "safekit_filter"
MAPS = ("settings", "gate", "owners", "macs", "peers", "clients", "fragments", "superseded", "scratch", "counters")
DEBIAN_PACKAGES = "/usr/lib/python3/dist-packages"  # where Debian installs bcc; a plain venv does not look there
PATIENCE = 180.0  # seconds for the child, on a machine that is busy with other things


def bcc_folder() -> Path | None:
    """Where Debian's bcc is; the registry has an unrelated project of the same name."""
    spec = importlib.util.find_spec("bcc")
    places = list(spec.submodule_search_locations or ()) if spec else []
    for place in (*places, f"{DEBIAN_PACKAGES}/bcc"):
        if Path(place, "libbcc.py").exists():
            return Path(place)
    return None


def layout() -> str:
    """The hash of what the maps are made of: filters of the same one are at home in each other's maps."""
    return hashlib.sha256(HEADER.read_bytes()).hexdigest()[:16]


def sources() -> str:
    """The hash of what the filter is compiled from, for comparing."""
    return hashlib.sha256(SOURCE.read_bytes() + b"|" + HEADER.read_bytes()).hexdigest()


def object_path(cache: Path) -> Path:
    """The file for this source, compiler, machine and kernel."""
    folder = bcc_folder()
    version = folder / "version.py" if folder else None
    parts = (
        SOURCE.read_bytes(),
        HEADER.read_bytes(),
        version.read_bytes() if version and version.exists() else b"",
        platform.machine().encode(),
        os.uname().release.encode(),
    )
    return cache / f"filter-{hashlib.sha256(b'|'.join(parts)).hexdigest()[:24]}.json"


def cached(cache: Path) -> FilterObject | None:
    """What was compiled on this server before, for this kernel and these sources."""
    return read(object_path(cache))


def object_for(cache: Path, *, anew: bool = False) -> FilterObject:
    """The compiled filter, from the cache or compiled now; several agents at once compile once.

    :param anew: compile also when the cache has it.
    :raises SystemProblem: it cannot be compiled here, with the compiler's last words.
    """
    cache.mkdir(parents=True, exist_ok=True)
    path = object_path(cache)
    with (cache / "filter.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not anew and (known := read(path)) is not None:
            return known
        _compile_in_child(path)
    if (fresh := read(path)) is None:
        raise SystemProblem(
            Problem("filter.compile", f"the compiler left no filter in {path}", "see whether the disk is full")
        )
    return fresh


def read(path: Path) -> FilterObject | None:
    """The filter in a file; None when there is none, or it is damaged."""
    try:
        return FilterObject.from_json(path.read_text(encoding="ascii"))
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


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
    if (folder := bcc_folder()) is not None and str(folder.parent) not in sys.path:
        sys.path.append(str(folder.parent))
    from bcc import BPF  # noqa: PLC0415 - 150 MB that only the child may cost

    program = BPF(src_file=str(SOURCE), cflags=[f"-I{SOURCE.parent}"])
    program.load_func(FUNCTION, BPF.SCHED_CLS)
    layouts = {program[name].map_fd: Map.from_fd(program[name].map_fd).layout for name in MAPS}
    text = FilterObject.from_dump(program.dump_func(FUNCTION), layouts, sources(), platform.machine()).to_json()
    staged = out.with_suffix(f".{os.getpid()}")
    with staged.open("w", encoding="ascii") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    staged.replace(out)


if __name__ == "__main__":
    compile_to(Path(sys.argv[1]))
