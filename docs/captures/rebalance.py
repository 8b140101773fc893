"""A connection that survives a rebalance, as tcpdump shows it: what docs/captures/rebalance.txt is made by.

Two servers of a lab serve; a client opens connections and asks something on each, a third server joins, and the client
asks again. Printed: one of those whose bucket is the third server's now, at the client and at the three servers.

    python docs/captures/rebalance.py > docs/captures/rebalance.txt
"""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

from safekit_py.lab import Lab

VIP, SERVERS = "10.77.0.100", ("server1", "server2", "server3")
CLIENT = """
import http.client, sys, time
def ask(each):
    each.request("GET", "/server-name.txt")
    return each.getresponse().read().decode().strip()
opened = [http.client.HTTPConnection(sys.argv[1], timeout=5) for _ in range(24)]
before = [ask(each) for each in opened]
ports = [each.sock.getsockname()[1] for each in opened]
print("ready", flush=True)
sys.stdin.readline()
after = [ask(each) for each in opened]
assert [each.sock.getsockname()[1] for each in opened] == ports, "a connection broke"
assert before == after, "another server answered"
print(*ports, flush=True)
sys.stdin.readline()
"""


def cli(lab, host, *words):
    done = lab.run(host, ["safekit-py", *words], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{host}: safekit-py {' '.join(words)}: {done.stdout}{done.stderr}")


@contextlib.contextmanager
def captures(lab, folder):
    """tcpdump on every host, until the end; gives host -> file."""
    running, files = [], {}
    for host in (*SERVERS, "client1"):
        files[host] = folder / f"{host}.txt"
        argv = ["tcpdump", "-l", "-n", "-e", "-tttt", "--immediate-mode", "-i", "eth0", f"tcp and host {VIP}"]
        with files[host].open("w") as out:
            running.append(lab.popen(host, argv, stdout=out, stderr=subprocess.PIPE, text=True))
    for each in running:
        while "listening on" not in (line := each.stderr.readline()):
            if not line:
                sys.exit("tcpdump does not run: apt-get install tcpdump")
    try:
        yield files
    finally:
        for each in running:
            each.send_signal(signal.SIGKILL)
            each.wait()


def main():
    with Lab.up(f"capture{os.getpid()}", servers=3, owner=os.getpid()) as lab:
        folder = lab.root("client1")
        for host in SERVERS:
            while lab.run(host, ["safekit-py", "status"], capture_output=True).returncode:
                time.sleep(0.2)
            cli(lab, host, "module", "install", "apache", f"--set=VIP={VIP}", "--set=PORT=80")
        for host in SERVERS[:2]:
            cli(lab, host, "start", "apache", "--wait")
        time.sleep(2)
        with captures(lab, folder) as files:
            argv = ["python3", "-c", CLIENT, VIP]
            pipe = subprocess.PIPE
            client = lab.popen("client1", argv, stdin=pipe, stdout=pipe, text=True)
            client.stdout.readline()
            cli(lab, "server3", "start", "apache", "--wait")
            time.sleep(1)
            print(file=client.stdin, flush=True)
            ports = client.stdout.readline().split()
            time.sleep(0.5)
            client.kill()
            client.wait()
        show(ports, files)


def show(ports, files):
    """The first connection of which the third server got a segment that it did not take."""
    texts = {host: Path(file).read_text().splitlines() for host, file in files.items()}
    for port in ports:
        lines = {
            host: [line for line in text if re.search(rf"10\.77\.0\.101\.{port}\b", line)]
            for host, text in texts.items()
        }
        if lines["server3"] and len(lines["client1"]) > 4:
            break
    else:
        sys.exit("no connection has moved, or some broke; see that tcpdump and apache2 are installed")
    print(f"One connection (port {port} of the client) while server3 joins. MACs end in the host's number:")
    print("server1 0b, server2 0c, server3 0d, client 65 (hexadecimal). All 24 connections of the client went on.")
    for host in ("client1", *SERVERS):
        print(f"\n{host}:")
        for line in lines[host]:
            print(f"  {line.split(' ', 1)[1]}")


if __name__ == "__main__":
    main()
