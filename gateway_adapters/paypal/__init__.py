"""PayPal: orders, captures, lookups, and webhooks that are verified offline."""

from gateway_adapters.paypal.adapter import Paypal
from gateway_adapters.paypal.settings import PaypalSettings

__all__ = ["Paypal", "PaypalSettings"]
