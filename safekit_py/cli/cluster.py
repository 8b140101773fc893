"""``cluster``: the servers, their addresses and the key that they share."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

import click

from safekit_py.cli import tables
from safekit_py.cli.clusterkey import key
from safekit_py.cli.common import FAILED, Group, Session, emit, from_items, json_option, show_problems
from safekit_py.cli.join import init, join, token
from safekit_py.errors import Problem, StateError


@click.group(cls=Group)
def cluster() -> None:
    """The servers of the cluster; cluster.xml and the key are the same on each."""


for each in (key, init, join, token):
    cluster.add_command(each)


@cluster.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--node", metavar="NAME", help="This server's name in the file, where it is not the host name.")
@json_option
@click.pass_obj
def config(session: Session, file: Path, node: str | None, as_json: bool) -> None:
    """Take cluster.xml on this server."""
    parameters = {"node": node} if node else {}
    answer = session.call("PUT", "/cluster/config", params=parameters, content=file.read_bytes())
    if as_json:
        emit(answer)
        return
    show_problems(from_items(answer["problems"]))
    click.echo("cluster: configured. Next: safekit-py cluster state")


@cluster.command()
@click.option(
    "--from",
    "source",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Take the key from this file.",
)
@click.option("--force", is_flag=True, help="Replace the key that this server has.")
@json_option
@click.pass_obj
def genkey(session: Session, source: Path | None, force: bool, as_json: bool) -> None:
    """Make the cluster's key, or take the one that another server made.

    On the first server: cluster genkey. Copy the file that it names to the others, safely (scp), and there:
    cluster genkey --from FILE.
    """
    if session.paths.cluster_key.exists() and not force:
        raise StateError(
            Problem(
                "cluster.key-exists",
                "this server has a key",
                "--force replaces it; every server needs the new one",
                str(session.paths.cluster_key),
            )
        )
    content = source.read_text() if source else secrets.token_hex(32)
    answer = session.call("PUT", "/cluster/key", json={"key": content})
    emit(answer) if as_json else click.echo(
        f"cluster: the key is in {session.paths.cluster_key}; every server needs the same"
    )


@cluster.command()
@click.option("--yes", is_flag=True, help="Do it: without a key, no farm and no mirror starts on this server.")
@json_option
@click.pass_obj
def delkey(session: Session, yes: bool, as_json: bool) -> None:
    """Forget the cluster's key on this server; refused while a module runs."""
    _confirm(yes, "the key of this server is deleted; its farms and mirrors cannot start without one")
    answer = session.call("DELETE", "/cluster/key")
    emit(answer) if as_json else click.echo("cluster: the key is gone. Next: safekit-py cluster genkey")


@cluster.command()
@click.option("--yes", is_flag=True, help="Do it: without cluster.xml, no farm and no mirror starts on this server.")
@json_option
@click.pass_obj
def deconfig(session: Session, yes: bool, as_json: bool) -> None:
    """Forget cluster.xml on this server; refused while a module runs."""
    _confirm(yes, "cluster.xml of this server is deleted; its farms and mirrors cannot start without one")
    answer = session.call("DELETE", "/cluster/config")
    emit(answer) if as_json else click.echo("cluster: not configured. Next: safekit-py cluster config FILE")


def _confirm(yes: bool, what: str) -> None:
    if not yes:
        click.confirm(f"{what}. Go on?", abort=True, err=True)


@cluster.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@json_option
@click.pass_context
def confcheck(ctx: click.Context, file: Path, as_json: bool) -> None:
    """Check a cluster.xml without taking it: every error at once. Works without an agent."""
    from safekit_py.config.cluster import check_cluster  # noqa: PLC0415 - loaded only where needed

    checked = check_cluster(file.read_bytes(), str(file))
    good = checked.cluster is not None
    if as_json:
        emit({"file": str(file), "accepted": good, "problems": [p.as_dict() for p in checked.problems]})
    else:
        show_problems(checked.problems)
        servers = f": {', '.join(checked.cluster.nodes)}" if checked.cluster else ""
        click.echo(f"{file}: {'accepted' if good else 'refused'}{servers}")
    if not good:
        ctx.exit(FAILED)


@cluster.command()
@json_option
@click.pass_obj
def confinfo(session: Session, as_json: bool) -> None:
    """Show the cluster.xml of this server, its fingerprint and the key's; compare them between servers."""
    document = session.call("GET", "/cluster")
    source = session.paths.cluster_xml
    if as_json:
        emit({key: document[key] for key in ("configured", "signature", "key", "locked")} | {"file": str(source)})
        return
    click.echo(f"{source}: {document['signature'] or 'not there'}")
    click.echo(f"key: {document['key'] or 'none'}")
    click.echo(f"locked: {document['locked'] or 'no'}")
    if source.is_file():
        click.echo(source.read_text(encoding="utf-8", errors="replace"))


@cluster.command()
@click.argument("reason", nargs=-1)
@json_option
@click.pass_obj
def lock(session: Session, reason: tuple[str, ...], as_json: bool) -> None:
    """Refuse every change of cluster.xml and key on this server until it is unlocked."""
    answer = session.call("PUT", "/cluster/lock", json={"reason": " ".join(reason)[:256]})
    emit(answer) if as_json else click.echo("cluster: locked. To change it: safekit-py cluster unlock")


@cluster.command()
@json_option
@click.pass_obj
def unlock(session: Session, as_json: bool) -> None:
    """Allow changes of cluster.xml and key again."""
    answer = session.call("DELETE", "/cluster/lock")
    emit(answer) if as_json else click.echo("cluster: unlocked")


@cluster.command()
@json_option
@click.pass_obj
@click.pass_context
def state(ctx: click.Context, session: Session, as_json: bool) -> None:
    """Show the servers as this one hears them; exit code 1 when something is wrong."""
    document = session.call("GET", "/cluster")
    if as_json:
        emit(document)
    else:
        _show(document)
    if document["problems"]:
        ctx.exit(FAILED)


def _show(document: dict[str, Any]) -> None:
    modules = sorted({m for node in document["nodes"] for m in node["groups"]})
    table = tables.table("SERVER", "ADDRESSES", *(f"IN {m}" for m in modules))
    for node in document["nodes"]:
        name = f"{node['name']} (this server)" if node["this"] else node["name"]
        addresses = ", ".join(f"{lan} {addr}" for lan, addr in node["addresses"].items())
        table.add_row(name, addresses, *(node["groups"].get(m, "-") for m in modules))
    show_problems(from_items(document["problems"]))
    tables.show(table)
    click.echo(
        f"key {document['key'] or 'none'}, cluster.xml {document['signature'] or 'none'} (compare them between servers)"
    )
