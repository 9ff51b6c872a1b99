"""Stripe: payment intents, captures, lookups, and webhooks with their signatures."""

from gateway_adapters.stripe.adapter import Stripe
from gateway_adapters.stripe.settings import StripeSettings

__all__ = ["Stripe", "StripeSettings"]
