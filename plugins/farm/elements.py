"""``<farm>`` of userconfig.xml -> the value of ``model``.

A dead server is detected in slost_count pulses: 5 x 35 ms = 175 ms here. SafeKit's own defaults (100 ms, 20 and 10) are
slower; a file that names them gets what it names.
"""

from __future__ import annotations

from safekit_py.api import Element, ElementNode

from .model import Farm
from .schema import FARM_XSD


def build_farm(node: ElementNode) -> Farm:
    """The membership protocol; a pulse outside 10 ms to 10 s, no LAN, or a LAN named twice is reported."""
    pulse = node.duration("pulse", "ms") or 0.0
    if not 0.01 <= pulse <= 10:
        node.problem("farm.pulse", f"pulse is {pulse:g} s", "write a value from 10ms to 10s")
    lans = [each.get("name") or "default" for each in node.children("lan")]
    if not lans:
        node.problem("farm.no-lan", "The farm has no LAN", 'add <lan name="default"/> with a LAN of cluster.xml')
    for name in sorted({each for each in lans if lans.count(each) > 1}):
        node.problem("farm.lan-twice", f"The LAN '{name}' stands twice", "keep one of them")
    legacy = [inner for each in (node, *node.children("lan")) for inner in each.children("node")]
    if legacy:
        remedy = "delete them; cluster.xml names the servers"
        legacy[0].problem("farm.legacy-node", "<node> inside <farm> is not used any more", remedy, warning=True)
    return Farm(
        lans=tuple(lans),
        port=int(node.get("port") or 0),
        pulse=pulse,
        mlost_count=int(node.get("mlost_count") or 0),
        slost_count=int(node.get("slost_count") or 0),
    )


ELEMENTS = (Element("farm", "service", FARM_XSD, build_farm),)
