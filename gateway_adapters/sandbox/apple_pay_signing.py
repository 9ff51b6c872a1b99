"""What the sandbox's Apple signs: EC_v1 payment tokens.

Source of the rules:
https://developer.apple.com/documentation/passkit/payment-token-format-reference.
"""

import base64
import hashlib
import json
import secrets
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from asn1crypto import algos, cms  # type: ignore[import-untyped]  # it ships no type hints
from asn1crypto import x509 as asn1_x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.concatkdf import ConcatKDFHash
from cryptography.hazmat.primitives.serialization import Encoding

from gateway_adapters.sandbox.apple_pay_certificates import ApplePayCertificates
from gateway_adapters.sandbox.wallet_keys import public_der

PAN, CRYPTOGRAM = "5353756319181169", "AMwBRjPWDnAgAA7Rls7mAoABFA=="
CARD_YEAR: Final = 2099

_CENTURY: Final = 100


def card_content(amount: int = 1_000, card_year: int = CARD_YEAR) -> dict[str, Any]:
    """Return what a token of the customer's card has inside."""
    return {
        "applicationPrimaryAccountNumber": PAN,
        "applicationExpirationDate": f"{card_year % _CENTURY:02}1231",
        "currencyCode": "840",
        "transactionAmount": amount,
        "deviceManufacturerIdentifier": "050110030273",
        "paymentDataType": "3DSecure",
        "paymentData": {"onlinePaymentCryptogram": CRYPTOGRAM, "eciIndicator": "7"},
    }


def payment_token(
    certificates: ApplePayCertificates,
    merchant_identifier: str,
    content: Mapping[str, Any],
    signed_at: datetime,
) -> str:
    """Encrypt `content` to the merchant and sign it; return the JSON of `paymentData`."""
    merchant = certificates.processing.key
    ephemeral = ec.generate_private_key(ec.SECP256R1())
    public_key = public_der(ephemeral)
    merchant_id_hash = hashlib.sha256(merchant_identifier.encode()).digest()
    key = ConcatKDFHash(
        hashes.SHA256(), 32, b"\x0did-aes256-GCM" + b"Apple" + merchant_id_hash
    ).derive(ephemeral.exchange(ec.ECDH(), merchant.public_key()))
    data = AESGCM(key).encrypt(bytes(16), json.dumps(content).encode(), None)
    transaction_id = secrets.token_bytes(32)
    digest = hashlib.sha256(public_key + data + transaction_id).digest()
    return json.dumps(
        {
            "version": "EC_v1",
            "data": _base64(data),
            "signature": _base64(_signature(certificates, digest, signed_at)),
            "header": {
                "ephemeralPublicKey": _base64(public_key),
                "publicKeyHash": _base64(hashlib.sha256(public_der(merchant)).digest()),
                "transactionId": transaction_id.hex(),
            },
        }
    )


def _signature(certificates: ApplePayCertificates, digest: bytes, signed_at: datetime) -> bytes:
    """Return the detached CMS signature over the digest, with leaf and intermediate."""
    leaf = certificates.leaf
    attributes = cms.CMSAttributes(
        [
            {"type": "content_type", "values": ["data"]},
            {"type": "signing_time", "values": [cms.Time({"utc_time": signed_at})]},
            {"type": "message_digest", "values": [digest]},
        ]
    )
    signer_info = {
        "version": "v1",
        "sid": cms.SignerIdentifier(
            {
                "issuer_and_serial_number": {
                    "issuer": asn1_x509.Name.load(leaf.certificate.issuer.public_bytes()),
                    "serial_number": leaf.certificate.serial_number,
                }
            }
        ),
        "digest_algorithm": {"algorithm": "sha256"},
        "signed_attrs": attributes,
        "signature_algorithm": algos.SignedDigestAlgorithm({"algorithm": "sha256_ecdsa"}),
        "signature": leaf.key.sign(attributes.dump(), ec.ECDSA(hashes.SHA256())),
    }
    signed_data = {
        "version": "v1",
        "digest_algorithms": [{"algorithm": "sha256"}],
        "encap_content_info": {"content_type": "data"},
        "certificates": [
            asn1_x509.Certificate.load(issued.certificate.public_bytes(Encoding.DER))
            for issued in (leaf, certificates.intermediate)
        ],
        "signer_infos": [signer_info],
    }
    encoded: bytes = cms.ContentInfo({"content_type": "signed_data", "content": signed_data}).dump()
    return encoded


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()
