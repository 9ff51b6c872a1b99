"""The shared `orders` documents: written in our own fields only, and read with tolerance.

Other services write them too, and in their way.
"""

from typing import Any

from bson import Int64
from bson.datetime_ms import DatetimeMS

from server.ledger.records import (
    Order,
    OrderPaymentMethod,
    OrderPaymentState,
    Refund,
)
from server.store.connection import Document


def order_document(order: Order) -> Document:
    """Write an order that is not there yet, with its payment."""
    return {
        "_id": order.order_id,
        "customer_id": order.customer_id,
        "amount": _long_or_none(order.amount),
        "currency": order.currency_code,
        **order_changes(None, order)["$set"],
        "refunds": [refund_document(refund) for refund in order.refunds],
    }


def order_changes(
    before: Order | None, after: Order, *, has_null_refunds: bool = False
) -> Document:
    """Return the update of an order: our own fields only, and refunds appended.

    Nothing can be appended to a null; where another service has written one, a list replaces it.
    """
    fields: Document = {
        "payment_status": after.payment_state.value if after.payment_state else None,
        "refunded_amount": Int64(after.refunded_amount),
    }
    if before is None or before.payment_state is None:
        fields |= {
            "payment_method": after.payment_method.value if after.payment_method else None,
            "wallet_transaction_id": after.transaction_id,
            "pay_time": None if after.pay_time_ms is None else DatetimeMS(after.pay_time_ms),
        }
    update: Document = {"$set": fields}
    added = after.refunds[len(before.refunds) if before else 0 :]
    if added:
        documents = [refund_document(refund) for refund in added]
        if has_null_refunds:
            fields["refunds"] = documents
        else:
            update["$push"] = {"refunds": {"$each": documents}}
    return update


def order_guard(document: Document) -> Document:
    """Return the query that finds the order only as long as it is what was read.

    None finds a missing field too. `$eq` keeps a value that another service has put there from
    being taken for an operator.
    """
    guard: Document = {name: {"$eq": document.get(name)} for name in _GUARDED_ORDER_FIELDS}
    if _has_null_refunds(document):
        guard["refunds"] = {"$type": "null"}
    return guard | {"_id": document["_id"]}


def _has_null_refunds(document: Document) -> bool:
    """Tell whether the order's list of refunds is null, which is not the same as missing."""
    return document.get("refunds", ()) is None


def read_order(document: Document) -> Order:
    """Read an order that any service may have written."""
    state = _text_or_none(document.get("payment_status"))
    method = _text_or_none(document.get("payment_method"))
    payment_state = _ORDER_PAYMENT_STATES.get((state or "").upper())
    payment_method = None
    if payment_state is not None:
        is_ours = (method or "").upper() == OrderPaymentMethod.WALLET
        payment_method = OrderPaymentMethod.WALLET if is_ours else OrderPaymentMethod.GATEWAY
    amount = _whole_or_none(document.get("amount"))
    pay_time = document.get("pay_time")
    return Order(
        order_id=document["_id"],
        customer_id=_text_or_none(document.get("customer_id")),
        amount=amount,
        currency_code=_text_or_none(document.get("currency")),
        payment_state=payment_state,
        payment_method=payment_method,
        transaction_id=_text_or_none(document.get("wallet_transaction_id")) or "",
        refunded_amount=_refunded_amount(document, payment_state, amount or 0),
        refunds=tuple(_read_refunds(document.get("refunds"))),
        pay_time_ms=int(pay_time) if isinstance(pay_time, DatetimeMS) else None,
    )


def refund_document(refund: Refund) -> Document:
    """Write a refund, as it stands in its order."""
    return {
        "refund_id": refund.refund_id,
        "amount": Int64(refund.amount),
        "reason": refund.reason,
        "transaction_id": refund.transaction_id,
        "create_time": DatetimeMS(refund.create_time_ms),
    }


_GUARDED_ORDER_FIELDS = ("customer_id", "amount", "currency", "payment_status", "refunded_amount")
_ORDER_PAYMENT_STATES = {state.value: state for state in OrderPaymentState}


def _refunded_amount(document: Document, state: OrderPaymentState | None, amount: int) -> int:
    """Read how much is refunded; where the order's state and figure disagree, the higher counts.

    A figure that makes no sense counts as all of it: nobody can tell how much may still be.
    """
    figure = document.get("refunded_amount")
    refunded = _whole_or_none(figure)
    if state is OrderPaymentState.REFUNDED:
        return max(amount, refunded or 0)
    if figure is None:
        return amount if state is OrderPaymentState.PARTIALLY_REFUNDED else 0
    return amount if refunded is None or refunded < 0 else refunded


def _read_refunds(refunds: Any) -> list[Refund]:  # noqa: ANN401 - another service's data
    """Read our refunds, and leave out what another service may have put among them."""
    if not isinstance(refunds, list):
        return []
    return [
        Refund(
            refund_id=refund["refund_id"],
            amount=int(refund["amount"]),
            reason=refund.get("reason", ""),
            transaction_id=refund["transaction_id"],
            create_time_ms=int(refund["create_time"]),
        )
        for refund in refunds
        if isinstance(refund, dict) and str(refund.get("refund_id", "")).startswith("ref_")
    ]


def _whole_or_none(value: Any) -> int | None:  # noqa: ANN401 - another service's data
    """Read a whole number; a shell writes 100 as 100.0, which is as good."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return None


def _text_or_none(value: Any) -> str | None:  # noqa: ANN401 - another service's data
    return value if isinstance(value, str) else None


def _long_or_none(value: int | None) -> Int64 | None:
    return None if value is None else Int64(value)
