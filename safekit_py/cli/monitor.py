"""Commands that only look: status; and the two that write a line to the log."""

from __future__ import annotations

import sys
from typing import Any

import click

from safekit_py.cli import tables
from safekit_py.cli.common import Command, Session, emit, json_option
from safekit_py.errors import SafekitError


@click.command(cls=Command)
@click.argument("name", required=False)
@click.option("-m", "--module", "module", metavar="NAME", help="Only this module.")
@click.option(
    "-v", "--verbose", is_flag=True, help="Also show what each state depends on, and all that the module type knows."
)
@click.option("-w", "--watch", is_flag=True, help="Keep showing all servers of the cluster, until q or Ctrl-C.")
@click.option("-q", "-lq", "--quiet", is_flag=True, help="Print nothing; exit with the module's state.")
@json_option
@click.pass_obj
def status(
    session: Session, name: str | None, module: str | None, verbose: bool, watch: bool, quiet: bool, as_json: bool
) -> None:
    """Show the modules of this server, and why each is in its state.

    With -q and a module: exit code 0 STOP, 1 WAIT, 2 ALONE or UP, 3 PRIM, 4 SECOND.
    """
    chosen = module or name
    if quiet:
        if not chosen:
            raise click.UsageError("-q needs a module")
        sys.exit(session.call("GET", f"/modules/{chosen}")["exit_code"])
    if watch:
        from safekit_py.cli import watch as watching  # noqa: PLC0415 - loaded only where needed

        watching.run(session, chosen)
        return
    document = _document(session, chosen)
    if as_json:
        emit(document)
    else:
        tables.show(tables.status(document, verbose=verbose))
        if verbose:
            _trees(session, document)


def _trees(session: Session, document: dict[str, Any]) -> None:
    """What each module's state depends on."""
    from safekit_py.cli.tree import dependencies  # noqa: PLC0415 - loaded only where needed

    client = session.client()
    for module in document["modules"]:
        if not module["mode"]:
            continue
        rules = client.call("GET", f"/modules/{module['name']}/failover")["rules"]
        try:
            told = client.call("POST", f"/modules/{module['name']}/script/state")["output"]
        except SafekitError as error:
            told = str(error.problems[0])
        click.echo()
        tables.show(dependencies(module, rules, told))


def _document(session: Session, chosen: str | None) -> dict[str, Any]:
    client = session.client()
    document: dict[str, Any] = client.call("GET", "/status")
    if chosen:
        document["modules"] = [client.call("GET", f"/modules/{chosen}")]
    return document


def _write(severity: str) -> click.Command:
    name = "printe" if severity == "E" else "printi"
    what = "an error" if severity == "E" else "information"

    @click.command(name, cls=Command, help=f"Write {what} to the module's log; for scripts: $SAFE/safekit {name} TEXT.")
    @click.argument("text", nargs=-1, required=True)
    @click.option("-m", "--module", "module", envvar="SAFEMODULE", required=True, metavar="NAME", help="The module.")
    @click.pass_obj
    def command(session: Session, text: tuple[str, ...], module: str) -> None:
        body = {"message": " ".join(text)[:4096], "severity": severity, "source": "user"}
        session.call("PUT", f"/modules/{module}/log", json=body)

    return command


printi, printe = _write("I"), _write("E")
