"""``safekit-py witness``: the third machine's service that decides between two servers which have lost each other."""

from __future__ import annotations

import importlib
import logging
import os
import sys
from pathlib import Path
from typing import Any

import click

from safekit_py.cli import common
from safekit_py.errors import Problem, SafekitError
from safekit_py.runtime.notify import notify

WITNESS = "safekit_py.plugins.mirror.witness"


@click.command(cls=common.Command)
@click.option("--listen", default="", metavar="ADDR[:PORT]", help="Where requests come in; port 4850, all addresses.")
@click.option("--key", "keys", multiple=True, required=True, metavar="FILE", type=click.Path(path_type=Path),
              help="The cluster's key file; one for each cluster that this witness serves.")  # fmt: skip
@click.option("--state", required=True, metavar="DIR", type=click.Path(path_type=Path), help="Where records are kept.")
def witness(listen: str, keys: tuple[Path, ...], state: Path) -> None:
    """Grant leases to the primaries of mirror modules, on a third machine. It runs until SIGTERM."""
    service: Any = importlib.import_module(
        f"{WITNESS}.service"
    )  # it is the plugin's, and this machine's only use of it
    keyfiles: Any = importlib.import_module(f"{WITNESS}.keyfiles")
    wire: Any = importlib.import_module(f"{WITNESS}.wire")
    addresses: Any = importlib.import_module(f"{WITNESS}.addresses")
    form = "%(message)s" if "JOURNAL_STREAM" in os.environ else "%(asctime)s %(message)s"
    logging.basicConfig(level=logging.INFO, format=form, stream=sys.stderr)
    try:
        host, port = addresses.endpoint(listen, wire.PORT) if listen else ("", wire.PORT)
    except ValueError as error:
        raise SafekitError(
            Problem("witness.listen", str(error), "write host:port, as --listen 10.0.0.9:4850")
        ) from None

    def ready(bound: int) -> None:
        logging.getLogger("safekit.witness").info("requests are taken on %s port %s", host or "all addresses", bound)
        notify("READY=1")

    service.run(host, port, keyfiles.KeyFiles(keys), state, ready)
