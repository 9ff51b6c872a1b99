"""Certificates for tests: authorities that issue them into files, good ones and bad ones."""

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

LOOPBACK: tuple[x509.GeneralName, ...] = (
    x509.DNSName("localhost"),
    x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
)
DAY = timedelta(days=1)
PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


@dataclass(frozen=True)
class Issued:
    """A certificate and its key, in PEM, and its serial number."""

    certificate: bytes
    key: bytes
    serial: int

    def write(self, folder: Path, name: str) -> tuple[str, str]:
        """Write both in place of earlier ones, each in one step; return the files."""
        files = folder / f"{name}.pem", folder / f"{name}.key"
        for file, content in zip(files, (self.certificate, self.key), strict=True):
            replace_file(file, content)
        return str(files[0]), str(files[1])


class Authority:
    """A certificate authority."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name("Test authority")
        builder = _builder(self._name, self._name, self._key.public_key(), -DAY, DAY)
        self._certificate = builder.add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        ).sign(self._key, hashes.SHA256())
        self.pem = self._certificate.public_bytes(Encoding.PEM)

    def issue(
        self,
        common_name: str = "somebody",
        names: tuple[x509.GeneralName, ...] = (),
        begins: timedelta = -DAY,
        ends: timedelta = DAY,
        key: PrivateKey | None = None,
    ) -> Issued:
        """Issue a certificate, for a new key if none is given; `begins` and `ends` are from now."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        builder = _builder(_name(common_name), self._name, key.public_key(), begins, ends)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        written = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return Issued(certificate.public_bytes(Encoding.PEM), written, certificate.serial_number)

    def server(self) -> Issued:
        """Issue a certificate for a server on loopback."""
        return self.issue("server", LOOPBACK)

    def caller(self, name: str) -> Issued:
        """Issue a certificate for a calling service, with a name as SPIFFE has them."""
        return self.issue("caller", (x509.UniformResourceIdentifier(f"spiffe://shop/{name}"),))

    def write(self, folder: Path, name: str) -> str:
        """Write the authority's own certificate; return the file."""
        replace_file(folder / f"{name}.pem", self.pem)
        return str(folder / f"{name}.pem")


def channel_credentials(roots: bytes, shown: Issued | None = None) -> grpc.ChannelCredentials:
    """Return what a caller connects with that trusts `roots` and shows a certificate, or none."""
    if shown is None:
        return grpc.ssl_channel_credentials(roots)
    return grpc.ssl_channel_credentials(roots, shown.key, shown.certificate)


def replace_file(file: Path, content: bytes) -> None:
    """Replace a file in one step."""
    made = file.with_name(f"{file.name}.new")
    made.write_bytes(content)
    made.replace(file)


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public_key: ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey,
    begins: timedelta,
    ends: timedelta,
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + begins)
        .not_valid_after(now + ends)
    )
