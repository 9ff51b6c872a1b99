"""Apple Pay as a TokenVerifier: a token is good if a device made it for this merchant, just now.

Where the merchant's private key is here, the token is opened, too: the card's last month is
checked, and what was opened is dropped.
"""

from collections.abc import Callable, Sequence
from typing import Final

from cryptography import x509

from gateway_adapters.apple_pay.decryption import decrypt_payment_token
from gateway_adapters.apple_pay.errors import ApplePayError, Expired
from gateway_adapters.apple_pay.merchant_key import MerchantKey
from gateway_adapters.apple_pay.payment_token import VerifiedToken, verify_payment_token
from gateway_adapters.cards import has_expired
from gateway_adapters.gateway import ProofInvalid

_CENTURY: Final = 2000


class ApplePayTokens:
    """The TokenVerifier for Apple Pay."""

    method = "apple_pay"

    def __init__(
        self,
        trust_anchors: Sequence[x509.Certificate],
        merchant_keys: Sequence[MerchantKey],
        now_ms: Callable[[], int],
    ) -> None:
        """`merchant_keys` has those of all certificates that customers' devices may use."""
        self._trust_anchors = tuple(trust_anchors)
        self._merchant_keys = tuple(merchant_keys)
        self._now_ms = now_ms

    async def verify(self, token: str) -> str:
        """Verify a token; see TokenVerifier."""
        try:
            verified = verify_payment_token(
                token.encode(), self._trust_anchors, self._merchant_keys, self._now_ms()
            )
            if verified.merchant_key.private_key is not None:
                self._check_card(verified)
        except ApplePayError as error:
            raise ProofInvalid(f"Apple Pay's token does not hold. {error}") from None
        return verified.replay_key.removeprefix("sha256:")

    def _check_card(self, verified: VerifiedToken) -> None:
        date = decrypt_payment_token(verified).expiration_date
        if has_expired(_CENTURY + int(date[:2]), int(date[2:4]), self._now_ms()):
            raise Expired("The card has expired.")
