"""``host:port`` as ``<witness addr>`` and ``--listen`` take it."""

from __future__ import annotations

import ipaddress
import re


def endpoint(text: str, default: int) -> tuple[str, int]:
    """Host and port; an IPv6 address stands in brackets when a port follows.

    :raises ValueError: it is neither.
    """
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ValueError(f"{text} is no address")
        port = rest[1:]
    elif text.count(":") > 1:
        host, port = _ipv6(text), ""
    else:
        host, _, port = text.partition(":")
    if not re.fullmatch(r"[\w.:%-]+", host) or (
        port and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536)
    ):
        raise ValueError(f"{text} is no address and port")
    return host, int(port) if port else default


def _ipv6(text: str) -> str:
    """:raises ValueError: it is no such address."""
    try:
        return str(ipaddress.IPv6Address(text))
    except ValueError:
        raise ValueError(f"{text} is no address") from None
