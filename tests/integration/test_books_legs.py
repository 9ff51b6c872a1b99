"""The proof in legs: at any size, while payments go on, and after an interruption."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from bson import Int64

from harness import unique, with_database
from server.commit.port import StoreUnavailable
from server.ledger.books import Difference
from server.store import books_legs
from server.store.books import ledger_identity, verify_books
from server.store.books_legs import Tell
from server.store.books_state import BadState, BooksState, Phase, read_state, write_state
from server.store.connection import Database
from written_books import WrittenBooks, written_books


@pytest.fixture(scope="module")
async def falsified(mongodb_uri: str) -> AsyncIterator[WrittenBooks]:
    """Books in which records of every kind differ, some of them unreadable."""
    async with written_books(with_database(mongodb_uri, unique("legs"))) as books:
        one, two, three, four, five, six = [await books.busy_customer() for _ in range(6)]
        wallets, entries = books.database.wallets, books.database.wallet_transactions
        for identifier, fields in (
            (one["payment"], {"amount": Int64(-201)}),
            (two["credit"], {"amount": 1000.25}),
            (two["refund_entry"], {"sequence": 4.5}),
            (two["adjustment"], {"sequence": "last"}),
            (three["adjustment"], {"idempotency_id": "x"}),
            (five["taken"], {"customer_id": 5}),
        ):
            await entries.update_one(
                {"_id": identifier}, {"$set": fields}, bypass_document_validation=True
            )
        await entries.delete_one({"_id": four["refund_entry"]})
        await wallets.update_one(
            {"_id": five["wallet"]}, {"$set": {"sequence": "x"}}, bypass_document_validation=True
        )
        await wallets.delete_one({"_id": three["wallet"]})
        await books.database.orders.update_one(
            {"_id": six["order"]}, {"$set": {"refunded_amount": 1}}
        )
        await books.database.topups.update_one(
            {"_id": one["topup"]}, {"$set": {"state": "PENDING"}}
        )
        yield books


def texts(differences: list[Difference]) -> list[str]:
    """Return differences as sorted texts."""
    return sorted(
        f"{one.wallet} {one.kind} {one.record_id} {one.what} {one.minor_units}"
        for one in differences
    )


@pytest.mark.parametrize("leg_records", [1, 2, 3, 5, 7, 20])
async def test_legs_of_any_length_find_the_same_and_each_once(
    falsified: WrittenBooks, leg_records: int
) -> None:
    """Where legs end, also in the midst of a wallet, changes nothing of what is found."""
    whole = await falsified.differences()

    found = await falsified.differences(leg_records=leg_records)

    assert len([one for one in whole if "cannot be read" in one.what]) == 6
    assert texts(found) == texts(whole)


@pytest.mark.parametrize("legs", range(1, 18, 3))
async def test_an_interrupted_proof_goes_on_from_its_state(
    falsified: WrittenBooks, legs: int
) -> None:
    """Broken off after so many legs and gone on with, it tells each difference once, as one run."""
    whole = await falsified.differences()
    identity = await ledger_identity(falsified.database)
    found: list[Difference] = []
    kept: list[str] = []

    class Ended(Exception):
        """The process is ended."""

    def keep(state: BooksState) -> None:
        kept.append(write_state(state, identity))
        if len(kept) == legs:
            raise Ended

    with pytest.raises(Ended):
        await verify_books(falsified.database, found.append, went_on=keep, leg_records=3)
    state = read_state(kept[-1], identity)
    report = await verify_books(falsified.database, found.append, state=state, leg_records=3)

    assert texts(found) == texts(whole)
    assert report == await verify_books(falsified.database, lambda _: None)
    assert report.differences == len(whole)


async def test_a_leg_that_an_election_breaks_off_is_begun_anew(
    falsified: WrittenBooks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the leg had found by then is told once, by the attempt that comes to its end."""
    whole = await falsified.differences()
    broken_off: list[Phase] = []

    async def breaking(database: Database, state: BooksState, records: int, tell: Tell) -> None:
        await books_legs.orders_leg(database, state, records, tell)
        if not broken_off:
            broken_off.append(state.phase)
            raise StoreUnavailable("elected")

    monkeypatch.setitem(books_legs.LEGS, Phase.ORDERS, breaking)
    monkeypatch.setattr("server.store.books._RETRY_SECONDS", 0.0)

    assert texts(await falsified.differences()) == texts(whole)
    assert broken_off


async def test_payments_that_go_on_are_no_differences(mongodb_uri: str) -> None:
    """Hot and new wallets, orders and top-ups change between the legs, and the books agree."""
    async with written_books(with_database(mongodb_uri, unique("live"))) as books:
        everyone = [(await books.busy_customer())["customer"] for _ in range(5)]
        is_over = False

        async def go_on(customer_id: str) -> int:
            paid = 0
            while not is_over:
                await books.pay(customer_id, 1)
                paid += 1
                if paid % 10 == 0:
                    await books.busy_customer()
                    await books.top_up(customer_id, 30, unique("order"))
            return paid

        paying = [asyncio.create_task(go_on(customer)) for customer in everyone]
        legs: list[int] = []
        for leg_records in (4, 10, 50):
            found = await books.differences(
                leg_records=leg_records, went_on=lambda state: legs.append(state.passed)
            )
            assert texts(found) == []
        is_over = True
        assert sum(await asyncio.gather(*paying)) > 30
        assert len(legs) > 10, "the books that were there at first alone take as many"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"version": 1, "identity": "other"}', "null"])
def test_what_is_no_state_of_these_books_is_refused(text: str) -> None:
    """A state of another ledger, or no state at all, is never gone on from."""
    with pytest.raises(BadState):
        read_state(text, "identity")
