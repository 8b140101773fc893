"""A client with many short connections, run on the client host of a lab; it reports what its users would have noticed.

What flows: the address of a page that names its server -> one HTTP request per connection, at a steady rate, each
with a source port of its own -> one JSON document on standard output when the time is over or standard input is
closed:

    {"requests": 812, "servers": {"server1": 271, ...}, "trouble": [{"at": 1.2, "took": 1.0, "what": "timed out"}, ...]}

A request is trouble when it failed or took longer than ``--slow``. ``at`` is when it began and ``took`` how long it
lasted, in seconds; ``at`` counts on the machine's monotonic clock, which every host of a lab shares. Requests do
not wait for one another: while one hangs, the next ones are sent, as other users would send them.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import http.client
import json
import select
import sys
import time
import urllib.parse
from collections import Counter
from dataclasses import asdict, dataclass

NANO = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Answer:
    """One request.

    :param at: its begin, seconds of the monotonic clock.
    :param took: seconds until its answer or its failure.
    :param server: the body of the page; empty when it failed.
    :param what: the failure; empty when it was answered.
    """

    at: float
    took: float
    server: str
    what: str


def seconds() -> float:
    """The monotonic clock, the same on every host of one machine."""
    return time.monotonic_ns() / NANO


def ask(url: urllib.parse.SplitResult, timeout: float) -> Answer:
    """One request over a connection of its own; ``timeout`` in seconds is for all of it."""
    begin = seconds()
    connection = http.client.HTTPConnection(url.hostname or "", url.port or 80, timeout=timeout)
    server = what = ""
    try:
        connection.request("GET", url.path or "/", headers={"Connection": "close"})
        answer = connection.getresponse()
        body = answer.read().decode(errors="replace").strip()
        if answer.status == http.client.OK:
            server = body
        else:
            what = f"status {answer.status}"
    except (OSError, http.client.HTTPException) as error:
        what = str(error) or type(error).__name__
    finally:
        connection.close()
    took = seconds() - begin
    if server and took > timeout:
        return Answer(begin, took, "", "timed out")
    return Answer(begin, took, server, what)


def report(answers: list[Answer], slow: float) -> dict[str, object]:
    """The document that is printed."""
    trouble = [each for each in answers if each.what or each.took > slow]
    fields = (
        {k: v for k, v in asdict(each).items() if k != "server"} for each in sorted(trouble, key=lambda each: each.at)
    )
    servers = Counter(each.server for each in answers if each.server)
    return {"requests": len(answers), "servers": dict(sorted(servers.items())), "trouble": list(fields)}


def load(url: str, *, count: int, rate: float, timeout: float, stop_at_eof: bool) -> list[Answer]:
    """Ask ``count`` times at ``rate`` requests a second, or until standard input ends."""
    page = urllib.parse.urlsplit(url)
    # As many as can hang at once, so that a dead server does not slow the others' requests.
    workers = max(4, int(rate * timeout) + 2)
    pending: list[concurrent.futures.Future[Answer]] = []
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        begin = seconds()
        for number in range(count):
            wait = max(0.0, begin + number / rate - seconds())
            if stop_at_eof and select.select([sys.stdin], [], [], wait)[0]:
                break
            if not stop_at_eof:
                time.sleep(wait)
            pending.append(pool.submit(ask, page, timeout))
        return [each.result() for each in pending]


def main() -> None:
    """Run it as a program."""
    parser = argparse.ArgumentParser(description="Many short connections to a page that names its server.")
    parser.add_argument("url")
    parser.add_argument("--count", type=int, default=300, help="requests, at most")
    parser.add_argument("--rate", type=float, default=200.0, help="requests a second")
    parser.add_argument("--timeout", type=float, default=1.0, help="seconds for one request")
    parser.add_argument("--slow", type=float, default=0.25, help="seconds from which an answer counts as trouble")
    parser.add_argument("--until-eof", action="store_true", help="go on until standard input is closed")
    given = parser.parse_args()
    answers = load(given.url, count=given.count, rate=given.rate, timeout=given.timeout, stop_at_eof=given.until_eof)
    print(json.dumps(report(answers, given.slow)))


if __name__ == "__main__":
    main()
