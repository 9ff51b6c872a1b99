"""Names and digests of the ledger: ids that sort, fingerprints and hashes that tell everything."""

import hashlib
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.ledger import chain
from server.ledger.commands import (
    AdjustWallet,
    CreateTopup,
    DismissEvent,
    PayOrder,
    RefundOrder,
    TieToTopup,
)
from server.ledger.money import (
    MAX_AMOUNT_MINOR_UNITS,
    MAX_BALANCE_MINOR_UNITS,
    Money,
    exponent,
    is_currency,
    to_major_units,
)
from server.ledger.posting import Cause, empty_wallet, orders_account, post
from server.ledger.records import (
    IdempotencyKey,
    OrderToPay,
    Posting,
    Transaction,
    TransactionType,
    WalletKey,
    WalletState,
)

ASHA = WalletKey("asha", "INR")
KEY = IdempotencyKey("shop", "PayWithWallet", "key-1")
PAY = PayOrder("asha", "order-1", Money("INR", 100), KEY, {"a": "1", "b": "2"})
REFUND = RefundOrder("asha", "order-1", Money("INR", 100), KEY, "late", {"a": "1"})
TOPUP = CreateTopup(
    customer_id="asha",
    amount=Money("INR", 100),
    gateway="razorpay",
    method="upi",
    idempotency_key=KEY,
    pay_order=OrderToPay("order-1", Money("INR", 50)),
    return_url="https://shop.example/",
    metadata={"a": "1"},
    lifetime_ms=1,
    first_poll_ms=1,
)


def entry() -> Transaction:
    """Return an entry with a value in every field."""
    cause = Cause("order-1", "top_1", "razorpay", "pay_1", "rfnd_1", {"note": "a"})
    wallet = replace(empty_wallet(ASHA, 5), balance=100, sequence=1, version=1)
    return post(wallet, TransactionType.REFUND, 10, orders_account("INR"), cause, 5)[1]


@pytest.mark.parametrize(
    ("command", "other"),
    [
        (PAY, replace(PAY, customer_id="ben")),
        (PAY, replace(PAY, order_id="order-2")),
        (PAY, replace(PAY, amount=Money("INR", 101))),
        (PAY, replace(PAY, amount=Money("JPY", 100))),
        (PAY, replace(PAY, metadata={"a": "1"})),
        (PAY, replace(PAY, metadata={"a": "2", "b": "1"})),
        (REFUND, replace(REFUND, amount=None)),
        (REFUND, replace(REFUND, amount=Money("INR", 99))),
        (REFUND, replace(REFUND, reason="")),
        (REFUND, replace(REFUND, order_id="order-2")),
        (REFUND, replace(REFUND, metadata={})),
        (TOPUP, replace(TOPUP, amount=Money("INR", 101))),
        (TOPUP, replace(TOPUP, gateway="paypal")),
        (TOPUP, replace(TOPUP, method="card")),
        (TOPUP, replace(TOPUP, pay_order=None)),
        (TOPUP, replace(TOPUP, pay_order=OrderToPay("order-1", Money("INR", 51)))),
        (TOPUP, replace(TOPUP, pay_order=OrderToPay("order-2", Money("INR", 50)))),
        (TOPUP, replace(TOPUP, return_url="")),
        (TOPUP, replace(TOPUP, metadata={})),
    ],
)
def test_another_request_has_another_fingerprint(command: Any, other: Any) -> None:
    """Whatever differs in what is asked for shows in the fingerprint."""
    assert chain.idempotency(command).fingerprint != chain.idempotency(other).fingerprint


TIE = TieToTopup("event", "razorpay", "pay_1", "asha", "top_1", "", "ben", "seen at the gateway")
ADJUST = AdjustWallet("event", None, "asha", Money("INR", 7), "ben", "seen at the gateway")


@pytest.mark.parametrize(
    "other",
    [
        replace(TIE, event_key="another"),
        replace(TIE, customer_id="cleo"),
        replace(TIE, topup_id="top_2"),
        replace(TIE, by="cleo"),
        replace(TIE, why="a guess"),
        ADJUST,
        replace(ADJUST, customer_id="cleo"),
        replace(ADJUST, amount=Money("INR", 8)),
        replace(ADJUST, amount=Money("JPY", 7)),
        DismissEvent("event", "ben", "seen at the gateway"),
    ],
)
def test_another_settlement_has_another_fingerprint(other: Any) -> None:
    """Whatever differs in how a person settled an event makes it no repeat."""
    other_print = chain.resolution_fingerprint(other)
    assert other_print != chain.resolution_fingerprint(TIE)
    assert (other_print == chain.resolution_fingerprint(ADJUST)) == (other == ADJUST)


def test_there_is_one_way_to_write_what_is_digested() -> None:
    """Keys are sorted, nothing is blank, and other characters are escaped: in any language."""
    assert chain.canonical({"b": "\u20b9 1", "a": [1, None]}) == b'{"a":[1,null],"b":"\\u20b9 1"}'


@pytest.mark.parametrize(
    ("command", "same"),
    [
        (PAY, replace(PAY, idempotency_key=IdempotencyKey("shop", "PayWithWallet", "key-2"))),
        (PAY, replace(PAY, metadata={"b": "2", "a": "1"})),
        (TOPUP, replace(TOPUP, lifetime_ms=2)),
    ],
)
def test_what_is_not_asked_for_is_not_in_the_fingerprint(command: Any, same: Any) -> None:
    """Key, order of notes and the server's own settings do not change the request."""
    assert chain.idempotency(command).fingerprint == chain.idempotency(same).fingerprint


NOT_COVERED = {"hash", "metadata", "wallet_state", "has_changed_state", "idempotency"}
CHANGES: dict[str, Callable[[Any], Any]] = {
    "type": lambda _: TransactionType.ADJUSTMENT,
    "postings": lambda postings: (postings[0], Posting("orders:USD", postings[1].amount)),
    "wallet_state": lambda _: WalletState.FROZEN,
    "metadata": lambda _: {},
    "idempotency": lambda _: chain.idempotency(PAY),
}


@pytest.mark.parametrize("name", [field.name for field in fields(Transaction)])
def test_the_hash_covers_everything_that_an_auditor_relies_on(name: str) -> None:
    """Changing any field but the caller's notes and the request's name breaks the hash."""
    original = entry()
    value = getattr(original, name)
    changed = CHANGES[name](value) if name in CHANGES else value + type(value)(1)
    altered = replace(original, **{name: changed})

    assert altered != original
    assert (chain.entry_hash(altered) == original.hash) == (name in NOT_COVERED)


def test_a_hash_can_be_recomputed_by_anybody() -> None:
    """The digest is SHA-256 of plain JSON: keys sorted, no white space, as written down here."""
    written = (
        '{"amount":10,"balance_after":110,"create_time_ms":5,"currency_code":"INR",'
        '"customer_id":"asha","gateway":"razorpay","gateway_payment_id":"pay_1",'
        '"gateway_reversal_id":"rfnd_1","order_id":"order-1","postings":[["wallet:asha:INR",10],["orders:INR",-10]],'
        f'"previous_hash":"{"0" * 64}","refund_id":"ref_00000000050000002T4MDMA4NX","sequence":2,'
        '"topup_id":"top_1","transaction_id":"txn_00000000050000002T4MDMA4NX","type":"REFUND"}'
    )

    assert entry().hash == hashlib.sha256(written.encode()).hexdigest()


@given(
    st.lists(st.tuples(st.integers(0, 2**40), st.integers(1, 2**30)), min_size=2, max_size=2),
)
@settings(max_examples=200, deadline=None)
def test_ids_sort_by_time_and_then_by_sequence(places: list[tuple[int, int]]) -> None:
    """Ids of one wallet sort as text exactly as their time and sequence do as numbers."""
    one, other = places
    ids = [chain.transaction_id(ASHA, sequence, time_ms) for time_ms, sequence in (one, other)]

    assert (ids[0] < ids[1]) == (one < other)
    assert (ids[0] == ids[1]) == (one == other)


def test_ids_of_different_wallets_differ() -> None:
    """The same place in another wallet is another id, also where only the currency differs."""
    wallets = [
        WalletKey(f"customer-{number}", code) for number in range(500) for code in ("INR", "JPY")
    ]

    ids = {chain.transaction_id(wallet, 1, 1_000) for wallet in wallets}

    assert len(ids) == len(wallets)
    assert all(identifier.startswith("txn_") and len(identifier) == 30 for identifier in ids)


def test_a_top_ups_id_is_its_requests_own() -> None:
    """Another key or another request gives another top-up id at the same moment."""
    commands = [
        TOPUP,
        replace(TOPUP, customer_id="ben"),
        replace(TOPUP, idempotency_key=IdempotencyKey("shop", "InitiateTopup", "key-2")),
        replace(TOPUP, idempotency_key=IdempotencyKey("pos", "InitiateTopup", "key-1")),
    ]

    ids = {chain.topup_id(chain.idempotency(command), 1_000) for command in commands}

    assert len(ids) == len(commands)
    assert all(identifier.startswith("top_") and len(identifier) <= 40 for identifier in ids)
    # The gateways know it: another release has to make the same one of the same request.
    first = chain.topup_id(chain.idempotency(TOPUP), 1_700_000_000_000)
    assert first == "top_01HF7YAT005F7ZQPS9TBVHBZ2Q"


def test_the_bounds_of_money_are_those_of_the_contract() -> None:
    """A request moves at most 10^14 minor units, and a wallet holds what 64 bits can."""
    assert MAX_AMOUNT_MINOR_UNITS == 100_000_000_000_000
    assert MAX_BALANCE_MINOR_UNITS == 9_223_372_036_854_775_807


@pytest.mark.parametrize(
    ("currency", "minor_units", "major_units"),
    [
        ("INR", 12_345, "123.45"),
        ("JPY", 12_345, "12345"),
        ("KWD", 12_345, "12.345"),
        ("INR", 5, "0.05"),
        ("INR", -12_345, "-123.45"),
        ("INR", 2**63 - 1, "92233720368547758.07"),
    ],
)
def test_major_units_are_exact(currency: str, minor_units: int, major_units: str) -> None:
    """An amount in major units is the exact decimal number, by the currency's own exponent."""
    assert to_major_units(Money(currency, minor_units)) == major_units
    assert str(Money(currency, minor_units)) == f"{currency} {major_units}"


@pytest.mark.parametrize("code", ["inr", "XXX", "", "IN", "INRR", "EURO"])
def test_what_is_no_currency_is_none(code: str) -> None:
    """Only ISO 4217 codes in upper case are currencies."""
    assert not is_currency(code)
    assert is_currency("INR")
    assert [exponent(one) for one in ("INR", "JPY", "KWD")] == [2, 0, 3]
