"""CreateApplePaySession through the door, to a server in Apple's place over TLS on both sides."""

import json
import logging
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway_adapters.sandbox import ApplePayFiles
from gateway_adapters.sandbox.apple_pay_certificates import make_certificates
from harness import Harness, another_server, outcomes_of, refusal_of, running_harness
from server.cli.sandbox_wallets import APPLE_DOMAIN, APPLE_MERCHANT_ID
from wallet_payment.v1 import resources_pb2 as resources
from wallet_payment.v1 import wallet_payment_service_pb2 as service


@pytest.fixture(scope="module")
async def shop(mongodb_uri: str) -> AsyncIterator[Harness]:
    """A service with the merchant's identity certificate."""
    async with running_harness(mongodb_uri, has_wallets=True) as running:
        yield running


async def validation_url(shop: Harness) -> str:
    """Return what Safari gives to the page."""
    async with shop.http.get(f"{shop.sandbox_url}/sandbox/apple-pay") as answer:
        url: str = (await answer.json())["validation_url"]
        return url


async def by_apple(shop: Harness) -> resources.Topup:
    """Start a top-up that Apple Pay can pay."""
    return await shop.initiate(await shop.customer(), 1_000, method="apple_pay", currency="USD")


async def request_for(
    shop: Harness, topup: resources.Topup, **changes: str
) -> service.CreateApplePaySessionRequest:
    """Return a good request, changed as a test asks."""
    fields = {
        "customer_id": topup.customer_id,
        "topup_id": topup.topup_id,
        "validation_url": await validation_url(shop),
        "domain": APPLE_DOMAIN,
    }
    return service.CreateApplePaySessionRequest(**fields | changes)


async def create(
    shop: Harness, topup: resources.Topup, **changes: str
) -> service.CreateApplePaySessionResponse:
    """Ask for a session."""
    response: service.CreateApplePaySessionResponse = await shop.call(
        "CreateApplePaySession", await request_for(shop, topup, **changes)
    )
    return response


async def test_a_session_comes_as_apple_made_it(
    shop: Harness, caplog: pytest.LogCaptureFixture
) -> None:
    """It is for this merchant and page, lasts five minutes, is new each time, and kept nowhere."""
    caplog.set_level(logging.DEBUG)
    topup = await by_apple(shop)

    sessions = [await create(shop, topup) for _ in range(2)]

    contents = [json.loads(session.session_json) for session in sessions]
    for session, content in zip(sessions, contents, strict=True):
        assert content["merchantIdentifier"] == APPLE_MERCHANT_ID
        assert (content["domainName"], content["displayName"]) == (APPLE_DOMAIN, "Sandbox Shop")
        assert 290 < session.expire_time.ToSeconds() - time.time() <= 300
        assert content["signature"] not in caplog.text
    assert contents[0]["merchantSessionIdentifier"] != contents[1]["merchantSessionIdentifier"]
    assert await shop.topup(topup) == topup


async def test_a_session_is_for_a_top_up_that_apple_pay_can_pay(shop: Harness) -> None:
    """Unknown, somebody else's, by card, credited, expired: no session, each with its reason."""
    topup, credited, expired = [await by_apple(shop) for _ in range(3)]
    by_card = await shop.initiate(topup.customer_id, 1_000, currency="USD")
    token = (await shop.at_sandbox("apple-pay/token"))["token"]
    await shop.verify(credited, apple_pay=service.ApplePayProof(token=token))
    over = {"$set": {"state": "EXPIRED"}}
    await shop.database.topups.update_one({"_id": expired.topup_id}, over)

    refusals = await outcomes_of(
        [
            create(shop, topup, topup_id="top_unknown"),
            create(shop, topup, customer_id=credited.customer_id),
            create(shop, by_card),
            create(shop, credited),
            create(shop, expired),
        ]
    )

    assert [refusal.reason for refusal in refusals] == [
        "TOPUP_NOT_FOUND",
        "TOPUP_NOT_FOUND",
        "TOPUP_STATE",
        "TOPUP_STATE",
        "TOPUP_STATE",
    ]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("validation_url", ""),
        ("validation_url", "https://apple-pay-gateway.apple.com/paymentservices/startSession"),
        ("validation_url", "https://127.0.0.1/paymentservices/startSession"),
        ("validation_url", "https://{host}@evil.example/paymentservices/startSession"),
        ("validation_url", "https://evil.example/{host}/paymentservices/startSession"),
        ("validation_url", "http://{host}/paymentservices/startSession"),
        ("validation_url", "https://{host}/admin"),
        ("validation_url", "no url"),
        ("domain", ""),
        ("domain", "evil.example"),
        ("domain", "SHOP.example"),
        ("domain", "shop.example/"),
    ],
)
async def test_the_certificate_is_shown_to_apple_alone(
    shop: Harness, field: str, value: str
) -> None:
    """Another host, way, path or page than those that are set: the field is named, nobody asked."""
    host = (await validation_url(shop)).split("/")[2]

    refused = await refusal_of(
        create(shop, await by_apple(shop), **{field: value.format(host=host)})
    )

    assert (refused.reason, refused.fields) == ("INVALID_ARGUMENT", (field,))


async def test_without_its_settings_there_are_no_sessions(shop: Harness) -> None:
    """A server with no identity certificate says that it has no sessions."""
    topup = await by_apple(shop)
    async with another_server(shop, apple_pay_merchant_id="") as stub:
        call = stub.CreateApplePaySession(await request_for(shop, topup), metadata=shop.metadata)
        refused = await refusal_of(call)

    assert (refused.code.name, refused.reason) == ("UNIMPLEMENTED", "NOT_IMPLEMENTED")


async def test_apple_decides_who_is_a_merchant(shop: Harness, tmp_path: Path) -> None:
    """A page that Apple does not know is refused; a certificate that it did not issue gets none."""
    topup = await by_apple(shop)
    files = ApplePayFiles(tmp_path)
    make_certificates(APPLE_MERCHANT_ID).leave(files)
    stranger = {
        "apple_pay_identity_certificate": str(files.identity_certificate),
        "apple_pay_identity_key": str(files.identity_key),
    }
    reasons = []
    for changes, domain in (
        ({"apple_pay_domains": ("unknown.example",)}, "unknown.example"),
        (stranger, APPLE_DOMAIN),
        ({"apple_pay_session_roots": str(files.root)}, APPLE_DOMAIN),
    ):
        async with another_server(shop, **changes) as stub:
            request = await request_for(shop, topup, domain=domain)
            call = stub.CreateApplePaySession(request, metadata=shop.metadata)
            reasons.append((await refusal_of(call)).reason)

    assert reasons == ["GATEWAY_REFUSED", "GATEWAY_UNAVAILABLE", "GATEWAY_UNAVAILABLE"]
