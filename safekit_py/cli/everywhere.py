"""One command on several servers at once: ``-H "*"`` or ``-H node1,node2`` before it.

Flows through it: the servers and the command line in; the command once for each server, in a thread of its own, whose
calls this server's web process passes on; each one's output under its name, in the order of the servers, and an exit
code. What a thread prints goes to its own buffer, so that no command needs to know of this.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import click

from safekit_py.cli.common import FAILED, Session, emit, reports_errors
from safekit_py.errors import NotFoundError, Problem, StateError

ALL = "*"
MOST = 32  # servers at a time
HERE = ("agent", "cert", "lab", "web", "witness")  # commands that are not calls of the API


class _Split(io.TextIOBase):
    """A standard stream that is another one in each thread which has set it."""

    def __init__(self, whole: Any) -> None:
        self._whole, self._own = whole, threading.local()

    def begin(self) -> io.StringIO:
        made = self._own.stream = io.StringIO()
        return made

    def _stream(self) -> Any:
        return getattr(self._own, "stream", self._whole)

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return "utf-8"

    def write(self, text: str) -> int:
        return int(self._stream().write(text))

    def flush(self) -> None:
        self._stream().flush()

    def isatty(self) -> bool:
        return False

    def writable(self) -> bool:
        return True


@dataclass(frozen=True, slots=True)
class Result:
    """What a command did on one server."""

    server: str
    code: int
    output: str
    errors: str


@contextlib.contextmanager
def _splitting() -> Iterator[tuple[_Split, _Split]]:
    before = sys.stdin, sys.stdout, sys.stderr
    out, err = _Split(sys.stdout), _Split(sys.stderr)
    # Nobody can answer questions of several servers: a command that asks one ends, and says that --yes answers it.
    sys.stdin, sys.stdout, sys.stderr = io.StringIO(), out, err  # type: ignore[assignment]
    try:
        yield out, err
    finally:
        sys.stdin, sys.stdout, sys.stderr = before


def chosen(session: Session, wanted: str) -> list[str]:
    """The servers that ``-H`` names, in the order of cluster.xml.

    :raises NotFoundError: one of them is not in cluster.xml.
    """
    known = [node["name"] for node in session.call("GET", "/cluster")["nodes"]]
    named = {each.strip() for each in wanted.split(",") if each.strip()}
    names = set(known) if named == {ALL} else named
    if not known or not names:
        text = "-H names no server" if known else "this server has no cluster.xml"
        raise StateError(Problem("node.none", text, '-H "*" means all; safekit-py cluster init makes a cluster'))
    if missing := sorted(names - set(known)):
        text = f"cluster.xml has no server {', '.join(missing)}"
        raise NotFoundError(Problem("node.unknown", text, f"it has: {', '.join(known)}"))
    return [name for name in known if name in names]


def run(group: click.Group, session: Session, names: Sequence[str], words: Sequence[str]) -> list[Result]:
    """The command on each of the servers, all at once."""
    root = str(session.paths.root)

    def one(name: str, out: _Split, err: _Split) -> Result:
        output, errors = out.begin(), err.begin()
        code: Any = 0
        try:
            group.main(["--root", root, "--node", name, *words], prog_name="safekit-py", standalone_mode=True)
        except SystemExit as ended:
            code = ended.code
        number: int = code if isinstance(code, int) else FAILED if code else 0
        return Result(name, number, output.getvalue(), errors.getvalue())

    with _splitting() as (out, err), ThreadPoolExecutor(min(MOST, len(names))) as pool:
        return list(pool.map(lambda name: one(name, out, err), names))


def show(results: Sequence[Result]) -> int:
    """Print each server's output under its name; the exit code: 0 if all did it, else 1."""
    for each in results:
        mark = "" if each.code == 0 else click.style(f"  exit code {each.code}", fg="red")
        click.echo(click.style(f"---- {each.server}", bold=True) + mark)
        if each.output:
            click.echo(each.output, nl=not each.output.endswith("\n"))
        if each.errors:
            click.echo(each.errors, nl=not each.errors.endswith("\n"), err=True)
    failed = [each.server for each in results if each.code]
    if failed:
        click.echo(f"{len(failed)} of {len(results)} servers failed: {', '.join(failed)}", err=True)
    return FAILED if failed else 0


def items(results: Sequence[Result]) -> list[dict[str, Any]]:
    """The same for ``--json``: one item for each server."""
    found: list[dict[str, Any]] = []
    for each in results:
        try:
            answer = json.loads(each.output)
        except ValueError:
            answer = each.output
        found.append({"server": each.server, "code": each.code, "answer": answer, "errors": each.errors})
    return found


def invoke(ctx: click.Context, session: Session, hosts: str, words: Sequence[str], pushed: Mapping[str, Any]) -> None:
    """What ``-H`` does with a command line; ends with its exit code.

    :param pushed: ``module``, ``cluster`` and ``apply`` of ``-E``, ``-G`` and ``--apply``.
    """
    if pushed:
        if words or ("module" in pushed) == ("cluster" in pushed) or (pushed.get("apply") and "module" not in pushed):
            raise click.UsageError("write either -E NAME [--apply] or -G after -H, and no command")
    elif not words or words[0] in HERE:
        raise click.UsageError(f"-H goes with a command that calls the agent; not {', '.join(HERE)}")

    def work(as_json: bool) -> int:
        names = chosen(session, hosts)
        if pushed:
            from safekit_py.cli import push  # noqa: PLC0415 - loaded only where needed

            return push.run(session, names, pushed.get("module"), apply=bool(pushed.get("apply")))
        results = run(ctx.find_root().command, session, names, words)  # type: ignore[arg-type]
        if as_json:
            emit(items(results))
            return FAILED if any(each.code for each in results) else 0
        return show(results)

    ctx.exit(reports_errors(work)(as_json="--json" in words))
