"""The keys of the sandbox's wallets: files that are made once and then stay as they are."""

import os
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)


def kept_key(file: Path) -> ec.EllipticCurvePrivateKey:
    """Return the P-256 key of a file, which is made where it is missing."""
    if not file.exists():
        write_private(file, private_pem(ec.generate_private_key(ec.SECP256R1())))
    key = load_pem_private_key(file.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)  # noqa: S101 - the sandbox made it
    return key


def write_private(file: Path, content: bytes) -> None:
    """Write a file that nobody else may read."""
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as opened:
        opened.write(content)


def private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Write a private key."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def public_der(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Write the public key of a key, as both wallets do."""
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
