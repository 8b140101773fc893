"""``host:port`` as ``<witness addr>`` and ``--listen`` take it."""

from __future__ import annotations


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
        host, port = text, ""
    else:
        host, _, port = text.partition(":")
    if not host or (port and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536)):
        raise ValueError(f"{text} is no address and port")
    return host, int(port) if port else default
