"""``<snmp>``: a notice as an SNMP notification of version 2c, by net-snmp's program ``snmptrap``.

The object identifiers are in deploy/snmp/SAFEKIT-PY-MIB.txt. They stand below net-snmp's playground, because safekit_py
has no number of its own; ``oid`` puts them below another one. The community goes to the program by a file of its own,
so that no list of processes shows it. With ``inform="on"`` the receiver acknowledges; a trap may get lost.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from safekit_py.api import ElementNode, Notice, Notifier, Problem, SafekitError

from . import secrets, texts

BASE = "1.3.6.1.4.1.8072.9999.9999.4803"
KINDS = {"event": 1, "raised": 2, "repeated": 3, "cleared": 4, "test": 5}  # below BASE.0
OBJECTS = {"ident": 1, "level": 2, "server": 3, "module": 4, "subject": 5, "text": 6}  # below BASE.1
TIMEOUT = 20.0  # seconds that the program may take
LARGEST = 255  # bytes of a DisplayString
XSD = f"""<xs:element name="snmp"><xs:complexType>
<xs:attribute name="server" type="sk:macro" use="required"/>
<xs:attribute name="port" type="sk:port" default="162"/>
<xs:attribute name="community_file" use="required">{secrets.FILE}</xs:attribute>
<xs:attribute name="inform" type="sk:onoff" default="off"/>
<xs:attribute name="oid" default="{BASE}"><xs:simpleType><xs:restriction base="xs:string">
  <xs:pattern value="[0-2](\\.[0-9]{{1,10}}){{2,60}}"/></xs:restriction></xs:simpleType></xs:attribute>
</xs:complexType></xs:element>"""


@dataclass(frozen=True, slots=True)
class Snmp:
    """A receiver.

    :param inform: it acknowledges what it gets.
    :param oid: below which our objects stand.
    """

    server: str
    port: int
    community_file: str
    inform: bool
    oid: str


def build(node: ElementNode) -> Snmp:
    """The value of the element."""
    server = node.get("server") or ""
    if not re.fullmatch(r"[A-Za-z0-9_.:-]+", server) or server.startswith("-"):
        node.problem("notify.bad-server", f"{server!r} is no server", "write an address or a host name")
    port, oid = int(node.get("port") or 162), node.get("oid") or BASE
    return Snmp(server, port, secrets.check(node, "community_file"), node.get("inform") == "on", oid)


def command(snmp: Snmp, notice: Notice) -> list[str]:
    """The program and its arguments."""
    peer = f"udp6:[{snmp.server}]:{snmp.port}" if ":" in snmp.server else f"udp:{snmp.server}:{snmp.port}"
    words = ["snmptrap", "-v", "2c", "-m", "", *(["-Ci"] if snmp.inform else []), "-r", "1", "-t", "5", peer]
    words += ["", f"{snmp.oid}.0.{KINDS[notice.kind]}"]  # the uptime is the program's own
    for name, number in OBJECTS.items():
        value = texts.one_line(str(getattr(notice, name))).encode()[:LARGEST].decode("utf-8", "ignore")
        words += [f"{snmp.oid}.1.{number}.0", "s", value]
    return words


def send(snmp: Snmp, notice: Notice) -> None:
    """Send it.

    :raises OSError: it was not acknowledged, or could not be sent.
    :raises SafekitError: the program is missing, or the community is none.
    """
    community = secrets.read(snmp.community_file)
    if not re.fullmatch(r"[!-~]{1,128}", community) or set(community) & set("\"'\\#"):
        text = f"{snmp.community_file} holds no community"
        raise SafekitError(Problem("notify.no-secret", text, "letters, digits and signs, without blanks and quotes"))
    with tempfile.TemporaryDirectory() as folder:  # for this user alone, mode 0700
        (Path(folder) / "snmp.conf").write_text(f"defCommunity {community}\n", encoding="ascii")
        environment = {**os.environ, "SNMPCONFPATH": folder, "SNMP_PERSISTENT_DIR": folder, "MIBS": ""}
        try:
            done = subprocess.run(
                command(snmp, notice), env=environment, capture_output=True, text=True, timeout=TIMEOUT, check=False
            )
        except FileNotFoundError:
            remedy = "apt-get install snmp"
            raise SafekitError(Problem("notify.no-program", "snmptrap is not installed", remedy)) from None
        except subprocess.TimeoutExpired:
            raise OSError(f"snmptrap took more than {TIMEOUT:g} s") from None
    if done.returncode:
        said = texts.one_line(done.stderr)[:200] or f"status {done.returncode}"
        raise OSError(f"snmptrap: {said}")


NOTIFIER = Notifier("snmp", XSD, build, send)
