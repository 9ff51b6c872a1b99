"""What is to be known of an account at Stripe."""

from dataclasses import dataclass, field
from typing import Final

_PRIVATE_PREFIXES: Final = ("sk_", "rk_", "whsec_")


@dataclass(frozen=True, slots=True)
class StripeSettings:
    """An account at Stripe. `webhook_secrets` has the current one first, then earlier ones."""

    api_url: str
    """Without `/v1`, such as `https://api.stripe.com`."""
    secret_key: str = field(repr=False)
    publishable_key: str
    """What the customer's app shows to Stripe: everybody may know it."""
    webhook_secrets: tuple[str, ...] = field(repr=False)
    """Each whole, with its `whsec_`."""
    checkout_url: str = ""
    """A page that takes the intent's id as its last path segment; empty where there is none."""
    timeout_seconds: float = 3.0
    """For each request, in all."""

    def __post_init__(self) -> None:
        """Refuse what would let anybody sign, or would hand a secret to every customer."""
        if not self.secret_key or not all(self.webhook_secrets):
            raise ValueError("Stripe's secrets must not be blank.")
        if not self.publishable_key or self.publishable_key.startswith(_PRIVATE_PREFIXES):
            raise ValueError("Stripe's publishable key starts with pk_; another one is private.")
