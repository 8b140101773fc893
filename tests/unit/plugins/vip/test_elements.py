"""``<vip>``: every attribute, and what is refused in every mode."""

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from safekit_py.plugins.vip.elements import ELEMENTS
from safekit_py.plugins.vip.model import Group, Interface, Rule, Vip, VirtualAddr

from safekit_py.config.load import check

VIP = IPv4Address("10.0.0.50")


def look(inside):
    return check(f'<safe><service mode="farm">{inside}</service></safe>'.encode(), "f.xml", ELEMENTS)


def vip(addresses='<virtual_addr addr="10.0.0.50"/>', rules="", attributes="", interface="", kind="vmac_directed"):
    return (
        f'<vip {attributes}><interface_list><interface {interface}><virtual_interface type="{kind}">{addresses}'
        f"</virtual_interface></interface></interface_list><loadbalancing_list>{rules}</loadbalancing_list></vip>"
    )


def group(rules, name="g"):
    return f'<group name="{name}">{rules}</group>'


TCP = '<rule port="80" proto="tcp" filter="on_port"/>'


@pytest.mark.parametrize(
    ("inside", "code"),
    [
        (vip('<virtual_addr addr="www"/>', group(TCP)), "vip.bad-address"),
        (vip('<virtual_addr addr="224.0.0.1"/>', group(TCP)), "vip.bad-address"),
        (vip('<virtual_addr addr="10.0.0.5" netmask="255.0.255.0"/>', group(TCP)), "vip.bad-netmask"),
        (vip('<virtual_addr addr="10.0.0.5"/>' * 2, group(TCP)), "vip.addr-twice"),
        (vip(rules=group(TCP) + group('<rule proto="udp" filter="on_addr"/>')), "vip.group-twice"),
        (vip(rules=group(TCP) + group(TCP, "h")), "vip.rule-twice"),
        (vip(rules=group('<rule port="65536" proto="tcp" filter="on_addr"/>')), "config.bad-value"),
        (vip(rules=group('<rule virtual_addr="10.0.0.9" proto="tcp" filter="on_addr"/>')), "vip.unknown-addr"),
        (vip(rules=group('<rule proto="arp" filter="on_port"/>')), "vip.arp-rule"),
        (vip(rules=group('<cluster><host name="a"/><host name="a"/></cluster>' + TCP)), "vip.host-twice"),
        (vip(rules=group(TCP), interface='arpinterval="0"'), "vip.zero"),
        (vip(rules=group(TCP), interface='name="a b"'), "config.bad-value"),
        (vip(rules=group(TCP), kind="vmac"), "config.bad-value"),
        (vip('<virtual_addr addr="fe80::1"/>', group(TCP)), "vip.bad-address"),
        (vip('<virtual_addr addr="::ffff:10.0.0.5"/>', group(TCP)), "vip.bad-address"),
        (vip('<virtual_addr addr="ff02::1"/>', group(TCP)), "vip.bad-address"),
        (vip('<virtual_addr addr="fd00::5" netmask="129"/>', group(TCP)), "vip.bad-netmask"),
        (vip('<virtual_addr addr="fd00::5" netmask="255.255.255.0"/>', group(TCP)), "vip.bad-netmask"),
        (vip('<virtual_addr addr="fd00::5"/><virtual_addr addr="[FD00:0::5]"/>', group(TCP)), "vip.addr-twice"),
        (
            '<vip><interface_list><interface><real_interface><virtual_addr addr="10.0.0.5"/></real_interface>'
            '<virtual_interface type="vmac_directed"><virtual_addr addr="10.0.0.6"/></virtual_interface>'
            "</interface></interface_list></vip>",
            "vip.both-kinds",
        ),
        ("<vip/>", "config.missing-element"),
    ],
)
def test_refused(inside, code):
    checked = look(inside)
    assert checked.config is None
    assert [each.code for each in checked.problems] == [code]
    assert checked.problems[0].remedy


def test_rules_of_ipv6():
    rule = '<rule virtual_addr="[FD00:0::9]" proto="tcp" filter="on_addr"/>'
    checked = look(vip('<virtual_addr addr="fd00::9"/>', group(rule)))
    assert checked.problems == ()
    assert checked.config.one("vip").groups[0].rules == (Rule("tcp", "on_addr", 0, ip_address("fd00::9")),)


def test_the_virtual_mac():
    def vmac(inside, more=""):
        text = vip(inside, group(TCP), kind="vmac_invisible").replace(
            'type="vmac_invisible"', f'type="vmac_invisible"{more}'
        )
        return look(text).config.one("vip").interfaces[0].vmac.hex(":")

    assert vmac('<virtual_addr addr="192.168.56.20"/>') == "5a:fe:c0:a8:38:14"
    assert vmac('<virtual_addr addr="fd00::1:2"/>') == "5a:fe:00:01:00:02"
    assert vmac('<virtual_addr addr="10.0.0.9"/>', ' addr="5A-FE-00-00-00-07"') == "5a:fe:00:00:00:07"
    assert look(vip('<virtual_addr addr="10.0.0.9"/>', group(TCP))).config.one("vip").interfaces[0].vmac is None


def test_the_whole_of_vip():
    hosts = '<cluster><host name="s1" power="2"/><host name="s2" power="0"/></cluster>'
    rules = (
        '<rule virtual_addr="10.0.0.50" port="80" proto="tcp" filter="on_port"/><rule proto="udp" filter="on_ipid"/>'
    )
    interface = 'name="eth1" check="off" arpreroute="on" arpinterval="30" arpelapse="5m"'
    arp = group('<rule proto="arp" filter="on_addr"/>', "arp")
    text = vip(
        '<virtual_addr addr="10.0.0.50" netmask="255.255.255.0" check="off"/>',
        group(hosts + rules) + arp,
        "",
        interface,
    )
    checked = look(text)
    assert checked.problems == ()
    assert checked.config.one("vip") == Vip(
        (
            Interface(
                (VirtualAddr(VIP, check=False, netmask=24),), "eth1", "vmac_directed", None, False, True, 30.0, 300.0
            ),
        ),
        (
            Group("g", (Rule("tcp", "on_port", 80, VIP), Rule("udp", "on_ipid")), (("s1", 2), ("s2", 0))),
            Group("arp", (Rule("arp", "on_addr"),)),
        ),
    )


def test_what_its_connections_and_scripts_may_do():
    text = vip('<virtual_addr addr="10.0.0.50" connections="on"/>', attributes='tcpreset="off" scriptcontrol="on"')
    checked = look(text.replace("<loadbalancing_list></loadbalancing_list>", ""))
    assert checked.problems == ()
    found = checked.config.one("vip")
    assert (found.tcpreset, found.scriptcontrol) == (False, True)
    assert [each.connections for each in found.interfaces[0].addresses] == [True]


def test_the_default_virtual_mac():
    text = vip(rules=group(TCP)).replace('type="vmac_directed"', 'type="vmac_directed" addr="5A-FE-C0-A8-38-14"')
    assert look(text).config.one("vip").interfaces[0].mac == "5a:fe:c0:a8:38:14"
    assert look(text.replace("5A-", "5B-")).problems[0].code == "vip.bad-mac"


def test_a_real_interface_has_addresses_of_one_side():
    addresses = (
        '<virtual_addr addr="10.0.0.5"/><virtual_addr addr="fd00::5" netmask="64" where="one_side"/>'
        '<virtual_addr addr="10.0.0.6" where="alias"/>'
    )
    interface = f'<interface name="e0"><real_interface>{addresses}</real_interface></interface>'
    checked = look(f"<vip><interface_list>{interface}<interface name='e1'/></interface_list></vip>")
    assert checked.problems == ()
    first, second = checked.config.one("vip").interfaces
    assert (first.kind, second.kind, second.addresses) == ("real", "", ())
    assert first.addresses == (
        VirtualAddr(IPv4Address("10.0.0.5"), "one_side_alias"),
        VirtualAddr(IPv6Address("fd00::5"), "one_side", netmask=64),
        VirtualAddr(IPv4Address("10.0.0.6"), "alias"),
    )


def test_a_line_of_the_file_is_no_change():
    assert (
        look(vip(rules=group(TCP))).config == look(vip(rules=group(TCP)).replace("<interface", "\n<interface")).config
    )
