"""Google Pay's and Apple Pay's tokens through the door: each pays one top-up, once, or nothing."""

import base64
import json
import logging
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from bson.datetime_ms import DatetimeMS
from cryptography.hazmat.primitives.asymmetric import ec

from gateway_adapters.sandbox import apple_pay_signing, google_pay_signing
from gateway_adapters.sandbox.apple_pay_certificates import make_certificates
from gateway_adapters.sandbox.google_pay_signing import kept_keys
from harness import (
    KEY_ID,
    KEY_SECRET,
    Harness,
    Refused,
    another_server,
    eventually,
    outcomes_of,
    refusal_of,
    running_harness,
    unique,
)
from server.cli.sandbox_wallets import APPLE_MERCHANT_ID, GOOGLE_RECIPIENT
from wallet_payment.v1 import resources_pb2 as resources
from wallet_payment.v1 import wallet_payment_service_pb2 as service

CREDITED = resources.TOPUP_STATE_CREDITED
PENDING = resources.TOPUP_STATE_PENDING
FAILED = resources.TOPUP_STATE_FAILED
WALLETS = ["google_pay", "apple_pay"]
PROOFS: dict[str, Any] = {"google_pay": service.GooglePayProof, "apple_pay": service.ApplePayProof}
CREATE = "/v1/payments/create/json"
BASIC = base64.b64encode(f"{KEY_ID}:{KEY_SECRET}".encode()).decode()


@pytest.fixture(scope="module")
async def shop(mongodb_uri: str) -> AsyncIterator[Harness]:
    """A service that is set up for both wallets, and for PayPal besides Razorpay."""
    async with running_harness(
        mongodb_uri,
        has_wallets=True,
        paypal_client_id="client",
        paypal_client_secret="secret",
        paypal_webhook_id="WH-1",
        paypal_environment="sandbox",
    ) as running:
        yield running


async def started(shop: Harness, wallet: str, amount: int = 1_000) -> resources.Topup:
    """Start a top-up in USD that is to be paid with a wallet."""
    return await shop.initiate(await shop.customer(), amount, method=wallet, currency="USD")


async def token_of(shop: Harness, wallet: str, **options: Any) -> str:
    """Pay with a wallet as the customer does; return what the app gets."""
    made = await shop.at_sandbox(f"{wallet.replace('_', '-')}/token", **options)
    token: str = made["token"]
    return token


def proof(wallet: str, token: str) -> dict[str, Any]:
    """Return the proof of a VerifyTopup."""
    return {wallet: PROOFS[wallet](token=token)}


def request_for(topup: resources.Topup, wallet: str, token: str) -> service.VerifyTopupRequest:
    """Return a VerifyTopup with a token."""
    return service.VerifyTopupRequest(
        customer_id=topup.customer_id, topup_id=topup.topup_id, **proof(wallet, token)
    )


async def payments_of(shop: Harness, topup: resources.Topup) -> list[dict[str, Any]]:
    """Return the payments that the gateway has for a top-up's order."""
    url = f"{shop.sandbox_url}/v1/orders/{topup.gateway_order_id}/payments"
    async with shop.http.get(url, headers={"Authorization": f"Basic {BASIC}"}) as answer:
        items: list[dict[str, Any]] = (await answer.json())["items"]
        return items


async def claims_of(shop: Harness, topup: resources.Topup) -> list[dict[str, Any]]:
    """Return the records of tokens that were claimed for a top-up."""
    query = {"topup_id": topup.topup_id, "event_type": "token.claimed"}
    claims: list[dict[str, Any]] = await shop.database.gateway_events.find(query).to_list(None)
    return claims


async def nothing_happened(shop: Harness, topup: resources.Topup) -> bool:
    """Tell whether nothing was handed on, claimed, changed or credited."""
    return (
        await payments_of(shop, topup) == []
        and await claims_of(shop, topup) == []
        and await shop.topup(topup) == topup
        and await shop.entries(topup.customer_id) == []
    )


@pytest.mark.parametrize("wallet", WALLETS)
async def test_a_token_pays_a_top_up_once(shop: Harness, wallet: str) -> None:
    """A good token is handed on, the payment captured and credited; repeats add nothing."""
    topup = await started(shop, wallet)
    token = await token_of(shop, wallet)

    first = await shop.verify(topup, **proof(wallet, token))
    again = await shop.verify(topup, **proof(wallet, token))

    assert first.topup.state == CREDITED
    assert first == again
    (payment,) = await payments_of(shop, topup)
    assert first.topup.gateway_payment_id == payment["id"]
    assert (payment["amount"], payment["currency"]) == (1_000, "USD")
    (entry,) = await shop.entries(topup.customer_id)
    assert (entry["amount"], entry["gateway"]) == (1_000, "razorpay")
    assert await shop.balance(topup.customer_id, "USD") == 1_000


@pytest.mark.parametrize("wallet", WALLETS)
async def test_an_authorized_payment_is_captured(shop: Harness, wallet: str) -> None:
    """What the card's bank only put on hold is captured, and credited once it is."""
    topup = await started(shop, wallet)
    await shop.at_sandbox("tokens", outcome="authorized")

    answer = await shop.verify(topup, **proof(wallet, await token_of(shop, wallet)))

    assert answer.topup.state == CREDITED
    assert [payment["status"] for payment in await payments_of(shop, topup)] == ["captured"]


@pytest.mark.parametrize("wallet", WALLETS)
async def test_a_declined_card_is_a_failure_and_not_the_end(shop: Harness, wallet: str) -> None:
    """The top-up fails; the same token is not tried again, and the next one pays at once."""
    topup = await started(shop, wallet)
    token = await token_of(shop, wallet)
    await shop.at_sandbox("tokens", outcome="declined")

    failed = await shop.verify(topup, **proof(wallet, token))
    again = await shop.verify(topup, **proof(wallet, token))

    assert (failed.topup.state, again.topup.state) == (FAILED, FAILED)
    assert failed.topup.failure_reason
    assert len(await payments_of(shop, topup)) == 1

    paid = await shop.verify(topup, **proof(wallet, await token_of(shop, wallet)))

    assert paid.topup.state == CREDITED
    assert len(await payments_of(shop, topup)) == 2
    assert await shop.balance(topup.customer_id, "USD") == 1_000


@pytest.mark.parametrize("wallet", WALLETS)
async def test_while_a_payment_is_pending_no_token_is_handed_on(shop: Harness, wallet: str) -> None:
    """Neither the same token nor another one makes a second payment; the first may still come."""
    topup = await started(shop, wallet)
    token, other = await token_of(shop, wallet), await token_of(shop, wallet)
    await shop.at_sandbox("tokens", outcome="pending")

    answers = [await shop.verify(topup, **proof(wallet, one)) for one in (token, token, other)]

    assert [answer.topup.state for answer in answers] == [PENDING] * 3
    (payment,) = await payments_of(shop, topup)
    await shop.at_sandbox(f"payments/{payment['id']}/capture")
    await shop.wait_for_topup(topup, CREDITED)
    assert await shop.balance(topup.customer_id, "USD") == 1_000


@pytest.mark.parametrize("wallet", WALLETS)
async def test_a_lost_answer_is_not_handed_on_again(shop: Harness, wallet: str) -> None:
    """Where the gateway took the token and nobody heard of it, the repeat finds the payment."""
    topup = await started(shop, wallet)
    token = await token_of(shop, wallet)
    await shop.at_sandbox("faults", api={"mode": "lose_answer", "path": CREATE})

    refused = await refusal_of(shop.verify(topup, **proof(wallet, token)))
    answer = await shop.verify(topup, **proof(wallet, token))

    assert refused.reason == "GATEWAY_UNAVAILABLE"
    assert answer.topup.state == CREDITED
    assert len(await payments_of(shop, topup)) == 1


@pytest.mark.parametrize("wallet", WALLETS)
async def test_a_token_that_never_arrived_is_handed_on_after_a_while(
    shop: Harness, wallet: str
) -> None:
    """As long as the gateway may still take it, a repeat is told when to come; then it pays."""
    topup = await started(shop, wallet)
    token, other = await token_of(shop, wallet), await token_of(shop, wallet)
    await shop.at_sandbox("faults", api={"mode": "refuse_connections", "path": CREATE})

    refusals = await outcomes_of([shop.verify(topup, **proof(wallet, token))]) + await outcomes_of(
        [shop.verify(topup, **proof(wallet, one)) for one in (token, other)]
    )

    assert [refusal.reason for refusal in refusals] == ["GATEWAY_UNAVAILABLE"] * 3
    assert all(20 < refusal.retry_after_seconds <= 30 for refusal in refusals[1:])
    assert await payments_of(shop, topup) == []

    long_ago = {"$set": {"token_time": DatetimeMS(1)}}
    await shop.database.topups.update_one({"_id": topup.topup_id}, long_ago)
    answer = await shop.verify(topup, **proof(wallet, token))

    assert answer.topup.state == CREDITED
    assert len(await payments_of(shop, topup)) == 1


@pytest.mark.parametrize("wallet", WALLETS)
async def test_a_gateway_that_cannot_be_asked_is_handed_nothing(shop: Harness, wallet: str) -> None:
    """Before the gateway has said that there is no payment yet, none is made; a repeat pays."""
    topup = await started(shop, wallet)
    token = await token_of(shop, wallet)
    await shop.at_sandbox("faults", api={"mode": "error500", "path": "/v1/orders/", "times": 2})

    refused = await refusal_of(shop.verify(topup, **proof(wallet, token)))

    assert refused.reason == "GATEWAY_UNAVAILABLE"
    assert await payments_of(shop, topup) == []
    assert (await shop.verify(topup, **proof(wallet, token))).topup.state == CREDITED


@pytest.mark.parametrize("wallet", WALLETS)
async def test_a_token_counts_for_one_top_up(shop: Harness, wallet: str) -> None:
    """The same token for another top-up, of the same customer too, is refused after a restart."""
    topup = await started(shop, wallet)
    same = await shop.initiate(topup.customer_id, 1_000, method=wallet, currency="USD")
    others = [same, await started(shop, wallet)]
    token = await token_of(shop, wallet)
    assert (await shop.verify(topup, **proof(wallet, token))).topup.state == CREDITED

    async with another_server(shop) as stub:
        refusals = await outcomes_of(
            [
                stub.VerifyTopup(request_for(other, wallet, token), metadata=shop.metadata)
                for other in others
            ]
        )

    assert [refusal.reason for refusal in refusals] == ["PROOF_INVALID"] * 2
    for other in others:
        assert await payments_of(shop, other) == []
        assert (await shop.topup(other)).state == PENDING


@pytest.mark.parametrize("wallet", WALLETS)
async def test_of_two_top_ups_with_one_token_one_wins(shop: Harness, wallet: str) -> None:
    """A token for two top-ups at the same moment, at two servers, pays one of them."""
    async with another_server(shop) as stub:
        for _ in range(5):
            topups = [await started(shop, wallet) for _ in range(2)]
            token = await token_of(shop, wallet)

            outcomes = await outcomes_of(
                [
                    one.VerifyTopup(request_for(topup, wallet, token), metadata=shop.metadata)
                    for topup, one in zip(topups, (shop.stub, stub), strict=True)
                ]
            )

            refusals = [outcome for outcome in outcomes if isinstance(outcome, Refused)]
            assert [refusal.reason for refusal in refusals] == ["PROOF_INVALID"]
            payments = [await payments_of(shop, topup) for topup in topups]
            assert sorted(map(len, payments)) == [0, 1]


@pytest.mark.parametrize("wallet", WALLETS)
@pytest.mark.parametrize("has_one_token", [True, False], ids=["one token", "many tokens"])
async def test_a_top_up_is_paid_once_whatever_comes_at_once(
    shop: Harness, wallet: str, *, has_one_token: bool
) -> None:
    """Many clicks at two servers, with one token or with many: the gateway makes one payment."""
    topup = await started(shop, wallet)
    tokens = [await token_of(shop, wallet) for _ in range(1 if has_one_token else 8)] * 8

    async with another_server(shop) as stub:
        outcomes = await outcomes_of(
            [
                one.VerifyTopup(request_for(topup, wallet, token), metadata=shop.metadata)
                for token in tokens[:8]
                for one in (shop.stub, stub)
            ]
        )

    refusals = [outcome for outcome in outcomes if isinstance(outcome, Refused)]
    assert {refusal.reason for refusal in refusals} <= {"GATEWAY_UNAVAILABLE"}
    assert len(refusals) < len(outcomes)
    assert len(await payments_of(shop, topup)) == 1
    assert (await shop.topup(topup)).state == CREDITED
    assert await shop.balance(topup.customer_id, "USD") == 1_000


@pytest.mark.parametrize("wallet", WALLETS)
async def test_a_payment_goes_on_where_its_caller_goes_away(shop: Harness, wallet: str) -> None:
    """A caller whose time is over does not end what was handed on: it is credited all the same."""
    topup = await started(shop, wallet)
    token = await token_of(shop, wallet)
    call = shop.stub.VerifyTopup(request_for(topup, wallet, token), metadata=shop.metadata)
    await eventually(lambda: claims_of(shop, topup))
    call.cancel()

    await shop.wait_for_topup(topup, CREDITED)

    assert len(await payments_of(shop, topup)) == 1


async def test_what_cannot_take_a_token_says_why(shop: Harness) -> None:
    """Unknown, not opened, another method or gateway, over, not set up: each its reason."""
    google = await token_of(shop, "google_pay")
    apple = await token_of(shop, "apple_pay")
    by_google, by_apple, by_paypal, expired, unopened = [
        await started(shop, wallet)
        for wallet in ("google_pay", "apple_pay", "google_pay", "google_pay", "google_pay")
    ]
    by_card = await shop.initiate(by_google.customer_id, 1_000, currency="USD")
    unknown = resources.Topup(customer_id=by_google.customer_id, topup_id="top_unknown")
    for topup, change in (
        (by_paypal, {"$set": {"gateway": "paypal"}}),
        (expired, {"$set": {"state": "EXPIRED"}}),
        (unopened, {"$unset": {"checkout": ""}}),
    ):
        await shop.database.topups.update_one({"_id": topup.topup_id}, change)

    refusals = await outcomes_of(
        [
            shop.verify(unknown, **proof("google_pay", google)),
            shop.verify(by_card, **proof("google_pay", google)),
            shop.verify(by_apple, **proof("google_pay", google)),
            shop.verify(by_google, **proof("apple_pay", apple)),
            shop.verify(by_paypal, **proof("google_pay", google)),
            shop.verify(expired, **proof("google_pay", google)),
            shop.verify(unopened, **proof("google_pay", google)),
        ]
    )

    assert [refusal.reason for refusal in refusals] == [
        "TOPUP_NOT_FOUND",
        "PROOF_INVALID",
        "PROOF_INVALID",
        "PROOF_INVALID",
        "PROOF_INVALID",
        "TOPUP_STATE",
        "TOPUP_STATE",
    ]
    for topup in (by_google, by_apple, by_card):
        assert await nothing_happened(shop, topup)


async def test_a_server_without_a_wallets_settings_says_so(shop: Harness) -> None:
    """Neither is a top-up started that could not be paid, nor is a token taken; a lookup works."""
    unset = {"google_pay_recipients": (), "apple_pay_root": ""}
    async with another_server(shop, **unset) as stub:
        for wallet in WALLETS:
            topup, token = await started(shop, wallet), await token_of(shop, wallet)
            start = service.InitiateTopupRequest(
                customer_id=topup.customer_id,
                amount=topup.amount,
                gateway="razorpay",
                method=wallet,
                idempotency_key=unique("key"),
            )
            lookup = service.VerifyTopupRequest(
                customer_id=topup.customer_id,
                topup_id=topup.topup_id,
                lookup=service.LookupProof(),
            )
            for call in (
                stub.InitiateTopup(start, metadata=shop.metadata),
                stub.VerifyTopup(request_for(topup, wallet, token), metadata=shop.metadata),
            ):
                refused = await refusal_of(call)
                assert (refused.code.name, refused.reason) == ("UNIMPLEMENTED", "NOT_IMPLEMENTED")
            assert await stub.VerifyTopup(lookup, metadata=shop.metadata)
            assert await nothing_happened(shop, topup)


async def test_google_pay_in_rupees_is_upi_and_takes_no_token(shop: Harness) -> None:
    """In INR Google Pay pays by UPI: the checkout has the intent, and a token is refused."""
    topup = await shop.initiate(await shop.customer(), 10_000, method="google_pay")
    assert topup.checkout.upi.intent_uri.startswith("upi://pay?")

    token = await token_of(shop, "google_pay")
    refused = await refusal_of(shop.call("VerifyTopup", request_for(topup, "google_pay", token)))

    assert refused.reason == "PROOF_INVALID"


async def test_google_pay_outside_of_india_asks_for_no_upi_intent(shop: Harness) -> None:
    """In other currencies Google Pay pays by card: no intent is made, whose payment would hang."""
    topup = await started(shop, "google_pay")

    assert topup.amount.currency_code != "INR"
    assert not topup.checkout.HasField("upi")


async def test_without_googles_keys_no_token_is_judged(shop: Harness) -> None:
    """Where Google's keys cannot be had, the token may be good: try again, nothing is claimed."""
    topup, token = await started(shop, "google_pay"), await token_of(shop, "google_pay")
    unreachable = {"google_pay_keys_url": "http://127.0.0.1:9/keys"}
    async with another_server(shop, **unreachable) as stub:
        call = stub.VerifyTopup(request_for(topup, "google_pay", token), metadata=shop.metadata)
        refused = await refusal_of(call)

    assert (refused.code.name, refused.reason) == ("UNAVAILABLE", "GATEWAY_UNAVAILABLE")
    assert refused.retry_after_seconds
    assert await nothing_happened(shop, topup)


Change = Callable[[dict[str, Any]], object]


def flipped(text: str) -> str:
    """Return base64 with one bit of its first byte changed."""
    return ("A" if text[0] != "A" else "B") + text[1:]


def change_google_signature(token: dict[str, Any]) -> None:
    """Change a bit of what the intermediate key signed with."""
    signature = token["signature"]
    token["signature"] = signature[:20] + flipped(signature[20:])


def change_google_message(token: dict[str, Any]) -> None:
    """Change a bit of what is encrypted."""
    message = json.loads(token["signedMessage"])
    message["encryptedMessage"] = flipped(message["encryptedMessage"])
    token["signedMessage"] = json.dumps(message)


def change_google_key(token: dict[str, Any]) -> None:
    """Change when the intermediate key expires."""
    key = token["intermediateSigningKey"]
    key["signedKey"] = key["signedKey"].replace('"keyExpiration": "1', '"keyExpiration": "2')


def change_google_version(token: dict[str, Any]) -> None:
    """Say another version."""
    token["protocolVersion"] = "ECv1"


def change_apple_data(token: dict[str, Any]) -> None:
    """Change a bit of what is encrypted."""
    token["data"] = flipped(token["data"])


def change_apple_signature(token: dict[str, Any]) -> None:
    """Change a bit near the end of the signature: in the signed attributes' signature itself."""
    signature = token["signature"]
    token["signature"] = signature[:-24] + flipped(signature[-24:])


def change_apple_id(token: dict[str, Any]) -> None:
    """Change a bit of the transaction's id."""
    header = token["header"]
    last = "0" if header["transactionId"][-1] != "0" else "1"
    header["transactionId"] = header["transactionId"][:-1] + last


def change_apple_version(token: dict[str, Any]) -> None:
    """Say another version."""
    token["version"] = "RSA_v1"


@pytest.mark.parametrize(
    ("wallet", "change"),
    [
        ("google_pay", change_google_signature),
        ("google_pay", change_google_message),
        ("google_pay", change_google_key),
        ("google_pay", change_google_version),
        ("apple_pay", change_apple_data),
        ("apple_pay", change_apple_signature),
        ("apple_pay", change_apple_id),
        ("apple_pay", change_apple_version),
    ],
)
async def test_a_changed_token_pays_nothing(shop: Harness, wallet: str, change: Change) -> None:
    """One flipped bit anywhere in what was signed: refused, and nothing is handed on or claimed."""
    topup = await started(shop, wallet)
    token = json.loads(await token_of(shop, wallet))
    change(token)

    refused = await refusal_of(shop.verify(topup, **proof(wallet, json.dumps(token))))

    assert (refused.code.name, refused.reason) == ("FAILED_PRECONDITION", "PROOF_INVALID")
    assert await nothing_happened(shop, topup)


@pytest.mark.parametrize(
    ("wallet", "options"),
    [
        ("google_pay", {"recipient": "merchant:somebody-else"}),
        ("google_pay", {"recipient": "gateway:sandbox"}),
        ("google_pay", {"expires_in_seconds": -1}),
        ("google_pay", {"card_year": 2020}),
        ("apple_pay", {"age_seconds": 301}),
        ("apple_pay", {"age_seconds": -120}),
        ("apple_pay", {"card_year": 2020}),
    ],
)
async def test_a_token_that_is_not_good_here_and_now_pays_nothing(
    shop: Harness, wallet: str, options: dict[str, Any]
) -> None:
    """For somebody else, too old, from the future, of an expired card: refused, though signed."""
    topup = await started(shop, wallet)
    token = await token_of(shop, wallet, **options)

    refused = await refusal_of(shop.verify(topup, **proof(wallet, token)))

    assert refused.reason == "PROOF_INVALID"
    assert await nothing_happened(shop, topup)


def new_key() -> ec.EllipticCurvePrivateKey:
    """Make a key that nobody knows."""
    return ec.generate_private_key(ec.SECP256R1())


def by_google(shop: Harness, **changes: ec.EllipticCurvePrivateKey) -> str:
    """Return a token that Google would make with these keys instead of its own."""
    google = shop.wallets.google_pay
    keys = replace(kept_keys(google.folder, google.merchant_key_file), **changes)
    now_ms = time.time_ns() // 1_000_000
    card = google_pay_signing.card_message(now_ms + 60_000)
    return google_pay_signing.payment_token(keys, GOOGLE_RECIPIENT, card, now_ms)


def by_apple(shop: Harness, *names: str) -> str:
    """Return a token that Apple would make with these certificates of another authority."""
    own, other = shop.wallets.apple_pay.certificates, make_certificates(APPLE_MERCHANT_ID)
    certificates = replace(own, **{name: getattr(other, name) for name in names})
    card, now = apple_pay_signing.card_content(), datetime.now(UTC)
    return apple_pay_signing.payment_token(certificates, APPLE_MERCHANT_ID, card, now)


@pytest.mark.parametrize(
    ("wallet", "make"),
    [
        ("google_pay", lambda shop: by_google(shop, payments_root=new_key())),
        ("google_pay", lambda shop: by_google(shop, merchant=new_key())),
        ("apple_pay", lambda shop: by_apple(shop, "intermediate", "leaf")),
        ("apple_pay", lambda shop: by_apple(shop, "leaf")),
        ("apple_pay", lambda shop: by_apple(shop, "processing")),
    ],
    ids=["root", "merchant", "authority", "leaf", "merchant's certificate"],
)
async def test_a_token_of_a_wrong_key_pays_nothing(
    shop: Harness, wallet: str, make: Callable[[Harness], str]
) -> None:
    """Signed by somebody else, or sealed for somebody else: refused; the like of it pays."""
    topup = await started(shop, wallet)

    refused = await refusal_of(shop.verify(topup, **proof(wallet, make(shop))))

    assert refused.reason == "PROOF_INVALID"
    assert await nothing_happened(shop, topup)
    good = by_google(shop) if wallet == "google_pay" else by_apple(shop)
    assert (await shop.verify(topup, **proof(wallet, good))).topup.state == CREDITED


@pytest.mark.parametrize("wallet", WALLETS)
@pytest.mark.parametrize("text", ["", "{}", "[]", "token", '{"a": 1, "a": 2}', "x" * 40_000])
async def test_what_is_no_token_pays_nothing(shop: Harness, wallet: str, text: str) -> None:
    """Nothing, something else, too much of it: refused without a word of what was sent."""
    topup = await started(shop, wallet)

    refused = await refusal_of(shop.verify(topup, **proof(wallet, text)))

    assert refused.reason == "PROOF_INVALID"
    assert "xxx" not in refused.message
    assert await nothing_happened(shop, topup)


async def everything_in(shop: Harness) -> str:
    """Return all documents of the database as one text, binary data decoded."""
    found: list[Any] = []
    for name in await shop.database.list_collection_names():
        found += await shop.database[name].find().to_list(None)
    return repr(found)


@pytest.mark.parametrize("wallet", WALLETS)
async def test_nothing_of_a_token_is_kept_or_logged(
    shop: Harness, wallet: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Taken, repeated, refused or lost: no part of a token, and nothing inside it, stays."""
    caplog.set_level(logging.DEBUG)
    topup, other = await started(shop, wallet), await started(shop, wallet)
    token = await token_of(shop, wallet)
    parts = json.loads(token)
    secret = (
        json.loads(parts["signedMessage"]) | {"signature": parts["signature"]}
        if wallet == "google_pay"
        else {"data": parts["data"], "signature": parts["signature"], **parts["header"]}
    )
    changed = json.dumps(parts | {"signature": flipped(parts["signature"])})

    await shop.at_sandbox("faults", api={"mode": "lose_answer", "path": CREATE})
    answers = [
        await outcomes_of([shop.verify(one, **proof(wallet, text))])
        for one, text in ((other, changed), (topup, token), (topup, token), (other, token))
    ]

    assert [getattr(answer, "reason", "") for (answer,) in answers] == [
        "PROOF_INVALID",
        "GATEWAY_UNAVAILABLE",
        "",
        "PROOF_INVALID",
    ]
    (claim,) = await claims_of(shop, topup)
    assert claim["body"] == b""
    kept = [await everything_in(shop), caplog.text, repr(answers)]
    assert topup.topup_id in kept[0]
    assert caplog.text
    numbers = [google_pay_signing.PAN, google_pay_signing.CRYPTOGRAM]
    numbers += [apple_pay_signing.PAN, apple_pay_signing.CRYPTOGRAM]
    for part in [*secret.values(), *numbers]:
        # Keys and signatures of all kinds begin the same way.
        for piece in (part[len(part) // 2 :][:24], part[-24:]):
            assert not [text for text in kept if piece in text]
