"""``confcheck``: is a userconfig.xml right? Works without an agent."""

from __future__ import annotations

from pathlib import Path

import click

from safekit_py.cli.common import FAILED, Command, Session, emit, json_option, show_problems


@click.command(cls=Command)
@click.argument("file", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("-m", "--module", "module", metavar="NAME", help="The configuration of an installed module.")
@json_option
@click.pass_context
def confcheck(ctx: click.Context, file: Path | None, module: str | None, as_json: bool) -> None:
    """Check a userconfig.xml: every error at once, each with its line and what to write instead."""
    from safekit_py.runtime.configcheck import check_blocking  # noqa: PLC0415 - loaded only where needed

    session: Session = ctx.obj
    if (file is None) == (module is None):
        raise click.UsageError("name either a file or -m NAME")
    path = file or session.paths.userconfig(str(module))
    checked = check_blocking(path.read_bytes(), str(path), {})
    good = checked.config is not None
    if as_json:
        emit({"file": str(path), "accepted": good, "problems": [p.as_dict() for p in checked.problems]})
    else:
        show_problems(checked.problems)
        errors = sum(p.severity == "error" for p in checked.problems)
        warnings = len(checked.problems) - errors
        verdict = "accepted" if good else "refused"
        click.echo(f"{path}: {verdict}, {errors} errors, {warnings} warnings")
    if not good:
        ctx.exit(FAILED)
