"""``module``: install, uninstall, list, package."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from safekit_py.cli import tables
from safekit_py.cli.common import Group, Session, emit, from_items, json_option, module_option, show_problems
from safekit_py.errors import NotFoundError, Problem, SystemProblem

CHUNK = 1 << 20  # bytes


@click.group(cls=Group)
def module() -> None:
    """Application modules: archives with a configuration and scripts."""


@module.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="The archive.  [default: FOLDER's name .zip, here]"
)
@json_option
def package(folder: Path, output: Path | None, as_json: bool) -> None:
    """Make an archive of a module's folder."""
    from safekit_py.bundle import install as bundle  # noqa: PLC0415 - loaded only where needed

    target = bundle.package(folder, output or Path.cwd() / f"{folder.resolve().name}.zip")
    emit({"archive": str(target), "bytes": target.stat().st_size}) if as_json else click.echo(f"{target}")


@module.command()
@click.argument("source")
@click.option("-m", "--module", "name", metavar="NAME", help="Install it under this name.")
@click.option("--set", "macros", multiple=True, metavar="NAME=VALUE", help="Fill in a macro of its configuration.")
@click.option("-M", "--id", "number", type=click.IntRange(0, 1023), help="Its number, the same on every server.")
@click.option("--apply", is_flag=True, help="Also while it runs: stop it, replace it, start it.")
@json_option
@click.pass_obj
def install(
    session: Session,
    source: str,
    name: str | None,
    macros: tuple[str, ...],
    number: int | None,
    apply: bool,
    as_json: bool,
) -> None:
    """Install a module: an archive, a folder, or the name of a shipped module.

    Examples: safekit-py module install apache.zip --set VIP=10.0.0.50;
    safekit-py module install generic -m myapp --set VIP=10.0.0.50 --set PORT=8080
    """
    archive, shipped_name = _find(source)
    chosen = name or shipped_name
    with tempfile.TemporaryDirectory(prefix="safekit-") as folder:
        if archive.is_dir():
            from safekit_py.bundle import install as bundle  # noqa: PLC0415 - loaded only where needed

            archive = bundle.package(archive, Path(folder) / "module.zip")
        parameters: dict[str, object] = {"set": list(macros), "apply": apply}
        if number is not None:
            parameters["number"] = number
        answer = _upload(session, chosen, archive, parameters, quiet=as_json)
    if as_json:
        emit(answer)
        return
    show_problems(from_items(answer["problems"]))
    state = answer["module"]["state"]
    following = f". Next: safekit-py start {chosen}" if state in ("STOP", "NOT_CONFIGURED") else f", {state}"
    click.echo(f"{chosen}: installed{following}")


def _upload(
    session: Session, name: str, archive: Path, parameters: dict[str, object], *, quiet: bool
) -> dict[str, Any]:
    size = archive.stat().st_size
    with (
        archive.open("rb") as stream,
        Path(os.devnull).open("w", encoding="utf-8") as nowhere,
        click.progressbar(
            length=size, label=f"install {name}", file=nowhere if quiet or size < CHUNK else None
        ) as progress,
    ):

        def pieces() -> Iterator[bytes]:
            while piece := stream.read(CHUNK):
                yield piece
                progress.update(len(piece))

        headers = {"content-type": "application/zip"}
        answer: dict[str, Any] = session.call(
            "PUT", f"/modules/{name}", params=parameters, content=pieces(), headers=headers
        )
        return answer


def _find(source: str) -> tuple[Path, str]:
    """The archive or folder that ``source`` names, and the module name that follows from it."""
    from safekit_py.bundle import install as bundle  # noqa: PLC0415 - loaded only where needed

    path = Path(source)
    if path.exists():
        return path, path.resolve().stem if path.is_file() else path.resolve().name
    shipped = {m.name: m.folder for m in bundle.shipped()}
    if source in shipped:
        return shipped[source], source
    raise NotFoundError(
        Problem(
            "module.not-found",
            f"{source} is neither a file, a folder nor a shipped module",
            f"shipped: {', '.join(sorted(shipped))}",
        )
    )


@module.command()
@click.argument("name")
@json_option
@click.pass_obj
def uninstall(session: Session, name: str, as_json: bool) -> None:
    """Remove a stopped module; its log and what its application kept in $SAFEUSERVAR stay."""
    answer = session.call("DELETE", f"/modules/{name}")
    emit(answer) if as_json else click.echo(f"{name}: removed")


@module.command("list")
@json_option
@click.pass_obj
def list_(session: Session, as_json: bool) -> None:
    """Show the modules that are installed, those that are available in their folder, and those shipped.

    An archive or a folder that appears in $SAFE/modules is available: it is checked, and nothing more by itself.
    """
    from safekit_py.bundle import install as bundle  # noqa: PLC0415 - loaded only where needed

    available = _available(session)
    folders = {each["path"] for each in available}
    installed = sorted(m.name for m in bundle.installed(session.paths) if str(m.folder) not in folders)
    shipped = [{"name": m.name, "title": m.title} for m in bundle.shipped()]
    if as_json:
        emit({"installed": installed, "available": available, "shipped": shipped})
        return
    table = tables.table("MODULE", "WHERE", "WHAT")
    for name in installed:
        table.add_row(name, "installed", f"{session.paths.module(name)}")
    for each in available:
        errors = sum(problem["severity"] == "error" for problem in each["problems"])
        what = f"{each['path']}: {f'{errors} errors, see below' if errors else each['remedy']}"
        table.add_row(each["name"], "available", what)
    for item in shipped:
        table.add_row(item["name"], "shipped", item["title"])
    tables.show(table)
    for each in available:
        show_problems(from_items(each["problems"]))


def _available(session: Session) -> list[dict[str, Any]]:
    """What the agent found in the modules' folder; nothing when no agent runs."""
    try:
        found: list[dict[str, Any]] = session.call("GET", "/configurations")
    except SystemProblem:
        return []
    return found


@module.command()
@json_option
@click.pass_obj
def listid(session: Session, as_json: bool) -> None:
    """Show the number of each installed module; its ports follow from it, so it is the same on every server."""
    found = session.call("GET", "/module-ids")
    if as_json:
        emit(found)
        return
    table = tables.table("ID", "MODULE")
    for name, number in sorted(found.items(), key=lambda item: item[1]):
        table.add_row(str(number), name)
    tables.show(table)


@module.command()
@module_option
@json_option
@click.pass_obj
def getports(session: Session, module: str, as_json: bool) -> None:
    """Show the ports that a module uses between the servers; a firewall must let them through."""
    ports = session.call("GET", f"/modules/{module}/ports")
    if as_json:
        emit(ports)
        return
    table = tables.table("PORT", "PROTOCOL", "FOR")
    for item in ports:
        table.add_row(str(item["port"]), item["protocol"], item["purpose"])
    tables.show(table)
