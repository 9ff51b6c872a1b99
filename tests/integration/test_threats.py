"""Each threat to money, tokens and records in the threat model, tried through the real harness.

A test has the name of its row in `docs/concepts/threat-model.md`. Threats to the doors themselves
are in `test_threats_at_the_doors.py`.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from bson import Int64
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from pydantic import SecretStr
from test_books import busy_customer, entry_of, found_of
from test_secrets_stay_secret import texts_of
from test_wallet_tokens import proof, started, token_of

from command_line import run_in_process
from harness import (
    KEY_SECRET,
    Harness,
    another_server,
    bearer,
    event_of,
    eventually,
    inr,
    outcomes_of,
    payment_of,
    refusal_of,
    running_harness,
    signature_of,
    unique,
    with_database,
)
from postbox import CLIENT_SECRET, Letter, Service, Side, running_service
from server.store.connection import connect
from wallet_payment.v1 import resources_pb2 as resources
from wallet_payment.v1 import wallet_payment_service_pb2 as service
from written_audit import verified
from written_books import written_books

CREDITED = resources.TOPUP_STATE_CREDITED
NEEDS_REVIEW = resources.TOPUP_STATE_NEEDS_REVIEW


@pytest.fixture(scope="module")
async def shop(
    mongodb_uri: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Service]:
    """A service on a database of its own, whose webhooks a test delivers."""
    folder = tmp_path_factory.mktemp("threats")
    async with running_service(with_database(mongodb_uri, "threats"), folder) as running:
        yield running


@pytest.fixture(params=["razorpay", "paypal"])
def side(request: pytest.FixtureRequest, shop: Service) -> Side:
    """Each gateway in turn."""
    return shop.side(request.param)


async def paid_topup(side: Side, amount: int = 1_000) -> tuple[resources.Topup, Letter]:
    """Return a top-up that was paid at the gateway, and the webhook that would credit it."""
    topup = await side.initiate(await side.harness.customer(), amount)
    await side.pay(topup)
    return topup, await side.letter(topup, side.captured)


async def amounts(side: Side, topup: resources.Topup) -> list[int]:
    """Return what moved in the wallet of a top-up's customer."""
    return [entry["amount"] for entry in await side.harness.entries(topup.customer_id)]


# Money.


async def test_threat_forged_webhook(harness: Harness) -> None:
    """Who knows every field, but not the secret, credits nothing and leaves no trace."""
    topup = await harness.initiate(await harness.customer(), 1_000)
    body = event_of("payment.captured", payment_of(topup))

    for signature in ("", "0" * 64, signature_of(body, KEY_SECRET), signature_of(body + b" ")):
        status, answer = await harness.deliver(body, X_Razorpay_Signature=signature)
        assert (status, answer["error"]["reason"]) == (401, "SIGNATURE_INVALID")

    assert await harness.balance(topup.customer_id) == 0
    assert await harness.database.gateway_events.find_one({"topup_id": topup.topup_id}) is None


async def test_threat_changed_webhook(side: Side) -> None:
    """A good signature holds for the bytes that were signed, and for no others."""
    topup, letter = await paid_topup(side)
    _, other = await paid_topup(side, 100_000)
    swapped = Letter(letter.gateway, letter.kind, other.body, letter.headers)

    assert await side.deliver(letter, letter.body + b" ") == "SIGNATURE_INVALID"
    assert await side.deliver(swapped) == "SIGNATURE_INVALID"
    assert await amounts(side, topup) == []


async def test_threat_replayed_webhook(side: Side) -> None:
    """Sent again, at once, later, or under another event id, it credits once."""
    topup, letter = await paid_topup(side)
    renamed = letter.headers | {"X-Razorpay-Event-Id": unique("evt")}

    await asyncio.gather(*(side.deliver(letter) for _ in range(5)))
    again = Letter(letter.gateway, letter.kind, letter.body, renamed)

    assert await side.deliver(again) in {"DUPLICATE", "IGNORED"}
    assert await amounts(side, topup) == [1_000]


async def test_threat_webhook_of_another_account(side: Side) -> None:
    """What a gateway signed for another merchant is signed by nobody here."""
    topup, letter = await paid_topup(side)
    request = service.ForwardWebhookRequest(
        gateway=letter.gateway,
        headers=[service.Header(name=name, value=text) for name, text in letter.headers.items()],
        body=letter.body,
    )
    request.receive_time.GetCurrentTime()
    others = {
        "razorpay_webhook_secrets": (SecretStr("secret-of-another-account"),),
        "paypal_webhook_id": "WH-ANOTHER",
    }
    async with another_server(side.harness, **others) as stub:
        call = stub.ForwardWebhook(request, metadata=bearer(side.harness.sidecar_token))
        assert (await refusal_of(call)).reason == "SIGNATURE_INVALID"

    assert await amounts(side, topup) == []


@pytest.mark.parametrize(
    "fields", [{"amount": 100}, {"amount": 100_001}, {"currency": "USD"}], ids=str
)
async def test_threat_webhook_of_another_amount(harness: Harness, fields: dict[str, Any]) -> None:
    """Whoever paid less, more, or in another currency than was agreed waits for a person."""
    topup = await harness.initiate(await harness.customer(), 100_000)

    _, answer = await harness.deliver(event_of("payment.captured", payment_of(topup, **fields)))

    assert answer["outcome"] == "NEEDS_REVIEW"
    assert (await harness.topup(topup)).state == NEEDS_REVIEW
    assert await harness.entries(topup.customer_id) == []


async def test_threat_stolen_checkout_proof(side: Side) -> None:
    """A proof of a victim's payment credits neither a thief's top-up nor the thief."""
    victims = await side.initiate(await side.harness.customer(), 100)
    thiefs = await side.initiate(await side.harness.customer(), 100)
    stolen = (await side.pay(victims)).proof

    assert (await refusal_of(side.harness.verify(thiefs, **stolen))).reason == "PROOF_INVALID"
    request = service.VerifyTopupRequest(
        customer_id=thiefs.customer_id, topup_id=victims.topup_id, **stolen
    )
    refused = await refusal_of(side.harness.call("VerifyTopup", request))
    assert refused.reason == "TOPUP_NOT_FOUND"

    assert await amounts(side, thiefs) == []
    assert (await side.harness.verify(victims, **stolen)).topup.state == CREDITED


@pytest.mark.parametrize("wallet", ["google_pay", "apple_pay"])
async def test_threat_stolen_wallet_token(mongodb_uri: str, wallet: str) -> None:
    """A token of Google Pay or Apple Pay that was read on its way pays no second top-up."""
    uri = with_database(mongodb_uri, unique("threats_wallet"))
    async with running_harness(uri, has_wallets=True) as phones:
        victims, thiefs = await started(phones, wallet), await started(phones, wallet)
        stolen = proof(wallet, await token_of(phones, wallet))
        assert (await phones.verify(victims, **stolen)).topup.state == CREDITED

        assert (await refusal_of(phones.verify(thiefs, **stolen))).reason == "PROOF_INVALID"
        assert await phones.balance(thiefs.customer_id, "USD") == 0


async def test_threat_repeated_payment_with_another_amount(harness: Harness) -> None:
    """A key that was used is refused with another amount, order or customer; nothing moves."""
    customer, other = await harness.customer(1_000), await harness.customer(1_000)
    order, key = unique("order"), unique("key")
    await harness.pay(customer, 100, order, idempotency_key=key)

    for who, amount, what in ((customer, 1, order), (customer, 100, "x"), (other, 100, order)):
        refused = await refusal_of(harness.pay(who, amount, what, idempotency_key=key))
        assert refused.reason == "IDEMPOTENCY_KEY_REUSED"

    assert (await harness.balance(customer), await harness.balance(other)) == (900, 1_000)


async def test_threat_order_of_another_customer(harness: Harness) -> None:
    """Nobody pays or refunds an order that the order service recorded for somebody else."""
    victim, thief = await harness.customer(1_000), await harness.customer(1_000)
    unpaid = await harness.order(victim, 500)
    paid = (await harness.pay(victim, 300)).payment.order_id

    assert (await refusal_of(harness.pay(thief, 500, unpaid))).reason == "ORDER_MISMATCH"
    assert (await refusal_of(harness.refund(thief, paid))).reason == "ORDER_MISMATCH"
    assert (await harness.balance(victim), await harness.balance(thief)) == (700, 1_000)


async def test_threat_race_for_one_balance(harness: Harness) -> None:
    """Payments at one moment, through two servers, spend what there is and no more."""
    customer = await harness.customer(1_000)
    requests = [
        service.PayWithWalletRequest(
            customer_id=customer,
            order_id=unique("order"),
            amount=inr(100),
            idempotency_key=unique("key"),
        )
        for _ in range(24)
    ]
    async with another_server(harness) as stub:
        answers = await outcomes_of(
            [
                (stub if number % 2 else harness.stub).PayWithWallet(
                    request, metadata=harness.metadata
                )
                for number, request in enumerate(requests)
            ]
        )
    paid = [answer for answer in answers if isinstance(answer, service.PayWithWalletResponse)]

    assert 0 < len(paid) <= 10
    assert await harness.balance(customer) == 1_000 - 100 * len(paid)


async def test_threat_refund_above_the_payment(harness: Harness) -> None:
    """Refunds that race, each with a key of its own, come to the payment and no more."""
    customer = await harness.customer(1_000)
    order = (await harness.pay(customer, 900)).payment.order_id

    answers = await outcomes_of([harness.refund(customer, order, 400) for _ in range(6)])

    refunded = [one for one in answers if isinstance(one, service.RefundToWalletResponse)]
    assert len(refunded) == 2
    assert (
        await refusal_of(harness.refund(customer, order, 101))
    ).reason == "REFUND_EXCEEDS_PAYMENT"
    assert await harness.balance(customer) == 900


@pytest.mark.parametrize("amount", [0, -1, -(2**63), 2**63 - 1])
async def test_threat_amount_out_of_range(harness: Harness, amount: int) -> None:
    """Nothing, less than nothing, and what overflows is no amount of anything."""
    customer = await harness.customer(1_000)
    order = (await harness.pay(customer, 300)).payment.order_id

    for call in (
        harness.pay(customer, amount),
        harness.refund(customer, order, amount),
        harness.initiate(customer, amount),
    ):
        assert (await refusal_of(call)).reason == "INVALID_ARGUMENT"
    assert await harness.balance(customer) == 700


# Records.


@pytest.fixture(scope="module")
async def cooked(mongodb_uri: str) -> AsyncIterator[Harness]:
    """A service whose database somebody else writes to."""
    uri = with_database(mongodb_uri, "threats_to_records")
    async with running_harness(uri, books_agree=False) as harness:
        yield harness


async def test_threat_rewritten_entry(cooked: Harness) -> None:
    """An entry that was altered, and a balance that was raised, are named by `books verify`."""
    altered, raised = await busy_customer(cooked), await busy_customer(cooked)
    entry = await entry_of(cooked, altered, 2)
    await cooked.database.wallet_transactions.update_one(
        {"_id": entry["_id"]}, {"$set": {"amount": Int64(-1)}}
    )
    await cooked.database.wallets.update_one(
        {"customer_id": raised}, {"$set": {"balance": Int64(1_000_000)}}
    )

    named = {one.transaction_id for one in await found_of(cooked, altered)}
    assert entry["_id"] in named
    assert {one.what.split()[0] for one in await found_of(cooked, raised)} == {"balance"}


async def test_threat_rewritten_chain(mongodb_uri: str, tmp_path: Path) -> None:
    """Who computes every hash anew fits all records, and contradicts the seal that was kept."""
    pem = Ed25519PrivateKey.generate().private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    (tmp_path / "key.pem").write_bytes(pem)
    async with written_books(with_database(mongodb_uri, unique("sealed"))) as books:
        environment = {
            "PATH": os.environ["PATH"],
            "WALLET_MONGODB_URI": books.uri,
            "WALLET_SEAL_KEY": f"@{tmp_path / 'key.pem'}",
        }
        where: dict[str, Any] = {"environment": environment, "folder": tmp_path}
        names = await books.busy_customer()
        await run_in_process("books", "seal", "--date", "2023-11-14", **where)

        cheaper = {"$set": {"amount": Int64(-100)}}
        await books.database["wallet_transactions"].update_one({"_id": names["payment"]}, cheaper)
        cheaper = {"$set": {"amount": Int64(100)}}
        await books.database["orders"].update_one({"_id": names["order"]}, cheaper)
        await books.recompute(names["customer"])

        assert await books.differences() == []
        kept = "book-seal-2023-11-14.jsonl"
        output, _ = await run_in_process("books", "verify", "--sealed", kept, status=1, **where)
        assert "was rewritten" in output


async def test_threat_rewritten_audit(cooked: Harness) -> None:
    """Who takes his own name out of the audit is found by its chain, in his place."""
    customer = await cooked.customer(100)
    await cooked.pay(customer, 100)
    logs: Any = cooked.database.integration_logs
    query = {"customer_id": customer, "method": "PayWithWallet"}
    mine = await eventually(lambda: logs.find_one(query))

    await logs.update_one({"_id": mine["_id"]}, {"$set": {"caller": "somebody-else"}})

    with connect(cooked.settings.mongodb_uri.get_secret_value()) as database:
        found, _ = await verified(database)
    assert mine["_id"] in {one.place for one in found}


async def test_threat_stolen_backup(shop: Service) -> None:
    """Who reads the whole database finds no secret, token, proof or signature to go on with."""
    razorpay, harness = shop.razorpay, shop.harness
    topup = await razorpay.initiate(await harness.customer(), 100)
    given = (await razorpay.pay(topup)).proof
    await harness.verify(topup, **given)
    letter = await razorpay.letter(topup, razorpay.captured)
    await razorpay.deliver(letter)
    secrets = [
        KEY_SECRET,
        CLIENT_SECRET,
        given["razorpay"].signature,
        letter.headers["X-Razorpay-Signature"],
        harness.sidecar_token,
        harness.metadata[0][1],
    ]

    read = [
        text
        for name in await harness.database.list_collection_names()
        async for document in harness.database[name].find()
        for text in texts_of(document)
    ]

    assert topup.gateway_order_id in read
    assert [text for text in read if any(secret in text for secret in secrets)] == []


async def test_threat_operator_without_a_reason(cooked: Harness, tmp_path: Path) -> None:
    """Nobody credits what waits for review without saying who and why."""
    topup = await cooked.initiate(await cooked.customer(), 500)
    _, answer = await cooked.deliver(event_of("payment.captured", payment_of(topup, amount=5)))
    waiting = await cooked.database.gateway_events.find_one({"event_id": answer["event_id"]})
    environment = {
        "PATH": os.environ["PATH"],
        "WALLET_MONGODB_URI": cooked.settings.mongodb_uri.get_secret_value(),
    }
    for said in ((), ("--why", "", "--by", "asha"), ("--why", "a gift", "--by", " ")):
        asked = ("review", "resolve", waiting["_id"], "--dismiss", *said)
        await run_in_process(*asked, environment=environment, folder=tmp_path, status=2)

    assert waiting["outcome"] == "NEEDS_REVIEW"
    assert await cooked.database.gateway_events.find_one({"_id": waiting["_id"]}) == waiting
