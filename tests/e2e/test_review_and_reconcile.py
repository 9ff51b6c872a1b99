"""The operator settles what could not be applied, and compares the gateway's books with ours."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from bson import Int64
from click.testing import CliRunner

import command_line
from harness import KEY_SECRET, WEBHOOK_SECRET, Harness, with_database
from postbox import CLIENT_SECRET, Service, Side, running_service
from server.cli.main import cli
from wallet_payment.v1 import resources_pb2 as resources

NOW = datetime.now(UTC)
TODAY = (
    *("--from", (NOW - timedelta(days=1)).strftime("%Y-%m-%d")),
    *("--to", (NOW + timedelta(days=2)).strftime("%Y-%m-%d")),
)


@pytest.fixture(scope="module")
async def shop(
    mongodb_uri: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Service]:
    """A service on a database of its own, with both gateways."""
    folder = tmp_path_factory.mktemp("review")
    async with running_service(with_database(mongodb_uri, "review"), folder) as running:
        yield running


@pytest.fixture(params=["razorpay", "paypal"])
def side(request: pytest.FixtureRequest, shop: Service) -> Side:
    """Each gateway in turn."""
    return shop.side(request.param)


async def run(harness: Harness, *arguments: str, status: int | None = 0, **environment: str) -> str:
    """Run `wallet-payment` as the service's operator; return what it prints."""
    settings = harness.settings
    given = {
        "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
        "WALLET_MONGODB_URI": settings.mongodb_uri.get_secret_value(),
        "WALLET_RAZORPAY_KEY_ID": settings.razorpay_key_id,
        "WALLET_RAZORPAY_KEY_SECRET": KEY_SECRET,
        "WALLET_RAZORPAY_WEBHOOK_SECRETS": WEBHOOK_SECRET,
        "WALLET_RAZORPAY_API_URL": settings.razorpay_api_url,
        "WALLET_PAYPAL_CLIENT_ID": settings.paypal_client_id,
        "WALLET_PAYPAL_CLIENT_SECRET": CLIENT_SECRET,
        "WALLET_PAYPAL_WEBHOOK_ID": settings.paypal_webhook_id,
        "WALLET_PAYPAL_ENVIRONMENT": settings.paypal_environment,
        "WALLET_PAYPAL_API_URL": settings.paypal_api_url,
        "WALLET_PAYPAL_TRUST_ANCHORS": settings.paypal_trust_anchors,
    }
    output, errors = await command_line.run(
        *arguments, environment=given | environment, status=status
    )
    assert status != 2 or not output
    return output + errors


async def waiting(harness: Harness, payment_id: str, **fields: Any) -> list[str]:
    """Return the keys of the events about a payment that wait for review, oldest first."""
    query = {"gateway_payment_id": payment_id, "outcome": "NEEDS_REVIEW"} | fields
    events = await harness.database.gateway_events.find(query).to_list(None)
    return [event["_id"] for event in sorted(events, key=lambda event: event["receive_time"])]


async def paid_too_little(side: Side) -> tuple[resources.Topup, str]:
    """Return a top-up of 1,000 for which 900 were paid, and the payment; two events tell of it."""
    topup = await side.initiate(await side.harness.customer(), 1_000)
    if side.name == "razorpay":
        await side.act(f"orders/{topup.gateway_order_id}/pay", amount=900)
        kinds = (side.captured, "order.paid")
    else:
        await side.act(f"paypal/orders/{topup.gateway_order_id}/approve", amount="9.00")
        kinds = (side.on_hold, side.captured)
    for kind in kinds:
        await side.deliver(await side.letter(topup, kind))
    stopped = await side.harness.topup(topup)
    assert stopped.state == resources.TOPUP_STATE_NEEDS_REVIEW
    return stopped, stopped.gateway_payment_id


async def paid_unknown(side: Side) -> tuple[resources.Topup, str]:
    """Return a top-up whose payment and refund nobody could tie to it, and the payment."""
    topup = await side.initiate(await side.harness.customer(), 1_000)
    paid = await side.pay(topup)
    await side.refund(paid.payment_id, 400)
    topups = side.harness.database.topups
    await topups.update_one({"_id": topup.topup_id}, {"$set": {"gateway": "lost"}})
    for kind in (side.captured, side.refunded):
        assert await side.deliver(await side.letter(topup, kind)) == "NEEDS_REVIEW"
    await topups.update_one(
        {"_id": topup.topup_id}, {"$set": {"gateway": side.name}, "$inc": {"version": Int64(1)}}
    )
    return topup, paid.payment_id


async def test_a_payment_of_another_amount_is_put_into_the_wallet_once(side: Side) -> None:
    """Told by two events, it is listed once with its reason, and credited once by a person."""
    topup, payment_id = await paid_too_little(side)
    first, second = await waiting(side.harness, payment_id)
    customer = topup.customer_id

    listed = json.loads(await run(side.harness, "review", "list", "--json", "--limit", "1000"))
    [mine] = [one for one in listed if one["event_key"] == first]
    assert mine["amount"] == f"{side.currency} 9.00"
    assert (mine["money"], mine["topup_id"]) == ("CAPTURED", topup.topup_id)
    assert f"the top-up is for {side.currency} 10.00" in mine["reason"]
    shown = await run(side.harness, "review", "show", first)
    assert f"reason               {mine['reason']}" in shown
    assert payment_id in shown.partition("\n\n")[2], "the raw event"
    command = f"review resolve {first} --credit {customer} {side.currency}:900"
    assert command in shown

    resolved = await run(
        side.harness, *command.split(), "--why", "paid less, agreed on the phone", "--by", "asha"
    )

    assert "resolved by transaction txn_" in resolved
    assert f"resolved too, since it tells of the same: {second}" in resolved
    [entry] = await side.harness.entries(customer)
    assert (entry["type"], entry["amount"]) == ("ADJUSTMENT", 900)
    assert entry["metadata"] == {"by": "asha", "why": "paid less, agreed on the phone"}
    assert entry["_id"] in resolved
    assert await side.balance(topup) == 900


async def test_what_waits_is_listed_in_words(shop: Service) -> None:
    """Each thing to settle is one paragraph: what came, why it waits, and who else tells of it."""
    topup, payment_id = await paid_too_little(shop.razorpay)
    first, second = await waiting(shop.harness, payment_id)

    listed = await run(shop.harness, "review", "list", "--limit", "1000")

    paragraph = listed[listed.index(first) :].splitlines()[:4]
    for told in ("payment.captured", "INR 9.00", payment_id, topup.topup_id, topup.customer_id):
        assert told in paragraph[1]
    assert paragraph[2] == "    Captured were INR 9.00, the top-up is for INR 10.00."
    assert paragraph[3] == f"    The same is told by {second}"
    assert "wallet-payment review show EVENT_KEY" in listed.splitlines()[-1]


async def test_an_unknown_payment_is_tied_to_its_top_up(side: Side) -> None:
    """A payment whose order nobody knew is credited to the top-up that a person names, once."""
    topup, payment_id = await paid_unknown(side)
    [captured] = await waiting(side.harness, payment_id, money="CAPTURED")
    command = ("review", "resolve", captured, "--topup", topup.topup_id)

    resolved = await run(side.harness, *command, "--why", "found it", "--by", "ravi")

    credited = await side.harness.topup(topup)
    assert credited.state == resources.TOPUP_STATE_CREDITED
    assert credited.gateway_payment_id == payment_id
    assert f"resolved by transaction {credited.transaction_id}" in resolved
    event = await side.harness.database.gateway_events.find_one({"_id": captured})
    assert (
        event["resolution"].items()
        >= {
            "by": "ravi",
            "why": "found it",
            "topup_id": topup.topup_id,
            "transaction_id": credited.transaction_id,
        }.items()
    )
    assert await side.balance(topup) == 1_000


async def test_an_unknown_refund_is_taken_from_a_wallet(side: Side) -> None:
    """A refund that nobody could place debits a wallet, below zero if need be, once."""
    topup, payment_id = await paid_unknown(side)
    refunds = await waiting(side.harness, payment_id, money="TAKEN")
    key, customer = refunds[0], topup.customer_id
    shown = await run(side.harness, "review", "show", key)
    command = f"review resolve {key} --credit CUSTOMER {side.currency}:-400"
    assert command in shown
    assert "--topup" not in shown

    await run(side.harness, *command.replace("CUSTOMER", customer).split(), "--why", "refunded")

    [entry] = await side.harness.entries(customer)
    assert (entry["type"], entry["amount"]) == ("ADJUSTMENT", -400)
    assert await side.wallet(topup) == (-400, resources.WALLET_STATE_FROZEN)
    assert await waiting(side.harness, payment_id, money="TAKEN") == []


async def test_what_a_person_credited_is_not_credited_again(side: Side) -> None:
    """The top-up of a payment that was put into a wallet by hand gets it no more, on asking."""
    topup, payment_id = await paid_unknown(side)
    [captured] = await waiting(side.harness, payment_id, money="CAPTURED")
    credit = ("--credit", topup.customer_id, f"{side.currency}:1000")
    await run(side.harness, "review", "resolve", captured, *credit, "--why", "told by phone")

    asked = (await side.harness.verify(topup)).topup

    assert asked.state == resources.TOPUP_STATE_NEEDS_REVIEW
    assert "was credited before, by txn_" in asked.failure_reason
    assert await side.balance(topup) == 1_000


async def test_dismissing_moves_no_money(side: Side) -> None:
    """An event that owes nothing to anyone is settled with who and why, and leaves the list."""
    topup, payment_id = await paid_too_little(side)
    key, _ = await waiting(side.harness, payment_id)

    resolved = await run(
        side.harness, "review", "resolve", key, "--dismiss", "--why", "a test", "--by", "asha"
    )

    assert "resolved\n" in resolved
    settled = await side.harness.database.gateway_events.find_one({"_id": key})
    assert settled["outcome"] == "RESOLVED"
    assert (settled["resolution"]["by"], settled["resolution"]["why"]) == ("asha", "a test")
    again = await run(
        side.harness,
        *("review", "resolve", key, "--dismiss", "--why", "a test", "--by", "asha", "--json"),
    )
    assert json.loads(again) == {"transaction_id": "", "resolved_too": []}
    assert await waiting(side.harness, payment_id) == []
    assert await side.harness.entries(topup.customer_id) == []


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ("--dismiss", "Missing option '--why'"),
        ("--dismiss --why=", "Say why with --why"),
        ("--dismiss --why x --by=", "who decides with --by"),
        ("--why x", "exactly one of --topup, --credit and --dismiss"),
        ("--why x --dismiss --topup top_1", "exactly one of"),
        ("--why x --credit customer-1 9.00", "such as INR:50000"),
        ("--why x --credit customer-1 INR:9.00", "such as INR:50000"),
        ("--why x --credit customer-1 XYZ:900", "such as INR:50000"),
    ],
)
def test_a_mistake_at_the_command_line_is_told_in_words(arguments: str, why: str) -> None:
    """What is asked for wrongly is not tried, and there is a word for what is wrong."""
    result = CliRunner().invoke(cli, ["review", "resolve", "key", *arguments.split()])

    assert result.exit_code == 2
    assert why in result.output


async def test_names_that_nobody_knows_are_told(shop: Service) -> None:
    """Whoever mistypes an event, a top-up or a customer hears it, and nothing is settled."""
    _, payment_id = await paid_too_little(shop.razorpay)
    keys = await waiting(shop.harness, payment_id)
    because = ("--why", "x")
    told = await asyncio.gather(
        *(
            run(shop.harness, "review", *arguments, status=2)
            for arguments in (
                ("show", "x"),
                ("resolve", keys[0], "--topup", "top_1", *because),
                ("resolve", keys[0], "--credit", "nobody", "INR:900", *because),
            )
        )
    )

    assert "There is no event x; `wallet-payment review list` names them." in told[0]
    assert "There is no top-up top_1 of razorpay" in told[1]
    assert "There is no customer nobody" in told[2]
    assert await waiting(shop.harness, payment_id) == keys


@asynccontextmanager
async def altered(harness: Harness, entry: dict[str, Any], **changes: Any) -> AsyncIterator[None]:
    """Have an entry of the ledger say something else for a while."""
    entries = harness.database.wallet_transactions
    await entries.update_one({"_id": entry["_id"]}, {"$set": changes})
    yield
    await entries.replace_one({"_id": entry["_id"]}, entry)


@pytest.fixture(scope="module")
async def books(
    mongodb_uri: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Service]:
    """A service where nothing differs yet."""
    folder = tmp_path_factory.mktemp("reconcile")
    async with running_service(with_database(mongodb_uri, "reconcile"), folder) as running:
        yield running


@pytest.mark.parametrize("name", ["razorpay", "paypal"])
async def test_reconcile_names_what_differs_and_says_so_by_its_status(
    books: Service, name: str
) -> None:
    """Missing here, missing there, another amount: each as a row and as JSON, with status 1."""
    side, harness = books.side(name), books.harness
    command = ("reconcile", "--gateway", name, *TODAY)
    agreed, payment_id = await side.credited(500)
    await side.refund(payment_id, 100)
    await side.deliver(await side.letter(agreed, side.refunded))
    assert "2 compared: the gateway and the ledger agree" in await run(harness, *command)

    unheard = await side.pay(await side.initiate(await harness.customer(), 800))
    refunded, refunded_id = await side.credited(700)
    await side.refund(refunded_id, 50)
    lost = await side.letter(refunded, side.refunded)
    topup, _ = await side.credited(600)
    misnamed, misnamed_id = await side.credited(300)
    [of_another_amount] = await harness.entries(topup.customer_id)
    [of_another_name] = await harness.entries(misnamed.customer_id)

    async with (
        altered(harness, of_another_amount, amount=Int64(601)),
        altered(harness, of_another_name, gateway_payment_id="unknown"),
    ):
        told = json.loads(await run(harness, *command, "--json", status=1))
        table = await run(harness, *command, status=1)

    def money(amount: int) -> dict[str, Any]:
        return {"currency_code": side.currency, "minor_units": amount}

    found = {one["gateway_id"]: one for one in told["discrepancies"]}
    [refund_id] = [key for key, one in found.items() if one["what"] == "reversal"]
    assert refund_id.encode() in lost.body
    assert {
        gateway_id: (one["kind"], one["here"], one["there"]) for gateway_id, one in found.items()
    } == {
        unheard.payment_id: ("MISSING_HERE", None, money(800)),
        refund_id: ("MISSING_HERE", None, money(50)),
        topup.gateway_payment_id: ("AMOUNT_DIFFERS", money(601), money(600)),
        "unknown": ("MISSING_THERE", money(300), None),
        misnamed_id: ("MISSING_HERE", None, money(300)),
    }
    assert told["compared"] == 8
    rows = {row.split()[2]: row.split() for row in table.splitlines()[1:-1]}
    assert rows.keys() == found.keys()
    row = rows[topup.gateway_payment_id]
    assert row[:2] == ["AMOUNT_DIFFERS", "payment"]
    assert row[3:7] == [side.currency, "6.01", side.currency, "6.00"]
    assert row[-1] == topup.topup_id
    assert rows[refund_id][:2] == ["MISSING_HERE", "reversal"]
    assert table.splitlines()[-1] == "8 compared: 5 differ"


@pytest.mark.parametrize("name", ["razorpay", "paypal"])
async def test_what_no_webhook_told_is_applied_once(books: Service, name: str) -> None:
    """A lost payment and a lost refund take effect; their late webhooks change nothing any more."""
    side, harness = books.side(name), books.harness
    command = ("reconcile", "--gateway", name, *TODAY, "--apply")
    unheard = await side.initiate(await harness.customer(), 800)
    paid = await side.pay(unheard)
    refunded, refunded_id = await side.credited(700)
    await side.refund(refunded_id, 50)
    late = [await side.letter(unheard, side.captured), await side.letter(refunded, side.refunded)]

    told = json.loads(await run(harness, *command, "--json", status=None))

    applied = {one["gateway_id"]: (one["what"], one["outcome"]) for one in told["applied"]}
    assert applied[paid.payment_id] == ("payment", "APPLIED")
    assert ("reversal", "APPLIED") in applied.values()
    missing = {one["gateway_id"] for one in told["discrepancies"]}
    assert not missing & applied.keys()
    assert await side.balance(unheard) == 800
    assert await side.balance(refunded) == 650
    assert "applied" not in await run(harness, *command, status=None)
    for letter in late:
        await side.deliver(letter)
    assert await side.balance(unheard) == 800
    assert await side.balance(refunded) == 650


async def test_an_open_dispute_is_missing_at_paypal_until_it_ends(books: Service) -> None:
    """PayPal's books tell no holds: what a dispute holds differs, and agrees once it is won."""
    paypal = books.paypal
    topup, payment_id = await paypal.credited(500)
    dispute = await paypal.dispute(payment_id, 200)
    await paypal.deliver(await paypal.letter(topup, paypal.disputed))
    dispute_id = dispute.rpartition("/")[2]
    command = ("reconcile", "--gateway", "paypal", *TODAY, "--json")

    told = json.loads(await run(books.harness, *command, status=1))
    [mine] = [one for one in told["discrepancies"] if one["gateway_id"] == dispute_id]
    assert (mine["kind"], mine["here"]["minor_units"]) == ("MISSING_THERE", 200)

    await paypal.act(f"{dispute}/win")
    await paypal.deliver(await paypal.letter(topup, paypal.dispute_won))
    told = json.loads(await run(books.harness, *command, status=None))
    assert dispute_id not in {one["gateway_id"] for one in told["discrepancies"]}


async def test_what_cannot_be_compared_is_no_difference(books: Service) -> None:
    """A gateway that is away or unknown, or a time that is none: status 2, and in words."""
    nobody = "http://127.0.0.1:9"
    backwards = ("--from", "2026-11-02", "--to", "2026-11-02")
    *away, unknown, refused = await asyncio.gather(
        *(
            run(books.harness, "reconcile", "--gateway", name, *time, status=2, **environment)
            for name, time, environment in (
                ("razorpay", TODAY, {"WALLET_RAZORPAY_API_URL": nobody}),
                ("paypal", TODAY, {"WALLET_PAYPAL_API_URL": nobody}),
                ("acme", (), {}),
                ("razorpay", backwards, {}),
            )
        )
    )

    for told in away:
        assert "nothing was compared" in told
        assert "cannot be reached" in told
    assert "There are no credentials for a gateway acme here." in unknown
    assert "--from must be before --to" in refused
