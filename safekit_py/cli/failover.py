"""Commands about the failover rules: which would act now, and why."""

from __future__ import annotations

from typing import Any

import click

from safekit_py.cli import tables
from safekit_py.cli.common import Command, Group, Session, emit, json_option, module_option


@click.group(cls=Group)
def failover() -> None:
    """The failover rules of a module: what follows when a resource is down."""


@failover.command(cls=Command)
@module_option
@click.option(
    "--simulate",
    multiple=True,
    metavar="RESOURCE=VALUE",
    help="As if the resource had this value, such as tcp.Check_Appli=down; changes nothing, may be repeated.",
)
@click.option("-v", "--verbose", is_flag=True, help="Show each rule as it is written.")
@json_option
@click.pass_obj
def explain(session: Session, module: str, simulate: tuple[str, ...], verbose: bool, as_json: bool) -> None:
    """Show each rule, whether it is true and why, and which action is the next one."""
    document = session.call("GET", f"/modules/{module}/failover", params={"simulate": list(simulate)})
    if as_json:
        emit(document)
        return
    _show(document, verbose=verbose)


def _switch_command(switch: str, text: str) -> None:
    @failover.command(switch, cls=Command, help=text, short_help=text)
    @module_option
    @json_option
    @click.pass_obj
    def command(session: Session, module: str, as_json: bool) -> None:
        answer = session.call("PUT", f"/modules/{module}/failover/{switch}")
        emit(answer) if as_json else click.echo(f"{module}: automatic actions are {switch}")


_switch_command("on", "Take the rules' actions again.")
_switch_command("off", "Take no automatic action until it is switched on again; the rules are still shown and logged.")


def _show(document: dict[str, Any], *, verbose: bool) -> None:
    from rich.console import Group as Lines  # noqa: PLC0415 - loaded only where needed
    from rich.text import Text  # noqa: PLC0415 - loaded only where needed

    table = tables.table("RULE", "ACTION", "TRUE?", "WHY", "SINCE/DUE", *(["AS WRITTEN"] if verbose else []))
    for rule in document["rules"]:
        true = Text("yes", style="red") if rule["true"] else Text("no", style="green")
        why = [*rule["causes"], *([rule["why"]] if rule["true"] else [])]
        table.add_row(
            Text(rule["label"], style="bold" if rule["taken"] else ""),
            rule["action"],
            true,
            Text("; ".join(why)),
            _times(rule),
            *([Text(rule["text"])] if verbose else []),
        )
    heading = f"{document['module']}: an action follows when it is wished for {document['handle_time']:g} s"
    if document["simulated"]:
        heading += f"; as if {', '.join(f'{name} were {value}' for name, value in document['simulated'].items())}"
    tables.show(Lines(Text(heading), *([table] if document["rules"] else []), Text(_end(document))))


def _times(rule: dict[str, Any]) -> str:
    since = "" if rule["since"] is None else f"{rule['since']:.1f} s"
    left = "" if rule["left"] is None else f" / in {rule['left']:.1f} s"
    return since + left


def _end(document: dict[str, Any]) -> str:
    """What follows, in one line."""
    taken = [rule for rule in document["rules"] if rule["taken"]]
    if not document["rules"]:
        return "There is no rule: no checker asks for an action, and <failover> has none."
    if not taken:
        return "Nothing follows."
    left = taken[0]["left"]
    when = f"in {left:.1f} s, if nothing changes" if left else "now"
    end = f"Next: {taken[0]['action']} {when} (rule {', '.join(rule['label'] for rule in taken)})."
    return end if document["on"] else f"{end} Failover is off: it would be logged only."
