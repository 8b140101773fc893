"""What states mean, in a few words, for people. Pure."""

from __future__ import annotations

MEANING = {
    ("STOP", "NotReady"): "stopped on this server",
    ("WAIT", "NotReady"): "waits for something outside it",
    ("WAIT", "Transient"): "on its way",
    ("UP", "Transient"): "starting or restarting",
    ("UP", "Ready"): "runs",
    ("NOT_CONFIGURED", ""): "cannot run until its configuration is repaired",
}

OF_A_FARM = {
    ("UP", "Transient"): "starting or restarting; clients are served by other servers",
    ("UP", "Ready"): "runs and takes its share of the clients",
}

OF_A_MIRROR = {
    ("PRIM", "Ready"): "runs here; the other server has the same data",
    ("PRIM", "Transient"): "starting or stopping here, as primary",
    ("ALONE", "Ready"): "runs here, without the other server",
    ("ALONE", "Transient"): "starting or stopping here, alone",
    ("SECOND", "Ready"): "has all data, and takes over when the primary fails",
    ("SECOND", "Transient"): "becomes the secondary, or leaves that role",
}
OF = {"farm": OF_A_FARM, "mirror": OF_A_MIRROR}


def of(mode: str, state: str, readiness: str) -> str:
    """What a state means for a module of this mode; empty for what needs no words."""
    return (MEANING | OF.get(mode, {})).get((state, readiness), "")
