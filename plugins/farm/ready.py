"""The filter without a compiler: instructions that ship with safekit_py, given to the kernel by bpf(2).

Flows through it: a cache and the file ``filter-<machine>.json`` beside this module in; a loaded filter out. What was
compiled on this server, by ``safekit-py farm build``, comes first; then what ships, when it was built for this machine
from these very sources, and the kernel's verifier takes it; and when the kernel refuses that, what bcc makes now.
``make filter`` writes the file anew after a change of filter.c or filter.h.
"""

from __future__ import annotations

import os
import platform
from pathlib import Path

from safekit_py.api import Paths, Problem, SystemProblem

from . import compiler
from .compiled import FilterObject
from .loader import Filter

CACHE = "SAFEKIT_FILTER_CACHE"  # environment: where compiled filters are kept, for several agents on one machine
BUILT, SHIPPED, COMPILED = "as it was built on this server", "as it ships", "compiled now"


def cache_folder(paths: Paths) -> Path:
    """Where compiled filters are kept."""
    return Path(os.environ.get(CACHE) or paths.var / "filter-cache")


def shipped_path(machine: str = "") -> Path:
    """The file that ships for a machine, by default this one."""
    return Path(__file__).with_name(f"filter-{machine or platform.machine()}.json")


def shipped() -> FilterObject | None:
    """What ships for this machine; None when nothing does, or when it was not built from the sources beside it."""
    found = compiler.read(shipped_path())
    fits = found is not None and found.sources == compiler.sources() and found.machine == platform.machine()
    return found if fits else None


def load(cache: Path, folder: Path, groups: int, *, exact: bool = False) -> tuple[Filter, str]:
    """Load a filter into the kernel; see ``Filter.load``.

    :param cache: where filters are kept that were compiled here.
    :returns: the filter, and where it comes from, in words.
    :raises SystemProblem: the kernel takes none, or nothing fits and none can be compiled.
    """
    if (built := compiler.cached(cache)) is not None:
        return Filter.load(built, folder, groups, exact=exact), BUILT
    ready = shipped()
    if ready is None:
        return Filter.load(compiler.object_for(cache), folder, groups, exact=exact), COMPILED
    try:
        return Filter.load(ready, folder, groups, exact=exact), SHIPPED
    except SystemProblem as refused:
        if compiler.bcc_folder() is None:
            text = f"{refused.problems[0].message}; the filter that ships does not fit this kernel"
            remedy = "apt-get install python3-bpfcc and the kernel's headers: the agent then compiles one that fits"
            raise SystemProblem(Problem("filter.load", text, remedy)) from refused
        return Filter.load(compiler.object_for(cache), folder, groups, exact=exact), COMPILED
