"""``token`` and ``user``: who may call this server's API over the network."""

from __future__ import annotations

from pathlib import Path

import click

from safekit_py.cli.common import Group, Session, emit, json_option
from safekit_py.errors import ConfigError, Problem
from safekit_py.runtime.clock import readable

SHORTEST = 10  # characters of a password
LONGEST = 1024
role_type = click.Choice(("monitor", "control", "admin"))
password_option = click.option(
    "--password-file",
    type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path),
    help="Read the password from the first line of this file (- for stdin) instead of asking.",
)


@click.group(cls=Group)
def token() -> None:
    """Tokens: what programs call the API with, as Authorization: Bearer."""


@token.command()
@click.argument("name")
@click.option("--role", type=role_type, required=True, help="What it may.")
@click.option("--expires", default="90d", show_default=True, help="How long it lasts: 12h, 90d, never.")
@json_option
@click.pass_obj
def create(session: Session, name: str, role: str, expires: str, as_json: bool) -> None:
    """Make a token and print its secret, which is shown this once.

    NAME says what it is for. The secret is all that goes to stdout.
    """
    made = session.call("POST", "/access/tokens", json={"name": name, "role": role, "expires": expires})
    if as_json:
        emit(made)
        return
    click.echo(f"token {made['token']['ident']} of {name} ({role}); keep it as you keep a password:", err=True)
    click.echo(made["secret"])


@token.command("list")
@json_option
@click.pass_obj
def list_tokens(session: Session, as_json: bool) -> None:
    """List the tokens, without their secrets."""
    found = session.call("GET", "/access/tokens")
    if as_json:
        emit(found)
        return
    for each in found:
        until = readable(each["expires"])[:16] if each["expires"] else "never"
        state = "expired" if each["expired"] else "expires"
        click.echo(f"{each['ident']}  {each['role']:<8} {state} {until:<17} {each['name']}")


@token.command()
@click.argument("ident")
@click.pass_obj
def revoke(session: Session, ident: str) -> None:
    """Make a token worthless, at once; IDENT as token list shows it."""
    session.call("DELETE", f"/access/tokens/{ident}")
    click.echo(f"token {ident}: revoked")


@click.group(cls=Group)
def user() -> None:
    """Users: people who log in with a password."""


def hashed(password_file: Path | None) -> str:
    """The Argon2id hash of a password that is read or asked for.

    :raises ConfigError: it is too short or too long.
    """
    import argon2  # noqa: PLC0415 - loaded only where needed

    if password_file is None:
        password = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    else:
        with click.open_file(str(password_file)) as stream:
            password = stream.readline(LONGEST + 2).rstrip("\r\n")
    if not SHORTEST <= len(password) <= LONGEST:
        text = f"a password has {SHORTEST} to {LONGEST} characters"
        raise ConfigError(Problem("access.bad-password", text, "several words that only you would put together"))
    return argon2.PasswordHasher.from_parameters(argon2.profiles.RFC_9106_LOW_MEMORY).hash(password)


@user.command()
@click.argument("name")
@click.option("--role", type=role_type, required=True, help="What the user may.")
@password_option
@click.pass_obj
def add(session: Session, name: str, role: str, password_file: Path | None) -> None:
    """Add a user, or give one a new role and password."""
    session.call("PUT", f"/access/users/{name}", json={"role": role, "hash": hashed(password_file)})
    click.echo(f"user {name}: {role}")


@user.command()
@click.argument("name")
@password_option
@click.pass_obj
def password(session: Session, name: str, password_file: Path | None) -> None:
    """Set a user's password; open sessions end."""
    session.call("PUT", f"/access/users/{name}", json={"hash": hashed(password_file)})
    click.echo(f"user {name}: new password")


@user.command()
@click.argument("name")
@click.pass_obj
def remove(session: Session, name: str) -> None:
    """Remove a user; open sessions end."""
    session.call("DELETE", f"/access/users/{name}")
    click.echo(f"user {name}: removed")


@user.command("list")
@json_option
@click.pass_obj
def list_users(session: Session, as_json: bool) -> None:
    """List the users."""
    found = session.call("GET", "/access/users")
    if as_json:
        emit(found)
        return
    for each in found:
        click.echo(f"{each['name']:<24} {each['role']}")
