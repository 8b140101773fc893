"""cluster.xml with one server more, or as the first one; everything else in it stays as somebody wrote it.

Flows through it: the file's bytes and a server's name and addresses in; the new file's bytes out, to be checked by
``check_cluster`` as any other. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from xml.sax.saxutils import quoteattr

from lxml import etree

from safekit_py.config.cluster import address, check_cluster
from safekit_py.errors import ConfigError, Problem

FILE = "cluster.xml"


def first(node: str, addresses: Mapping[str, str]) -> bytes:
    """The file of a cluster of one server.

    :param addresses: by LAN; the first LAN is the one for commands.
    """
    lans = "".join(
        f"    <lan name={quoteattr(lan)}>\n      <node name={quoteattr(node)} addr={quoteattr(each)}/>\n    </lan>\n"
        for lan, each in addresses.items()
    )
    return f"<cluster>\n  <lans>\n{lans}  </lans>\n</cluster>\n".encode()


def added(source: bytes, node: str, addresses: Mapping[str, str]) -> bytes:
    """The file with a server added to each LAN, after those that are there.

    A server that has just these addresses already is there: the file is as it was.

    :raises ConfigError: the file cannot be read, a LAN lacks an address or is unknown, or a name or address is taken.
    """
    cluster = check_cluster(source, FILE).cluster
    if cluster is None:
        raise ConfigError(Problem("join.bad-cluster", "this cluster's cluster.xml is not acceptable", "put it right"))
    known = {lan.name: {each.name: each.addr for each in lan.nodes} for lan in cluster.lans}
    if missing := [lan for lan in known if not addresses.get(lan)]:
        text = f"the server has no address for the LAN {', '.join(missing)}"
        raise ConfigError(Problem("join.no-address", text, "--address LAN=ADDRESS gives one"))
    if unknown := sorted(set(addresses) - set(known)):
        text = f"the cluster has no LAN {', '.join(unknown)}"
        raise ConfigError(Problem("join.unknown-lan", text, f"it has: {', '.join(known)}"))
    wanted = {lan: address(each) or each for lan, each in addresses.items()}
    there = {lan: nodes[node] for lan, nodes in known.items() if node in nodes}
    if there == wanted:
        return source
    if there:
        text = f"the cluster has a server {node} with other addresses ({', '.join(there.values())})"
        raise ConfigError(Problem("join.name-taken", text, "--name gives this server another name"))
    for lan, nodes in known.items():
        for other, each in nodes.items():
            if each == wanted[lan]:
                text = f"{each} is the address of {other}"
                raise ConfigError(Problem("join.address-taken", text, f"--address {lan}=ADDRESS gives another"))
    return _inserted(source, node, addresses)


def _inserted(source: bytes, node: str, addresses: Mapping[str, str]) -> bytes:
    """Comments and blanks stay; ``check_cluster`` has refused what no parser should see."""
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
    root = etree.fromstring(source, parser)
    for lan in root.iter("lan"):
        last = [each for each in lan if each.tag == "node"][-1]
        new = etree.Element("node", {"name": node, "addr": addresses[str(lan.get("name"))]})
        before, after = last.getprevious(), last.tail
        indent = lan.text if before is None else before.tail
        lan.insert(lan.index(last) + 1, new)
        last.tail, new.tail = indent, after
    return bytes(etree.tostring(root.getroottree(), encoding="UTF-8")) + b"\n"
