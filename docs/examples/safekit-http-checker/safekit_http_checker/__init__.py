"""Checker ``<http>``: fetches a page at an interval; it is up while status and body of the answer are as wanted.

    <check>
      <http ident="home" url="http://127.0.0.1:8080/" status="200" body="Welcome" interval="10" timeout="5"/>
    </check>

The resource is ``http.<ident>`` and its failover rule ``h_<ident>``; the action (by default restart) follows when the
resource is down for as long as the rules ask for.
"""

from __future__ import annotations

import asyncio
import http.client
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from safekit_py.api import CheckerType, Element, ElementNode, ModuleContext, Status, hookimpl

LARGEST = 1 << 20  # bytes of a page that are looked at
SLACK = 10.0  # seconds beyond interval and timeout after which the engine takes the checker for stuck

XSD = """
<xs:element name="http">
  <xs:complexType>
    <xs:attribute name="ident" type="sk:ident" use="required"/>
    <xs:attribute name="when" default="both">
      <xs:simpleType>
        <xs:restriction base="xs:string">
          <xs:enumeration value="both"/>
          <xs:enumeration value="pre"/>
          <xs:enumeration value="prim"/>
          <xs:enumeration value="second"/>
        </xs:restriction>
      </xs:simpleType>
    </xs:attribute>
    <xs:attribute name="action" type="xs:NMTOKEN" default="restart"/>
    <xs:attribute name="url" type="xs:anyURI" use="required"/>
    <xs:attribute name="status" type="xs:positiveInteger" default="200"/>
    <xs:attribute name="body" type="xs:string"/>
    <xs:attribute name="interval" type="sk:duration" default="10"/>
    <xs:attribute name="timeout" type="sk:duration" default="5"/>
  </xs:complexType>
</xs:element>
"""


@dataclass(frozen=True)
class HttpCheck:
    """What the element says.

    :param status: the status that the answer must have.
    :param body: a regular expression that must be found in the page; empty: the body does not matter.
    :param interval: seconds between two looks.
    :param timeout: seconds that the server may be silent.
    """

    ident: str
    when: str
    action: str
    url: str
    status: int
    body: str
    interval: float
    timeout: float


def build(node: ElementNode) -> HttpCheck:
    """The value of one element. The schema has checked types and filled in defaults."""
    url, body = node.get("url") or "", node.get("body") or ""
    if not re.match(r"https?://[^/]", url):
        node.problem("http.bad-url", f"{url} is no address of a page", "write http://… or https://…")
    try:
        re.compile(body)
    except re.error as error:
        node.problem("http.bad-body", f'body="{body}" is no regular expression: {error}', "put \\ before . * ( [ …")
    interval, timeout = node.duration("interval", "s") or 0.0, node.duration("timeout", "s") or 0.0
    if not (interval and timeout):
        node.problem("http.zero", "interval or timeout is 0", "write at least 1s")
    return HttpCheck(
        ident=node.get("ident") or "",
        when=node.get("when") or "both",
        action=node.get("action") or "restart",
        url=url,
        status=int(node.get("status") or 200),
        body=body,
        interval=interval,
        timeout=timeout,
    )


class HttpChecker:
    """One page, watched."""

    def __init__(self, config: HttpCheck) -> None:
        self.config = config  # equal configurations: a reload leaves the checker as it is
        self.resource = f"http.{config.ident}"
        self.rule = f"h_{config.ident}"
        self.when = config.when
        self.action = config.action
        # A page may come drop by drop, each within the timeout: past this time the engine starts the checker again.
        self.limit = config.interval + 2 * config.timeout + SLACK

    async def run(self, report: Callable[[str, str], None]) -> None:
        """Watch until cancelled. What may block happens in a thread: the event loop is the agent's."""
        while True:
            failure = await asyncio.to_thread(self._look)
            wanted = f"{self.config.url} answers {self.config.status}"
            report(Status.DOWN if failure else Status.UP, failure or wanted)
            await asyncio.sleep(self.config.interval)

    def _look(self) -> str:
        """Fetch the page once; empty when it is as wanted."""
        url, status, page = self.config.url, 0, b""
        try:
            # Only http and https get past the element's builder.
            with urllib.request.urlopen(url, timeout=self.config.timeout) as answer:  # noqa: S310
                status, page = answer.status, answer.read(LARGEST)
        except urllib.error.HTTPError as error:
            with error:
                status, page = error.code, error.read(LARGEST)
        except (OSError, ValueError, http.client.HTTPException) as error:
            return f"{url} does not answer: {error}"
        if status != self.config.status:
            return f"{url} answers {status}, not {self.config.status}"
        if not re.search(self.config.body, page.decode("utf-8", "replace")):
            return f"{url} answers {status}, but nothing in the page matches {self.config.body!r}"
        return ""


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
