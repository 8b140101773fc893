"""``stop --drain``: orders the stop, and says what it waits for until it is done.

Flows through it: one call that returns when the module is stopped, in a thread of its own, and meanwhile a look at the
module now and then. Whoever ends this command ends the looking; the agent goes on.
"""

from __future__ import annotations

import sys
import threading
from typing import Any

import click

from safekit_py.cli.common import Session
from safekit_py.errors import SafekitError

LIVELY, PLAIN = 0.5, 5.0  # seconds between two looks: on a terminal, and where each is a line that stays
DRAINS = "drains: "  # how the reason of a module begins that waits for its clients
CLEAR = "\r\x1b[K"


def drained(session: Session, module: str, seconds: float, identity: str | None, *, quiet: bool) -> dict[str, Any]:
    """Stop a module when its clients have left.

    :param quiet: say nothing meanwhile.
    :return: the agent's answer.
    :raises SafekitError: as the agent says.
    """
    answers: list[dict[str, Any]] = []
    errors: list[Exception] = []
    parameters = {"wait": True, "drain": seconds, **({"identity": identity} if identity else {})}

    def ask() -> None:
        try:
            answers.append(session.call("POST", f"/modules/{module}/stop", params=parameters))
        except Exception as error:  # raised below, in the command's own thread
            errors.append(error)

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    lively = sys.stderr.isatty()
    try:
        asking.join(LIVELY)
        while asking.is_alive():
            if not quiet:
                _show(session, module, lively=lively)
            asking.join(LIVELY if lively else PLAIN)
    except KeyboardInterrupt:
        click.echo(f"\nit goes on; safekit-py stop {module} ends the waiting", err=True)
        raise
    finally:
        if lively and not quiet:
            click.echo(CLEAR, nl=False, err=True)
    if errors:
        raise errors[0]
    return answers[0]


def _show(session: Session, module: str, *, lively: bool) -> None:
    try:
        reason = str(session.call("GET", f"/modules/{module}")["reason"])
    except SafekitError:  # the call that waits will say it
        return
    text = reason.removeprefix(DRAINS) if reason.startswith(DRAINS) else "stops"
    click.echo(f"{CLEAR}{module}: {text}" if lively else f"{module}: {text}", nl=not lively, err=True)
