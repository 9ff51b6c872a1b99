"""The keys that seal the books: Ed25519 (RFC 8032), as PEM or, the public one, in base64."""

import base64
import binascii
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from server.ledger.seals import Seal, SignedSeal, seal_content

_PEM: Final = "-----BEGIN"


def read_private_key(text: str) -> Ed25519PrivateKey:
    """Read a private key in PEM (PKCS 8, not encrypted).

    Raises:
        ValueError.
    """
    try:
        key = load_pem_private_key(text.encode(), None)
    except (ValueError, TypeError):
        raise ValueError("takes an Ed25519 private key in PEM, not encrypted") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise ValueError("takes an Ed25519 key, and this is of another kind")  # noqa: TRY004
    return key


def read_public_key(text: str) -> Ed25519PublicKey:
    """Read a public key: PEM, or the base64 of its 32 bytes as `books seal` prints it.

    Raises:
        ValueError.
    """
    try:
        if text.lstrip().startswith(_PEM):
            key = load_pem_public_key(text.encode())
            if isinstance(key, Ed25519PublicKey):
                return key
        else:
            return Ed25519PublicKey.from_public_bytes(base64.b64decode(text, validate=True))
    except (ValueError, TypeError, binascii.Error):
        pass
    raise ValueError("takes an Ed25519 public key, in PEM or as base64 of its 32 bytes")


def public_key_text(key: Ed25519PublicKey) -> str:
    """Write a public key in base64."""
    return base64.b64encode(key.public_bytes(Encoding.Raw, PublicFormat.Raw)).decode()


def sign(seal: Seal, key: Ed25519PrivateKey) -> SignedSeal:
    """Sign a seal."""
    return SignedSeal(seal, base64.b64encode(key.sign(seal_content(seal))).decode())


def is_signed(signed: SignedSeal, key: Ed25519PublicKey) -> bool:
    """Tell whether a seal carries this key's signature over just what it says."""
    try:
        signature = base64.b64decode(signed.signature, validate=True)
        key.verify(signature, seal_content(signed.seal))
    except (InvalidSignature, ValueError, binascii.Error):
        return False
    return True
