"""``web``: the process that serves the API over the network; ``cert``: the certificates that it shows."""

from __future__ import annotations

import os
from pathlib import Path

import click

from safekit_py.cli.common import Command, Group, Session


@click.command(cls=Command)
@click.option("--http", "plain", metavar="ADDRESS:PORT", help="For a lab only: without TLS, at this place.")
@click.option("--child", is_flag=True, hidden=True, help="End when stdin does.")
@click.pass_obj
def web(session: Session, plain: str | None, child: bool) -> None:
    """Serve the API by HTTPS in the foreground.

    The agent does this by itself as soon as there is a token or a user, on TCP port 9453, or where SAFEKIT_WEB in its
    environment says (ADDRESS:PORT, or off).
    """
    from safekit_py.control.health import addresses  # noqa: PLC0415 - loaded only where needed
    from safekit_py.web import serve  # noqa: PLC0415

    try:
        places = addresses(plain if plain is not None else os.environ.get("SAFEKIT_WEB", ""), serve.DEFAULT)
    except ValueError:
        raise click.UsageError("write a place to listen as ADDRESS:PORT, such as 127.0.0.1:9453") from None
    serve.run(session.paths, places, secure=plain is None, child=child)


@click.group(cls=Group)
def cert() -> None:
    """Certificates of the API: the cluster's authority, and what it gives to servers."""


@cert.command()
@click.pass_obj
def show(session: Session) -> None:
    """Show this server's certificates with their ends; compare the fingerprint of ca.crt before you trust it."""
    from safekit_py.web import certificates  # noqa: PLC0415 - loaded only where needed

    for name in ("ca.crt", "server.crt", "own.crt"):
        path = session.paths.tls / name
        if path.exists():
            end = certificates.ends(path)
            click.echo(f"{name:<11} until {end:%Y-%m-%d}  SHA-256 {certificates.fingerprint(path)}")


@cert.command()
@click.argument("node")
@click.option("--name", "names", multiple=True, help="An address or host name under which it is called; several times.")
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="The folder for the three files."
)
@click.pass_obj
def issue(session: Session, node: str, names: tuple[str, ...], out: Path) -> None:
    """Give server NODE a certificate: ca.crt, server.crt and server.key, to be copied to its tls folder, safely."""
    from safekit_py.web import certificates  # noqa: PLC0415 - loaded only where needed

    certificates.issue(session.paths.tls, node, names, out)
    click.echo(f"{node}: copy the files of {out} to {session.paths.tls} there, safely, and restart its agent")
