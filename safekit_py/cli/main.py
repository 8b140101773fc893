"""``safekit-py``: the command line.

Exit codes: 0 done, 1 refused or failed (the findings are on stderr), 2 wrong command line, 69 no agent or something is
missing on this server. ``state -q NAME`` exits with the state: STOP 0, WAIT 1, ALONE or UP 2, PRIM 3, SECOND 4.
"""

from __future__ import annotations

import importlib
import os
from pathlib import Path

import click

from safekit_py import __version__
from safekit_py.cli import common
from safekit_py.model.paths import Paths

# Where each command stands. It is imported when it is used: module scripts call this program often.
COMMANDS = {
    **dict.fromkeys(("status", "log", "printi", "printe"), "monitor"),
    **dict.fromkeys(("start", "stop", "restart", "stopstart", "forcestop", "agent", "plugins"), "control"),
    **dict.fromkeys(("waitstart", "waitstop", "waitstate", "shutdown"), "control"),
    **dict.fromkeys(("boot", "checker", "incloop", "resetloop", "checkloop", "kill", "level"), "maintenance"),
    "failover": "failover",
    "confcheck": "configure",
    "module": "module",
    "cluster": "cluster",
    "lab": "lab",
}
ALIASES = {"state": "status"}


class LazyGroup(common.Group):
    """The commands of ``COMMANDS``, imported one by one."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every name, aliases included."""
        return sorted({*COMMANDS, *ALIASES})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command."""
        name = ALIASES.get(cmd_name, cmd_name)
        if name not in COMMANDS:
            return None
        command: click.Command = getattr(importlib.import_module(f"safekit_py.cli.{COMMANDS[name]}"), name)
        return command


@click.group(
    cls=LazyGroup,
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


def main() -> None:
    """Entry point of the command."""
    cli(prog_name="safekit-py")
