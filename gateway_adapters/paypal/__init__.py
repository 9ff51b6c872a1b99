"""PayPal: orders, captures, lookups, and webhooks that are verified offline."""

from gateway_adapters.paypal.adapter import Paypal
from gateway_adapters.paypal.settings import CERTIFICATE_URL_PREFIXES, PaypalSettings

__all__ = ["CERTIFICATE_URL_PREFIXES", "Paypal", "PaypalSettings"]
