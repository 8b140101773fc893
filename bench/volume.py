"""How fast a volume is, beside the same image on a plain loop device of the same run.

    .venv/bin/python bench/volume.py [--rounds 5] [--only sequential,cold] [--targets "plain loop,volume"]

Everything lies on the disk of /var/tmp (BENCH_FOLDER names another). In each round each workload goes over all targets
before the next begins; printed are medians, and in brackets the median of the ratios to the first target of the same
round. Targets: ``plain loop`` (losetup's defaults: through the page cache), ``direct loop`` (direct I/O, and reading
ahead as volumes have it), ``volume`` (keeper and worker, no secondary), ``with a peer`` (a secondary's keeper and
worker on this machine, its image on the same disk). The jobs that write and sync are processes of Python, so fio is not
needed.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from shared import volumes, workloads

SIZE = 2 << 30  # bytes of each volume
MAKE: dict[str, Callable[[Path], Any]] = {
    "plain loop": lambda folder: volumes.Plain(folder, SIZE, direct=False),
    "direct loop": lambda folder: volumes.Plain(folder, SIZE, direct=True),
    "volume": lambda folder: volumes.Volume(folder, SIZE, peer=False),
    "with a peer": lambda folder: volumes.Volume(folder, SIZE, peer=True),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default=",".join(workloads.ALL))
    parser.add_argument("--targets", default=",".join(MAKE))
    options = parser.parse_args()
    volumes.own_namespace()
    folder = Path(tempfile.mkdtemp(prefix="bench-volume-", dir=workloads.BELOW))
    folder.chmod(0o755)  # PostgreSQL runs as a user of its own
    targets: dict[str, Any] = {}
    try:
        workloads.make_inputs(folder)
        for name in options.targets.split(","):
            targets[name] = MAKE[name](folder / name.replace(" ", "-"))
        folders = {name: target.target for name, target in targets.items()}
        results = workloads.measure(folders, folder, frozenset(options.only.split(",")), options.rounds)
        print(workloads.table(results, options.targets.split(",")[0]))
        for name, target in targets.items():
            if isinstance(target, volumes.Volume):
                print(f"{name}: {target.resident():.0f} MB resident, {target.cpu():.1f} s of processor time")
    finally:
        for target in targets.values():
            target.close()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
