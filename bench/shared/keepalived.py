"""keepalived on the servers of a lab: one VRRP address that the live server of the highest priority has."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

from safekit_py.lab import Lab

VIP = "10.77.0.200"
SERVERS = ("server1", "server2", "server3")


def available() -> bool:
    return all(shutil.which(name) for name in ("keepalived", "nginx"))


class Keepalived:
    """Three servers; server3 has the address while it lives.

    :param advert: seconds between two advertisements.
    """

    def __init__(self, lab: Lab, folder: Path, advert: float) -> None:
        self.lab, self._folder, self._advert = lab, folder, advert
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._served: list[subprocess.Popen[bytes]] = []
        for host in SERVERS:
            self._serve(host)
            self.start(host)

    def _serve(self, host: str) -> None:
        place = self._folder / host
        (place / "www").mkdir(parents=True, exist_ok=True)
        (place / "www/server-name.txt").write_text(host)
        (place / "nginx.conf").write_text(
            f"user root; worker_processes 1; daemon off; pid {place}/nginx.pid; error_log /dev/null;"
            "events { worker_connections 512; } http { access_log off; "
            f"server {{ listen 80; root {place}/www; }} }}"
        )
        argv = ["nginx", "-p", str(place), "-c", str(place / "nginx.conf")]
        self._served.append(self.lab.popen(host, argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))

    def start(self, host: str) -> None:
        place = self._folder / host
        (place / "keepalived.conf").write_text(
            "global_defs { vrrp_version 3 }\n"
            "vrrp_instance farm {\n interface eth0\n state BACKUP\n virtual_router_id 51\n"
            f" priority {100 + 10 * SERVERS.index(host)}\n advert_int {self._advert}\n"
            f" virtual_ipaddress {{\n  {VIP}/24\n }}\n}}\n"
        )
        argv = [
            "keepalived",
            "-n",
            "-P",
            "-f",
            str(place / "keepalived.conf"),
            "-p",
            str(place / "pid"),
            "-r",
            str(place / "vrrp"),
        ]
        self._running[host] = self.lab.popen(host, argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def kill(self, host: str) -> float:
        """SIGKILL to it and to the web server, which would go on answering at the address that stays; when."""
        done = self.lab.run(host, ["pgrep", "keepalived|nginx"], capture_output=True, text=True)
        moment = time.monotonic()
        self.lab.run(host, ["kill", "-KILL", *done.stdout.split()])
        self._running.pop(host).wait()
        for name in ("pid", "vrrp"):
            (self._folder / host / name).unlink(missing_ok=True)
        return moment

    def settle(self) -> None:
        """Wait until server3 alone has the address."""
        if "server3" not in self._running:
            self.lab.run("server3", ["ip", "addr", "del", f"{VIP}/24", "dev", "eth0"], capture_output=True)
            self._serve("server3")
            self.start("server3")
        end = time.monotonic() + 60
        while [host for host in SERVERS if self._has(host)] != ["server3"]:
            if time.monotonic() > end:
                raise SystemExit("keepalived did not settle in 60 s")
            time.sleep(0.1)
        time.sleep(1.0)

    def _has(self, host: str) -> bool:
        done = self.lab.run(host, ["ip", "-4", "addr", "show", "eth0"], capture_output=True, text=True)
        return f" {VIP}/" in done.stdout

    def stop(self) -> None:
        for process in (*self._running.values(), *self._served):
            process.terminate()
        for process in (*self._running.values(), *self._served):
            process.wait()
