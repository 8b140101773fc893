"""A replicated volume beside GlusterFS replica 2 and a plain loop device, all on one disk in one run.

    .venv/bin/python bench/mirror.py [--rounds 5] [--files 1000] [--only sequential,untar]

The workloads, and what is printed, are those of bench/volume.py, with fewer small files: GlusterFS would take minutes
for 10,000. It is Debian's glusterfs-server: two bricks on the address of a bridge (`force` allows both on one machine);
its daemon runs only for this bench, with its own state. Where it is not installed, its column is left out.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from shared import gluster, volumes, workloads
from volume import MAKE


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--only", default=",".join(workloads.ALL))
    options = parser.parse_args()
    make: dict[str, Any] = {"plain loop": MAKE["plain loop"], "mirror": MAKE["with a peer"]}
    if gluster.available():
        make["GlusterFS"] = gluster.Gluster
    else:
        print("glusterfs-server is not installed: measured without it", file=sys.stderr)
    volumes.own_namespace()
    folder = Path(tempfile.mkdtemp(prefix="bench-mirror-", dir=workloads.BELOW))
    folder.chmod(0o755)  # PostgreSQL runs as a user of its own
    targets: dict[str, Any] = {}
    try:
        workloads.make_inputs(folder)
        for name, each in make.items():
            targets[name] = each(folder / name.replace(" ", "-"))
        wanted = frozenset(options.only.split(","))
        folders = {name: target.target for name, target in targets.items()}
        results = workloads.measure(folders, folder, wanted, options.rounds, options.files)
        print(workloads.table(results, "plain loop"))
        if "GlusterFS" in results:
            print()
            print(workloads.table({name: results[name] for name in ("GlusterFS", "mirror")}, "GlusterFS"))
    finally:
        for target in targets.values():
            target.close()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
