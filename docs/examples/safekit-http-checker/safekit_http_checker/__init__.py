"""Checker ``<http>``: fetches a page at an interval; it is up while the page answers with the status that is wanted.

    <check>
      <http ident="home" when="both" url="http://127.0.0.1:8080/" status="200" interval="10" timeout="5"/>
    </check>

The resource is ``http.<ident>``; when it goes down, the action (by default restart) follows.
"""

from __future__ import annotations

import asyncio
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from safekit_py.api import CheckerType, Element, ElementNode, ModuleContext, Status, hookimpl

XSD = """
<xs:element name="http">
  <xs:complexType>
    <xs:attribute name="ident" type="xs:NCName" use="required"/>
    <xs:attribute name="when" default="both">
      <xs:simpleType>
        <xs:restriction base="xs:string">
          <xs:enumeration value="both"/>
          <xs:enumeration value="pre"/>
        </xs:restriction>
      </xs:simpleType>
    </xs:attribute>
    <xs:attribute name="action" type="xs:string" default="restart"/>
    <xs:attribute name="url" type="xs:anyURI" use="required"/>
    <xs:attribute name="status" type="xs:positiveInteger" default="200"/>
    <xs:attribute name="interval" type="sk:duration" default="10"/>
    <xs:attribute name="timeout" type="sk:duration" default="5"/>
  </xs:complexType>
</xs:element>
"""


@dataclass(frozen=True)
class HttpCheck:
    """What the element says; durations in seconds."""

    ident: str
    when: str
    action: str
    url: str
    status: int
    interval: float
    timeout: float


def build(node: ElementNode) -> HttpCheck:
    """The value of one element. The schema has checked types and filled in defaults."""
    url = node.get("url") or ""
    if not url.startswith(("http://", "https://")):
        node.problem("http.bad-url", f"{url} is no address of a page", "write http://… or https://…")
    return HttpCheck(
        ident=node.get("ident") or "",
        when=node.get("when") or "both",
        action=node.get("action") or "restart",
        url=url,
        status=int(node.get("status") or 200),
        interval=node.duration("interval", "s") or 10.0,
        timeout=node.duration("timeout", "s") or 5.0,
    )


class HttpChecker:
    """One page, watched."""

    def __init__(self, check: HttpCheck) -> None:
        self._check = check
        self.resource = f"http.{check.ident}"
        self.when = check.when
        self.action = check.action

    async def run(self, report: Callable[[str, str], None]) -> None:
        """Watch until cancelled."""
        while True:
            failure = await asyncio.to_thread(self._look)
            report(Status.DOWN if failure else Status.UP, failure or f"{self._check.url} answers {self._check.status}")
            await asyncio.sleep(self._check.interval)

    def _look(self) -> str:
        """Fetch the page once; empty when it is as wanted."""
        try:
            # Only http and https get past the element's builder.
            with urllib.request.urlopen(self._check.url, timeout=self._check.timeout) as answer:  # noqa: S310
                status = answer.status
        except urllib.error.HTTPError as error:
            status = error.code
        except OSError as error:
            return f"{self._check.url} does not answer: {error}"
        return "" if status == self._check.status else f"{self._check.url} answers {status}, not {self._check.status}"


def _create(context: ModuleContext) -> Iterable[HttpChecker]:
    return [HttpChecker(check) for check in context.config.all("check/http")]


@hookimpl
def safekit_elements() -> Iterable[Element]:
    """``<http>`` below ``<check>``, as often as wanted."""
    return (Element("http", "check", XSD, build, many=True),)


@hookimpl
def safekit_checkers() -> Iterable[CheckerType]:
    """The checker."""
    return (CheckerType("http", _create),)
