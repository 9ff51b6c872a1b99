"""Which gateways a server offers: those that its settings have an account at."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import ClientSession

from server.config import SettingsError, load_settings
from server.gateways import gateways

STRIPE = {
    "stripe_secret_key": "sk_live_1",
    "stripe_publishable_key": "pk_live_1",
    "stripe_webhook_secrets": "whsec_1",
}
RAZORPAY = {
    "razorpay_key_id": "rzp_live_1",
    "razorpay_key_secret": "secret",
    "razorpay_webhook_secrets": "secret",
}


@pytest.fixture
async def session() -> AsyncIterator[ClientSession]:
    """Give a client session; no test here connects."""
    async with ClientSession() as session:
        yield session


@pytest.mark.parametrize(
    ("given", "offered"),
    [({}, set()), (STRIPE, {"stripe"}), (STRIPE | RAZORPAY, {"stripe", "razorpay"})],
)
async def test_an_account_makes_a_gateway(
    session: ClientSession, given: dict[str, Any], offered: set[str]
) -> None:
    """Without an account there is none, and each is found under its own name."""
    found = gateways(load_settings(**given), session)
    assert set(found) == offered
    assert all(gateway.name == name for name, gateway in found.items())


@pytest.mark.parametrize(
    ("changes", "variable"),
    [
        ({"stripe_publishable_key": "sk_live_1"}, "WALLET_STRIPE_PUBLISHABLE_KEY"),
        ({"stripe_api_url": "http://api.stripe.example"}, "WALLET_STRIPE_API_URL"),
    ],
)
async def test_an_account_that_cannot_be_used_names_its_variable(
    session: ClientSession, changes: dict[str, str], variable: str
) -> None:
    """A private key in the public one's place, an open line: refused, and no value is shown."""
    with pytest.raises(SettingsError) as refused:
        gateways(load_settings(**STRIPE | changes), session)
    assert str(refused.value).startswith(f"{variable}: ")
    assert "sk_live_1" not in str(refused.value)
    assert "example" not in str(refused.value)
