"""How evenly a farm's buckets are shared, and how many move that need not, beside Maglev with 65,537 entries.

    .venv/bin/python bench/buckets.py [--largest 16] [--json FILE]

For each number of servers, equal and with powers of 1 to 4: each server in turn leaves and comes back. Overload: how
much more than its share (by power) the most loaded server has, as a part of that share. Needless: moves between servers
of which neither left nor came, as a part of all buckets. Printed are the worst and the mean over all changes.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from shared import maglev

from safekit_py.core.buckets import assign


def overload(owners: Sequence[int], powers: Mapping[int, int]) -> float:
    counts, total = Counter(owners), sum(powers.values())
    return max(100 * (counts[s] / (len(owners) * power / total) - 1) for s, power in powers.items())


def needless(before: Sequence[int], after: Sequence[int], changed: int) -> float:
    moved = sum(1 for one, other in zip(before, after, strict=True) if one != other and changed not in (one, other))
    return 100 * moved / len(before)


def measure(powers: dict[int, int]) -> dict[str, dict[str, float]]:
    table = assign(None, {}, powers)
    whole = maglev.table(powers)
    found: dict[str, dict[str, list[float]]] = {
        name: {"overload": [], "needless": []} for name in ("safekit_py", "maglev")
    }
    for server in powers:
        rest = {s: p for s, p in powers.items() if s != server}
        fewer = assign(table, powers, rest)
        again = assign(fewer, rest, powers)
        one, two, three = table.expand(), fewer.expand(), again.expand()
        theirs = maglev.table(rest)
        for name, steps in (
            ("safekit_py", ((one, two, rest), (two, three, powers))),
            ("maglev", ((whole, theirs, rest), (theirs, whole, powers))),
        ):
            for before, after, wanted in steps:
                found[name]["overload"].append(overload(after, wanted))
                found[name]["needless"].append(needless(before, after, server))
        table = again
    return {
        name: {
            f"{what}_{how}": choose(values)
            for what, values in parts.items()
            for how, choose in (("worst", max), ("mean", statistics.fmean))
        }
        for name, parts in found.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--largest", type=int, default=16)
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    rows = []
    print(f"{'servers':10}{'table':12}{'overload, worst and mean':>28}{'needless, worst and mean':>28}")
    for count in [n for n in (3, 4, 8, 16, 32) if n <= options.largest]:
        for kind, powers in (("", dict.fromkeys(range(count), 1)), (" weighted", {s: 1 + s % 4 for s in range(count)})):
            for name, row in measure(powers).items():
                rows.append({"servers": count, "weighted": bool(kind), "table": name, **row})
                load = f"{row['overload_worst']:+.3f} % {row['overload_mean']:+.3f} %"
                moves = f"{row['needless_worst']:.3f} % {row['needless_mean']:.3f} %"
                print(f"{count}{kind:9}{name:>12}{load:>28}{moves:>28}", flush=True)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
