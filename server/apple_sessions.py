"""Sessions of Apple Pay's payment sheet, for top-ups that it can pay."""

from gateway_adapters.apple_pay import MerchantSession, MerchantSessions
from gateway_adapters.gateway import ApplePayProof, NotImplementedHere
from server.commit.errors import Rejected
from server.ledger.events import topup_not_found
from server.ledger.rejection import Reason, Rejection
from server.ledger.tokens import not_payable
from server.queries import Queries


class ApplePaySessions:
    """Asks Apple for sessions in the merchant's name, where that is set up here."""

    def __init__(self, queries: Queries, merchant: MerchantSessions | None) -> None:
        self._queries = queries
        self._merchant = merchant

    async def create(
        self, customer_id: str, topup_id: str, validation_url: str, domain: str
    ) -> MerchantSession:
        """Return a new session; nothing is recorded, and the next call returns another one.

        Raises:
            Rejected, GatewayError, StoreUnavailable.
        """
        if self._merchant is None:
            raise NotImplementedHere("Apple Pay's sessions are not set up on this server.")
        topup = await self._queries.topup(customer_id, topup_id)
        if topup is None:
            raise Rejected(topup_not_found(customer_id, topup_id))
        if topup.method != ApplePayProof.method:
            raise Rejected(
                Rejection(
                    Reason.TOPUP_STATE,
                    f"Top-up {topup_id} is paid by {topup.method}. Start one by apple_pay.",
                    {"topup_id": topup_id, "method": topup.method},
                )
            )
        if not topup.is_payable:
            raise Rejected(not_payable(topup))
        return await self._merchant.create(validation_url, domain)
