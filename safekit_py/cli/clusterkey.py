"""``cluster key``: the keys that the servers share, and how a new one takes the place of an old one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from safekit_py.cli import tables
from safekit_py.cli.common import Group, Session, emit, json_option


@click.group(cls=Group)
def key() -> None:
    """The keys that the servers share: a new one takes an old one's place while everything runs."""


@key.command()
@json_option
@click.pass_obj
def show(session: Session, as_json: bool) -> None:
    """Show the keys' numbers and fingerprints, and who holds and uses which; never the keys."""
    document = session.call("GET", "/cluster/key")
    emit(document) if as_json else _show(document)


@key.command()
@click.option(
    "--from",
    "source",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Hold the keys of this file too: another server's key file.",
)
@json_option
@click.pass_obj
def rotate(session: Session, source: Path | None, as_json: bool) -> None:
    """Make a new key on this server, or take it over from the one that made it. Modules go on running.

    On one server: cluster key rotate. Copy the file that it names to the others, safely (scp), and there: cluster key
    rotate --from FILE. Each server signs for another with the new key from when that holds it, and the old key goes by
    itself ten minutes after all others have signed with the new one.
    """
    body = {"key": "" if source is None else _text(source)}
    document = session.call("POST", "/cluster/key/rotate", json=body)
    if as_json:
        emit(document)
        return
    _show(document)


@key.command()
@click.option("--force", is_flag=True, help="Also while a server may still need them: it must get the new key first.")
@json_option
@click.pass_obj
def drop(session: Session, force: bool, as_json: bool) -> None:
    """Forget the old keys on this server now; refused while somebody may still need them."""
    document = session.call("POST", "/cluster/key/drop", params={"force": force})
    emit(document) if as_json else _show(document)


def _text(source: Path) -> str:
    """A key file's content; an empty one must not become the order to make a new key."""
    return source.read_text(encoding="utf-8", errors="replace") or "empty"


def _show(document: dict[str, Any]) -> None:
    if not document["keys"]:
        click.echo("cluster: there is no key. Next: safekit-py cluster genkey")
        return
    newest = document["keys"][-1]["number"]
    table = tables.table("KEY", "FINGERPRINT", "")
    for each in document["keys"]:
        table.add_row(str(each["number"]), each["fingerprint"], "newest" if each["number"] == newest else "")
    tables.show(table)
    if document["users"]:
        table = tables.table("SERVER", "HOLDS", "SIGNS WITH", "GETS")
        for user in document["users"]:
            holds = ", ".join(map(str, user["holds"])) or "not heard"
            table.add_row(user["name"], holds, str(user["signs"] or "-"), str(user["gets"]))
        tables.show(table)
    if len(document["keys"]) > 1:
        _next(document, newest)


def _next(document: dict[str, Any], newest: int) -> None:
    """What is left to do of a rotation."""
    without = [user["name"] for user in document["users"] if newest not in user["holds"]]
    if without:
        click.echo(
            f"key {newest} is not known to be on {', '.join(without)}. Copy {document['file']} there, safely (scp):\n"
            "  on a server: safekit-py cluster key rotate --from FILE\n"
            "  for a witness: in the place of its key file"
        )
    elif any(user["awaited"] for user in document["users"]):
        click.echo("everybody holds the newest key; the old ones go by themselves when nobody has used them for 10 min")
    else:
        click.echo("nobody needs the old keys any more; they go by themselves at once")
