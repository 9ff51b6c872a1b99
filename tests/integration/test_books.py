"""Proof of the books: what was altered behind the service's back is found and named."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from bson import Int64

from harness import Harness, differences, running_harness, unique, with_database
from server.ledger.books import Difference
from server.store.books import verify_books
from server.store.connection import connect


@pytest.fixture(scope="module")
async def cooked(mongodb_uri: str) -> AsyncIterator[Harness]:
    """A service on a database of its own, whose books may be falsified."""
    uri = with_database(mongodb_uri, unique("cooked"))
    async with running_harness(uri, books_agree=False) as harness:
        yield harness


async def busy_customer(harness: Harness) -> str:
    """Return a customer with a top-up, three payments and a refund."""
    customer = await harness.customer(1_000)
    order = unique("order")
    await harness.pay(customer, 100, order)
    await harness.pay(customer, 20)
    await harness.refund(customer, order, 50)
    await harness.pay(customer, 3)
    return customer


async def found_of(harness: Harness, customer: str) -> list[Difference]:
    """Return what the proof names of a customer's wallets."""
    found = await differences(harness.settings.mongodb_uri.get_secret_value())
    return [difference for difference in found if difference.wallet.customer_id == customer]


async def entry_of(harness: Harness, customer: str, sequence: int) -> dict[str, Any]:
    """Return one stored entry."""
    entry: dict[str, Any] = await harness.database.wallet_transactions.find_one(
        {"customer_id": customer, "sequence": sequence}
    )
    return entry


async def test_untouched_books_agree(cooked: Harness) -> None:
    """What the service wrote proves itself, and the proof tells what it saw."""
    customer = await busy_customer(cooked)

    assert await found_of(cooked, customer) == []
    with connect(cooked.settings.mongodb_uri.get_secret_value()) as database:
        report = await verify_books(database, lambda _: None)
    assert report.transactions == await cooked.database.wallet_transactions.count_documents({})
    assert report.wallets == await cooked.database.wallets.count_documents({})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("amount", Int64(-101)),
        ("balance_after", Int64(901)),
        ("order_id", "another-order"),
        ("type", "ADJUSTMENT"),
        ("hash", "0" * 64),
        ("previous_hash", "0" * 64),
        ("gateway_payment_id", "pay_invented"),
        ("postings.1.account", "orders:USD"),
        ("postings.1.amount", Int64(99)),
    ],
)
async def test_one_altered_value_is_found_and_named(
    cooked: Harness, field: str, value: object
) -> None:
    """Altering one stored value of one entry is found, and the entry is named."""
    customer = await busy_customer(cooked)
    entry = await entry_of(cooked, customer, 2)
    await cooked.database.wallet_transactions.update_one(
        {"_id": entry["_id"]}, {"$set": {field: value}}
    )

    found = await found_of(cooked, customer)

    assert entry["_id"] in {difference.transaction_id for difference in found}
    assert all(difference.what for difference in found)


async def test_an_altered_amount_is_named_with_its_figures(cooked: Harness) -> None:
    """For an altered amount the proof tells the entry and what the balance should be."""
    customer = await busy_customer(cooked)
    entry = await entry_of(cooked, customer, 2)
    await cooked.database.wallet_transactions.update_one(
        {"_id": entry["_id"]}, {"$set": {"amount": Int64(-90)}}
    )

    named = [one for one in await found_of(cooked, customer) if one.transaction_id == entry["_id"]]

    assert [one.wallet for one in named] == [(customer, "INR")] * len(named)
    text = "; ".join(one.what for one in named)
    assert "hash does not fit" in text
    assert "balance_after is 900" in text
    assert "910" in text


@pytest.mark.parametrize("sequence", [1, 3, 5])
async def test_a_deleted_entry_is_found(cooked: Harness, sequence: int) -> None:
    """A deleted first, middle or last entry is found, by its successor or by the wallet."""
    customer = await busy_customer(cooked)
    entry = await entry_of(cooked, customer, sequence)
    await cooked.database.wallet_transactions.delete_one({"_id": entry["_id"]})

    found = await found_of(cooked, customer)

    following = await entry_of(cooked, customer, sequence + 1)
    named = {difference.transaction_id for difference in found}
    assert (following["_id"] if following else "") in named


@pytest.mark.parametrize(
    ("field", "value"), [("balance", Int64(1_000_000)), ("sequence", Int64(6)), ("head_hash", "")]
)
async def test_an_altered_wallet_is_found(cooked: Harness, field: str, value: object) -> None:
    """A balance, sequence or hash that was written into the wallet by hand is found."""
    customer = await busy_customer(cooked)
    await cooked.database.wallets.update_one({"customer_id": customer}, {"$set": {field: value}})

    (difference,) = await found_of(cooked, customer)

    assert difference.transaction_id == ""
    assert difference.what.startswith(field)


async def test_a_deleted_wallet_and_an_invented_one_are_found(cooked: Harness) -> None:
    """Entries without their wallet are found, and so is a wallet with money and no entries."""
    customer = await busy_customer(cooked)
    wallet = await cooked.database.wallets.find_one_and_delete({"customer_id": customer})
    invented = unique("invented")
    await cooked.database.wallets.insert_one(
        wallet | {"_id": f"{invented}:INR", "customer_id": invented}
    )

    (deleted,) = await found_of(cooked, customer)
    assert deleted.what == "entries without a wallet"
    named = {difference.what.split()[0] for difference in await found_of(cooked, invented)}
    assert named == {"balance", "sequence", "head_hash", "usage"}


async def test_an_inserted_entry_is_found(cooked: Harness) -> None:
    """An entry that was slipped in at the end, with a plausible balance, is found."""
    customer = await busy_customer(cooked)
    last = await entry_of(cooked, customer, 5)
    slipped = last | {
        "_id": unique("txn_forged"),
        "sequence": Int64(6),
        "amount": Int64(10_000),
        "balance_after": Int64(last["balance_after"] + 10_000),
        "previous_hash": last["hash"],
        "idempotency_id": f"forger PayWithWallet {unique('key')}",
    }
    await cooked.database.wallet_transactions.insert_one(slipped)

    found = await found_of(cooked, customer)

    assert slipped["_id"] in {difference.transaction_id for difference in found}
    assert {difference.what.split()[0] for difference in found} >= {"balance", "sequence"}


async def test_an_entry_that_cannot_be_read_is_named(cooked: Harness) -> None:
    """A value of no sense at all does not stop the proof: the entry is named, others are proven."""
    customer, other = await busy_customer(cooked), await busy_customer(cooked)
    spoilt, altered = await entry_of(cooked, customer, 2), await entry_of(cooked, other, 2)
    entries = cooked.database.wallet_transactions
    await entries.update_one(
        {"_id": spoilt["_id"]}, {"$set": {"idempotency_id": "x" + spoilt["_id"]}}
    )
    await entries.update_one({"_id": altered["_id"]}, {"$set": {"amount": Int64(-1)}})

    found = await found_of(cooked, customer)

    assert (spoilt["_id"], "cannot be read") in {
        (one.transaction_id, one.what[11:25]) for one in found
    }
    assert altered["_id"] in {one.transaction_id for one in await found_of(cooked, other)}


async def test_altered_notes_are_not_part_of_the_proof(cooked: Harness) -> None:
    """The caller's own notes can be erased without breaking the chain."""
    customer = await cooked.customer(100)
    await cooked.pay(customer, 1, metadata={"name": "personal"})
    await cooked.database.wallet_transactions.update_many(
        {"customer_id": customer}, {"$unset": {"metadata": 1}}
    )

    assert await found_of(cooked, customer) == []
