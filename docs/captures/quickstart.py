"""Records docs/captures/quickstart.txt: from three servers that know nothing of each other to a farm that loses one.

As root, in a checkout: ``.venv/bin/python docs/captures/quickstart.py``. The servers are a lab's, on this machine; what
stands in the file is what the commands printed. Of tokens, which are used up, the middle is left out. Needs curl.
"""

from __future__ import annotations

import os
import re
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from safekit_py.lab import Lab

SERVERS = ("server1", "server2", "server3")
FILE = Path(__file__).with_suffix(".txt")
VIP = "10.77.0.100"


class Session:
    """What is typed on which server, and what comes."""

    def __init__(self, lab: Lab) -> None:
        self._lab, self.lines = lab, []

    def type(self, host: str, command: str, answers: str = "") -> str:
        """Run a command; ``answers`` is what is typed when it asks."""
        done = self._lab.run(host, ["sh", "-c", f"{command} 2>&1"], capture_output=True, text=True, input=answers)
        text = done.stdout.replace("Go on? [y/N]: ", "Go on? [y/N]: y\n") if answers else done.stdout
        self.lines.append(f"root@{host}:~# {command}\n{text}")
        if done.returncode:
            raise SystemExit(f"{host}: {command}: {text}")
        return text


def main() -> None:
    with Lab.up(f"q{os.getpid()}", servers=3, owner=os.getpid()) as lab:
        for host in SERVERS:
            while lab.run(host, ["safekit-py", "status"], capture_output=True).returncode:
                time.sleep(0.2)
            for what in ("deconfig", "delkey"):
                lab.run(host, ["safekit-py", "cluster", what, "--yes"], capture_output=True, check=True)
        session = Session(lab)
        token = ""
        session.type("server1", "safekit-py cluster init --name server1", "y\n")
        for host in SERVERS[1:]:
            made = session.lines[-1] if host == "server2" else session.type("server1", "safekit-py cluster token")
            token = re.search(r"--token (\S+)", made)[1]
            while not (lab.root("server1") / "run/safekit/web.sock").exists():
                time.sleep(0.2)
            session.type(host, f"safekit-py cluster join 10.77.0.11 --token {token} --name {host}", "y\n")
        while not all((lab.root(host) / "run/safekit/web.sock").exists() for host in SERVERS):
            time.sleep(0.2)
        time.sleep(2)
        session.type("server1", f'safekit-py -H "*" module install apache --set VIP={VIP} --set PORT=80')
        session.type("server1", 'safekit-py -H "*" start apache --wait')
        time.sleep(3)
        session.type("server1", "safekit-py farm show apache")
        ask = f"for i in 1 2 3 4 5 6; do curl -s http://{VIP}/server-name.txt; done"
        found = lab.run("client1", ["sh", "-c", ask], capture_output=True, text=True, check=True).stdout
        session.lines.append(f"user@client1:~$ {ask}\n{found}")
        lab.kill("server3")
        session.lines.append("(the power of server3 is cut)\n")
        time.sleep(1)
        session.type("server1", "safekit-py farm show apache")
        session.lines.append(
            'root@server1:~# safekit-py -H "*" status apache\n'
            + lab.run(
                "server1",
                ["sh", "-c", 'safekit-py -H "*" status apache 2>&1; echo exit code $?'],
                capture_output=True,
                text=True,
            ).stdout
        )
    text = "\n".join(session.lines)
    text = re.sub(r"(skp_[0-9a-f]{8}_)[\w-]+\.[0-9a-f]+", r"\1…", text)
    FILE.write_text("\n".join(line.rstrip() for line in text.splitlines()) + "\n", encoding="utf-8")
    print(f"{FILE} was written")


if __name__ == "__main__":
    main()
