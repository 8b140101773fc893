"""``<syslog>``: a notice as a line of syslog, as RFC 5424 has it: to a server by UDP or TCP, or to this one's own.

TCP frames by octet counting (RFC 6587, 3.4.1).
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from datetime import UTC, datetime

from safekit_py.api import ElementNode, Notice, Notifier

from . import texts

TIMEOUT = 10.0  # seconds
LOCAL = "/dev/log"
FACILITIES = {"kern": 0, "user": 1, "daemon": 3, "auth": 4, **{f"local{number}": 16 + number for number in range(8)}}
SEVERITIES = {"critical": 2, "warning": 4, "info": 6}
LARGEST = 2048  # bytes that every receiver should take (RFC 5424, 6.1)
XSD = f"""<xs:element name="syslog"><xs:complexType>
<xs:attribute name="server" type="sk:macro"/>
<xs:attribute name="port" type="sk:port" default="514"/>
<xs:attribute name="proto" default="udp"><xs:simpleType><xs:restriction base="xs:string">
  <xs:enumeration value="udp"/><xs:enumeration value="tcp"/></xs:restriction></xs:simpleType></xs:attribute>
<xs:attribute name="facility" default="daemon"><xs:simpleType><xs:restriction base="xs:string">
  {"".join(f'<xs:enumeration value="{each}"/>' for each in FACILITIES)}</xs:restriction></xs:simpleType></xs:attribute>
</xs:complexType></xs:element>"""


@dataclass(frozen=True, slots=True)
class Syslog:
    """Where to log.

    :param server: empty: this server's own ``/dev/log``.
    """

    server: str
    port: int
    proto: str
    facility: str


def build(node: ElementNode) -> Syslog:
    """The value of the element."""
    port, proto = int(node.get("port") or 514), node.get("proto") or "udp"
    return Syslog(node.get("server") or "", port, proto, node.get("facility") or "daemon")


def line(syslog: Syslog, notice: Notice) -> bytes:
    """The message."""
    level = "info" if notice.kind in ("cleared", "test") else notice.level
    priority = FACILITIES[syslog.facility] * 8 + SEVERITIES[level]
    at = datetime.fromtimestamp(notice.time, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    host = "".join(each for each in notice.server if "!" <= each <= "~")[:255] or "-"
    facts = {"ident": notice.ident, "kind": notice.kind, "level": notice.level, "module": notice.module}
    data = "".join(f' {name}="{_quoted(value)}"' for name, value in facts.items() if value)
    text = texts.one_line(f"{notice.subject}; {notice.text}" if notice.text else notice.subject)
    head = f"<{priority}>1 {at} {host} safekit-py {os.getpid()} {notice.kind} [safekit@8072{data}] "
    return (head + text).encode()[:LARGEST]


def _quoted(value: str) -> str:
    return texts.one_line(value).replace("\\", "\\\\").replace('"', '\\"').replace("]", "\\]")[:200]


def send(syslog: Syslog, notice: Notice) -> None:
    """Hand it over; by UDP nobody says whether it came.

    :raises OSError: it cannot be.
    """
    data = line(syslog, notice)
    if not syslog.server:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as connection:
            connection.settimeout(TIMEOUT)
            connection.connect(LOCAL)
            connection.send(data)
    elif syslog.proto == "tcp":
        with socket.create_connection((syslog.server, syslog.port), TIMEOUT) as connection:
            connection.sendall(b"%d %s" % (len(data), data))
    else:
        found = socket.getaddrinfo(syslog.server, syslog.port, type=socket.SOCK_DGRAM)
        family, kind, protocol, _, address = found[0]
        with socket.socket(family, kind, protocol) as connection:
            connection.sendto(data, address)


NOTIFIER = Notifier("syslog", XSD, build, send)
