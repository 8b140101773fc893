"""What membership costs each server of a large group, and how soon all agree: the core alone, in simulated time.

    .venv/bin/python bench/membership.py [--sizes 4,16,17,64,200] [--json FILE]

Every server is the agent's own code (``safekit_py.core.membership``) on a simulated network with up to 3 ms of delay;
pulse 35 ms. Up to 16 servers each sends to all others; their row is the peer of the rows below it. Datagrams and bytes
are what one server sends in a pulse while nothing happens; processor time is what it takes to decide on a pulse and on
all that arrives in it, without the wire format. The times are simulated: from the event until every server has, and may
use, a view of exactly those that are there.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests/unit/core"))

from simulator import MS, PULSE, World  # the one of the tests: what is measured is what they hold

from safekit_py.core.group import Heartbeat
from safekit_py.model.keys import first
from safekit_py.net import wire

LIMIT = 30_000 * MS
SEALED = len(wire.seal(first(bytes(32)), bytes(8), wire.Datagram(wire.HEARTBEAT, 0, 0, 1, 1, b"")))


def agreed(world: World) -> bool:
    """Whether each running server has, and may use, the same view of all that run."""
    running = [server for server in world.servers if server.up]
    views = [server.state.view for server in running]
    if any(view is None for view in views) or len({view.number for view in views}) != 1:
        return False
    return {m.server for m in views[0].members} == {s.number for s in running} and all(s.state.owning for s in running)


def after(world: World, event: Callable[[], Any]) -> float:
    """Milliseconds until all agree again."""
    event()
    began = world.now
    while world.now - began < LIMIT:
        world.run(5 * MS)
        if agreed(world):
            return (world.now - began) / MS
    return float("inf")


def quiet(world: World, pulses: int = 20) -> dict[str, float]:
    """What one server sends, and how long it computes, in a pulse in which nothing happens."""
    sizes: list[int] = []
    send = world.send

    def seen(sender: int, boot: int, command: Any) -> None:
        if isinstance(command.message, Heartbeat):
            sizes.append(SEALED + len(wire.encode_heartbeat(command.message)))
        send(sender, boot, command)

    world.send = seen
    world.run(2 * PULSE)
    world.send, world.sent = send, 0
    began = time.process_time()
    world.run(pulses * PULSE)
    cost = time.process_time() - began
    each = pulses * world.size
    return {"datagrams": world.sent / each, "bytes": statistics.fmean(sizes), "microseconds": cost / each * 1e6}


def measure(size: int) -> dict[str, float]:
    """One row."""
    world = World(size, 1)
    row: dict[str, float] = {"servers": size, "start": after(world, lambda: None)}
    world.run(1000 * MS)
    row |= quiet(world)
    row["loss"] = after(world, world.servers[size // 2].crash)
    row["join"] = after(world, world.servers[size // 2].boot)
    row["leave"] = after(world, world.servers[size // 2].leave)
    row["coordinator lost"] = after(world, world.servers[0].crash)
    row["views"] = len(world.views)
    return row


def main() -> None:
    """Print a row for each size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--sizes", default="4,16,17,64,200")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = []
    times = ("start", "loss", "coordinator lost", "join", "leave")
    print(
        f"{'servers':>8}{'datagrams':>11}{'bytes each':>12}{'CPU us':>8}" + "".join(f"{t + ' ms':>20}" for t in times)
    )
    for size in map(int, options.sizes.split(",")):
        row = measure(size)
        rows.append(row)
        cells = f"{size:8}{row['datagrams']:11.1f}{row['bytes']:12.0f}{row['microseconds']:8.0f}"
        print(cells + "".join(f"{row[t]:20.0f}" for t in times), flush=True)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
