"""Google Pay as a TokenVerifier: a token is good if Google signed it for this merchant, lately.

Where the merchant's private key is here, the token is opened, too: its time and the card's are
checked, and what was opened is dropped. A token for a gateway is opened by that gateway alone.
"""

from collections.abc import Callable, Sequence

from cryptography.hazmat.primitives.asymmetric import ec

from gateway_adapters.cards import has_expired
from gateway_adapters.gateway import GatewayUnavailable, ProofInvalid
from gateway_adapters.google_pay.decryption import MAX_PRIVATE_KEYS, decrypt_payment_token
from gateway_adapters.google_pay.errors import Expired, GooglePayError, KeysUnavailable
from gateway_adapters.google_pay.google_keys import GoogleKeys
from gateway_adapters.google_pay.payment_token import VerifiedToken, verify_payment_token
from gateway_adapters.google_pay.root_keys import RootKey
from gateway_adapters.google_pay.signed_message import check_recipients


class GooglePayTokens:
    """The TokenVerifier for Google Pay. The keys stay their owner's."""

    method = "google_pay"

    def __init__(
        self,
        keys: GoogleKeys,
        recipients: Sequence[str],
        private_keys: Sequence[ec.EllipticCurvePrivateKey],
        now_ms: Callable[[], int],
    ) -> None:
        """`private_keys` has the current one and earlier ones, or none.

        Raises:
            ValueError: the recipients or the keys are too many, or a recipient is blank.
        """
        check_recipients(recipients)
        if len(private_keys) > MAX_PRIVATE_KEYS:
            raise ValueError(f"There must be at most {MAX_PRIVATE_KEYS} private keys.")
        self._keys = keys
        self._recipients = tuple(recipients)
        self._private_keys = tuple(private_keys)
        self._now_ms = now_ms

    async def verify(self, token: str) -> str:
        """Verify a token; see TokenVerifier."""
        body = token.encode()

        def verify(root_keys: Sequence[RootKey]) -> VerifiedToken:
            return verify_payment_token(body, root_keys, self._recipients, self._now_ms())

        try:
            verified = await self._keys.verified(verify)
            if self._private_keys:
                self._check_card(verified)
        except KeysUnavailable as error:
            raise GatewayUnavailable(str(error)) from None
        except GooglePayError as error:
            raise ProofInvalid(f"Google Pay's token does not hold. {error}") from None
        return verified.replay_key.removeprefix("sha256:")

    def _check_card(self, verified: VerifiedToken) -> None:
        now_ms = self._now_ms()
        card = decrypt_payment_token(verified, self._private_keys, now_ms)
        if has_expired(card.expiration_year, card.expiration_month, now_ms):
            raise Expired("The card has expired.")
