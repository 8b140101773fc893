"""Manual pages and completion, both made of the commands themselves, so that neither can lag behind.

Flows through it: click's tree of commands in; troff of man(7), one page a command, or a shell's completion script out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
from click.shell_completion import ShellComplete, get_completion_class

from safekit_py import __version__
from safekit_py.cli.common import Command
from safekit_py.errors import Problem, SystemProblem

PROGRAM, SECTION = "safekit-py", 1
SHELLS = ("bash", "zsh", "fish")
FILES = (
    ("/opt/safekit", "$SAFE: the installed modules, and the command that their scripts call."),
    ("/var/lib/safekit", "$SAFEVAR: states, logs, keys, and the images of replicated directories."),
    ("/run/safekit", "The agent's socket."),
)


def escaped(text: str) -> str:
    """A text as troff prints it: nothing of it is a request."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return re.sub(r"^([.'])", r"\\&\1", text, flags=re.MULTILINE)


def paragraphs(text: str) -> Iterator[str]:
    """Help of click: filled paragraphs, but a block that begins with a backspace stays as it is."""
    for part in re.split(r"\n\s*\n", text.partition("\f")[0].strip()):
        if part.startswith("\b"):
            yield f".PP\n.nf\n{escaped(part[1:].strip())}\n.fi"
        elif part:
            yield f".PP\n{escaped(' '.join(part.split()))}"


def _rows(command: click.Command, context: click.Context) -> Iterator[str]:
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record and record[1] and parameter.name != "help":
            yield f".TP\n.B {escaped(record[0])}\n{escaped(' '.join(record[1].split()))}"


def _synopsis(command: click.Command, context: click.Context) -> str:
    usage = " ".join(command.collect_usage_pieces(context))
    return f".B {escaped(context.command_path)}\n{escaped(usage)}"


def _subcommands(command: click.Command, context: click.Context) -> Iterator[tuple[click.Command, click.Context]]:
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            if found is not None and not found.hidden:
                yield found, click.Context(found, info_name=name, parent=context)


def _below(command: click.Command, context: click.Context) -> Iterator[tuple[click.Command, click.Context]]:
    """The commands of a group, those of its groups included."""
    for found, inner in _subcommands(command, context):
        yield found, inner
        yield from _below(found, inner)


def _page(title: str, short: str, sections: list[tuple[str, list[str]]]) -> str:
    head = f'.TH "{escaped(title.upper())}" {SECTION} "" "{PROGRAM} {__version__}" "safekit_py"\n.nh\n.ad l'
    lines = [head, ".SH NAME", f"{escaped(title)} \\- {escaped(short)}"]
    for name, body in sections:
        if body:
            lines += [f".SH {name}", *body]
    return "\n".join(lines) + "\n"


def _command_page(command: click.Command, context: click.Context) -> str:
    """The page of one command; the commands of a group stand on its page."""
    synopsis, described = [_synopsis(command, context)], []
    for found, inner in _below(command, context):
        synopsis.append(f".br\n{_synopsis(found, inner)}")
        name = inner.command_path.removeprefix(f"{context.command_path} ")
        described += [f".SS {escaped(name)}", *paragraphs(found.help or ""), *_rows(found, inner)]
    sections = [
        ("SYNOPSIS", synopsis),
        ("DESCRIPTION", list(paragraphs(command.help or ""))),
        ("OPTIONS", list(_rows(command, context))),
        ("COMMANDS", described),
        ("SEE ALSO", [f".BR {escaped(PROGRAM)} ({SECTION})"]),
    ]
    return _page(context.command_path.replace(" ", "-"), command.get_short_help_str(200), sections)


def pages(top: click.Group) -> dict[str, str]:
    """Every page by its file's name: of the program, and of each of its commands that is not hidden."""
    context = click.Context(top, info_name=PROGRAM, **top.context_settings)
    found = list(_subcommands(top, context))
    made = {
        f"{inner.command_path.replace(' ', '-')}.{SECTION}": _command_page(command, inner) for command, inner in found
    }
    listed = []
    for command, inner in found:
        see = f".BR {escaped(inner.command_path.replace(' ', '-'))} ({SECTION})"
        listed.append(f".TP\n{see}\n{escaped(command.get_short_help_str(200))}")
    sections = [
        ("SYNOPSIS", [_synopsis(top, context)]),
        ("DESCRIPTION", list(paragraphs(top.help or ""))),
        ("OPTIONS", list(_rows(top, context))),
        ("COMMANDS", listed),
        ("EXIT STATUS", list(paragraphs(top.epilog or ""))),
        ("FILES", [f".TP\n.I {escaped(path)}\n{escaped(text)}" for path, text in FILES]),
    ]
    first = "load balancing and high availability for any Linux application"
    return {f"{PROGRAM}.{SECTION}": _page(PROGRAM, first, sections), **made}


def script(top: click.Command, shell: str) -> str:
    """A shell's completion script; it asks the program itself for what can follow."""
    kind = get_completion_class(shell)
    assert kind is not None, "one of SHELLS"
    # The class of bash would run bash first, to look at its version; where a package is built there may be none.
    return ShellComplete.source(kind(top, {}, PROGRAM, "_SAFEKIT_PY_COMPLETE"))


@click.command(cls=Command)
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print the completion for a shell; a package installs it where the shell finds it.

    \b
    bash: safekit-py completion bash > /usr/share/bash-completion/completions/safekit-py
    zsh:  safekit-py completion zsh > /usr/local/share/zsh/site-functions/_safekit-py
    fish: safekit-py completion fish > ~/.config/fish/completions/safekit-py.fish
    """
    click.echo(script(click.get_current_context().find_root().command, shell))


@click.command(cls=Command)
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
def manual(folder: Path) -> None:
    """Write the manual pages into a folder, for instance /usr/local/share/man/man1."""
    top = click.get_current_context().find_root().command
    assert isinstance(top, click.Group), "the program has commands"
    made = pages(top)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in made.items():
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        text = f"{folder} cannot be written: {error.strerror}"
        raise SystemProblem(Problem("manual.not-written", text, "name a folder that you may write to")) from error
    click.echo(f"{len(made)} pages in {folder}: man -l {folder / PROGRAM}.{SECTION}")
