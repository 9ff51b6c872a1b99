"""PayPal's own books: the payments and the refunds that its Transaction Search tells of.

Source: https://developer.paypal.com/docs/api/transaction-search/v1/ and
https://developer.paypal.com/docs/transaction-search/transaction-event-codes/.

What it can and cannot tell: a payment appears up to three hours after it was made; it seldom names
the order, so that payments are to be compared by their ids; it lists all that the account received,
also what was not for a wallet; and it takes a permission of the client's own (Transaction Search),
without which PayPal refuses. Codes that are read here:

    T00nn          a payment; money in is a capture of ours
    T1106, T1107   a reversal by PayPal, a refund by the merchant; their ids are the refunds'
    T1201, T1202   a card's chargeback, and one that was taken back; they have ids of their own

Holds (T1110, T1111) move nothing for good, and are not told.
"""

import re
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Final

from gateway_adapters.gateway import GatewayRefused, Movement
from gateway_adapters.paypal.amounts import read_signed_amount
from gateway_adapters.paypal.api import PaypalApi, issues, read
from gateway_adapters.paypal.wire import RESOURCE_ID, identifier, read_time_ms
from gateway_adapters.wire import JsonObject, Unreadable, as_object, member
from server.ledger.money import Money
from server.ledger.records import (
    GatewayPayment,
    GatewayPaymentStatus,
    GatewayReversal,
    ReversalKind,
    ReversalState,
)

PAGE_SIZE: Final = 500
"""The most that PayPal gives at once."""
MAX_PAGES: Final = 20
"""Of one question: PayPal finds 10,000 entries at most."""
LONGEST_SPAN_MS: Final = 31 * 24 * 3_600 * 1_000
"""The longest time that one question may cover."""
_SHORTEST_SPAN_MS: Final = 1_000

_TOO_MANY: Final = "RESULTSET_TOO_LARGE"
_PAYMENT_CODE: Final = re.compile(r"T00[0-9]{2}")
_REVERSAL_CODES: Final[Mapping[str, ReversalKind]] = MappingProxyType(
    {
        "T1106": ReversalKind.DISPUTE,
        "T1107": ReversalKind.REFUND,
        "T1201": ReversalKind.DISPUTE,
        "T1202": ReversalKind.DISPUTE,
    }
)
_DONE: Final = frozenset({"S", "V"})
"""Successful; successful, and undone by an entry of its own."""
_PENDING: Final = "P"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


async def movements(
    api: PaypalApi, start_time_ms: int, end_time_ms: int
) -> AsyncIterator[Movement]:
    """Go through what was captured and what went back, from the start on, before the end.

    Raises:
        GatewayUnavailable, GatewayRefused.
    """
    for start in range(start_time_ms, end_time_ms, LONGEST_SPAN_MS):
        end = min(start + LONGEST_SPAN_MS, end_time_ms)
        async for movement in _movements_in(api, start, end):
            yield movement


async def _movements_in(api: PaypalApi, start: int, end: int) -> AsyncIterator[Movement]:
    """Ask for a span; where it holds more than PayPal tells at once, for its two halves."""
    try:
        found = [movement async for movement in _ask(api, start, end)]
    except GatewayRefused as refused:
        if _TOO_MANY not in issues(refused) or end - start <= _SHORTEST_SPAN_MS:
            raise
        middle = (start + end) // 2
        for half in ((start, middle), (middle, end)):
            async for movement in _movements_in(api, *half):
                yield movement
        return
    for movement in found:
        yield movement


async def _ask(api: PaypalApi, start: int, end: int) -> AsyncIterator[Movement]:
    for page in range(1, MAX_PAGES + 1):
        query = {
            "start_date": _text(start),
            # PayPal's end is part of the span; ours is not.
            "end_date": _text(end - 1),
            "fields": "transaction_info",
            "balance_affecting_records_only": "Y",
            "page_size": str(PAGE_SIZE),
            "page": str(page),
        }
        pages, entries = read(await api.get("/v1/reporting/transactions", query), _read_page)
        for movement in entries:
            if start <= movement.time_ms < end:
                yield movement
        if page >= pages:
            return
    raise GatewayRefused(
        f"PayPal has more than {MAX_PAGES * PAGE_SIZE} entries for that.",
        content={"name": _TOO_MANY},
    )


def _read_page(content: JsonObject) -> tuple[int, list[Movement]]:
    pages = content.get("total_pages", 1)
    details = content.get("transaction_details")
    if not isinstance(pages, int) or not isinstance(details, list):
        raise Unreadable("The answer is not a page of transactions.")
    infos = [member(as_object(one, "The entry"), "transaction_info") for one in details]
    return pages, [movement for info in infos if (movement := read_movement(info)) is not None]


def read_movement(info: JsonObject) -> Movement | None:
    """Read an entry; None where it is neither a payment nor the undoing of one.

    Raises:
        Unreadable.
    """
    code, status = info.get("transaction_event_code"), info.get("transaction_status")
    if not isinstance(code, str) or not isinstance(status, str):
        return None
    if status not in {*_DONE, _PENDING}:
        return None
    is_payment = _PAYMENT_CODE.fullmatch(code) is not None
    kind = _REVERSAL_CODES.get(code)
    if kind is None and not is_payment:
        return None
    money = read_signed_amount(info.get("transaction_amount"), "The entry's amount")
    time_ms = read_time_ms(info.get("transaction_initiation_date"), "The entry's time")
    if kind is not None:
        return Movement(_reversal(info, kind, money, is_final=status in _DONE), time_ms)
    if money.minor_units <= 0 or status not in _DONE:
        return None
    return Movement(_payment(info, money), time_ms)


def _payment(info: JsonObject, money: Money) -> GatewayPayment:
    return GatewayPayment(
        payment_id=identifier(info.get("transaction_id"), "The entry's id"),
        gateway_order_id=_reference(info, "ODR"),
        status=GatewayPaymentStatus.CAPTURED,
        amount=money,
    )


def _reversal(
    info: JsonObject, kind: ReversalKind, money: Money, *, is_final: bool
) -> GatewayReversal:
    """Read money that went back, or that came again where the amount is above zero."""
    is_taken = money.minor_units < 0
    return GatewayReversal(
        reversal_id=identifier(info.get("transaction_id"), "The entry's id"),
        kind=kind,
        payment_id=_reference(info, "TXN"),
        gateway_order_id="",
        amount=Money(money.currency_code, abs(money.minor_units)),
        state=ReversalState.TAKEN if is_taken else ReversalState.RETURNED,
        is_final=is_final,
    )


def _reference(info: JsonObject, kind: str) -> str:
    """Return what the entry refers to; empty if that is something else. Its kind may be missing."""
    reference = info.get("paypal_reference_id")
    told_kind = info.get("paypal_reference_id_type", "TXN")
    if told_kind != kind or not isinstance(reference, str):
        return ""
    return reference if RESOURCE_ID.fullmatch(reference) else ""


def _text(time_ms: int) -> str:
    moment = _EPOCH + timedelta(milliseconds=time_ms)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
