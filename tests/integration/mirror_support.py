"""A mirror in a lab: two servers, one ledger behind a virtual address, and the client's own record of what it was told.

The application writes each number that it is sent as a line, calls fsync, and only then answers: what was answered must
be there after any fault.
"""

import json
import os
import sys
import textwrap
import uuid

from support import Farm, kill, pids, wait_for

from safekit_py.lab import Lab

VIP, PORT = "10.77.0.100", 8080
SERVERS = ("server1", "server2")
CONFIG = """<safe><macro name="DIR" value="none"/><service mode="mirror" maxloop="30">
<heart pulse="100ms" timeout="{timeout}"><heartbeat name="default" ident="flow"/></heart>
<rfs><replicated dir="%DIR%" size="64M"/></rfs>
<vip><interface_list><interface check="on" arpreroute="on"><real_interface>
<virtual_addr addr="{vip}" where="one_side_alias"/></real_interface></interface></interface_list></vip>
<check><tcp ident="web" when="prim"><to addr="{vip}" port="{port}" interval="1s" timeout="1s"/></tcp></check>
<failover period="500ms" handle_time="1s"/>
<user nicestoptimeout="20" forcestoptimeout="20"><var name="DIR" value="%DIR%"/></user>
</service></safe>
"""
START = """#!/bin/sh
"{python}" "$SAFEUSERBIN/ledger" "$DIR/ledger" {port} >>"$SAFEUSERVAR/ledger.log" 2>&1 &
echo $! >"$SAFEUSERVAR/ledger.pid"
for _ in $(seq 100); do
  "{python}" -c 'import socket; socket.create_connection(("127.0.0.1", {port}), 1)' 2>/dev/null && exit 0
  sleep 0.05
done
exit 1
"""
STOP = """#!/bin/sh
[ -f "$SAFEUSERVAR/ledger.pid" ] || exit 0
pid=$(cat "$SAFEUSERVAR/ledger.pid")
kill -9 "$pid" 2>/dev/null
for _ in $(seq 50); do kill -0 "$pid" 2>/dev/null || break; sleep 0.05; done
rm -f "$SAFEUSERVAR/ledger.pid"
"""
LEDGER = """#!/usr/bin/env python3
import http.server, os, sys
path, port = sys.argv[1], int(sys.argv[2])
log = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        try:
            os.write(log, (self.path[1:] + "\\n").encode())
            os.fsync(log)
        except OSError:
            return self.send_error(500)
        self.answer(b"ok")
    def do_GET(self):
        with open(path, "rb") as stream:
            self.answer(stream.read())
    def answer(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass
http.server.ThreadingHTTPServer.daemon_threads = True
http.server.ThreadingHTTPServer.allow_reuse_address = True
http.server.ThreadingHTTPServer(("", port), Handler).serve_forever()
"""
WRITER = """
import http.client, sys, time
host, port, seconds, first, out = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]), sys.argv[5]
end, number, longest, last = time.monotonic() + seconds, first, 0.0, time.monotonic()
with open(out, "a", buffering=1) as acknowledged:
    while time.monotonic() < end:
        number += 1
        connection = http.client.HTTPConnection(host, port, timeout=1)
        try:
            connection.request("POST", f"/{number}")
            if connection.getresponse().status == 200:
                acknowledged.write(f"{number}\\n")
                now = time.monotonic()
                longest, last = max(longest, now - last), now
        except OSError:
            time.sleep(0.02)
        finally:
            connection.close()
print(number, longest)
"""


class Mirror(Farm):
    """The lab with the module installed on both servers."""

    name = "ledger"

    def __init__(self, lab, folder):
        super().__init__(lab)
        self.folder, self.number = folder, 0
        self.record = folder / "acknowledged"
        self.record.touch()

    def state(self, host, module="ledger"):
        return super().state(host, module)

    def status(self, host, module="ledger"):
        return super().status(host, module)

    def begin(self, seconds):
        """Write for some seconds beside what follows; see ``end``."""
        argv = ["python3", "-c", WRITER, VIP, str(PORT), str(seconds), str(self.number), str(self.record)]
        return self.lab.popen("client1", argv, stdout=-1, text=True)

    def end(self, writer, timeout=60):
        """The longest time without an acknowledgement, in seconds."""
        text, _ = writer.communicate(timeout=timeout)
        number, longest = text.split()
        self.number = int(number)
        return float(longest)

    def write(self, seconds=0.5):
        return self.end(self.begin(seconds))

    def acknowledged(self):
        return [int(line) for line in self.record.read_text().split()]

    def check(self):
        """Every number that was acknowledged is in the ledger that the clients see; how many there are."""
        code = (
            "import http.client,sys\n"
            f"c=http.client.HTTPConnection('{VIP}',{PORT},timeout=5);c.request('GET','/')\n"
            "sys.stdout.write(c.getresponse().read().decode())\n"
        )

        def read():
            done = self.lab.run("client1", ["python3", "-c", code], capture_output=True, text=True)
            return done.stdout if done.returncode == 0 else ""

        there = {
            int(line) for line in wait_for(read, 20).split() if line.isdigit()
        }  # a write that failed may leave zeros
        asked = self.acknowledged()
        lost = [number for number in asked if number not in there]
        assert not lost, f"{len(lost)} of {len(asked)} acknowledged writes are lost: {lost[:10]}"
        return len(asked)

    def both(self, primary, secondary, limit=60):
        wait_for(lambda: (self.state(primary), self.state(secondary)) == ("PRIM Ready", "SECOND Ready"), limit)

    def show(self):
        for host in SERVERS:
            if self.lab.alive(host):
                print(f"== {host}: {self.state(host)}")
                print(self.cli(host, "log", "ledger", "-n", "80", check=False).stdout)

    def primaries(self):
        return [h for h in SERVERS if self.lab.alive(h) and (self.state(h) or "").split(" ")[0] in ("PRIM", "ALONE")]

    def role(self, host):
        return (self.state(host) or "").split(" ")[0]


def module_folder(folder, timeout="1s", config=CONFIG):
    """The application module as a folder."""
    module = folder / "ledger"
    for name in ("conf", "bin"):
        (module / name).mkdir(parents=True)
    (module / "conf/userconfig.xml").write_text(config.format(vip=VIP, port=PORT, timeout=timeout))
    scripts = {
        "start_prim": START.replace("{python}", sys.executable).replace("{port}", str(PORT)),
        "stop_prim": STOP,
        "ledger": LEDGER,
    }
    for name, text in scripts.items():
        (module / "bin" / name).write_text(textwrap.dedent(text))
        (module / "bin" / name).chmod(0o755)
    return module


def up(folder, **options):
    """A lab with two servers and the ledger installed on both, not started."""
    return Lab.up(f"m{uuid.uuid4().hex[:6]}", servers=2, owner=os.getpid(), **options)


def make(lab, folder, timeout="1s", config=CONFIG):
    """The mirror on that lab."""
    mirror = Mirror(lab, folder)
    module = module_folder(folder, timeout, config)
    for host in SERVERS:
        wait_for(lambda host=host: mirror.cli(host, "status", check=False).returncode == 0)
        (lab.root(host) / "data").mkdir()
        mirror.cli(host, "module", "install", str(module), "-m", "ledger", f"--set=DIR={lab.root(host)}/data")
    return mirror


__all__ = ["SERVERS", "Mirror", "json", "kill", "make", "pids", "up", "wait_for"]
