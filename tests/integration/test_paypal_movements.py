"""PayPal's own books, as the adapter reads them for reconciliation."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from gateway_adapters.gateway import GatewayUnavailable
from paypal_bench import (
    RETURNED,
    TAKEN,
    Answer,
    Bench,
    Json,
    make_topup,
    on_hold,
    running_bench,
    status,
)
from server.ledger.money import Money
from server.ledger.records import GatewayReversal, ReversalKind


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    """Give an adapter whose every request to the API goes through the line."""
    async with running_bench() as running:
        yield running


HOUR = 3_600_000


async def test_the_books_tell_of_payments_and_of_what_went_back(bench: Bench) -> None:
    """Captures that are done, refunds and reversals are told; what is pending is not."""
    _, payment = await bench.captured()
    await bench.control(f"captures/{payment.payment_id}/refund", amount="3.00")
    await bench.control(f"captures/{payment.payment_id}/reverse")
    pending = await bench.approved(make_topup(topup_id="top_2"), capture="PENDING")
    await bench.paypal.capture(pending, on_hold(pending))
    captured, *_ = [one.report_time_ms for one in await bench.events()][1:]
    assert captured is not None
    start, end = captured - HOUR, captured + HOUR
    facts = [movement.fact async for movement in bench.paypal.movements(start, end)]
    paid, refund, reverse = facts
    assert paid == replace(payment, gateway_order_id="")
    assert isinstance(refund, GatewayReversal)
    assert isinstance(reverse, GatewayReversal)
    assert (refund.kind, refund.amount) == (ReversalKind.REFUND, Money("USD", 300))
    assert (reverse.kind, reverse.amount) == (ReversalKind.DISPUTE, Money("USD", 12_045))
    assert refund.payment_id == reverse.payment_id == payment.payment_id
    assert {refund.reversal_id, reverse.reversal_id} == set(bench.sandbox.account.refunds)
    later = [one async for one in bench.paypal.movements(end, end + HOUR)]
    assert later == []


def entry(entry_id: str, time: str, code: str = "T0006", value: str = "1.00") -> Json:
    """Return an entry of the books."""
    return {
        "transaction_info": {
            "transaction_id": entry_id,
            "transaction_event_code": code,
            "transaction_initiation_date": time,
            "transaction_amount": {"currency_code": "USD", "value": value},
            "transaction_status": "S",
        }
    }


def page(*entries: Json, pages: int = 1) -> Answer:
    """Return a fault that answers with a page of the books."""
    content = {"transaction_details": entries, "total_pages": pages}
    return status(200, json.dumps(content).encode())


async def test_the_books_are_read_month_by_month_and_page_by_page(bench: Bench) -> None:
    """PayPal tells of 31 days at once, and of 500 entries a page; each is told once."""
    start = 1_700_000_000_000
    days = 24 * HOUR
    bench.line.due(
        "/transactions",
        page(entry("A", "2023-11-14T22:13:20Z"), pages=2),
        page(entry("B", "2023-12-15T22:13:19+0000"), pages=2),
        page(entry("C", "2023-12-15T22:13:20Z"), entry("EDGE", "2023-12-16T22:13:20Z")),
    )
    found = [one async for one in bench.paypal.movements(start, start + 32 * days)]
    assert [one.fact.payment_id for one in found] == ["A", "B", "C"]
    assert found[0].time_ms == start
    queries = [path.partition("?")[2] for _, path, _, _ in bench.line.seen if "?" in path]
    assert [query.split("page=")[1] for query in queries] == ["1", "2", "1"]
    assert "start_date=2023-11-14T22:13:20.000Z&end_date=2023-12-15T22:13:19.999Z" in queries[0]
    assert "start_date=2023-12-15T22:13:20.000Z&end_date=2023-12-16T22:13:19.999Z" in queries[2]


async def test_a_span_with_too_much_in_it_is_halved(bench: Bench) -> None:
    """Where PayPal has more entries than it tells at once, it is asked for less at once."""
    content = {"name": "RESULTSET_TOO_LARGE", "message": "Result set size is greater than 10000."}
    start = 1_700_000_000_000
    bench.line.due(
        "/transactions",
        status(400, json.dumps(content).encode()),
        page(entry("A", "2023-11-14T22:13:20Z")),
        page(entry("B", "2023-11-14T23:13:20Z")),
    )
    found = [one async for one in bench.paypal.movements(start, start + 2 * HOUR)]
    assert [one.fact.payment_id for one in found] == ["A", "B"]


@pytest.mark.parametrize(
    "fields",
    [
        {"transaction_event_code": "T0400"},
        {"transaction_event_code": "T1110"},
        {"transaction_event_code": None},
        {"transaction_status": "D"},
        {"transaction_status": "P"},
        {"transaction_status": ["S"]},
        {"transaction_amount": {"currency_code": "USD", "value": "-1.00"}},
    ],
)
async def test_entries_that_are_no_payments_are_passed_over(bench: Bench, fields: Json) -> None:
    """Withdrawals, holds, what is pending or denied, and money that we sent are not told."""
    other = entry("X", "2023-11-14T22:13:20Z")
    other["transaction_info"] |= fields
    bench.line.due("/transactions", page(other))
    start = 1_700_000_000_000
    assert [one async for one in bench.paypal.movements(start, start + HOUR)] == []


async def test_a_chargeback_that_was_taken_back_is_told_as_returned(bench: Bench) -> None:
    """Money of a card's chargeback goes, and may come again, under ids of their own."""
    gone = entry("GONE", "2023-11-14T22:13:20Z", "T1201", "-1.00")
    back = entry("BACK", "2023-11-14T22:13:20Z", "T1202", "1.00")
    for one in (gone, back):
        one["transaction_info"]["paypal_reference_id"] = "CAPTURE1"
    bench.line.due("/transactions", page(gone, back))
    start = 1_700_000_000_000
    facts = [one.fact async for one in bench.paypal.movements(start, start + HOUR)]
    kind, money = ReversalKind.DISPUTE, Money("USD", 100)
    assert facts == [
        GatewayReversal("GONE", kind, "CAPTURE1", "", money, TAKEN, is_final=True),
        GatewayReversal("BACK", kind, "CAPTURE1", "", money, RETURNED, is_final=True),
    ]


@pytest.mark.parametrize("body", [b"{}", b'{"transaction_details": 7}', b'{"total_pages": "x"}'])
async def test_books_that_cannot_be_read_mean_unavailable(bench: Bench, body: bytes) -> None:
    """Nothing is reconciled against what is not understood."""
    bench.line.due("/transactions", status(200, body), status(200, body))
    with pytest.raises(GatewayUnavailable):
        [one async for one in bench.paypal.movements(0, HOUR)]
