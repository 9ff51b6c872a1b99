"""ECv2 payment tokens: verified before they are forwarded, and opened only where the key is here.

Source of the rules: "Verify the signature" and "Signed message" in
https://developers.google.com/pay/api/web/guides/resources/payment-data-cryptography. A token that
is encrypted to a gateway is verified only: no card number enters this service.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from gateway_adapters.google_pay.errors import Malformed
from gateway_adapters.google_pay.root_keys import PAYMENT_VERSION, RootKey
from gateway_adapters.google_pay.signed_message import verify_signed_message
from gateway_adapters.google_pay.wire import decode_base64, read_object

SENDER: Final = "Google"
"""Who signs payment tokens."""

TAG_BYTES: Final = 32
"""An HMAC-SHA256 tag, in full."""
POINT_BYTES: Final = 65
"""A P-256 point, uncompressed."""


@dataclass(frozen=True, slots=True)
class EncryptedMessage:
    """What the token carries, for whoever holds the recipient's private key."""

    ciphertext: bytes = field(repr=False)
    ephemeral_public_key: bytes = field(repr=False)
    """An uncompressed P-256 point, not yet checked to be on the curve."""
    tag: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class VerifiedToken:
    """A payment token that Google has signed for `recipient`.

    Whether it was used before is the caller's to check, by `replay_key`. Whether it has expired is
    known only after decryption: `messageExpiration` is inside.
    """

    recipient: str
    replay_key: str
    message: EncryptedMessage = field(repr=False)


def verify_payment_token(
    token: bytes, root_keys: Sequence[RootKey], recipients: Sequence[str], now_ms: int
) -> VerifiedToken:
    """Verify that Google signed the token for any of `recipients`, at `now_ms` in UTC milliseconds.

    A recipient is `merchant:<merchant id>` for a merchant's own integration, and `gateway:<gateway
    id>` for a gateway's. `token` is the payment method's token as the app received it, in UTF-8.

    Raises:
        Malformed, UnsupportedVersion, KeyUnknown, SignatureInvalid, Expired.
        ValueError: `recipients` has none, a blank one, or too many.
    """
    signed = verify_signed_message(token, SENDER, PAYMENT_VERSION, recipients, root_keys, now_ms)
    return VerifiedToken(
        recipient=signed.recipient,
        replay_key=signed.replay_key,
        message=_read_encrypted_message(signed.text),
    )


def _read_encrypted_message(text: str) -> EncryptedMessage:
    content = read_object(text, "`signedMessage`")
    message = EncryptedMessage(
        ciphertext=decode_base64(content.get("encryptedMessage"), "`encryptedMessage`"),
        ephemeral_public_key=decode_base64(
            content.get("ephemeralPublicKey"), "`ephemeralPublicKey`"
        ),
        tag=decode_base64(content.get("tag"), "`tag`"),
    )
    if not message.ciphertext:
        raise Malformed("`encryptedMessage` is empty.")
    if len(message.ephemeral_public_key) != POINT_BYTES:
        raise Malformed("`ephemeralPublicKey` is not an uncompressed P-256 point.")
    if len(message.tag) != TAG_BYTES:
        raise Malformed("`tag` is not an HMAC-SHA256.")
    return message
