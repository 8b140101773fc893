"""Commands that change what a module does: start, stop, restart, stopstart, forcestop; and the agent itself."""

from __future__ import annotations

import click

from safekit_py.cli import tables
from safekit_py.cli.common import Command, Session, emit, json_option, module_option

HELP = {
    "start": "Start a module on this server.",
    "stop": "Stop a module on this server; clients go to the other servers first.",
    "restart": "Stop and start the application; the module keeps its state.",
    "stopstart": "Stop the module and start it again.",
    "forcestop": "Stop at once: ends a script that hangs, runs only the forced stop scripts.",
}


def _make(verb: str) -> click.Command:
    @click.command(verb, cls=Command, help=HELP[verb], short_help=HELP[verb])
    @module_option
    @click.option("-i", "--identity", help="Who asks (a script, a checker): counts against maxloop.")
    @click.option("--wait", is_flag=True, help="Return when it is done, and fail if it fails.")
    @json_option
    @click.pass_obj
    def command(session: Session, module: str, identity: str | None, wait: bool, as_json: bool) -> None:
        parameters = {"wait": wait, **({"identity": identity} if identity else {})}
        if wait and not as_json:
            from rich.console import Console  # noqa: PLC0415 - loaded only where needed

            with Console(stderr=True).status(f"{verb} {module} …"):
                answer = session.call("POST", f"/modules/{module}/{verb}", params=parameters)
        else:
            answer = session.call("POST", f"/modules/{module}/{verb}", params=parameters)
        if as_json:
            emit(answer)
            return
        item = answer["module"]
        if answer["done"]:
            click.echo(f"{verb} {module}: done, {item['state']} {item['readiness']}")
        else:
            click.echo(f"{verb} {module}: accepted; follow it with safekit-py status --watch")

    return command


@click.command(cls=Command)
@click.option("-v", "--verbose", is_flag=True, help="Log more.")
@click.pass_obj
def agent(session: Session, verbose: bool) -> None:
    """Run the agent in the foreground (systemd does this)."""
    from safekit_py.cli.agent import run  # noqa: PLC0415 - loaded only where needed

    run(session.paths, verbose=verbose)


@click.command(cls=Command)
@json_option
@click.pass_obj
def plugins(session: Session, as_json: bool) -> None:
    """Show every plugin, the hooks it implements, and what is wrong with it."""
    found = session.call("GET", "/plugins")
    if as_json:
        emit(found)
        return
    table = tables.table("PLUGIN", "FROM", "HOOKS", "PROBLEM")
    for item in found:
        problems = "\n".join(p["message"] for p in item["problems"])
        table.add_row(item["name"], item["origin"], "\n".join(item["hooks"]), problems)
    tables.show(table)


start, stop, restart, stopstart, forcestop = map(_make, HELP)
