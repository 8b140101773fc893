"""What is wrong with a mirror beyond its schema: what only the whole configuration, or the cluster, can tell."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from safekit_py.api import Cluster, ModuleConfig, Paths, Problem

from ..vip.model import ONE_SIDE, ONE_SIDE_ALIAS, REAL, Interface, Vip
from .model import Heart, Rfs

KERNEL = ("/dev", "/proc", "/sys")
SYSTEM = (*KERNEL, "/bin", "/boot", "/etc", "/lib", "/lib64", "/run", "/sbin", "/usr", "/var")
"""Directories without which the server does not run: they cannot be hidden by a volume."""


def problems(config: ModuleConfig, cluster: Cluster | None, paths: Paths | None = None) -> Iterable[Problem]:
    """Everything that was found.

    :param cluster: None when it is not known.
    :param paths: this server's files; without it, those that ``$SAFEKIT_ROOT`` names.
    """
    if config.all("farm"):
        yield Problem(
            "mirror.no-farm", "<farm> is not for a module of mode mirror", "remove it: <heart> takes its place"
        )
    vip: Vip = config.one("vip") or Vip()
    yield from _vip(vip)
    rfs: Rfs | None = config.one("rfs")
    if rfs is not None:
        yield from _directories(rfs, paths or Paths(Path(os.environ.get("SAFEKIT_ROOT", "/"))))
    heart: Heart | None = config.one("heart")
    if heart is None:
        remedy = '<heart><heartbeat name="default"/></heart> below <service>'
        yield Problem("mirror.no-heart", "a module of mode mirror needs <heart>", remedy)
    if cluster is None:
        return
    if heart is not None:
        yield from _lans(heart, cluster)
    yield from _servers(config, vip, cluster)


def _vip(vip: Vip) -> Iterable[Problem]:
    if vip.groups:
        text = "<loadbalancing_list> is not for a module of mode mirror: one server has all the traffic"
        yield Problem("vip.loadbalancing", text, "remove it")
    if vip.scriptcontrol:
        text = 'scriptcontrol="on" is accepted but not acting: the scripts of farm modules control their traffic'
        yield Problem("config.not-acting", text, 'write scriptcontrol="off"', severity="warning")
    for interface in vip.interfaces:
        yield from _interface(interface)


def _interface(interface: Interface) -> Iterable[Problem]:
    if interface.kind not in (REAL, ""):
        text = "<virtual_interface> is for farm modules"
        yield Problem("vip.virtual-interface", text, "write <real_interface>", line=interface.line)
        return
    for address in interface.addresses:
        if address.where not in (ONE_SIDE_ALIAS, ONE_SIDE):
            text = f'where="{address.where}" is not possible in a mirror'
            yield Problem("vip.where", text, f'write where="{ONE_SIDE_ALIAS}"', line=address.line)
        if address.where == ONE_SIDE and address.addr.version == 4:
            text = 'where="one_side" is accepted but not acting: connections come from the device\'s own address'
            remedy = f'write where="{ONE_SIDE_ALIAS}", and a route with src where the source matters'
            yield Problem("config.not-acting", text, remedy, line=address.line, severity="warning")


def _directories(rfs: Rfs, paths: Paths) -> Iterable[Problem]:
    found = [PurePosixPath(each.dir) for each in rfs.replicated]
    for number, path in enumerate(found):
        for other in found[:number]:
            if path == other:
                yield Problem("rfs.directory-twice", f"{path} is replicated twice", "keep one of them")
            elif path.is_relative_to(other) or other.is_relative_to(path):
                text = f"{path} and {other} lie one in the other"
                yield Problem("rfs.nested", text, "replicate the outer one: it holds the other")
        yield from _own(path, paths)


def _own(path: PurePosixPath, paths: Paths) -> Iterable[Problem]:
    for own in (paths.safe, paths.var, paths.run):
        if path.is_relative_to(own) or own.is_relative_to(path):
            text = f"{path} holds what safekit_py needs in {own}, or lies in it"
            yield Problem("rfs.own-directory", text, "choose a directory of the application")
            return
    if str(path) in SYSTEM or any(path.is_relative_to(each) for each in KERNEL):
        yield Problem("rfs.system-directory", f"{path} is the system's own", "choose a directory of the application")


def _lans(heart: Heart, cluster: Cluster) -> Iterable[Problem]:
    lans = {lan.name: lan for lan in cluster.lans}
    servers: tuple[str, ...] = ()
    for beat in heart.lans:
        if beat.name not in lans:
            known = ", ".join(lans) or "(none)"
            text = f"cluster.xml has no LAN called {beat.name}"
            yield Problem("heart.unknown-lan", text, f'<heartbeat name="…"/> takes one of: {known}')
            continue
        here = tuple(sorted(node.name for node in lans[beat.name].nodes))
        if len(here) != 2:
            text = f"the LAN {beat.name} has {len(here)} servers; a mirror has two"
            yield Problem("heart.not-two", text, "choose a LAN with the two servers of the mirror alone")
        elif servers and here != servers:
            text = f"the LAN {beat.name} joins {' and '.join(here)}, the others {' and '.join(servers)}"
            yield Problem("heart.other-servers", text, "choose LANs that join the same two servers")
        else:
            servers = here


def _servers(config: ModuleConfig, vip: Vip, cluster: Cluster) -> Iterable[Problem]:
    named = config.service.defaultprim
    if named not in ("alone", "lastprim", *cluster.nodes):
        text = f'defaultprim="{named}" is no server of cluster.xml'
        yield Problem("mirror.defaultprim", text, f"one of: alone, lastprim, {', '.join(cluster.nodes)}")
    servers = {node.addr: node.name for lan in cluster.lans for node in lan.nodes}
    for address in (each for interface in vip.interfaces for each in interface.addresses):
        if (owner := servers.get(str(address.addr))) is not None:
            text = f"{address.addr} is the address of {owner}"
            remedy = "a virtual address belongs to no server: take a free one of the same network"
            yield Problem("vip.address-of-server", text, remedy, line=address.line)
