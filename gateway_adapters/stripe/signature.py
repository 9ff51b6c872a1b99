"""The signature of Stripe's webhooks, over the raw body and the time at which it was signed.

Source of the rules: https://docs.stripe.com/webhooks/signature. `Stripe-Signature` is a list such
as `t=1492774577,v1=5257a8...,v0=6ffbb5...`. Each `v1` is the hex HMAC-SHA256 of `t`, a dot and the
body, under one of the endpoint's secrets: there are several while they rotate. Other schemes are
left out of account: of them `v0` is a weaker one, for tests. Stripe signs each retry anew, so that
the time can be limited; it is, both ways, so that nobody keeps what he once saw for later.
"""

import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from gateway_adapters.gateway import SignatureInvalid

SIGNATURE_HEADER: Final = "stripe-signature"
TOLERANCE_SECONDS: Final = 300
"""As much as Stripe's own libraries."""

_TIME: Final = re.compile(r"[0-9]{1,12}")
_SCHEME: Final = "v1"
_MAX_HEADER_LENGTH: Final = 2_048


@dataclass(frozen=True, slots=True)
class _Signed:
    """What the header says: when it was signed, as written there, and the signatures."""

    time: str
    signatures: tuple[str, ...]


def verify(
    headers: Mapping[str, str], body: bytes, secrets: Sequence[str], now_seconds: int
) -> None:
    """Make sure that one of `secrets` signed this body lately; `headers` have lower-case names.

    Raises:
        SignatureInvalid.
    """
    signed = _read(headers.get(SIGNATURE_HEADER, ""))
    # Each is tried with each, so that the time it takes does not tell which one fits.
    fits = [
        hmac.compare_digest(_sign(signed.time, body, secret), signature.encode("utf-8", "replace"))
        for secret in secrets
        for signature in signed.signatures
    ]
    if not any(fits):
        raise SignatureInvalid("None of the webhook's signatures fits its body.")
    if abs(now_seconds - int(signed.time)) > TOLERANCE_SECONDS:
        raise SignatureInvalid(
            f"The webhook was signed more than {TOLERANCE_SECONDS} seconds from now."
        )


def _read(header: str) -> _Signed:
    if not header:
        raise SignatureInvalid("The webhook carries no Stripe-Signature header.")
    if len(header) > _MAX_HEADER_LENGTH:
        raise SignatureInvalid("The webhook's Stripe-Signature header is too long.")
    parts = [part.partition("=") for part in header.split(",")]
    times = [value for name, _, value in parts if name == "t"]
    signatures = tuple(value for name, _, value in parts if name == _SCHEME)
    # With two times it would be open which one was signed.
    if len(times) != 1 or _TIME.fullmatch(times[0]) is None:
        raise SignatureInvalid("The webhook's Stripe-Signature header does not tell one time.")
    if not signatures:
        raise SignatureInvalid("The webhook's Stripe-Signature header has no v1 signature.")
    return _Signed(times[0], signatures)


def _sign(time: str, body: bytes, secret: str) -> bytes:
    message = time.encode() + b"." + body
    return hmac.new(secret.encode(), message, hashlib.sha256).hexdigest().encode()
