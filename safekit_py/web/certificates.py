"""The cluster's certificate authority, and the certificates that it gives to servers.

Flows through it: names and addresses in; keys and certificates as files below one folder out, keys for root only.

- ``ca.crt``, ``ca.key``: the authority; on servers that only were given a certificate the key is missing;
- ``server.crt``, ``server.key``: this server's, for its clients and towards other servers;
- ``own.crt``, ``own.key``: put there by an administrator, these are shown to clients instead.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from safekit_py.errors import ConfigError, Problem, SystemProblem
from safekit_py.runtime.files import write_atomically

INWARD = ".safekit.internal"
NODES = "safekit servers"  # the organisation in certificates of servers
CA_DAYS, DAYS = 3650, 397
RENEW = 30  # days before the end of a certificate, from which on a new one is made
Key = ec.EllipticCurvePrivateKey


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC).replace(tzinfo=None)


def _name(common: str, organisation: str) -> x509.Name:
    # A common name has at most 64 characters.
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation),
            x509.NameAttribute(NameOID.COMMON_NAME, common[:64]),
        ]
    )


def _save(folder: Path, name: str, key: Key, certificate: x509.Certificate) -> None:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    secret = key.private_bytes(encoding, form, serialization.NoEncryption())
    write_atomically(folder / f"{name}.key", secret, 0o600)
    write_atomically(folder / f"{name}.crt", certificate.public_bytes(encoding))


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, days: float
) -> x509.CertificateBuilder:
    begin = _now() - datetime.timedelta(minutes=5)  # a clock that is a little behind accepts it
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(min(begin, _now() + datetime.timedelta(days=days) - datetime.timedelta(minutes=5)))
        .not_valid_after(_now() + datetime.timedelta(days=days))
    )


def make_authority(folder: Path) -> None:
    """Make a new authority in this folder."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name("safekit cluster authority", "safekit")
    built = (
        _builder(name, name, key.public_key(), CA_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    _save(folder, "ca", key, built.sign(key, hashes.SHA256()))


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )


def _authority(folder: Path) -> tuple[Key, x509.Certificate]:
    try:
        key = serialization.load_pem_private_key((folder / "ca.key").read_bytes(), None)
        certificate = x509.load_pem_x509_certificate((folder / "ca.crt").read_bytes())
    except (OSError, ValueError) as error:
        text = f"the cluster's certificate authority cannot be used: {error}"
        remedy = "give certificates on the server that has ca.key"
        raise SystemProblem(Problem("cert.no-authority", text, remedy, str(folder))) from error
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key, certificate


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def inward(node: str) -> str:
    """The name under which other servers ask a server for the cluster's certificate, not an administrator's own."""
    return f"{node}{INWARD}"


def issue(folder: Path, node: str, names: Iterable[str], into: Path, *, days: float = DAYS) -> None:
    """Give a server a certificate: ``server.crt`` and ``server.key`` in the folder ``into``, and ``ca.crt``.

    :param folder: of the authority.
    :param names: host names and addresses under which the server is called.
    :raises SystemProblem: this server does not have the authority's key.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    certificate, authority = _issued(folder, node, names, key.public_key(), days)
    _save(into, "server", key, certificate)
    if into != folder:
        write_atomically(into / "ca.crt", authority.public_bytes(serialization.Encoding.PEM))


def _issued(
    folder: Path, node: str, names: Iterable[str], key: ec.EllipticCurvePublicKey, days: float
) -> tuple[x509.Certificate, x509.Certificate]:
    signer, authority = _authority(folder)
    # By its inward name a server is known to the others: nobody is given another's.
    known = dict.fromkeys((node, inward(node), *(each for each in names if not each.lower().endswith(INWARD))))
    built = (
        _builder(_name(node, NODES), authority.subject, key, days)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs=False), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
        .add_extension(x509.SubjectAlternativeName([_alternative(each) for each in known]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )
    return built.sign(signer, hashes.SHA256()), authority


def request(node: str) -> tuple[bytes, bytes]:
    """A new private key, and what asks for a certificate of it; both as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    wish = x509.CertificateSigningRequestBuilder().subject_name(_name(node, NODES)).sign(key, hashes.SHA256())
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return key.private_bytes(encoding, form, serialization.NoEncryption()), wish.public_bytes(encoding)


def granted(folder: Path, node: str, names: Iterable[str], wish: bytes) -> bytes:
    """A certificate for the key of a wish, as PEM; of the wish nothing but its key is taken.

    :raises ConfigError: the wish is none, or does not prove that whoever sends it has the key.
    """
    try:
        asked = x509.load_pem_x509_csr(wish)
        key = asked.public_key()
        if not asked.is_signature_valid or not isinstance(key, ec.EllipticCurvePublicKey):
            raise ValueError("it is not signed with its own key on an elliptic curve")
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        text = f"the request for a certificate is not acceptable: {error}"
        raise ConfigError(Problem("join.bad-request", text, "join with safekit-py cluster join")) from error
    return _issued(folder, node, names, key, DAYS)[0].public_bytes(serialization.Encoding.PEM)


def pinned(certificate: bytes) -> str:
    """The beginning of a certificate's SHA-256, 128 bits of it, for a token to carry."""
    found = x509.load_pem_x509_certificate(certificate).fingerprint(hashes.SHA256())
    return found[:16].hex()


def ends(path: Path) -> datetime.datetime:
    """When a certificate ends, in UTC without a zone."""
    found: datetime.datetime = x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after
    return found


def fingerprint(path: Path) -> str:
    """SHA-256 of a certificate, in pairs of hexadecimal digits."""
    return x509.load_pem_x509_certificate(path.read_bytes()).fingerprint(hashes.SHA256()).hex(":").upper()


def prepare(folder: Path, node: str, names: Iterable[str]) -> tuple[Path, Path]:
    """The certificate and key that clients are shown; what is missing or near its end is made.

    :raises SystemProblem: a file is damaged, or a certificate must be given by another server.
    """
    own, server = folder / "own.crt", folder / "server.crt"
    try:
        if not (folder / "ca.crt").exists():
            make_authority(folder)
        if not server.exists() or (
            (folder / "ca.key").exists() and ends(server) - _now() < datetime.timedelta(days=RENEW)
        ):
            issue(folder, node, names, folder)
    except (OSError, ValueError) as error:
        text = f"the certificates cannot be used: {error}"
        raise SystemProblem(Problem("cert.damaged", text, "put good copies back", str(folder))) from error
    return (own, folder / "own.key") if own.exists() else (server, folder / "server.key")
