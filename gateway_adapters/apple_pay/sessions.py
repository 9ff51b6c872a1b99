"""Merchant sessions for the pages of one merchant, asked for with its identity certificate."""

import ssl
from collections.abc import Callable, Collection
from dataclasses import dataclass

import aiohttp

from gateway_adapters.apple_pay.errors import (
    SessionRefused,
    SessionUnavailable,
    ValidationUrlRefused,
)
from gateway_adapters.apple_pay.merchant_session import (
    PRODUCTION_HOSTS,
    Merchant,
    MerchantSession,
    request_merchant_session,
)
from gateway_adapters.gateway import GatewayRefused, GatewayUnavailable, InvalidSession


@dataclass(frozen=True, slots=True)
class ApplePayMerchant:
    """A merchant, as Apple knows it."""

    merchant_identifier: str
    display_name: str
    domains: frozenset[str]
    """The names of the hosts with a payment page, registered with Apple, in lower case."""
    allowed_hosts: Collection[str] = PRODUCTION_HOSTS
    """Whom the merchant's certificate may be shown to."""

    def __post_init__(self) -> None:
        """Refuse at the start what Apple would refuse each time."""
        for domain in self.domains:
            Merchant(self.merchant_identifier, self.display_name, domain)


class MerchantSessions:
    """Asks Apple for sessions. The session and its TLS stay their owner's."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        tls: ssl.SSLContext,
        merchant: ApplePayMerchant,
        now_ms: Callable[[], int],
    ) -> None:
        self._session = session
        self._tls = tls
        self._merchant = merchant
        self._now_ms = now_ms

    async def create(self, validation_url: str, domain: str) -> MerchantSession:
        """Return a new session for a page on `domain`; Safari gave it the URL.

        Raises:
            InvalidSession: the domain is not the merchant's, or the URL not one of Apple's.
            GatewayRefused, GatewayUnavailable.
        """
        if domain not in self._merchant.domains:
            raise InvalidSession("domain", "is not one of this merchant's")
        merchant = Merchant(self._merchant.merchant_identifier, self._merchant.display_name, domain)
        try:
            return await request_merchant_session(
                self._session,
                self._tls,
                merchant,
                validation_url,
                self._now_ms(),
                self._merchant.allowed_hosts,
            )
        except ValidationUrlRefused:
            raise InvalidSession("validation_url", "is not one of Apple's") from None
        except SessionRefused as error:
            raise GatewayRefused(str(error)) from None
        except SessionUnavailable as error:
            raise GatewayUnavailable(str(error)) from None
