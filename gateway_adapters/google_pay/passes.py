"""Google Wallet's callbacks as a WebhookSource: about passes, and never about a payment."""

import hashlib
from collections.abc import Callable, Mapping, Sequence

from gateway_adapters.gateway import GatewayUnavailable, SignatureInvalid, WebhookEvent
from gateway_adapters.google_pay.errors import GooglePayError, KeysUnavailable
from gateway_adapters.google_pay.google_keys import GoogleKeys
from gateway_adapters.google_pay.pass_callback import PassCallback, verify_pass_callback
from gateway_adapters.google_pay.root_keys import RootKey


class GooglePayPasses:
    """The WebhookSource for callbacks about passes. The keys stay their owner's."""

    name = "google-pay"

    def __init__(self, keys: GoogleKeys, issuer_id: str, now_ms: Callable[[], int]) -> None:
        self._keys = keys
        self._issuer_id = issuer_id
        self._now_ms = now_ms

    async def read_webhook(self, headers: Mapping[str, str], body: bytes) -> WebhookEvent:
        """Verify a callback; see WebhookSource.

        Its `nonce` is signed, and tells it again however often Google delivers it. What cannot be
        read was not signed as far as anybody can tell.
        """
        del headers  # Nothing of a callback stands in them.

        def verify(root_keys: Sequence[RootKey]) -> PassCallback:
            return verify_pass_callback(body, root_keys, self._issuer_id, self._now_ms())

        try:
            callback = await self._keys.verified(verify)
        except KeysUnavailable as error:
            raise GatewayUnavailable(str(error)) from None
        except GooglePayError as error:
            raise SignatureInvalid(f"The callback does not hold. {error}") from None
        return WebhookEvent(
            event_id=callback.nonce,
            event_type=f"pass.{callback.event_type}",
            fact=None,
            signed_digest=hashlib.sha256(callback.nonce.encode()).hexdigest(),
        )
