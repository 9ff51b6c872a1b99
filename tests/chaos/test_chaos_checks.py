"""The checks after a round of chaos find what they are there to find."""

from typing import Any

import pytest
from chaos_checks import check
from chaos_record import Operation, Record, Sight
from motor.motor_asyncio import AsyncIOMotorClient

from harness import inr, unique, with_database
from wallet_payment.v1 import resources_pb2 as resources
from wallet_payment.v1 import wallet_payment_service_pb2 as service

CAPTURED = {"pay_1": 100}


def entry(number: int, kind: str, amount: int, balance: int, **fields: Any) -> dict[str, Any]:
    """Return an entry of Asha's wallet as it is stored, with what the checks look at."""
    given = {"_id": f"txn_{number}", "customer_id": "asha", "sequence": number, "type": kind}
    return given | {"amount": amount, "balance_after": balance} | fields


def books() -> dict[str, list[dict[str, Any]]]:
    """Return the records of a top-up of 100, of which 30 paid an order and 10 came back."""
    paid = {"order_id": "order-1", "idempotency_id": "order-service PayWithWallet k1"}
    back = {"order_id": "order-1", "idempotency_id": "order-service RefundToWallet k2"}
    return {
        "wallet_transactions": [
            entry(1, "TOPUP", 100, 100, gateway_payment_id="pay_1"),
            entry(2, "PAYMENT", -30, 70, **paid),
            entry(3, "REFUND", 10, 80, **back),
        ],
        "wallets": [{"_id": "asha", "customer_id": "asha", "sequence": 3, "balance": 80}],
        "orders": [
            {
                "_id": "order-1",
                "amount": 30,
                "wallet_transaction_id": "txn_2",
                "refunded_amount": 10,
                "refunds": [{"amount": 10}],
            }
        ],
    }


def record() -> Record:
    """Return what callers noted of it."""
    noted = Record()
    pay = service.PayWithWalletRequest(amount=inr(30), idempotency_key="k1")
    refund = service.RefundToWalletRequest(amount=inr(10), idempotency_key="k2")
    paid = service.PayWithWalletResponse(
        transaction=resources.WalletTransaction(transaction_id="txn_2")
    )
    noted.operations += [
        Operation("PayWithWallet", pay, answers=[paid]),
        Operation("RefundToWallet", refund),
    ]
    noted.sights += [
        Sight("asha", 1.0, 2.0, 2, 70, is_read=False),
        Sight("asha", 3.0, 4.0, 3, 80, is_read=True, newest_sequence=3),
    ]
    return noted


async def findings(mongodb_uri: str, noted: Record, kept: dict[str, Any], **given: Any) -> str:
    """Store records, check them, and return what is found, a line each."""
    client: AsyncIOMotorClient[Any] = AsyncIOMotorClient(
        with_database(mongodb_uri, unique("checks"))
    )
    try:
        database = client.get_default_database()
        for collection, documents in kept.items():
            if documents:
                await database[collection].insert_many(documents)
        verdict = await check(noted, database, given.get("captured", CAPTURED))
    finally:
        client.close()
    return "\n".join(verdict.findings)


async def test_good_books_are_found_good(mongodb_uri: str) -> None:
    """Nothing is found where nothing is wrong."""
    assert await findings(mongodb_uri, record(), books()) == ""


async def test_a_lost_payment_is_found(mongodb_uri: str) -> None:
    """A payment that was acknowledged and is not in the ledger is lost, and leaves a gap."""
    kept = books()
    del kept["wallet_transactions"][1]
    found = await findings(mongodb_uri, record(), kept)
    assert "LOST: PayWithWallet k1" in found
    assert "sequence has a gap" in found


async def test_a_doubled_operation_is_found(mongodb_uri: str) -> None:
    """A refund that is there twice is found, though nobody was told of it."""
    kept = books()
    again = kept["wallet_transactions"][2] | {"_id": "txn_4", "sequence": 4, "balance_after": 90}
    kept["wallet_transactions"].append(again)
    found = await findings(mongodb_uri, record(), kept)
    assert "DOUBLED: RefundToWallet k2" in found
    assert "its refunds are not the ledger's" in found


async def test_a_payment_that_was_not_credited_is_found(mongodb_uri: str) -> None:
    """What the gateway captured has to be credited or to wait for review."""
    captured = CAPTURED | {"pay_2": 5}
    found = await findings(mongodb_uri, record(), books(), captured=captured)
    assert found == "LOST: credit of pay_2"
    waiting = {"_id": "e", "outcome": "NEEDS_REVIEW", "gateway_payment_id": "pay_2"}
    kept = books() | {"gateway_events": [waiting]}
    assert await findings(mongodb_uri, record(), kept, captured=captured) == ""


@pytest.mark.parametrize(("sequence", "newest"), [(1, 3), (3, 1)])
async def test_a_read_that_goes_backwards_is_found(
    mongodb_uri: str, sequence: int, newest: int
) -> None:
    """A wallet or a history older than an answer that came before the read is found."""
    noted = record()
    balance = {1: 100, 3: 80}[sequence]
    noted.sights.append(Sight("asha", 5.0, 6.0, sequence, balance, True, newest))
    assert "went backwards from 3 to" in await findings(mongodb_uri, noted, books())
    noted.sights[-1] = Sight("asha", 1.5, 6.0, sequence, balance, True, newest)
    assert await findings(mongodb_uri, noted, books()) == ""
