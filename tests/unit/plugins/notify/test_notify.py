"""The notifiers against real receivers: SMTP with TLS and login, HTTP, syslog, net-snmp's trap daemon."""

import contextlib
import hashlib
import hmac
import http.server
import json
import shutil
import socket
import ssl
import subprocess
import threading
import time
from email import message_from_bytes, policy
from pathlib import Path

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult
from safekit_py.plugins.notify import mail, snmp, syslog, webhook

from safekit_py.errors import SafekitError
from safekit_py.model.notice import Notice

NOTICE = Notice(
    *("web/server/b", "raised", "critical", "a", "web", "web: b is lost\r\nBcc: x@y", "No heartbeat.\nSecond line."),
    *(1.7e9, 1.7e9, 3),
)


def until(what, limit=20.0):
    end = time.monotonic() + limit
    while not what():
        assert time.monotonic() < end
        time.sleep(0.02)


def secret(tmp_path, text="s3cret"):
    path = tmp_path / "secret"
    path.write_text(f"{text}\n")
    path.chmod(0o600)
    return str(path)


# --- mail -----------------------------------------------------------------------------------------


class Box:
    """A mail server's memory."""

    def __init__(self):
        self.mails, self.logins, self.answer = [], [], "250 taken"

    async def handle_DATA(self, _server, _session, envelope):
        if self.answer.startswith("250"):
            self.mails.append(message_from_bytes(envelope.content, policy=policy.default))
        return self.answer

    def login(self, _server, _session, _envelope, _mechanism, data):
        self.logins.append((data.login, data.password))
        return AuthResult(success=data.password == b"s3cret", handled=False)


@pytest.fixture(scope="module")
def tls(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=DNS:localhost", "-keyout", folder / "key", "-out", folder / "crt"),
        ],
        check=True,
        capture_output=True,
    )
    return folder


@pytest.fixture
def smtp(tls):
    box, context = Box(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tls / "crt", tls / "key")
    with contextlib.ExitStack() as stack:

        def start(**options):
            if options.pop("secure", True):
                options |= {"tls_context": context, "require_starttls": True, "authenticator": box.login}
            controller = Controller(box, hostname="127.0.0.1", port=free_port(), **options)
            controller.start()
            stack.callback(controller.stop)
            return box, controller.port

        yield start


def free_port(kind=socket.SOCK_STREAM):
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_a_mail_over_starttls_with_a_login(smtp, tls, tmp_path):
    box, port = smtp()
    to = ("b@example.org", "c@example.org")
    mail.send(
        mail.Mail("localhost", port, "starttls", str(tls / "crt"), "u", secret(tmp_path), "a@example.org", to), NOTICE
    )
    (got,) = box.mails
    assert box.logins == [(b"u", b"s3cret")]
    assert got["Subject"] == "[safekit a] critical: web: b is lost Bcc: x@y"
    assert got["Bcc"] is None
    assert got["To"] == "b@example.org, c@example.org"
    assert got["Auto-Submitted"] == "auto-generated"
    assert "3 notices before this one were held" in got.get_content()


def test_a_wrong_password_is_final_and_told_without_it(smtp, tls, tmp_path):
    _, port = smtp()
    wrong = secret(tmp_path, "hunter2")
    target = mail.Mail("localhost", port, "starttls", str(tls / "crt"), "u", wrong, "a@example.org", ("b@example.org",))
    with pytest.raises(SafekitError) as caught:
        mail.send(target, NOTICE)
    assert caught.value.code == "notify.refused"
    assert "535" in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_certificate_that_nobody_vouches_for_is_refused(smtp, tmp_path):
    box, port = smtp()
    with pytest.raises(OSError, match="certificate"):
        mail.send(mail.Mail("localhost", port, "starttls", "", "u", secret(tmp_path), "a@b.org", ("b@b.org",)), NOTICE)
    assert box.logins == []


@pytest.mark.parametrize(("answer", "error"), [("451 try later", OSError), ("550 no such user", SafekitError)])
def test_what_a_server_refuses_for_now_or_for_good(smtp, answer, error):
    box, port = smtp(secure=False)
    box.answer = answer
    with pytest.raises(error):
        mail.send(mail.Mail("127.0.0.1", port, "none", "", "", "", "a@b.org", ("b@b.org",)), NOTICE)


def test_no_server(tmp_path):
    with pytest.raises(OSError, match="refused"):
        mail.send(mail.Mail("127.0.0.1", free_port(), "none", "", "", "", "a@b.org", ("b@b.org",)), NOTICE)


# --- webhook --------------------------------------------------------------------------------------


@pytest.fixture
def receiver():
    got = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            got.append((self.path, dict(self.headers), body))
            status = int(self.path.rpartition("/")[2])
            self.send_response(status)
            if status == 302:
                self.send_header("Location", "/redirected/200")
            self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", got
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_document_that_is_signed(receiver, tmp_path):
    url, got = receiver
    webhook.send(webhook.Webhook(f"{url}/hook/204", secret(tmp_path), "", ""), NOTICE)
    ((path, heads, body),) = got
    assert path == "/hook/204"
    assert json.loads(body) == NOTICE.as_dict()
    assert heads["X-Safekit-Signature"] == f"sha256={hmac.new(b's3cret', body, hashlib.sha256).hexdigest()}"


@pytest.mark.parametrize(
    ("status", "error"), [(400, SafekitError), (302, SafekitError), (429, OSError), (503, OSError)]
)
def test_what_an_answer_means(receiver, status, error):
    url, got = receiver
    with pytest.raises(error, match=str(status)) as caught:
        webhook.send(webhook.Webhook(f"{url}/token-in-path/{status}", "", "", ""), NOTICE)
    assert len(got) == 1, "a redirection is not followed"
    assert "token-in-path" not in str(caught.value)


# --- syslog ---------------------------------------------------------------------------------------


def test_a_line_by_udp():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(20)
        syslog.send(syslog.Syslog("127.0.0.1", server.getsockname()[1], "udp", "local3"), NOTICE)
        text = server.recv(4096).decode()
    assert text.startswith("<154>1 2023-11-14T22:13:20.000Z a safekit-py ")
    assert '[safekit@8072 ident="web/server/b" kind="raised" level="critical" module="web"]' in text
    assert text.endswith("web: b is lost Bcc: x@y; No heartbeat. Second line.")


def test_a_line_by_tcp_is_counted():
    with socket.create_server(("127.0.0.1", 0)) as server:
        got = []

        def take():
            connection, _ = server.accept()
            with connection:
                while more := connection.recv(4096):
                    got.append(more)

        thread = threading.Thread(target=take)
        thread.start()
        syslog.send(syslog.Syslog("127.0.0.1", server.getsockname()[1], "tcp", "daemon"), NOTICE)
        thread.join(20)
    count, _, line = b"".join(got).partition(b" ")
    assert int(count) == len(line)


def test_what_would_end_a_quoted_value_is_escaped():
    odd = Notice('a"]\\b', "event", "info", "s p", "", "x", "", 0.0)
    assert b'ident="a\\"\\]\\\\b"' in syslog.line(syslog.Syslog("", 514, "udp", "daemon"), odd)


# --- SNMP -----------------------------------------------------------------------------------------

needs_daemon = pytest.mark.skipif(
    not (shutil.which("snmptrapd") and shutil.which("snmptrap")), reason="in the packages snmp and snmptrapd"
)


@pytest.fixture
def trapd(tmp_path):
    port, config = free_port(socket.SOCK_DGRAM), tmp_path / "snmptrapd.conf"
    config.write_text("authCommunity log s3cret\ndisableAuthorization no\n")
    log = tmp_path / "traps"
    command = ["snmptrapd", "-f", "-C", "-c", config, "-On", "-Lf", log, "-m", "", f"udp:127.0.0.1:{port}"]
    daemon = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until(lambda: log.exists() and "NET-SNMP version" in log.read_text())
        yield port, log
    finally:
        daemon.kill()
        daemon.wait()


@needs_daemon
@pytest.mark.parametrize("inform", [False, True])
def test_a_trap_with_our_objects(trapd, tmp_path, inform):
    port, log = trapd
    snmp.send(snmp.Snmp("127.0.0.1", port, secret(tmp_path), inform, snmp.BASE), NOTICE)
    until(lambda: f".{snmp.BASE}.0.2" in log.read_text())
    text = log.read_text()
    assert f'.{snmp.BASE}.1.1.0 = STRING: "web/server/b"' in text
    assert f'.{snmp.BASE}.1.5.0 = STRING: "web: b is lost Bcc: x@y"' in text


@needs_daemon
def test_an_inform_that_nobody_acknowledges_is_tried_again(tmp_path, monkeypatch):
    target = snmp.Snmp("127.0.0.1", free_port(socket.SOCK_DGRAM), secret(tmp_path), True, snmp.BASE)
    monkeypatch.setattr(snmp, "TIMEOUT", 1.0)
    with pytest.raises(OSError, match="snmptrap"):
        snmp.send(target, NOTICE)


def test_the_community_is_in_no_argument(tmp_path):
    target = snmp.Snmp("10.0.0.1", 162, secret(tmp_path), False, snmp.BASE)
    assert not any("s3cret" in each for each in snmp.command(target, NOTICE))


# What our MIB imports: Debian has the real ones in non-free only.
BASICS = {
    "SNMPv2-SMI": "internet OBJECT IDENTIFIER ::= { iso org(3) dod(6) 1 }\n"
    "private OBJECT IDENTIFIER ::= { internet 4 }\nenterprises OBJECT IDENTIFIER ::= { private 1 }",
    "SNMPv2-TC": 'DisplayString ::= TEXTUAL-CONVENTION\nSTATUS current\nDESCRIPTION "text"\n'
    "SYNTAX OCTET STRING (SIZE (0..255))\n"
    'TruthValue ::= TEXTUAL-CONVENTION\nSTATUS current\nDESCRIPTION "text"\nSYNTAX INTEGER { true(1), false(2) }',
    "SNMPv2-CONF": "",
}


@needs_daemon
def test_the_mib_names_what_is_sent(tmp_path):
    for name, text in BASICS.items():
        (tmp_path / f"{name}.txt").write_text(f"{name} DEFINITIONS ::= BEGIN\n{text}\nEND\n")
    shutil.copy(Path(__file__).resolve().parents[4] / "deploy/snmp/SAFEKIT-PY-MIB.txt", tmp_path)
    command = ["snmptranslate", "-M", str(tmp_path), "-m", "SAFEKIT-PY-MIB", "-On"]
    names = {f"safekit{kind.capitalize()}": f"0.{number}" for kind, number in snmp.KINDS.items()}
    names |= {f"safekit{each.capitalize()}": f"1.{number}" for each, number in snmp.OBJECTS.items()}
    names |= {"safekitAgentRunning": "3.1", "safekitServerName": "3.2", "safekitModuleState": "3.3.1.4"}
    names |= {"safekitModuleStarts": "3.3.1.9", "safekitResourceValue": "3.4.1.3", "safekitServerHeard": "3.5.1.3"}
    for name, number in names.items():
        done = subprocess.run([*command, f"SAFEKIT-PY-MIB::{name}"], capture_output=True, text=True, check=False)
        assert done.stdout.strip() == f".{snmp.BASE}.{number}", done.stderr
