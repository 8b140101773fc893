"""What a lab is made of, as values: hosts, addresses, MACs, and the text of cluster.xml. No I/O.

The servers of every lab have the same addresses: each lab has a switch of its own, so that they never meet.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any
from xml.sax.saxutils import quoteattr

from safekit_py.errors import ConfigError, Problem

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,30}")
MAX_SERVERS = 32
MAX_LANS = 4
CLIENT = "client1"


@dataclass(frozen=True, slots=True)
class Port:
    """One network card of a host and its place on the switch.

    :param device: the card in the host, ``eth0``.
    :param port: the port on the switch, ``server1.0``.
    :param bridge: the switch it is on, ``br0``.
    :param address: IPv4 with its prefix length.
    :param mac: the same after each boot.
    """

    device: str
    port: str
    bridge: str
    address: str
    mac: str


@dataclass(frozen=True, slots=True)
class Host:
    """One host of a lab."""

    name: str
    ports: tuple[Port, ...]

    @property
    def server(self) -> bool:
        """Whether it runs an agent."""
        return self.name != CLIENT

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for the registry."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Host:
        """The inverse of :meth:`as_dict`."""
        return cls(values["name"], tuple(Port(**each) for each in values["ports"]))


def hosts(servers: int, lans: int) -> tuple[Host, ...]:
    """The servers and one client: 10.77.0.11, .12, … and .101; the second LAN is 10.78.0.0/24.

    :raises ConfigError: too many or too few.
    """
    if not 1 <= servers <= MAX_SERVERS:
        raise ConfigError(
            Problem("lab.servers", f"A lab has 1 to {MAX_SERVERS} servers, not {servers}", "choose another number")
        )
    if not 1 <= lans <= MAX_LANS:
        raise ConfigError(Problem("lab.lans", f"A lab has 1 to {MAX_LANS} LANs, not {lans}", "choose another number"))
    numbers = {f"server{i}": 10 + i for i in range(1, servers + 1)} | {CLIENT: 101}
    return tuple(Host(name, tuple(_port(name, number, lan) for lan in range(lans))) for name, number in numbers.items())


def _port(name: str, number: int, lan: int) -> Port:
    address = f"10.{77 + lan}.0.{number}/24"
    return Port(f"eth{lan}", f"{name}.{lan}", f"br{lan}", address, f"02:00:0a:{77 + lan:02x}:00:{number:02x}")


def cluster_xml(all_hosts: tuple[Host, ...]) -> str:
    """The configuration of the cluster: its servers on every LAN; the first is named ``default``."""
    servers = [host for host in all_hosts if host.server]
    lines = ["<cluster>", "  <lans>"]
    for lan in range(len(servers[0].ports)):
        lines.append(f'    <lan name="{"default" if not lan else f"lan{lan + 1}"}">')
        for host in servers:
            addr = host.ports[lan].address.split("/")[0]
            lines.append(f"      <node name={quoteattr(host.name)} addr={quoteattr(addr)}/>")
        lines.append("    </lan>")
    return "\n".join([*lines, "  </lans>", "</cluster>", ""])


def check_name(name: str) -> str:
    """The name itself.

    :raises ConfigError: it cannot be the name of a folder of ours.
    """
    if not NAME.fullmatch(name):
        raise ConfigError(
            Problem("lab.name", f"{name!r} cannot be a lab's name", "use a-z, 0-9 and -, 31 characters at most")
        )
    return name
