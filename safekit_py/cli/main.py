"""``safekit-py``: the command line.

Exit codes: 0 done, 1 refused or failed (the findings are on stderr), 2 wrong command line, 69 no agent or something is
missing on this server. ``state -q NAME`` exits with the state: STOP 0, WAIT 1, ALONE or UP 2, PRIM 3, SECOND 4.
"""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any

import click

from safekit_py import __version__
from safekit_py.cli import common
from safekit_py.errors import SafekitError
from safekit_py.model.paths import Paths

# Where each command stands. It is imported when it is used: module scripts call this program often.
COMMANDS = {
    **dict.fromkeys(("status", "printi", "printe"), "monitor"),
    **dict.fromkeys(("log", "logview", "logsave", "cmdlog"), "log"),
    **dict.fromkeys(("get", "set"), "resource"),
    **dict.fromkeys(("snapshot", "dump", "clean"), "support"),
    **dict.fromkeys(("start", "stop", "restart", "stopstart", "forcestop", "agent", "renew"), "control"),
    **dict.fromkeys(("waitstart", "waitstop", "waitstate", "shutdown"), "control"),
    **dict.fromkeys(("boot", "checker", "incloop", "resetloop", "checkloop", "kill", "level"), "maintenance"),
    **dict.fromkeys(("prim", "primforce", "second", "secondforce", "swap"), "role"),
    **dict.fromkeys(("rfs", "rfsverify", "rfsdiff", "rfssync"), "rfs"),
    **dict.fromkeys(("farm", "saferpc_send"), "farm"),
    "failover": "failover",
    **dict.fromkeys(("confcheck", "config", "confinfo", "update", "deconfig"), "configure"),
    "module": "module",
    "cluster": "cluster",
    "doctor": "doctor",
    "lab": "lab",
    "notify": "notify",
    "plugins": "plugins",
    "snmp": "snmp",
    "witness": "witness",
    **dict.fromkeys(("token", "user"), "access"),
    **dict.fromkeys(("web", "cert"), "web"),
    **dict.fromkeys(("completion", "manual"), "manual"),
}
ALIASES = {"state": "status"}
# Of the context's values: the commands of plugins; the servers that -H names; what -E and -G push.
KEY, HOSTS, PUSHED = "safekit_py.plugins", "safekit_py.hosts", "safekit_py.pushed"


class LazyGroup(common.Group):
    """The commands of ``COMMANDS``, imported one by one, and those of plugins, which are asked only for other names."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every name, aliases and plugins' commands included."""
        return sorted({*COMMANDS, *ALIASES, *self._brought(ctx)})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command."""
        name = ALIASES.get(cmd_name, cmd_name)
        if name in COMMANDS:
            command: click.Command = getattr(importlib.import_module(f"safekit_py.cli.{COMMANDS[name]}"), name)
            return command
        return self._brought(ctx).get(name, ("", None))[1]

    @staticmethod
    def _brought(ctx: click.Context) -> dict[str, tuple[str, click.Command]]:
        """The commands of plugins, each with its plugin. Plugins are loaded for it, once."""
        top = ctx.find_root()
        if KEY not in top.meta:
            from safekit_py.runtime.plugins import load  # noqa: PLC0415 - most commands do without

            root = top.params.get("root") or os.environ.get("SAFEKIT_ROOT", "/")
            top.meta[KEY] = load(Paths(Path(root).absolute())).commands({*COMMANDS, *ALIASES})
        found: dict[str, tuple[str, click.Command]] = top.meta[KEY]
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The built-in commands, then those of plugins in a section of their own."""
        own = [(name, self.get_command(ctx, name)) for name in sorted({*COMMANDS, *ALIASES})]
        brought = [(name, command) for name, (_, command) in sorted(self._brought(ctx).items())]
        for title, commands in (("Commands", own), ("Commands of plugins", brought)):
            width = formatter.width - 6 - max((len(name) for name, _ in commands), default=0)
            rows = [(name, c.get_short_help_str(width)) for name, c in commands if c is not None and not c.hidden]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command, with ``-H`` on several servers; what a plugin's raises is told as the plugin's fault."""
        if (hosts := ctx.meta.get(HOSTS)) is not None:
            from safekit_py.cli import everywhere  # noqa: PLC0415 - loaded only where needed

            session = common.Session(Paths(ctx.params["root"].absolute()))
            everywhere.invoke(ctx, session, hosts, [*ctx._protected_args, *ctx.args], ctx.meta.get(PUSHED, {}))
        if ctx.meta.get(PUSHED):
            raise click.UsageError('-E, -G and --apply go with -H: safekit-py -H "*" -E NAME', ctx)
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            name = ctx.invoked_subcommand or ""
            plugin = ctx.meta.get(KEY, {}).get(name, ("", None))[0]
            if not plugin:
                raise
            return common.reports_errors(_raise)(error=error, plugin=plugin, name=name)


def _raise(error: Exception, plugin: str, name: str) -> None:
    from safekit_py.runtime.faults import failed  # noqa: PLC0415 - loaded only where needed

    raise error if isinstance(error, SafekitError) else SafekitError(failed(plugin, f"its command {name}", error))


def _push(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    if value:
        ctx.meta.setdefault(PUSHED, {})[param.name] = value


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done, 1 refused or failed, 2 wrong command line, 69 no agent.",
)
@click.version_option(__version__, prog_name="safekit-py")
@click.option(
    "--root",
    type=click.Path(file_okay=False, path_type=Path),
    is_eager=True,  # --help names the commands of plugins, which stand there
    default=lambda: os.environ.get("SAFEKIT_ROOT", "/"),
    help="Where this server's files are; several servers can live on one machine.  [default: $SAFEKIT_ROOT or /]",
)
@click.option(
    "--trace-hooks", is_flag=True, help="Write every call of a plugin's hook to stderr: plugin, time, result."
)
@click.option(
    "-r", "special", is_flag=True, hidden=True, expose_value=False
)  # safekit -r COMMAND, as in SafeKit's scripts
@click.option(
    "-H",
    "--hosts",
    metavar="NODES",
    expose_value=False,
    callback=lambda ctx, _, value: ctx.meta.update({HOSTS: value}),
    help='Run the command on these servers at once: "*" for all of the cluster, or node1,node2.',
)
@click.option(
    "-E", "module", metavar="NAME", expose_value=False, callback=_push, help="With -H: push a module to them."
)
@click.option(
    "-G", "cluster", is_flag=True, expose_value=False, callback=_push, help="With -H: push cluster.xml to them."
)
@click.option(
    "--apply",
    is_flag=True,
    expose_value=False,
    callback=_push,
    help="With -E: where the module runs it is stopped, replaced and started.",
)
@click.option("--node", default="", hidden=True, help="The server that the command is for.")
@click.pass_context
def cli(ctx: click.Context, root: Path, trace_hooks: bool, node: str) -> None:
    """Load balancing and high availability for any Linux application.

    A first farm on this machine: safekit-py lab demo. On real servers: see the README.
    """
    # For the processes that a command starts: they must find the same server, and the same wish.
    os.environ["SAFEKIT_ROOT"] = str(root.absolute())
    if trace_hooks:
        os.environ["SAFEKIT_TRACE_HOOKS"] = "1"
    ctx.obj = common.Session(Paths(root.absolute()), node)


def main() -> None:
    """Entry point of the command."""
    cli(prog_name="safekit-py")
