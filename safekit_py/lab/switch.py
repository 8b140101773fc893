"""The network of a lab: ``ip`` and ``nft`` run in the switch's and the hosts' namespaces, never in the machine's."""

from __future__ import annotations

import json
import subprocess

from safekit_py.errors import Problem, SystemProblem
from safekit_py.lab.identity import Process
from safekit_py.lab.plan import Host

TABLE = "bridge safekit_lab"


def within(process: Process, argv: list[str], text: str = "") -> str:
    """Run a program of the machine in the network of a host.

    :raises SystemProblem: it failed; its own words are in the message.
    """
    command = ["nsenter", f"--target={process.pid}", "--net", "--", *argv]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        message = f"{' '.join(argv)} failed in a lab's network: {done.stderr.strip()}"
        raise SystemProblem(Problem("lab.network", message, "the kernel needs veth, bridge and nf_tables"))
    return done.stdout


def make(switch: Process, lans: int) -> None:
    """The bridges. They have no address and never wait before they forward."""
    lines = ["link set lo up"]
    for lan in range(lans):
        lines.append(f"link add br{lan} type bridge stp_state 0 forward_delay 0 mcast_snooping 0")
        lines.append(f"link set br{lan} up")
    within(switch, ["ip", "-batch", "-"], "\n".join(lines) + "\n")


def plug(switch: Process, init: Process, host: Host) -> None:
    """Give a host its network cards."""
    outside, inside = [], ["link set lo up"]
    for each in host.ports:
        # Both ends are created where they belong: at no time do they stand in the machine's own network.
        peer = f"peer name {each.device} address {each.mac} netns {init.pid}"
        outside += [f"link add {each.port} type veth {peer}", f"link set {each.port} master {each.bridge} up"]
        inside += [f"addr add {each.address} brd + dev {each.device}", f"link set {each.device} up"]
    within(switch, ["ip", "-batch", "-"], "\n".join(outside) + "\n")
    within(init, ["ip", "-batch", "-"], "\n".join(inside) + "\n")


def unplug(switch: Process, host: Host) -> None:
    """Take a host's network cards away at once, those that are left."""
    present = {each["ifname"] for each in json.loads(within(switch, ["ip", "-json", "link"]))}
    lines = [f"link del {each.port}" for each in host.ports if each.port in present]
    within(switch, ["ip", "-batch", "-"], "".join(f"{line}\n" for line in lines))


def cut(switch: Process, host: Host, peer: Host | None, *, one_way: bool) -> None:
    """Drop frames at the switch; the hosts' links stay up, as when a cable far away breaks.

    The rules stand where the bridge forwards, so that they name both ends of a frame's way, broadcasts included.
    """
    lines = [
        f"add table {TABLE}",
        f"add chain {TABLE} forward {{ type filter hook forward priority 0; policy accept; }}",
    ]
    for lan, port in enumerate(host.ports):
        mine = f'"{port.port}"'
        there = f'"{peer.ports[lan].port}"' if peer else ""
        lines.append(f"add rule {TABLE} forward iifname {mine} {f'oifname {there} ' if there else ''}drop")
        if not one_way:
            lines.append(f"add rule {TABLE} forward oifname {mine} {f'iifname {there} ' if there else ''}drop")
    within(switch, ["nft", "-f", "-"], "\n".join(lines) + "\n")


def heal(switch: Process) -> None:
    """Remove every cut."""
    # "add" before "delete": deleting what is not there would be an error.
    within(switch, ["nft", "-f", "-"], f"add table {TABLE}\ndelete table {TABLE}\n")
