"""A mirror for monitoring. Pure.

Flows through it: what mirror modules report in; metrics out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from safekit_py.api import Metric

Report = Mapping[str, Any]
Sample = tuple[Mapping[str, str], float]


def metrics(reports: Mapping[str, Report]) -> tuple[Metric, ...]:
    """The figures of these modules; what a module does not know has no sample.

    :param reports: by module, what its type reports.
    """

    def each(name: str, text: str, find: Callable[[Report], Any], kind: str = "gauge") -> Metric:
        return Metric(f"mirror_{name}", text, kind, tuple(_samples(reports, find)))

    return (
        each("uptodate", "1 when this server's data may serve", lambda r: r.get("uptodate")),
        each("replicated", "1 when both servers have the same data and keep them the same", lambda r: r["replicated"]),
        each("behind_seconds", "For how long the two copies have differed; 0: they do not", lambda r: r.get("behind")),
        each("marked_bytes", "Size of the zones in which the copies may differ", lambda r: _volume(r, "marked")),
        each("unsent_bytes", "Bytes that wait to be sent to the secondary", lambda r: _volume(r, "unsent")),
        each("waiting_requests", "Requests not answered yet", lambda r: _volume(r, "waiting")),
        each(
            "sent_bytes_total",
            "Bytes sent to the secondary; it counts anew with each connection",
            lambda r: _volume(r, "sent"),
            "counter",
        ),
        each("resync_bytes", "Bytes that a resynchronisation compares", lambda r: _progress(r, "total")),
        each("resync_done_bytes", "Bytes that it has compared", lambda r: _progress(r, "compared")),
        each(
            "restarts_total",
            "How often the volume process was started again after its death",
            lambda r: _volume(r, "restarts"),
            "counter",
        ),
    )


def _samples(reports: Mapping[str, Report], find: Callable[[Report], Any]) -> Iterator[Sample]:
    for module, report in reports.items():
        if "replicated" in report and (value := find(report)) is not None:
            yield {"module": module}, float(value)


def _volume(report: Report, what: str) -> Any:
    return report.get("volumes", {}).get(what)


def _progress(report: Report, what: str) -> Any:
    return report.get("volumes", {}).get("resynchronisation", {}).get(what)
