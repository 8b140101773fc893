"""``<mail>``: a notice as a mail, by SMTP; over TLS, with a password of a file."""

from __future__ import annotations

import re
import smtplib
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime, make_msgid

from safekit_py.api import ElementNode, Notice, Notifier, Problem, SafekitError

from . import secrets, texts

TIMEOUT = 20.0  # seconds that a server may be silent
PORTS = {"none": 25, "starttls": 587, "tls": 465}
ADDRESS = re.compile(r"[^@\s<>,;]+@[^@\s<>,;]+")
LASTING = range(500, 600)  # answers of SMTP that another attempt does not change
XSD = f"""<xs:element name="mail"><xs:complexType>
<xs:attribute name="server" type="sk:macro" use="required"/>
<xs:attribute name="port" type="sk:port"/>
<xs:attribute name="security" default="starttls"><xs:simpleType><xs:restriction base="xs:string">
  <xs:enumeration value="none"/><xs:enumeration value="starttls"/><xs:enumeration value="tls"/>
  </xs:restriction></xs:simpleType></xs:attribute>
<xs:attribute name="ca">{secrets.FILE}</xs:attribute>
<xs:attribute name="user" type="sk:macro"/>
<xs:attribute name="password_file">{secrets.FILE}</xs:attribute>
<xs:attribute name="from" type="sk:macro" use="required"/>
<xs:attribute name="to" type="sk:macro" use="required"/>
</xs:complexType></xs:element>"""


@dataclass(frozen=True, slots=True)
class Mail:
    """A server and the people to write to.

    :param ca: file of the certificates that are trusted; empty: the system's.
    :param password_file: empty: nobody logs in.
    """

    server: str
    port: int
    security: str
    ca: str
    user: str
    password_file: str
    sender: str
    to: tuple[str, ...]


def build(node: ElementNode) -> Mail:
    """The value of the element."""
    sender, to = node.get("from") or "", tuple((node.get("to") or "").replace(",", " ").split())
    for each in (sender, *to):
        if not ADDRESS.fullmatch(each):
            node.problem("notify.bad-address", f"{each!r} is no mail address", "write one such as admin@example.org")
    user, password = node.get("user") or "", secrets.check(node, "password_file")
    security = node.get("security") or "starttls"
    if bool(user) != bool(password):
        node.problem("notify.half-login", "user and password_file belong together", "write both, or none")
    if password and security == "none":
        node.problem("notify.open-login", "the password would be sent as it is", 'write security="starttls" or "tls"')
    port = int(node.get("port") or PORTS[security])
    return Mail(node.get("server") or "", port, security, node.get("ca") or "", user, password, sender, to)


def message(mail: Mail, notice: Notice) -> EmailMessage:
    """The mail."""
    made = EmailMessage()
    made["Subject"] = texts.subject(notice)
    made["From"], made["To"] = mail.sender, ", ".join(mail.to)
    made["Date"] = format_datetime(datetime.fromtimestamp(notice.time, UTC))
    made["Message-ID"] = make_msgid(domain="safekit.invalid")
    made["Auto-Submitted"] = "auto-generated"  # so that no absence note answers
    if notice.level == "critical" and notice.kind != "cleared":
        made["Importance"] = "high"
    made["X-Safekit-Ident"] = texts.one_line(notice.ident)[:200]
    made.set_content(texts.body(notice))
    return made


def send(mail: Mail, notice: Notice) -> None:
    """Send it to all.

    :raises OSError: the server cannot be reached, or asks to be tried again.
    :raises SafekitError: it refuses for good.
    """
    context = ssl.create_default_context(cafile=mail.ca or None)
    password = secrets.read(mail.password_file) if mail.password_file else ""
    try:
        with _connected(mail, context) as server:
            if mail.security == "starttls":
                server.starttls(context=context)
            if password:
                server.login(mail.user, password)
            refused = server.send_message(message(mail, notice))
    except smtplib.SMTPResponseException as error:
        raise _told(mail, error.smtp_code, error.smtp_error) from None  # its repr may hold what was sent
    except smtplib.SMTPRecipientsRefused as error:
        code, words = next(iter(error.recipients.values()))
        raise _told(mail, code, words) from None
    except smtplib.SMTPException as error:
        raise OSError(f"{mail.server}: {error}") from error
    if refused:
        raise SafekitError(Problem("notify.refused", f"{mail.server} refuses {', '.join(refused)}", "correct to="))


def _connected(mail: Mail, context: ssl.SSLContext) -> smtplib.SMTP:
    if mail.security == "tls":
        return smtplib.SMTP_SSL(mail.server, mail.port, timeout=TIMEOUT, context=context)
    return smtplib.SMTP(mail.server, mail.port, timeout=TIMEOUT)


def _told(mail: Mail, code: int, words: bytes | str) -> Exception:
    text = words.decode("utf-8", "replace") if isinstance(words, bytes) else words
    said = texts.one_line(f"{mail.server} answers {code} {text}")
    if code in LASTING:
        return SafekitError(Problem("notify.refused", said, "are user, password, from and to right?"))
    return OSError(said)


NOTIFIER = Notifier("mail", XSD, build, send)
