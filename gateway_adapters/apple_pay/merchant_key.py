"""The merchant's keys: which tokens are meant for it, and what their decryption takes.

Source of the rules: "Header keys and values" and "Restore the symmetric key" in
https://developer.apple.com/documentation/passkit/payment-token-format-reference.
"""

import hashlib
import re
from dataclasses import dataclass, field
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

MERCHANT_ID_HASH: Final = x509.ObjectIdentifier("1.2.840.113635.100.6.32")
"""The extension of a merchant's certificate with the SHA-256 of the merchant's identifier."""

_HASH_IN_EXTENSION: Final = re.compile(rb"[\x0c\x13\x16]\x40([0-9A-Fa-f]{64})")
"""A string of ASN.1, 64 characters long."""


@dataclass(frozen=True, slots=True)
class MerchantKey:
    """A payment processing key, for a token whose `publicKeyHash` is its own."""

    public_key_hash: bytes
    merchant_id_hash: bytes
    private_key: ec.EllipticCurvePrivateKey | None = field(default=None, repr=False)
    """None where somebody else decrypts, such as the gateway."""


def key_from_certificate(
    certificate: x509.Certificate, private_key: ec.EllipticCurvePrivateKey | None = None
) -> MerchantKey:
    """Return the key of a payment processing certificate, as Apple issued it.

    Raises:
        ValueError: the certificate or the private key is another one.
    """
    try:
        extension = certificate.extensions.get_extension_for_oid(MERCHANT_ID_HASH).value
    except x509.ExtensionNotFound:
        raise ValueError("It is not a certificate for payment processing.") from None
    content = extension.value if isinstance(extension, x509.UnrecognizedExtension) else b""
    found = _HASH_IN_EXTENSION.fullmatch(content)
    if found is None:
        raise ValueError("The certificate's hash of the merchant's identifier cannot be read.")
    return _key(certificate.public_key(), bytes.fromhex(found[1].decode("ascii")), private_key)


def key_from_identifier(
    public_key: ec.EllipticCurvePublicKey,
    merchant_identifier: str,
    private_key: ec.EllipticCurvePrivateKey | None = None,
) -> MerchantKey:
    """Return the key where the certificate is not at hand, such as `merchant.com.example`'s.

    Raises:
        ValueError: a key is not on P-256, they do not fit, or the identifier is blank.
    """
    if not merchant_identifier:
        raise ValueError("The merchant's identifier must not be blank.")
    merchant_id_hash = hashlib.sha256(merchant_identifier.encode("utf-8")).digest()
    return _key(public_key, merchant_id_hash, private_key)


def _key(
    public_key: object, merchant_id_hash: bytes, private_key: ec.EllipticCurvePrivateKey | None
) -> MerchantKey:
    match public_key:
        case ec.EllipticCurvePublicKey(curve=ec.SECP256R1()):
            encoded = public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        case _:
            raise ValueError("The merchant's key is not a P-256 key.")
    if private_key is not None and private_key.public_key() != public_key:
        raise ValueError("The private key does not belong to the public key.")
    return MerchantKey(hashlib.sha256(encoded).digest(), merchant_id_hash, private_key)
