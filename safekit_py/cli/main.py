"""``safekit-py``: the command line.

Exit codes: 0 done, 1 refused or failed (the findings are on stderr), 2 wrong command line, 69 no agent or something is
missing on this server. ``state -q NAME`` exits with the state: STOP 0, WAIT 1, ALONE or UP 2, PRIM 3, SECOND 4.
"""

from __future__ import annotations

import os
from pathlib import Path

import click

from safekit_py import __version__
from safekit_py.cli import cluster, common, configure, control, lab, module, monitor
from safekit_py.model.paths import Paths


@click.group(
    cls=common.Group,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done, 1 refused or failed, 2 wrong command line, 69 no agent.",
)
@click.version_option(__version__, prog_name="safekit-py")
@click.option(
    "--root",
    type=click.Path(file_okay=False, path_type=Path),
    default=lambda: os.environ.get("SAFEKIT_ROOT", "/"),
    help="Where this server's files are; several servers can live on one machine.  [default: $SAFEKIT_ROOT or /]",
)
@click.pass_context
def cli(ctx: click.Context, root: Path) -> None:
    """Load balancing and high availability for any Linux application.

    A first farm on this machine: safekit-py lab demo. On real servers: see the README.
    """
    ctx.obj = common.Session(Paths(root.absolute()))


for each in (
    *monitor.COMMANDS,
    *control.COMMANDS,
    *configure.COMMANDS,
    module.module,
    cluster.cluster,
    lab.lab,
):
    cli.add_command(each)
cli.add_command(monitor.status, "state")


def main() -> None:
    """Entry point of the command."""
    cli(prog_name="safekit-py")
