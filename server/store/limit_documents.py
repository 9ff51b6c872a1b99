"""What limits a wallet, and what operators did, as MongoDB documents and back."""

from bson import Int64
from bson.datetime_ms import DatetimeMS

from server.ledger.records import OperatorAction, OperatorActionKind, Standing
from server.ledger.usage import Usage, Window
from server.store.connection import Document


def standing_document(standing: Standing) -> Document:
    """Write a customer's standing."""
    return {
        "_id": standing.customer_id,
        "tier": standing.tier,
        "version": Int64(standing.version),
    }


def read_standing(document: Document) -> Standing:
    """Read a customer's standing."""
    return Standing(document["_id"], document["tier"], int(document["version"]))


def action_document(action: OperatorAction) -> Document:
    """Write what an operator did."""
    document: Document = {
        "_id": action.action_id,
        "kind": action.kind.value,
        "customer_id": action.customer_id,
        "currency": action.currency_code,
        "tier": action.tier,
        "by": action.by,
        "why": action.why,
        "time": DatetimeMS(action.time_ms),
    }
    if action.has_changed_state:
        document["has_changed_state"] = True
    return document


def read_action(document: Document) -> OperatorAction:
    """Read what an operator did."""
    return OperatorAction(
        action_id=document["_id"],
        kind=OperatorActionKind(document["kind"]),
        customer_id=document["customer_id"],
        currency_code=document["currency"],
        tier=document["tier"],
        by=document["by"],
        why=document["why"],
        time_ms=int(document["time"]),
        has_changed_state=document.get("has_changed_state", False),
    )


def usage_document(usage: Usage) -> Document:
    """Write what went through a wallet."""
    return {
        "time": DatetimeMS(usage.time_ms),
        "hour": _window_document(usage.hour),
        "day": _window_document(usage.day),
        "month": _window_document(usage.month),
    }


def _window_document(window: Window) -> Document:
    """Write what counts; what is zero is left out. It is written with every payment, thrice."""
    document: Document = {}
    if window.topups:
        document["topups"] = Int64(window.topups)
        document["topup_amount"] = Int64(window.topup_amount)
    if window.payments:
        document["payments"] = Int64(window.payments)
        document["payment_amount"] = Int64(window.payment_amount)
    return document


def read_usage(document: Document) -> Usage:
    """Read what went through a wallet."""
    return Usage(
        int(document["time"]),
        *(_read_window(document[name]) for name in ("hour", "day", "month")),
    )


def _read_window(document: Document) -> Window:
    return Window(**{name: int(value) for name, value in document.items()})
