"""``<webhook url events timeout attempts/>`` below ``<service>`` -> ``Webhook``."""

from __future__ import annotations

import re
from dataclasses import dataclass

from safekit_py.api import Element, ElementNode

KINDS = ("state", "resource", "config", "command", "log")
XSD = """
<xs:element name="webhook">
  <xs:complexType>
    <xs:attribute name="url" type="xs:anyURI" use="required"/>
    <xs:attribute name="events" type="xs:string" default="state resource config"/>
    <xs:attribute name="timeout" type="sk:duration" default="5"/>
    <xs:attribute name="attempts" default="5">
      <xs:simpleType>
        <xs:restriction base="xs:unsignedInt">
          <xs:minInclusive value="1"/>
          <xs:maxInclusive value="20"/>
        </xs:restriction>
      </xs:simpleType>
    </xs:attribute>
  </xs:complexType>
</xs:element>
"""


@dataclass(frozen=True)
class Webhook:
    """Whom to tell.

    :param url: gets a POST with a JSON document.
    :param events: the kinds of events that are told.
    :param timeout: seconds that the other side may be silent.
    :param attempts: how often a document is sent before it is given up.
    """

    url: str
    events: frozenset[str]
    timeout: float
    attempts: int


def build(node: ElementNode) -> Webhook:
    """The value of the element."""
    url = node.get("url") or ""
    if not re.match(r"https?://[^/]", url):
        node.problem("webhook.bad-url", f"{url} is no address", "write http://… or https://…")
    events = frozenset((node.get("events") or "").replace(",", " ").split())
    if not events or events - set(KINDS):
        unknown = ", ".join(sorted(events - set(KINDS))) or "nothing"
        node.problem("webhook.bad-events", f"events names {unknown}", f"some of: {' '.join(KINDS)}")
    timeout = node.duration("timeout", "s")
    if not timeout:
        node.problem("webhook.zero", "timeout is 0", "write at least 1s")
    return Webhook(url, events, timeout or 5.0, int(node.get("attempts") or 5))


ELEMENT = Element("webhook", "service", XSD, build)
