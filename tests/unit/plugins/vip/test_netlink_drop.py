"""What is sent to the kernel to take an address away, and what is refused before; the kernel's part is in the lab."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from safekit_py.plugins.checkers.netlink import ADDRESS, Address, address_of
from safekit_py.plugins.vip.netlink_drop import attribute, drop, message


@given(ip=st.ip_addresses(), index=st.integers(1, 1 << 31), data=st.data())
def test_a_message_names_the_address_and_the_device(ip, index, data):
    prefix = data.draw(st.integers(0, ip.max_prefixlen))
    assert address_of(message(index, f"{ip}/{prefix}")) == Address(index, ip, prefix)


@given(kind=st.integers(0, 100), value=st.binary(max_size=40))
def test_an_attribute_is_padded(kind, value):
    assert len(attribute(kind, value)) % 4 == 0
    assert attribute(kind, value)[4 : 4 + len(value)] == value
    assert ADDRESS.size % 4 == 0


@pytest.mark.parametrize("address", ["10.0.0.5", "10.0.0/24", "fd00::x/64", "/24", "10.0.0.5/x"])
def test_what_is_no_address_is_refused(address):
    with pytest.raises(ValueError, match=r".+"):
        drop("lo", address)


def test_a_device_that_is_gone_is_fine():
    drop("nic7", "10.0.0.5/24")
