"""What the cluster's authority gives: to a key that somebody has proved to have, and under no other server's name."""

import pytest
from cryptography import x509

from safekit_py.errors import ConfigError
from safekit_py.web import certificates


@pytest.fixture
def folder(tmp_path):
    certificates.make_authority(tmp_path)
    return tmp_path


def names_of(pem):
    made = x509.load_pem_x509_certificate(pem)
    found = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return {str(each.value) for each in found}, made.subject.rfc4514_string()


def test_a_joining_server_gets_its_own_names_and_no_other_servers(folder):
    key, wish = certificates.request("server2")
    wanted = ["10.0.0.2", "www.example.org", certificates.inward("server1"), "SERVER1.SAFEKIT.INTERNAL"]
    names, subject = names_of(certificates.granted(folder, "server2", wanted, wish))
    assert names == {"server2", certificates.inward("server2"), "10.0.0.2", "www.example.org"}
    assert "CN=server2" in subject
    assert b"PRIVATE KEY" in key
    assert b"PRIVATE KEY" not in wish


def test_the_wish_says_nothing_but_its_key(folder):
    _, wish = certificates.request("server1")  # asks as another
    _, subject = names_of(certificates.granted(folder, "server2", [], wish))
    assert "CN=server2" in subject


@pytest.mark.parametrize("change", [lambda pem: b"", lambda pem: pem[:200], lambda pem: pem.replace(b"M", b"N", 3)])
def test_a_wish_that_is_none_is_refused(folder, change):
    _, wish = certificates.request("server2")
    with pytest.raises(ConfigError) as caught:
        certificates.granted(folder, "server2", [], change(wish))
    assert caught.value.code == "join.bad-request"


def test_the_pin_is_of_the_authority(folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    certificates.make_authority(other)
    pins = [certificates.pinned((each / "ca.crt").read_bytes()) for each in (folder, other)]
    assert len(set(pins)) == 2
    assert all(len(pin) == 32 for pin in pins)
