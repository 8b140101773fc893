"""``<webhook>``: a notice as JSON, by POST; signed, so that the other side knows who speaks.

``X-Safekit-Signature: sha256=HEX`` is the HMAC-SHA256 of the body with the secret of ``secret_file``. The body
holds the time, so a copy that is sent again later can be told.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import ssl
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from safekit_py.api import ElementNode, Notice, Notifier, Problem, SafekitError

from . import secrets

TIMEOUT = 20.0  # seconds that the other side may be silent
PASSING = (408, 425, 429)  # answers of the 4xx that another attempt may change
XSD = f"""<xs:element name="webhook"><xs:complexType>
<xs:attribute name="url" type="sk:macro" use="required"/>
<xs:attribute name="secret_file">{secrets.FILE}</xs:attribute>
<xs:attribute name="token_file">{secrets.FILE}</xs:attribute>
<xs:attribute name="ca">{secrets.FILE}</xs:attribute>
</xs:complexType></xs:element>"""


@dataclass(frozen=True, slots=True)
class Webhook:
    """Where to post.

    :param secret_file: of the signature; empty: there is none.
    :param token_file: of ``Authorization: Bearer``; empty: there is none.
    :param ca: file of the certificates that are trusted; empty: the system's.
    """

    url: str
    secret_file: str
    token_file: str
    ca: str


class _Stay(urllib.request.HTTPRedirectHandler):
    """A redirection is an answer: the document and its token go where notify.xml says, and nowhere else."""

    def redirect_request(self, *_arguments: Any) -> None:
        """Follow none."""


def build(node: ElementNode) -> Webhook:
    """The value of the element."""
    url = node.get("url") or ""
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:
        good = False
    if not good or any(each.isspace() for each in url):
        node.problem("notify.bad-url", f"{url!r} is no address", "write one such as https://alarm.example.org/safekit")
    elif parts.password or parts.username:
        node.problem("notify.bad-url", "the address holds a password", "put a token into a file, with token_file")
    elif parts.scheme == "http" and node.get("token_file"):
        node.problem("notify.open-login", "the token would be sent as it is", "write https://")
    return Webhook(url, secrets.check(node, "secret_file"), secrets.check(node, "token_file"), node.get("ca") or "")


def signature(secret: str, body: bytes) -> str:
    """The value of ``X-Safekit-Signature``."""
    return f"sha256={hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}"


def send(webhook: Webhook, notice: Notice) -> None:
    """Post it.

    :raises OSError: nobody answers, or the answer is an error that may pass.
    :raises SafekitError: the answer is that it is not wanted.
    """
    body = json.dumps(notice.as_dict(), ensure_ascii=False).encode()
    heads = {"Content-Type": "application/json", "User-Agent": "safekit-py"}
    if webhook.secret_file:
        heads["X-Safekit-Signature"] = signature(secrets.read(webhook.secret_file), body)
    if webhook.token_file:
        heads["Authorization"] = f"Bearer {secrets.read(webhook.token_file)}"
    request = urllib.request.Request(webhook.url, body, heads, method="POST")  # noqa: S310 - build lets http(s) alone in
    handlers: list[urllib.request.BaseHandler] = [_Stay()]
    if urlsplit(webhook.url).scheme == "https":
        context = ssl.create_default_context(cafile=webhook.ca or None)
        handlers.append(urllib.request.HTTPSHandler(context=context))
    try:
        with urllib.request.build_opener(*handlers).open(request, timeout=TIMEOUT):
            return
    except urllib.error.HTTPError as error:
        with error:
            text = f"{_place(webhook)} answers {error.code}"
            if error.code < 500 and error.code not in PASSING:
                remedy = "is the address right, and the secret?"
                raise SafekitError(Problem("notify.refused", text, remedy)) from None
            raise OSError(text) from None
    except (http.client.HTTPException, ValueError) as error:
        raise OSError(f"{_place(webhook)}: {type(error).__name__}") from error


def _place(webhook: Webhook) -> str:
    """The address without what may be a secret: many services put one into the path."""
    parts = urlsplit(webhook.url)
    return f"{parts.scheme}://{parts.netloc}"


NOTIFIER = Notifier("webhook", XSD, build, send)
