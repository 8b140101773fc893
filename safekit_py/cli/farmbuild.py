"""``safekit-py farm build``: the kernel filter compiled here, for a kernel that refuses the one that ships."""

from __future__ import annotations

import importlib
from typing import Any

import click

from safekit_py.cli.common import Command, Session, emit, json_option
from safekit_py.errors import SystemProblem

PLUGIN = "safekit_py.plugins.farm"


@click.command(cls=Command)
@json_option
@click.pass_obj
def build(session: Session, as_json: bool) -> None:
    """Compile the kernel filter on this server by bcc; modules take it when they start next.

    Only for a kernel that refuses the filter that ships: needs python3-bpfcc and the kernel's headers.
    """
    needs: Any = importlib.import_module(f"{PLUGIN}.needs")
    compiler: Any = importlib.import_module(f"{PLUGIN}.compiler")
    ready: Any = importlib.import_module(f"{PLUGIN}.ready")
    if lacking := list(needs.for_building()):
        raise SystemProblem(lacking)
    cache = ready.cache_folder(session.paths)
    made = compiler.object_for(cache, anew=True)
    path, same = compiler.object_path(cache), made == ready.shipped()
    if as_json:
        emit({"file": str(path), "instructions": len(made.instructions) // 8, "as_shipped": same})
        return
    click.echo(f"{path}: {len(made.instructions) // 8} instructions{', the same as ship' if same else ''}")
    click.echo("restart a farm module for it: safekit-py stopstart NAME")
