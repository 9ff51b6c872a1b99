"""The operator settles what could not be applied, and compares the gateway's books with ours."""

import asyncio
import json
import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from bson import Int64

from harness import KEY_ID, KEY_SECRET, WEBHOOK_SECRET, Harness, eventually
from wallet_payment.v1 import resources_pb2 as resources

BIN = Path(sys.executable).parent


async def run(harness: Harness, *arguments: str, status: int = 0) -> str:
    """Run `wallet-payment` on the harness' database and sandbox; return what it prints."""
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
        "WALLET_MONGODB_URI": harness.settings.mongodb_uri.get_secret_value(),
        "WALLET_RAZORPAY_KEY_ID": KEY_ID,
        "WALLET_RAZORPAY_KEY_SECRET": KEY_SECRET,
        "WALLET_RAZORPAY_WEBHOOK_SECRETS": WEBHOOK_SECRET,
        "WALLET_RAZORPAY_API_URL": harness.sandbox_url,
    }
    process = await asyncio.create_subprocess_exec(
        *(str(BIN / "wallet-payment"), *arguments),
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    assert process.returncode == status, errors.decode() + output.decode()
    return output.decode() + errors.decode()


async def event_for_review(harness: Harness, payment_id: str) -> dict[str, Any]:
    """Wait until a payment's event is kept for review; return it."""

    async def found() -> dict[str, Any] | None:
        event: dict[str, Any] | None = await harness.database.gateway_events.find_one(
            {"gateway_payment_id": payment_id, "outcome": "NEEDS_REVIEW"}
        )
        return event

    event: dict[str, Any] = await eventually(found)
    return event


async def test_a_payment_of_another_amount_is_shown_and_put_into_the_wallet(
    harness: Harness,
) -> None:
    """The event is listed with its reason, credited by a person, and settled once."""
    customer_id = await harness.customer()
    topup = await harness.initiate(customer_id, 1_000)
    paid = await harness.pay_at_gateway(topup.gateway_order_id, amount=900)
    key = (await event_for_review(harness, paid["payment_id"]))["_id"]
    await harness.wait_for_topup(topup, resources.TOPUP_STATE_NEEDS_REVIEW)

    listed = json.loads(await run(harness, "review", "list", "--json", "--limit", "1000"))
    [mine] = [one for one in listed if one["event_key"] == key]
    assert mine["amount"] == "INR 9.00"
    assert "the top-up is for INR 10.00" in mine["reason"]
    shown = await run(harness, "review", "show", key)
    assert paid["payment_id"] in shown
    assert f"review resolve {key} --credit" in shown

    arguments = ("review", "resolve", key, "--credit", customer_id, "INR:900", "--why", "paid less")
    resolved = await run(harness, *arguments, "--by", "asha")
    assert "resolved by transaction txn_" in resolved

    [entry] = await harness.entries(customer_id)
    assert (entry["type"], entry["amount"]) == ("ADJUSTMENT", 900)
    assert entry["metadata"] == {"by": "asha", "why": "paid less"}
    assert await harness.balance(customer_id) == 900
    assert await run(harness, *arguments, "--by", "asha") == resolved
    another = await run(harness, *arguments, "--by", "ben", status=2)
    assert "does not wait for review: it is RESOLVED" in another
    assert await harness.balance(customer_id) == 900


async def test_an_unknown_payment_is_tied_to_its_top_up(harness: Harness) -> None:
    """A payment whose order nobody knows is credited to the top-up that a person names."""
    customer_id = await harness.customer()
    topup = await harness.initiate(customer_id, 1_000)
    await harness.database.topups.update_one({"_id": topup.topup_id}, {"$set": {"gateway": "lost"}})
    paid = await harness.pay_at_gateway(topup.gateway_order_id)
    key = (await event_for_review(harness, paid["payment_id"]))["_id"]
    await harness.database.topups.update_one(
        {"_id": topup.topup_id}, {"$set": {"gateway": "razorpay"}, "$inc": {"version": Int64(1)}}
    )

    await run(harness, "review", "resolve", key, "--topup", topup.topup_id, "--why", "found it")

    await harness.wait_for_topup(topup, resources.TOPUP_STATE_CREDITED)
    assert await harness.balance(customer_id) == 1_000


async def test_dismissing_moves_no_money(harness: Harness) -> None:
    """An event that owes nothing to anyone is settled with a reason, and leaves the list."""
    customer_id = await harness.customer()
    topup = await harness.initiate(customer_id, 1_000)
    paid = await harness.pay_at_gateway(topup.gateway_order_id, amount=1)
    events = [await event_for_review(harness, paid["payment_id"])]

    await run(harness, "review", "resolve", events[0]["_id"], "--dismiss", "--why", "a test")

    settled = await harness.database.gateway_events.find_one({"_id": events[0]["_id"]})
    assert settled["outcome"] == "RESOLVED"
    assert settled["resolution"]["why"] == "a test"
    assert await harness.balance(customer_id) == 0


async def test_reconcile_names_what_differs_and_says_so_by_its_status(harness: Harness) -> None:
    """A payment that the ledger never heard of and an altered amount are found."""
    customer_id = await harness.customer(balance=500)
    unheard = await harness.initiate(customer_id, 800)
    paid = await harness.pay_at_gateway(unheard.gateway_order_id, webhook=False)
    altered = await harness.customer(balance=600)
    [entry] = await harness.entries(altered)
    await harness.database.wallet_transactions.update_one(
        {"_id": entry["_id"]}, {"$set": {"amount": Int64(601)}}
    )
    now = datetime.now(UTC)
    window = (
        *("--from", (now - timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%S")),
        *("--to", (now + timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%S")),
    )

    output = await run(harness, "reconcile", "--gateway", "razorpay", *window, "--json", status=1)

    await harness.database.wallet_transactions.update_one(
        {"_id": entry["_id"]}, {"$set": {"amount": Int64(600)}}
    )
    found = {one["gateway_id"]: one for one in json.loads(output)["discrepancies"]}
    assert found[paid["payment_id"]]["kind"] == "MISSING_HERE"
    assert found[paid["payment_id"]]["there"] == {"currency_code": "INR", "minor_units": 800}
    assert found[entry["gateway_payment_id"]]["kind"] == "AMOUNT_DIFFERS"
    table = await run(harness, "reconcile", "--gateway", "razorpay", *window, status=1)
    assert f"MISSING_HERE    payment   {paid['payment_id']}" in table
