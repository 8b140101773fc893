"""``config compare``: one module's files on every server of the cluster, beside those of this one.

Flows through it: each server's signature and files in, asked for at once; a table, and a unified diff for each server
that has others, out.
"""

from __future__ import annotations

import difflib
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import click

from safekit_py.cli import tables
from safekit_py.cli.common import FAILED, Session, emit, show_problems
from safekit_py.errors import SafekitError

MOST = 32  # servers at a time


def difference(mine: dict[str, str], theirs: dict[str, str], name: str) -> str:
    """What makes the files of this server those of another, as a unified diff."""
    lines: list[str] = []
    for path in sorted({*mine, *theirs}):
        old, new = path if path in mine else os.devnull, f"{name}/{path}" if path in theirs else os.devnull
        before, after = mine.get(path, "").splitlines(), theirs.get(path, "").splitlines()
        lines += difflib.unified_diff(before, after, old, new, lineterm="")
    return "\n".join(lines)


def run(session: Session, module: str, *, as_json: bool) -> int:
    """The exit code: 0 when all servers have the same files."""
    nodes = session.call("GET", "/cluster")["nodes"]
    path = f"/configurations/{module}/files"
    own = session.call("GET", path)

    def ask(node: dict[str, Any]) -> dict[str, Any] | SafekitError:
        try:
            return own if node["this"] else dict(Session(session.here, node["name"]).call("GET", path))
        except SafekitError as error:
            return error

    with ThreadPoolExecutor(min(MOST, max(1, len(nodes)))) as pool:
        found = list(zip((node["name"] for node in nodes), pool.map(ask, nodes), strict=True))
    rows = []
    for name, answer in found:
        if isinstance(answer, SafekitError):
            rows.append({"server": name, "signature": "", "same": False, "diff": "", "problems": answer.problems})
        else:
            diff = difference(own["files"], answer["files"], name)
            same = answer["signature"] == own["signature"]
            rows.append({"server": name, "signature": answer["signature"], "same": same, "diff": diff, "problems": ()})
    if as_json:
        emit([row | {"problems": [problem.as_dict() for problem in row["problems"]]} for row in rows])
    else:
        _show(rows)
    return 0 if all(row["same"] for row in rows) else FAILED


def _show(rows: list[dict[str, Any]]) -> None:
    table = tables.table("SERVER", "SIGNATURE", "")
    for row in rows:
        word = "the same" if row["same"] else "other files" if row["signature"] else row["problems"][0].code
        table.add_row(row["server"], row["signature"] or "-", word)
    tables.show(table)
    for row in rows:
        show_problems(row["problems"])
        if row["diff"]:
            click.echo(row["diff"])
