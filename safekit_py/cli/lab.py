"""``lab``: a cluster on this machine, to try things and to break them."""

from __future__ import annotations

import sys

import click

from safekit_py.cli import tables
from safekit_py.cli.common import Group, emit, json_option

name_option = click.option("--name", default="lab", show_default=True, help="Which lab.")


@click.group(cls=Group)
def lab() -> None:
    """A cluster on this machine: servers and a client, each in namespaces of its own.

    Example: safekit-py lab up; safekit-py lab run server1 -- safekit-py status; safekit-py lab down
    """


@lab.command()
@click.option("--servers", type=click.IntRange(1, 32), default=3, show_default=True, help="How many servers.")
@click.option("--lans", type=click.IntRange(1, 4), default=1, show_default=True, help="How many separate networks.")
@click.option("--agent/--no-agent", default=True, help="Run the agent on every server.")
@click.option(
    "--restart",
    type=click.FloatRange(0),
    default=1.0,
    show_default=True,
    help="Seconds until a dead agent is started again; 0: never.",
)
@name_option
@json_option
def up(*, servers: int, lans: int, agent: bool, restart: float, name: str, as_json: bool) -> None:
    """Make a lab: server1 ... serverN and client1, configured as one cluster."""
    from safekit_py.lab import Lab  # noqa: PLC0415

    made = Lab.up(name, servers, lans=lans, agent=agent, restart=restart)
    if as_json:
        emit(_values(made.name))
        return
    _show([made.name])
    option = "" if name == "lab" else f"--name {name} "
    click.echo(f"Next: safekit-py lab run {option}server1 -- safekit-py status")


@lab.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@name_option
@click.argument("host")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def run(name: str, host: str, command: tuple[str, ...]) -> None:
    """Run a command on a host: safekit-py lab run server1 -- ip addr. Its exit code is passed on."""
    from safekit_py.lab import Lab  # noqa: PLC0415

    # Options end at HOST, so the "--" of the usual way of writing is still there.
    argv = list(command[1:] if command[0] == "--" else command)
    if not argv:
        raise click.UsageError("say which command: safekit-py lab run HOST -- COMMAND")
    code = Lab.open(name).run(host, argv).returncode
    sys.exit(128 - code if code < 0 else code)


@lab.command()
@name_option
@click.argument("host")
def kill(name: str, host: str) -> None:
    """Cut the power of a host."""
    from safekit_py.lab import Lab  # noqa: PLC0415

    Lab.open(name).kill(host)


@lab.command()
@name_option
@click.argument("host")
def boot(name: str, host: str) -> None:
    """Switch a host on again, with its files."""
    from safekit_py.lab import Lab  # noqa: PLC0415

    Lab.open(name).boot(host)


@lab.command()
@name_option
@click.argument("host")
@click.option("--peer", metavar="HOST", help="Only between these two.")
@click.option("--one-way", is_flag=True, help="Lose only what HOST sends.")
def cut(name: str, host: str, peer: str | None, one_way: bool) -> None:
    """Lose all frames of a host at the switch; its link stays up."""
    from safekit_py.lab import Lab  # noqa: PLC0415

    Lab.open(name).cut(host, peer, one_way=one_way)


@lab.command()
@name_option
def heal(name: str) -> None:
    """Undo every cut."""
    from safekit_py.lab import Lab  # noqa: PLC0415

    Lab.open(name).heal()


@lab.command("list")
@json_option
def list_(as_json: bool) -> None:
    """Show the labs and their hosts."""
    from safekit_py.lab import registry  # noqa: PLC0415

    names = registry.names()
    emit({"labs": [_values(each) for each in names]}) if as_json else _show(names)


@lab.command()
@name_option
@click.option("--all", "every", is_flag=True, help="Every lab of this machine.")
def down(name: str, every: bool) -> None:
    """Take a lab down and delete its files."""
    from safekit_py.lab import Lab, registry  # noqa: PLC0415

    for each in registry.names() if every else [name]:
        Lab.open(each).down()
        click.echo(f"{each}: down")


@lab.command()
@click.option("--servers", type=click.IntRange(2, 8), default=3, show_default=True, help="How many servers.")
@click.option("--name", default="demo", show_default=True, help="The lab's name.")
def demo(servers: int, name: str) -> None:
    """Show an Apache farm that loses a server and takes it back; every step is checked."""
    from safekit_py.lab.demo import demo as show  # noqa: PLC0415

    sys.exit(0 if show(name, servers) else 1)


@lab.command("demo-mirror")
@click.option("--name", default="demo-mirror", show_default=True, help="The lab's name.")
def demo_mirror(name: str) -> None:
    """Show PostgreSQL on a mirror whose primary loses its power: no acknowledged commit is lost."""
    from safekit_py.lab.demo_mirror import demo as show  # noqa: PLC0415

    sys.exit(0 if show(name) else 1)


def _values(name: str) -> dict[str, object]:
    from safekit_py.lab import Lab  # noqa: PLC0415

    found = Lab.open(name)
    items = [
        {
            "name": each.name,
            "on": found.alive(each.name),
            "addresses": [p.address for p in each.ports],
            "root": str(found.root(each.name)),
        }
        for each in found.hosts
    ]
    return {"name": name, "hosts": items}


def _show(names: list[str]) -> None:
    table = tables.table("LAB", "HOST", "POWER", "ADDRESS", "FILES")
    for name in names:
        for host in _values(name)["hosts"]:  # type: ignore[attr-defined]
            table.add_row(name, host["name"], "on" if host["on"] else "off", ", ".join(host["addresses"]), host["root"])
    tables.show(table)
