"""Whether a module starts when the agent does. Pure.

Invariant: after a crash of the agent within one boot of the server, exactly the modules that ran are started again;
after a boot of the server, a module whose start was switched off is never started.
"""

from __future__ import annotations

DECIDED = ("on", "off")


def effective(configured: str, command: str) -> str:
    """on, off or auto: what userconfig.xml says, or, where it leaves that open, what the command ``boot`` said.

    :param configured: ``boot`` of ``<service>``: on, off, auto or ignore.
    :param command: on, off or empty.
    """
    if configured in DECIDED:
        return configured
    return command if configured == "ignore" and command in DECIDED else "auto"


def starts(boot: str, *, started: bool, same_boot: bool) -> bool:
    """Whether it starts now.

    :param boot: on, off or auto; auto starts what ran before.
    :param started: it ran, and nobody had stopped it.
    :param same_boot: the server has not been booted since.
    """
    if same_boot:
        return started
    return boot == "on" or (boot == "auto" and started)
