"""Draws what the benchmarks of the farm measured.

    make bench-farm   # measures, in about an hour and a half, and draws
    make plots        # draws what docs/figures has

The first argument is the folder of what the programs wrote with ``--json``, each under the name that ``PLOTS`` gives;
the second gets an SVG for each that is there. The same figures give the same bytes.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")
from matplotlib import pyplot as plt

OURS, PEERS, WANTED = "#2a6fb0", ("#9aa3ad", "#c98a3b"), "#b3261e"
STYLE = {
    "axes.edgecolor": "#8a8f98",
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "figure.constrained_layout.use": True,
    "font.size": 9,
    "legend.frameon": False,
    "svg.fonttype": "none",  # text stays text: it can be searched, and the file is small
    "svg.hashsalt": "safekit_py",
}
Rows = list[dict[str, Any]]


def read(folder: Path, name: str) -> Rows | None:
    """What a benchmark wrote; nothing if it has not run."""
    path = folder / f"{name}.json"
    return list(json.loads(path.read_text())) if path.exists() else None


def bars(axes: Any, names: list[str], values: list[float], colours: list[str], form: str) -> None:
    """Horizontal bars with their values at the end, the first on top."""
    drawn = axes.barh(range(len(names)), values, color=colours, height=0.65)
    axes.bar_label(drawn, [form.format(value) for value in values], padding=3)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.margins(x=0.12)


def limit(axes: Any, value: float, text: str) -> None:
    """What was wanted, as a line."""
    axes.axvline(value, color=WANTED, linestyle="--", linewidth=1)
    axes.text(value, 1.0, f" {text}", color=WANTED, transform=axes.get_xaxis_transform(), va="bottom", ha="center")


def connections(rows: Rows, figure: Any) -> None:
    """Share of connections that each change breaks."""
    axes = figure.subplots()
    rows = [row for row in rows if "broken" in row]
    farms, changes = list(dict.fromkeys(r["farm"] for r in rows)), list(dict.fromkeys(r["change"] for r in rows))
    width = 0.8 / len(farms)
    for number, farm in enumerate(farms):
        shares = [
            100 * r["broken"] / r["opened"] for c in changes for r in rows if (r["farm"], r["change"]) == (farm, c)
        ]
        places = [place + number * width for place in range(len(changes))]
        drawn = axes.bar(places, shares, width * 0.92, label=farm, color=(OURS, *PEERS)[number])
        axes.bar_label(drawn, [f"{share:.1f}" for share in shares], padding=2)
    axes.set_xticks([place + width for place in range(len(changes))], changes)
    axes.set_ylabel("connections broken, %")
    axes.set_title("Established TCP connections that a change breaks (wanted: 0)")
    axes.legend()


def buckets(rows: Rows, figure: Any) -> None:
    """Overload and needless moves, worst of all changes."""
    for axes, key, title in zip(
        figure.subplots(1, 2),
        ("overload_worst", "needless_worst"),
        ("worst overload, %", "needless moves, %"),
        strict=True,
    ):
        for colour, name in ((OURS, "safekit_py"), (PEERS[0], "maglev")):
            for weighted, style in ((False, "-"), (True, "--")):
                found = [r for r in rows if r["table"] == name and r["weighted"] is weighted]
                label = name + (", weighted" if weighted else "")
                axes.plot(
                    [r["servers"] for r in found], [r[key] for r in found], style, color=colour, label=label, marker="."
                )
        axes.set_xlabel("servers")
        axes.set_title(title)
        axes.set_ylim(bottom=0)
    axes.legend()


def failover(rows: Rows, figure: Any) -> None:
    """Each run a point, the median as a line."""
    axes = figure.subplots()
    names = [f"{row['farm']}\n{row['fault']}" for row in rows]
    for place, row in enumerate(rows):
        ours = row["farm"].startswith("safekit")
        axes.plot(
            row["starts_ms"], [place] * len(row["starts_ms"]), "|", color=OURS if ours else PEERS[0], markersize=14
        )
        axes.plot([row["median_ms"]], [place], "D", color="black", markersize=4)
        axes.text(row["median_ms"], place - 0.28, f"{row['median_ms']:.0f}", ha="center")
    axes.set_yticks(range(len(rows)), names)
    axes.set_ylim(len(rows) - 0.5, -0.6)
    if max(row["p99_ms"] for row in rows) > 1000:
        axes.set_xscale("log")
        axes.set_xticks([100, 200, 500, 1000, 2000, 4000], ["100", "200", "500", "1000", "2000", "4000"])
        axes.minorticks_off()
    axes.set_xlabel("ms from the fault to the start of the last disturbed request; ◆ median")


def failover_default(rows: Rows, figure: Any) -> None:
    failover(rows, figure)
    limit(figure.axes[0], 250, "p99 wanted: 250")


def failover_fast(rows: Rows, figure: Any) -> None:
    failover(rows, figure)
    limit(figure.axes[0], 60, "p99 wanted: 60")


def eviction(rows: Rows, figure: Any) -> None:
    """What must not happen, and how often it did."""
    row, axes = rows[0], figure.subplots()
    bars(axes, ["servers lost", "packets after a lease's end"], [row["lost"], row["expired"]], [OURS] * 2, "{:.0f}")
    axes.set_xlim(0, max(1, row["lost"], row["expired"]))
    axes.set_title(f"{row['minutes']:g} minutes, {row['hogs']} processor hogs, {row['requests']} requests (wanted: 0)")


def filter_cost(rows: Rows, figure: Any) -> None:
    axes = figure.subplots()
    bars(axes, [r["case"] for r in rows], [r["extra_ns"] for r in rows], [OURS] * len(rows), "{:.0f}")
    for place, row in enumerate(rows):
        if row["budget_ns"]:
            axes.plot([row["budget_ns"]] * 2, [place - 0.4, place + 0.4], "--", color=WANTED)
    axes.set_title("ns above a null program; dashed: wanted at most")


def packets(rows: Rows, figure: Any) -> None:
    axes = figure.subplots()
    colours = [OURS if row["wanted"] else PEERS[0] for row in rows]
    bars(axes, [r["way"] for r in rows], [r["of_nft"] for r in rows], colours, "{:.2f}")
    for place, row in enumerate(rows):
        if row["wanted"]:
            axes.plot([row["wanted"]] * 2, [place - 0.4, place + 0.4], "--", color=WANTED)
    axes.set_title("A client's packet over three servers, of nft's; dashed: wanted at most")


def flood(rows: Rows, figure: Any) -> None:
    axes = figure.subplots()
    colours = [OURS if row["wanted"] else PEERS[0] for row in rows]
    bars(axes, [r["way"] for r in rows], [r["ratio"] for r in rows], colours, "{:.2f}")
    limit(axes, 1.05, "wanted at most")
    axes.set_title("Cost of a packet that begins a flow, of that of a known flow", pad=18)


def stream(rows: Rows, figure: Any) -> None:
    axes = figure.subplots()
    names = {"filter": "with the filter", "control": "without, as a control"}
    for place, row in enumerate(rows):
        axes.plot(
            [row["low"], row["high"]], [place] * 2, color=OURS if row["slice"] == "filter" else PEERS[0], linewidth=6
        )
        axes.plot([row["ratio"]], [place], "D", color="black", markersize=4)
    axes.set_yticks(range(len(rows)), [names[r["slice"]] for r in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    limit(axes, rows[0]["wanted"], "wanted at least")
    axes.set_title("One TCP stream, of the same without a filter: median, 95 % interval", pad=18)


def requests(rows: Rows, figure: Any) -> None:
    axes = figure.subplots()
    for place, row in enumerate(rows):
        axes.plot(row["ratios"], [place] * len(row["ratios"]), "|", color=OURS, markersize=14)
        axes.plot([row["ratio"]], [place], "D", color="black", markersize=4)
    axes.set_yticks(range(len(rows)), [f"{r['mode']}\n{r['kind']}" for r in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    limit(axes, rows[0]["wanted"], "wanted at least")
    axes.set_title("Requests a second, of the servers called directly; ◆ median", pad=18)


def table(rows: Rows, figure: Any) -> None:
    axes, row = figure.subplots(), rows[0]
    axes.hist(row["times_ms"], bins=60, color=OURS)
    axes.set_xlabel("ms")
    axes.set_yscale("log")
    limit(axes, row["wanted_ms"], "wanted at most")
    axes.set_title(f"{row['changes']} changes of the whole table, {row['packets']} packets, {row['lost']} lost", pad=18)


def agent(rows: Rows, figure: Any) -> None:
    axes = figure.subplots()
    colours = [PEERS[0] if row["process"].startswith("bare") else OURS for row in rows]
    bars(axes, [r["process"] for r in rows], [r["rss_mb"] for r in rows], colours, "{:.1f}")
    limit(axes, 40, "wanted at most")
    axes.set_title("MB resident", pad=18)


PLOTS: dict[str, tuple[tuple[str, ...], Callable[[Rows, Any], None], float]] = {
    "connections": (("connections",), connections, 3.2),
    "buckets": (("buckets",), buckets, 3.0),
    "failover-default": (("failover-default-agent", "failover-default-link"), failover_default, 3.2),
    "failover-fast": (("failover-fast-agent", "failover-fast-link"), failover_fast, 3.2),
    "eviction": (("eviction",), eviction, 1.4),
    "filter": (("filter",), filter_cost, 3.4),
    "packets": (("packets",), packets, 2.6),
    "flood": (("flood",), flood, 2.2),
    "stream": (("stream",), stream, 1.8),
    "requests": (("requests-vmac_directed", "requests-vmac_invisible"), requests, 2.6),
    "table": (("table",), table, 2.4),
    "agent": (("agent",), agent, 2.0),
}


def main() -> None:
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    source, target = map(Path, sys.argv[1:])
    target.mkdir(parents=True, exist_ok=True)
    with plt.rc_context(STYLE):
        for name, (parts, draw, height) in PLOTS.items():
            rows = [row for part in parts for row in read(source, part) or []]
            if not rows:
                print(f"{name}: not measured")
                continue
            figure = plt.figure(figsize=(7.5, height))
            draw(rows, figure)
            figure.savefig(target / f"{name}.svg", metadata={"Date": None, "Creator": None})
            plt.close(figure)


if __name__ == "__main__":
    main()
