"""How many bytes travel when a secondary comes back and a hundredth of the data has changed meanwhile.

    .venv/bin/python bench/resync.py [--gib 4] [--share 0.01] [--spread]

A volume with its keepers and workers for primary and secondary, both on this machine. It is filled; the secondary goes;
a share of it is written anew on the primary; the secondary comes back. Counted are all bytes of the loopback device in
this process's own network namespace, both directions, headers and checksums included, beside those of the first copy of
the whole in the same run. What changes lies in one place, as of a table that is loaded; with --spread it is 4 KiB here
and there over the whole volume, the worst that can be.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from shared import volumes, workloads

MIB = 1 << 20


def travelled() -> int:
    """Bytes that the loopback device of this namespace has carried."""
    lines = Path("/proc/self/net/dev").read_text().splitlines()
    return next(int(line.split()[9]) for line in lines if line.split()[0] == "lo:")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gib", type=float, default=4)
    parser.add_argument("--share", type=float, default=0.01)
    parser.add_argument("--spread", action="store_true")
    given = parser.parse_args()
    size = int(given.gib * 1024) * MIB
    volumes.own_namespace()
    folder = Path(tempfile.mkdtemp(prefix="bench-resync-", dir=workloads.BELOW))
    volume = None
    try:
        volume = volumes.Volume(folder / "v", size + size // 16, peer=True)
        volume.part()
        path = volume.target / "data"
        dice = random.Random(7)
        with path.open("wb") as stream:
            for _ in range(size // MIB):
                stream.write(dice.randbytes(MIB))
            os.fsync(stream.fileno())
        whole, took = caught_up(volume)
        print(f"all of {given.gib:g} GiB: {whole / 1e6:.0f} MB in {took:.1f} s", flush=True)
        volume.part()
        change(path, int(size * given.share), dice, spread=given.spread)
        part, took = caught_up(volume)
        print(f"{given.share:.1%} changed: {part / 1e6:.1f} MB in {took:.1f} s, {part / whole:.2%} of all", flush=True)
    finally:
        if volume is not None:
            volume.close()
        shutil.rmtree(folder, ignore_errors=True)


def change(path: Path, amount: int, dice: random.Random, *, spread: bool) -> None:
    """Write so many bytes anew."""
    fd = os.open(path, os.O_WRONLY)
    pages = os.fstat(fd).st_size // 4096
    begin = dice.randrange(pages - amount // 4096)
    for number in range(amount // 4096):
        place = dice.randrange(pages) if spread else begin + number
        os.pwrite(fd, dice.randbytes(4096), place * 4096)
    os.fsync(fd)
    os.close(fd)


def caught_up(volume: volumes.Volume) -> tuple[int, float]:
    """Let the secondary come back: bytes that travelled, and seconds."""
    begun, before = time.monotonic(), travelled()
    volume.join()
    return travelled() - before, time.monotonic() - begun


if __name__ == "__main__":
    main()
