"""A farm for monitoring. Pure.

Flows through it: what farm modules report in; metrics out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from safekit_py.api import Metric

Sample = tuple[Mapping[str, str], float]


def metrics(reports: Mapping[str, Mapping[str, Any]]) -> tuple[Metric, ...]:
    """The figures of these modules.

    :param reports: by module, what its type reports.
    """
    return (
        Metric("farm_share", "Part of a group's buckets that a server owns, 0 to 1", "gauge", tuple(_shares(reports))),
        Metric("farm_member", "1 when the server takes clients of the farm", "gauge", tuple(_members(reports))),
        Metric("farm_view", "Number of the farm's present view; 0 without one", "gauge", tuple(_each(reports, "view"))),
        Metric(
            "farm_moved_buckets",
            "Buckets of which another server may hold older connections",
            "gauge",
            tuple(_each(reports, "moved")),
        ),
        Metric(
            "farm_packets_total", "Packets that the filter saw, by its verdict", "counter", tuple(_packets(reports))
        ),
    )


def _shares(reports: Mapping[str, Mapping[str, Any]]) -> Iterator[Sample]:
    for module, report in reports.items():
        for member in report.get("members", ()):
            for group, share in zip(report.get("groups", ()), member["shares"], strict=False):
                yield {"module": module, "group": group, "server": member["name"]}, share / 100


def _members(reports: Mapping[str, Mapping[str, Any]]) -> Iterator[Sample]:
    for module, report in reports.items():
        for member in report.get("members", ()):
            yield {"module": module, "server": member["name"]}, float(member["state"] == "member")


def _each(reports: Mapping[str, Mapping[str, Any]], what: str) -> Iterator[Sample]:
    for module, report in reports.items():
        yield {"module": module}, float(report.get(what, 0))


def _packets(reports: Mapping[str, Mapping[str, Any]]) -> Iterator[Sample]:
    for module, report in reports.items():
        for verdict, count in sorted(report.get("packets", {}).items()):
            yield {"module": module, "verdict": verdict}, float(count)
