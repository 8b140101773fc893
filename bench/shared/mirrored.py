"""The module postgresql in a mirror of a lab, for benches: its form changed in places, primary and secondary Ready."""

from __future__ import annotations

import shutil
from collections.abc import Mapping

from safekit_py.bundle.install import shipped
from safekit_py.lab import Lab
from safekit_py.lab.demo_mirror import MODULE, MirrorDemo


def install(lab: Lab, demo: MirrorDemo, changes: Mapping[str, str]) -> None:
    """Install it on both servers.

    :param changes: text of its userconfig.xml, which stands there once, and what takes its place.
    """
    folder = lab.root("client1") / MODULE
    shutil.copytree(next(each.folder for each in shipped() if each.name == MODULE), folder)
    file = folder / "conf/userconfig.xml"
    text = file.read_text()
    for old, new in changes.items():
        if text.count(old) != 1:
            raise SystemExit(f"{old} stands {text.count(old)} times in the module's form")
        text = text.replace(old, new)
    file.write_text(text)
    demo.set_up(str(folder))


def start(demo: MirrorDemo) -> None:
    """Start it: PRIM on the first server, SECOND on the other."""
    one, two = demo.servers
    demo.command(one, "prim", MODULE, "--yes")
    demo.wait(f"{one}: {MODULE}", "ALONE Ready", lambda: demo.state(one))
    demo.open_to_clients(one)
    demo.command(two, "second", MODULE, "--yes")
    demo.roles(one, two)
