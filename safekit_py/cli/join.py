"""``cluster init``, ``cluster token`` and ``cluster join``: a cluster in one command for each server.

Flows through it: the addresses of this server's interfaces, proposed and confirmed, in; on the first server
cluster.xml, key and certificates out, and a token; on the others, with that token, the same from the first. Nothing is
written before it was shown and confirmed, and then all or nothing.
"""

from __future__ import annotations

import ipaddress
import re
import secrets
import socket
import ssl
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from safekit_py.cli.common import Command, Session, emit, from_items, json_option, show_problems
from safekit_py.errors import AccessError, ConfigError, Problem, SafekitError, StateError, SystemProblem

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
VIRTUAL = re.compile(r"(docker|veth|virbr|br-|cni|flannel|podman|vnet|tap|tun)")  # interfaces of guests, not of servers
PORT, STDIN = 9453, "-"
SKEW = 10.0  # seconds between two servers' clocks that are worth a warning
WAIT = 30.0  # seconds for an answer
STARTING = 20.0  # seconds in which the web process begins to answer

address_option = click.option(
    "--address",
    "given",
    multiple=True,
    metavar="LAN=ADDRESS",
    help="This server's address in a LAN, instead of the one proposed; several times.",
)
name_option = click.option("--name", help="This server's name in the cluster.  [default: its host name]")
yes_option = click.option("--yes", is_flag=True, help="Do it without asking.")
dry_option = click.option("--dry-run", is_flag=True, help="Show what would be done, and do nothing.")


@dataclass(frozen=True, slots=True)
class Local:
    """An address of this server."""

    device: str
    interface: ipaddress.IPv4Interface | ipaddress.IPv6Interface


def local_addresses() -> list[Local]:
    """Those that others can reach: no loopback, no link-local ones, none of interfaces for guests."""
    import psutil  # noqa: PLC0415 - loaded only where needed

    found = []
    up = {name for name, each in psutil.net_if_stats().items() if each.isup}
    for device, cards in psutil.net_if_addrs().items():
        if device == "lo" or VIRTUAL.match(device) or device not in up:
            continue
        for card in cards:
            if card.family in (socket.AF_INET, socket.AF_INET6):
                bits = int(ipaddress.ip_address(card.netmask)).bit_count() if card.netmask else 128
                each = ipaddress.ip_interface(f"{card.address.partition('%')[0]}/{bits}")
                if not each.is_link_local and not each.is_loopback:
                    found.append(Local(device, each))
    return sorted(found, key=lambda each: (each.device, each.interface.version))


def proposed(addresses: Iterable[Local]) -> dict[str, str]:
    """LANs for a new cluster: the IPv4 address of each interface, or its IPv6 one; the first LAN is ``default``."""
    devices: dict[str, str] = {}
    for each in addresses:
        devices.setdefault(each.device, str(each.interface.ip))
    return {"default" if not number else f"lan{number + 1}": ip for number, ip in enumerate(devices.values())}


def fitting(addresses: Iterable[Local], lans: Mapping[str, Iterable[str]]) -> dict[str, str]:
    """For each LAN of a cluster, the address of this server that lies in one network with those that are there."""
    found: dict[str, str] = {}
    for lan, others in lans.items():
        for each in addresses:
            if any(_within(other, each) for other in others):
                found.setdefault(lan, str(each.interface.ip))
    return found


def _within(text: str, local: Local) -> bool:
    try:
        other = ipaddress.ip_address(text)
    except ValueError:
        return False
    return other in local.interface.network and other != local.interface.ip


def _given(values: Iterable[str]) -> dict[str, str]:
    pairs = [each.partition("=") for each in values]
    if any(not name or not address for name, _, address in pairs):
        raise click.UsageError("an address is given as LAN=ADDRESS: --address default=10.0.0.1")
    return {name: address for name, _, address in pairs}


def _named(name: str | None) -> str:
    chosen = name or socket.gethostname().partition(".")[0]
    if not NAME.fullmatch(chosen):
        remedy = "--name gives it one of letters, digits, - _ and ."
        raise ConfigError(Problem("join.bad-name", f"{chosen} cannot be the name of a server", remedy))
    return chosen


def _free(session: Session, *, replace: bool) -> None:
    """Refuse early what the agent would refuse at the end."""
    document = session.call("GET", "/cluster")
    if document["configured"] and not replace:
        path = str(session.paths.cluster_xml)
        text, remedy = "this server is one of a cluster already", "--replace leaves that one"
        raise StateError(Problem("cluster.exists", text, remedy, path))


def _show(source: str, node: str) -> None:
    click.echo("cluster.xml will be:")
    for line in source.strip().splitlines():
        own = f'"{node}"' in line
        click.echo(f"    {click.style(line, bold=own)}")


def _confirm(yes: bool, dry: bool) -> bool:
    """Whether to go on."""
    if dry:
        click.echo("nothing was changed")
        return False
    if not yes:
        click.confirm("Go on?", abort=True, err=True)
    return True


@click.command(cls=Command)
@name_option
@address_option
@yes_option
@dry_option
@click.option("--replace", is_flag=True, help="Also where this server is one of a cluster already.")
@json_option
@click.pass_obj
def init(
    session: Session, name: str | None, given: tuple[str, ...], yes: bool, dry_run: bool, replace: bool, as_json: bool
) -> None:
    """Make a new cluster of this server: cluster.xml, key, certificates; then others join it.

    Each interface with an address becomes a LAN; --address names them otherwise. Asks before anything is written.
    """
    from safekit_py.config import servers  # noqa: PLC0415 - loaded only where needed
    from safekit_py.web import certificates  # noqa: PLC0415 - the same

    _free(session, replace=replace)
    node, addresses = _named(name), _given(given) or proposed(local_addresses())
    if not addresses:
        remedy = "bring one up, or name it: --address default=10.0.0.1"
        raise ConfigError(Problem("join.no-address", "no interface has an address that others could reach", remedy))
    source = servers.first(node, addresses)
    if not as_json:
        _show(source.decode(), node)
        click.echo("with a new key and certificates." if not replace else "with a new key; certificates stay if there.")
    if not _confirm(yes or as_json, dry_run):
        return
    with tempfile.TemporaryDirectory(prefix="safekit-") as folder:
        made, tls = Path(folder), session.paths.tls
        if (tls / "ca.key").exists():  # tokens' clients trust it already
            for each in ("ca.crt", "ca.key"):
                (made / each).write_bytes((tls / each).read_bytes())
        else:
            certificates.make_authority(made)
        certificates.issue(made, node, [*addresses.values(), *_names()], made)
        texts = {each.name: each.read_text() for each in made.iterdir()}
    body = {"cluster": source.decode(), "node": node, "key": secrets.token_hex(32), "certificates": texts}
    answer = session.call("PUT", "/cluster/membership", params={"replace": replace}, json=body)
    secret = _token(session, "1h")
    address = next(iter(addresses.values()))
    _until_answering(session, node)
    if as_json:
        emit(answer | {"token": secret, "address": address})
        return
    show_problems(from_items(answer["problems"]))
    click.echo(f"{node} is the first server of a new cluster. On each other server, within an hour:")
    _tell(address, secret)


def _until_answering(session: Session, node: str) -> None:
    """Wait until other servers reach this one; where that takes long, say so and go on."""
    end = time.monotonic() + STARTING
    while True:
        try:
            Session(session.here, node).call("GET", "/status")
        except SafekitError as error:
            if time.monotonic() > end:
                click.echo(f"other servers do not reach this one yet: {error.problems[0].message}", err=True)
                return
            time.sleep(0.2)
        else:
            return


def _names() -> list[str]:
    """Under what else clients call this server."""
    return ["localhost", "127.0.0.1", socket.gethostname(), *(str(each.interface.ip) for each in local_addresses())]


def _tell(address: str, secret: str) -> None:
    click.echo(f"\n    safekit-py cluster join {address} --token {secret}\n")
    click.echo("A token lets in one server; another: safekit-py cluster token")


def _token(session: Session, expires: str) -> str:
    from safekit_py.web import certificates  # noqa: PLC0415 - loaded only where needed

    made = session.call("POST", "/access/tokens", json={"name": "join", "role": "join", "expires": expires})
    return f"{made['secret']}.{certificates.pinned((session.paths.tls / 'ca.crt').read_bytes())}"


@click.command(cls=Command)
@click.option("--expires", default="1h", show_default=True, help="How long it lasts: 10m, 1h, 1d.")
@json_option
@click.pass_obj
def token(session: Session, expires: str, as_json: bool) -> None:
    """Make a token with which one more server can join; it is used once.

    safekit-py token list shows those that are not used yet, token revoke IDENT ends one.
    """
    document = session.call("GET", "/cluster")
    if not document["configured"] or not (session.paths.tls / "ca.key").exists():
        text, remedy = "this server is in no cluster that others could join", "safekit-py cluster init"
        raise StateError(Problem("join.no-cluster", text, remedy))
    secret = _token(session, expires)
    own = [each for node in document["nodes"] if node["this"] for each in node["addresses"].values()]
    address = own[0] if own else socket.gethostname()
    if as_json:
        emit({"token": secret, "address": address})
    else:
        _tell(address, secret)


@click.command(cls=Command)
@click.argument("address")
@click.option("--token", "secret", help="What cluster init or cluster token printed there; - reads it from stdin.")
@name_option
@address_option
@yes_option
@dry_option
@click.option("--replace", is_flag=True, help="Also where this server is one of a cluster already, which it leaves.")
@json_option
@click.pass_obj
def join(
    session: Session,
    address: str,
    secret: str | None,
    name: str | None,
    given: tuple[str, ...],
    yes: bool,
    dry_run: bool,
    replace: bool,
    as_json: bool,
) -> None:
    """Make this server one of the cluster of the server at ADDRESS.

    Its address in each LAN is the one that lies in the network of the others; --address names another. Asks before
    anything is written, here or there.
    """
    from safekit_py.config.cluster import check_cluster  # noqa: PLC0415 - loaded only where needed
    from safekit_py.web import certificates  # noqa: PLC0415 - the same

    _free(session, replace=replace)
    node = _named(name)
    if secret is None:
        secret = str(click.prompt("Token", hide_input=True, err=True))
    elif secret == STDIN:
        secret = sys.stdin.readline()
    other = _Other(address, secret.strip())
    wish: dict[str, Any] = {"node": node, "addresses": {}, "names": _names(), "wish": "", "stage": "look"}
    looked = other.ask(wish)
    skew = looked["now"] - time.time()  # noqa: TID251 - what is compared are the wall clocks
    cluster = check_cluster(looked["cluster"].encode(), "cluster.xml").cluster
    lans = {lan.name: [each.addr for each in lan.nodes if each.name != node] for lan in cluster.lans} if cluster else {}
    wish["addresses"] = fitting(local_addresses(), lans) | _given(given)
    checked = other.ask(wish | {"stage": "check"})
    if not as_json:
        if abs(skew) > SKEW:
            click.echo(f"the clocks of the two servers differ by {abs(skew):.0f} s: set them by NTP", err=True)
        _show(checked["cluster"], node)
        others = [each for each in (cluster.nodes if cluster else ()) if each != node]
        click.echo(f"and {', '.join(others)} will take it, too. This server gets the cluster's key and a certificate.")
    if not _confirm(yes or as_json, dry_run):
        return
    key, asked = certificates.request(node)
    member = other.ask(wish | {"stage": "join", "wish": asked.decode()})
    member["certificates"]["server.key"] = key.decode()
    try:
        answer = session.call("PUT", "/cluster/membership", params={"replace": replace}, json=member)
    except SafekitError as error:
        again = Problem("join.half", "the cluster has taken this server, but this server did not take its part",
                        "put right what is said above, make another token there, and join again")  # fmt: skip
        raise SystemProblem([*error.problems, again]) from error
    _until_answering(session, node)
    if as_json:
        emit(answer)
        return
    show_problems(from_items(answer["problems"]))
    click.echo(f"{node} is one of the cluster now. Next: safekit-py cluster state")


class _Other:
    """The server that is joined; only one with the authority that the token names is told anything."""

    def __init__(self, address: str, secret: str) -> None:
        import httpx  # noqa: PLC0415 - loaded only where needed

        self._token, _, self._pin = secret.partition(".")
        if not re.fullmatch(r"[0-9a-f]{32}", self._pin):
            text = "this is no token of a cluster"
            raise AccessError(Problem("join.bad-token", text, "copy all of what safekit-py cluster token prints there"))
        host = f"[{address}]" if ":" in address and address[0] != "[" and address.count(":") > 1 else address
        port = "" if re.search(r"\]:\d+$|^[^:]+:\d+$", host) else f":{PORT}"
        self._url, self._address = f"https://{host}{port}/join", address
        self._httpx: Any = httpx
        self._client = self._trusting()

    def _trusting(self) -> Any:
        from safekit_py.web import certificates  # noqa: PLC0415 - loaded only where needed

        blind = ssl.create_default_context()
        blind.check_hostname, blind.verify_mode = False, ssl.CERT_NONE  # what comes is compared with the token
        with self._httpx.Client(verify=blind, timeout=WAIT) as client:
            found = self._call(client, "GET")
        try:
            right = certificates.pinned(found) == self._pin
        except ValueError:
            right = False
        if not right:
            text = f"{self._address} is not the server that made this token: its authority is another one"
            remedy = "check the address; somebody may stand in between"
            raise AccessError(Problem("join.untrusted", text, remedy))
        context = ssl.create_default_context(cadata=found.decode())
        context.check_hostname = False  # every server of that authority may be asked, under any address
        return self._httpx.Client(verify=context, timeout=None)

    def ask(self, wish: Mapping[str, Any]) -> dict[str, Any]:
        """Ask the other server.

        :raises SafekitError: what it answered, or that it does not.
        """
        import json  # noqa: PLC0415 - loaded only where needed

        return dict(json.loads(self._call(self._client, "POST", json=wish)))

    def _call(self, client: Any, method: str, **arguments: Any) -> bytes:
        from safekit_py.control.client import failure  # noqa: PLC0415 - loaded only where needed

        heads = {"Authorization": f"Bearer {self._token}"} if method == "POST" else {}
        try:
            answer = client.request(method, self._url, headers=heads, **arguments)
        except self._httpx.HTTPError as error:
            text = str(error) or type(error).__name__
            if "not yet valid" in text or "has expired" in text:
                remedy = f"this server's clock says {time.ctime()}: set it right"
                raise SystemProblem(Problem("join.clock", f"{self._address}: {text}", remedy)) from error
            remedy = "is the address right, does its agent run, is TCP port 9453 open?"
            raise SystemProblem(
                Problem("join.no-answer", f"{self._address} does not answer: {text}", remedy)
            ) from error
        if answer.status_code != 200:
            raise failure(answer.status_code, answer.content)
        return bytes(answer.content)
