"""What an operator sees of a farm, as plain values: for ``status``, ``farm show`` and ``farm trace``.

Flows through it: the view in force, what the heartbeats tell, the kernel's counters and the remembered changes in;
values for the API out. Pure: ``runtime`` reads the kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from safekit_py.api import BUCKETS, NOBODY, NotFoundError, Problem, View

from ..vip.model import Group, Ip, Rule, Vip
from .hashing import bucket_of
from .history import Change, History, owner_of

PROTOCOLS = ("tcp", "udp", "arp")
ANY = "any"
Text = Callable[[str], str]
Slices = Callable[[int], list[dict[str, int]]]


@dataclass(frozen=True, slots=True)
class Picture:
    """A farm as this server sees it at one moment.

    :param owning: this server may use its share.
    :param heard: of ``GroupTransport.snapshot``; empty while the group is not joined.
    :param now: seconds of the monotonic clock.
    """

    nodes: tuple[str, ...]
    me: int
    seed: int
    vip: Vip
    arp_group: int | None
    view: View | None
    owning: bool
    heard: Mapping[str, Any]
    history: History
    now: float

    def share(self, group: int, server: int) -> float:
        """Percent of a group's buckets that a server owns in the present view."""
        if self.view is None or group >= len(self.view.tables) or (server == self.me and not self.owning):
            return 0.0
        return self.view.tables[group].counts().get(server, 0) / BUCKETS * 100

    def members(self) -> list[dict[str, Any]]:
        """Every server of the cluster: what it is in the view, and its share of each group."""
        powers = {m.server: m.powers for m in self.view.members} if self.view else {}
        alive = {*self.heard.get("alive", ()), self.me} if self.heard else set()
        return [
            {
                "name": name,
                "state": _state(powers.get(number), number in alive),
                "shares": [round(self.share(group, number), 2) for group in range(len(self.vip.groups))],
            }
            for number, name in enumerate(self.nodes)
        ]

    def report(self, text: Text) -> dict[str, Any]:
        """For ``status``.

        :param text: makes names of the server numbers in a cause.
        """
        view = self.view
        alive = {*self.heard.get("alive", ()), self.me} if self.heard else set()
        words = {number: "alive" if number in alive else "lost" for number in range(len(self.nodes))}
        return {
            "view": view.number.epoch if view else 0,
            "cause": text(view.cause) if view else "",
            "groups": [group.name for group in self.vip.groups],
            "members": self.members() if view else [],
            "moved": sum(n for trail in view.trails for n, holders in trail.runs if holders) if view else 0,
            "servers": {self.nodes[number]: word for number, word in words.items()} if alive else {},
            "coordinator": self.coordinator(),
            "rejected": self.heard.get("rejected", {}),
            "lans": self.heard.get("heard", {}),
        }

    def coordinator(self) -> str:
        """The name of the server that publishes views; empty when none does."""
        number = self.heard.get("coordinator")
        return self.nodes[number] if number is not None else ""

    def name(self, server: int) -> str:
        """A server's name; empty for nobody."""
        return self.nodes[server] if server < len(self.nodes) and server != NOBODY else ""


def _state(powers: tuple[int, ...] | None, alive: bool) -> str:
    """One word for a server; ``left out`` is alive, but some member does not hear it."""
    if powers is None:
        return "left out" if alive else "lost"
    return "member" if any(powers) else "shut"


def shown(picture: Picture, counters: Mapping[tuple[int | None, str], int], text: Text) -> dict[str, Any]:
    """For ``farm show``.

    :param text: makes names of the server numbers in a cause.
    """
    view = picture.view
    powers = {m.server: m.powers for m in view.members} if view else {}
    members = picture.members() if view else []
    for number, member in enumerate(members):
        member["powers"] = list(powers.get(number, ()))
    changes = [_change(picture, each, text) for each in reversed(picture.history.changes())]
    return {
        "server": picture.nodes[picture.me],
        "view": view.number.epoch if view else 0,
        "coordinator": picture.coordinator(),
        "owning": picture.owning,
        "members": members,
        "groups": [_group(picture, index, group) for index, group in enumerate(picture.vip.groups)],
        "change": changes[0] if changes else None,
        "changes": changes,
        "counters": [
            {"group": "" if group is None else _group_name(picture, group), "verdict": verdict, "packets": count}
            for (group, verdict), count in sorted(counters.items(), key=lambda each: (str(each[0][0]), each[0][1]))
        ],
        "at": picture.now,
        "lans": {
            lan: {picture.name(number): round(ago, 3) for number, ago in heard.items()}
            for lan, heard in picture.heard.get("heard", {}).items()
        },
    }


def _group_name(picture: Picture, group: int) -> str:
    return picture.vip.groups[group].name if group < len(picture.vip.groups) else str(group)


def _change(picture: Picture, change: Change, text: Text) -> dict[str, Any]:
    return {
        "view": change.epoch,
        "cause": text(change.cause),
        "age": round(picture.now - change.time, 3),
        "moved": sum(change.moved),
        "members": [picture.name(number) for number in sorted(change.members)],
    }


def _group(picture: Picture, index: int, group: Group) -> dict[str, Any]:
    runs = picture.view.trail(index).runs if picture.view else ()
    held: dict[str, int] = {}
    for length, holders in runs:
        for server in holders:
            held[picture.name(server)] = held.get(picture.name(server), 0) + length
    return {
        "name": group.name,
        "rules": [rule_text(rule) for rule in group.rules],
        "moved": sum(length for length, holders in runs if holders),
        "held": held,
    }


def rule_text(rule: Rule) -> str:
    """A rule in one line."""
    where = f"{rule.virtual_addr or 'every address'}"
    port = "" if rule.proto == "arp" else f" port {rule.port or ANY}"
    return f"{rule.proto}{port} of {where}, {rule.filter}"


@dataclass(frozen=True, slots=True)
class Asked:
    """Whose owner is asked for.

    :param port: the client's; 0: not known.
    :param vip: None: every one.
    :param proto: empty: every one.
    :param to: the port at the virtual address; 0: every one.
    """

    client: Ip
    port: int = 0
    vip: Ip | None = None
    proto: str = ""
    to: int = 0

    @classmethod
    def of(cls, words: tuple[str, ...]) -> Asked:
        """From the API's words: client, its port, virtual address, protocol, port there; empty for those not said.

        :raises NotFoundError: one of them cannot be.
        """
        try:
            client, port, vip, proto, to = words
            asked = cls(ip_address(client), int(port or 0), ip_address(vip) if vip else None, proto, int(to or 0))
        except ValueError as error:
            raise NotFoundError(
                Problem("farm.bad-client", f"this is no client: {error}", "--client 10.0.0.7:40000, or [fd00::7]:40000")
            ) from None
        if not (0 <= asked.port < 65536 and 0 <= asked.to < 65536) or proto not in {"", *PROTOCOLS}:
            known = ", ".join(PROTOCOLS)
            raise NotFoundError(
                Problem("farm.bad-client", f"port or protocol cannot be: {words}", f"ports to 65535, {known}")
            )
        return asked


def covering(vip: Vip, asked: Asked) -> Iterator[tuple[int, Rule, Ip]]:
    """Each rule that may decide, with its group and the virtual address.

    Of the rules that cover a packet the first decides: with protocol and port given, there is one for each address.
    """
    for addr in (each.addr for interface in vip.interfaces for each in interface.addresses):
        if addr.version != asked.client.version or asked.vip not in {None, addr}:
            continue
        found = [
            (index, rule, addr)
            for index, group in enumerate(vip.groups)
            for rule in group.rules
            if _may_cover(rule, addr, asked)
        ]
        one = asked.proto and (asked.to or asked.proto == "arp")
        yield from found[:1] if one else found


def _may_cover(rule: Rule, addr: Ip, asked: Asked) -> bool:
    there = rule.virtual_addr in {None, addr} and asked.proto in {"", rule.proto}
    if rule.proto == "arp":
        return there and not asked.to
    return there and (not asked.to or rule.port in {0, asked.to})


def traced(picture: Picture, asked: Asked, slices: Slices, text: Text) -> dict[str, Any]:
    """For ``farm trace``: for each rule that may decide, whose the client is, and why.

    :param slices: a group's counters by slice, ``Filter.slices``.
    :raises NotFoundError: no rule covers what is asked for.
    """
    rows = [_row(picture, asked, *each, slices, text) for each in covering(picture.vip, asked)]
    if not rows:
        rules = "; ".join(rule_text(rule) for group in picture.vip.groups for rule in group.rules) or "none"
        raise NotFoundError(
            Problem("farm.no-rule", f"no rule covers {asked.client} there: such packets are dropped", f"rules: {rules}")
        )
    return {"server": picture.nodes[picture.me], "view": picture.view.number.epoch if picture.view else 0, "rows": rows}


def _row(picture: Picture, asked: Asked, index: int, rule: Rule, vip: Ip, slices: Slices, text: Text) -> dict[str, Any]:
    how = rule.filter if rule.proto != "arp" else "on_addr"
    row: dict[str, Any] = {
        "vip": str(vip), "rule": rule_text(rule), "group": picture.vip.groups[index].name, "hash": how,
        "bucket": None, "owner": "", "holders": [], "since": None, "slice": {},
    }  # fmt: skip
    if how == "on_ipid":
        return row | {"why": "the identification in each packet decides: its owner changes from packet to packet"}
    if how == "on_port" and not asked.port:
        return row | {"why": "the client's port decides: give ADDR:PORT"}
    bucket = bucket_of(asked.client, picture.seed, asked.port if how == "on_port" else None)
    row["bucket"], row["slice"] = bucket, slices(index)[bucket >> 8]
    if picture.view is None or index >= len(picture.view.tables):
        return row | {"why": "this server has no view of the farm"}
    owner = owner_of(picture.view.tables[index].runs, bucket)
    row["owner"] = picture.name(owner)
    row["holders"] = [picture.name(each) for each in _holders(picture.view.trail(index).runs, bucket)]
    change, earlier = picture.history.since(index, bucket)
    if change is not None:
        row["since"] = _change(picture, change, text) | {"or_earlier": earlier}
    hashed = f"{asked.client} port {asked.port}" if how == "on_port" else f"{asked.client}"
    who = row["owner"] or "nobody"
    return row | {"why": f"{hashed} is in bucket {bucket}, which view {picture.view.number.epoch} gives to {who}"}


def _holders(runs: Any, bucket: int) -> tuple[int, ...]:
    for length, holders in runs:
        bucket -= length
        if bucket < 0:
            return tuple(holders)
    return ()
