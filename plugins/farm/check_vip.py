"""Which forms of ``<vip>`` fit a farm: addresses on every server, behind a ``<virtual_interface>``."""

from __future__ import annotations

from collections.abc import Iterable

from safekit_py.api import Problem

from ..vip.model import ALIAS, REAL, Interface, Vip


def problems(vip: Vip) -> Iterable[Problem]:
    """What of ``<vip>`` is not possible in a farm, each with its line."""
    for interface in vip.interfaces:
        yield from _interface(interface)


def _interface(interface: Interface) -> Iterable[Problem]:
    if interface.kind == REAL:
        remedy = 'write <virtual_interface type="vmac_directed">'
        yield Problem("vip.real-interface", "<real_interface> is for mirror modules", remedy, line=interface.line)
        return
    if not interface.kind:
        remedy = 'add <virtual_interface type="vmac_directed"> with a <virtual_addr>'
        text = "The interface has no virtual address"
        yield Problem("vip.no-virtual-interface", text, remedy, line=interface.line)
    for address in interface.addresses:
        if address.where != ALIAS:
            text = f'where="{address.where}" is not possible in a farm'
            yield Problem("vip.where", text, 'write where="alias"', line=address.line)
