"""Filters on a real device, in a network namespace of the test's own (a child process, so that ours stays as it is)."""

from __future__ import annotations

import pytest
from pyroute2 import IPRoute
from safekit_py.plugins.farm import attach, bpf

pytestmark = pytest.mark.lab


@pytest.fixture
def device(new_network, farm_filter):
    """The index of a veth in a namespace of this test's own."""
    with IPRoute() as netlink:
        netlink.link("add", ifname="e0", kind="veth", peer="e1")
        yield netlink, netlink.link_lookup(ifname="e0")[0]


def kinds(netlink, index):
    return {q.get_attr("TCA_KIND") for q in netlink.get_qdiscs() if q["index"] == index}


def test_attach_again_replaces_and_detach_leaves_nothing(device, farm_filter, tmp_path):
    netlink, index = device
    first = attach.attach(netlink, index, "web", farm_filter.program, tmp_path)
    again = attach.attach(netlink, index, "web", farm_filter.program, tmp_path)
    assert first == again
    assert attach.leftovers(netlink) == [first]
    assert attach.detach(netlink, "web", tmp_path) == [first]
    assert attach.leftovers(netlink) == []
    assert "clsact" not in kinds(netlink, index)
    assert not list(tmp_path.iterdir())
    assert attach.detach(netlink, "web", tmp_path) == []


def test_modules_share_a_device_whoever_leaves_first(device, farm_filter, tmp_path):
    netlink, index = device
    web = attach.attach(netlink, index, "web", farm_filter.program, tmp_path)
    mail = attach.attach(netlink, index, "mail", farm_filter.program, tmp_path)
    assert web.priority != mail.priority
    attach.detach(netlink, "web", tmp_path)
    assert attach.leftovers(netlink) == [mail]
    attach.detach(netlink, "mail", tmp_path)
    assert "clsact" not in kinds(netlink, index)


def test_what_others_put_there_stays(device, farm_filter, tmp_path):
    netlink, index = device
    netlink.tc("add", "clsact", index)
    netlink.tc(
        "add-filter", "bpf", index, 1, parent=attach.INGRESS, prio=attach.FIRST_PRIORITY, protocol=3,
        fd=farm_filter.program, name="foreign", direct_action=True,
    )  # fmt: skip
    ours = attach.attach(netlink, index, "web", farm_filter.program, tmp_path)
    assert ours.priority == attach.FIRST_PRIORITY + 1
    attach.detach(netlink, "web", tmp_path)
    assert "clsact" in kinds(netlink, index)
    names = [
        m.get_attr("TCA_OPTIONS").get_attr("TCA_BPF_NAME") for m in attach._filters(netlink, index, attach.INGRESS)
    ]
    assert names == ["foreign"]


def test_a_device_that_is_gone_is_an_error_with_a_code(device, farm_filter, tmp_path):
    netlink, _ = device
    with pytest.raises(attach.SystemProblem, match=r"filter\.attach"):
        attach.attach(netlink, 9999, "web", farm_filter.program, tmp_path)
    assert not list(tmp_path.iterdir())
    assert bpf.possible_cpus() >= 1
