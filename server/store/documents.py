"""Records as MongoDB documents and back.

Amounts and counters are always 64-bit longs, times are dates of whole milliseconds, empty texts are
left out. Orders have a module of their own, since other services write them too.
"""

from bson import Int64
from bson.datetime_ms import DatetimeMS

from server.ledger.money import Money
from server.ledger.records import (
    NO_METADATA,
    Checkout,
    EventMoney,
    EventOrigin,
    EventOutcome,
    FreezeCause,
    GatewayEvent,
    Idempotency,
    IdempotencyKey,
    OrderToPay,
    PayOrderOutcome,
    Posting,
    ReceivedEvent,
    Resolution,
    Reversal,
    ReversalKind,
    ReversalState,
    Topup,
    TopupState,
    Transaction,
    TransactionType,
    Wallet,
    WalletKey,
    WalletState,
)
from server.ledger.usage import UNCOUNTED
from server.store.connection import Document
from server.store.limit_documents import read_usage, usage_document


def idempotency_id(key: IdempotencyKey) -> str:
    """Write a key as one text; callers and methods have no spaces, so it reads one way only."""
    return f"{key.caller} {key.method} {key.key}"


def wallet_id(key: WalletKey) -> str:
    """Return the `_id` of a wallet."""
    return f"{key.customer_id}:{key.currency_code}"


def wallet_document(wallet: Wallet) -> Document:
    """Write a wallet."""
    return {
        "_id": wallet_id(wallet.key),
        "customer_id": wallet.customer_id,
        "currency": wallet.currency_code,
        "balance": Int64(wallet.balance),
        "state": wallet.state.value,
        "freeze_cause": wallet.freeze_cause.value,
        "sequence": Int64(wallet.sequence),
        "head_hash": wallet.head_hash,
        "create_time": DatetimeMS(wallet.create_time_ms),
        "update_time": DatetimeMS(wallet.update_time_ms),
        "version": Int64(wallet.version),
        "usage": usage_document(wallet.usage),
    }


def read_wallet(document: Document) -> Wallet:
    """Read a wallet."""
    return Wallet(
        customer_id=document["customer_id"],
        currency_code=document["currency"],
        balance=int(document["balance"]),
        state=WalletState(document["state"]),
        freeze_cause=_read_freeze_cause(document),
        sequence=int(document["sequence"]),
        head_hash=document["head_hash"],
        create_time_ms=int(document["create_time"]),
        update_time_ms=int(document["update_time"]),
        version=int(document["version"]),
        usage=read_usage(document["usage"]) if "usage" in document else UNCOUNTED,
    )


def transaction_document(transaction: Transaction) -> Document:
    """Write a transaction."""
    document: Document = {
        "_id": transaction.transaction_id,
        "customer_id": transaction.customer_id,
        "currency": transaction.currency_code,
        "type": transaction.type.value,
        "amount": Int64(transaction.amount),
        "balance_after": Int64(transaction.balance_after),
        "sequence": Int64(transaction.sequence),
        "postings": [
            {"account": posting.account, "amount": Int64(posting.amount)}
            for posting in transaction.postings
        ],
        "previous_hash": transaction.previous_hash,
        "hash": transaction.hash,
        "create_time": DatetimeMS(transaction.create_time_ms),
        "wallet_state": transaction.wallet_state.value,
    }
    for name in _TRANSACTION_TEXTS:
        if value := getattr(transaction, name):
            document[name] = value
    if transaction.has_changed_state:
        document["has_changed_state"] = True
    if transaction.metadata:
        document["metadata"] = dict(transaction.metadata)
    if transaction.idempotency is not None:
        document |= _idempotency_fields(transaction.idempotency)
    return document


def read_transaction(document: Document) -> Transaction:
    """Read a transaction."""
    return Transaction(
        transaction_id=document["_id"],
        customer_id=document["customer_id"],
        currency_code=document["currency"],
        type=TransactionType(document["type"]),
        amount=int(document["amount"]),
        balance_after=int(document["balance_after"]),
        sequence=int(document["sequence"]),
        postings=tuple(
            Posting(posting["account"], int(posting["amount"])) for posting in document["postings"]
        ),
        order_id=document.get("order_id", ""),
        topup_id=document.get("topup_id", ""),
        refund_id=document.get("refund_id", ""),
        gateway=document.get("gateway", ""),
        gateway_payment_id=document.get("gateway_payment_id", ""),
        gateway_reversal_id=document.get("gateway_reversal_id", ""),
        previous_hash=document["previous_hash"],
        hash=document["hash"],
        create_time_ms=int(document["create_time"]),
        metadata=document.get("metadata", NO_METADATA),
        wallet_state=WalletState(document.get("wallet_state", WalletState.ACTIVE)),
        idempotency=_read_idempotency(document) if "idempotency_id" in document else None,
        has_changed_state=document.get("has_changed_state", False),
    )


def topup_document(topup: Topup) -> Document:
    """Write a top-up."""
    document: Document = {
        "_id": topup.topup_id,
        "customer_id": topup.customer_id,
        "currency": topup.amount.currency_code,
        "amount": Int64(topup.amount.minor_units),
        "gateway": topup.gateway,
        "method": topup.method,
        "state": topup.state.value,
        "create_time": DatetimeMS(topup.create_time_ms),
        "update_time": DatetimeMS(topup.update_time_ms),
        "expire_time": DatetimeMS(topup.expire_time_ms),
        "report_time": DatetimeMS(topup.report_time_ms),
        "token_time": DatetimeMS(topup.token_time_ms),
        "version": Int64(topup.version),
        "failure_version": Int64(topup.failure_version),
        **_idempotency_fields(topup.idempotency),
    }
    for name in _TOPUP_TEXTS:
        if value := getattr(topup, name):
            document[name] = value
    document |= _pay_order_fields(topup)
    if topup.checkout is not None:
        document["checkout"] = {
            "gateway_order_id": topup.checkout.gateway_order_id,
            "public_key": topup.checkout.public_key,
            "url": topup.checkout.url,
        }
        if topup.checkout.upi_intent_uri:
            document["checkout"]["upi_intent_uri"] = topup.checkout.upi_intent_uri
    if topup.poll_time_ms is not None:
        document["poll_time"] = DatetimeMS(topup.poll_time_ms)
        document["poll_attempts"] = topup.poll_attempts
    if topup.reversals:
        document["reversals"] = [_reversal_document(reversal) for reversal in topup.reversals]
    for name, value in (
        ("passed_limits", ",".join(topup.passed_limits)),
        ("metadata", dict(topup.metadata)),
    ):
        if value:
            document[name] = value
    return document


def read_topup(document: Document) -> Topup:
    """Read a top-up."""
    currency = document["currency"]
    order = document.get("pay_order")
    outcome = document.get("pay_order_outcome")
    checkout = document.get("checkout")
    return Topup(
        topup_id=document["_id"],
        customer_id=document["customer_id"],
        amount=Money(currency, int(document["amount"])),
        gateway=document["gateway"],
        method=document["method"],
        state=TopupState(document["state"]),
        gateway_order_id=document.get("gateway_order_id", ""),
        gateway_payment_id=document.get("gateway_payment_id", ""),
        transaction_id=document.get("transaction_id", ""),
        pay_order=(
            OrderToPay(order["order_id"], Money(currency, int(order["amount"]))) if order else None
        ),
        pay_order_outcome=PayOrderOutcome(**outcome) if outcome else None,
        failure_reason=document.get("failure_reason", ""),
        checkout=Checkout(**checkout) if checkout else None,
        reversals=tuple(_read_reversal(reversal) for reversal in document.get("reversals", ())),
        return_url=document.get("return_url", ""),
        create_time_ms=int(document["create_time"]),
        update_time_ms=int(document["update_time"]),
        expire_time_ms=int(document["expire_time"]),
        report_time_ms=int(document.get("report_time") or 0),
        poll_time_ms=int(document["poll_time"]) if "poll_time" in document else None,
        poll_attempts=int(document.get("poll_attempts", 0)),
        metadata=document.get("metadata", NO_METADATA),
        idempotency=_read_idempotency(document),
        version=int(document["version"]),
        token_time_ms=int(document.get("token_time") or 0),
        failure_version=int(document.get("failure_version", 0)),
        passed_limits=tuple(filter(None, document.get("passed_limits", "").split(","))),
    )


def _pay_order_fields(topup: Topup) -> Document:
    """Write the order that a top-up is for, and what became of it."""
    document: Document = {}
    if topup.pay_order is not None:
        document["pay_order"] = {
            "order_id": topup.pay_order.order_id,
            "amount": Int64(topup.pay_order.amount.minor_units),
        }
    if topup.pay_order_outcome is not None:
        document["pay_order_outcome"] = {
            "transaction_id": topup.pay_order_outcome.transaction_id,
            "failure_reason": topup.pay_order_outcome.failure_reason,
        }
    return document


def event_document(event: GatewayEvent) -> Document:
    """Write a gateway's event."""
    received = event.received
    document: Document = {
        "_id": received.key,
        "gateway": received.gateway,
        "event_id": received.event_id,
        "event_type": received.event_type,
        "origin": received.origin.value,
        "body": received.body,
        "body_digest": received.body_digest,
        "outcome": event.outcome.value,
        "receive_time": DatetimeMS(received.receive_time_ms),
        "report_time": DatetimeMS(received.report_time_ms),
        "apply_time": DatetimeMS(event.apply_time_ms),
        "money": event.money.value,
    }
    for name in _EVENT_TEXTS:
        if value := getattr(event, name):
            document[name] = value
    if event.amount is not None:
        document["currency"] = event.amount.currency_code
        document["amount"] = Int64(event.amount.minor_units)
    if event.resolution is not None:
        document["resolution"] = {
            "by": event.resolution.by,
            "why": event.resolution.why,
            "transaction_id": event.resolution.transaction_id,
            "topup_id": event.resolution.topup_id,
            "time": DatetimeMS(event.resolution.time_ms),
            "fingerprint": event.resolution.fingerprint,
        }
    return document


def read_event(document: Document) -> GatewayEvent:
    """Read a gateway's event."""
    return GatewayEvent(
        received=ReceivedEvent(
            gateway=document["gateway"],
            event_id=document["event_id"],
            event_type=document["event_type"],
            body_digest=document["body_digest"],
            body=bytes(document["body"]),
            origin=EventOrigin(document["origin"]),
            receive_time_ms=int(document["receive_time"]),
            report_time_ms=int(document.get("report_time") or document["receive_time"]),
        ),
        outcome=EventOutcome(document["outcome"]),
        reason=document.get("reason", ""),
        customer_id=document.get("customer_id", ""),
        topup_id=document.get("topup_id", ""),
        gateway_order_id=document.get("gateway_order_id", ""),
        gateway_payment_id=document.get("gateway_payment_id", ""),
        amount=(
            Money(document["currency"], int(document["amount"])) if "amount" in document else None
        ),
        apply_time_ms=int(document["apply_time"]),
        money=EventMoney(document.get("money", EventMoney.NONE)),
        gateway_reversal_id=document.get("gateway_reversal_id", ""),
        resolution=_read_resolution(document.get("resolution")),
    )


_EVENT_TEXTS = (
    "reason",
    "customer_id",
    "topup_id",
    "gateway_order_id",
    "gateway_payment_id",
    "gateway_reversal_id",
)
_TOPUP_TEXTS = (
    "gateway_order_id",
    "gateway_payment_id",
    "transaction_id",
    "failure_reason",
    "return_url",
)
_TRANSACTION_TEXTS = (
    "order_id",
    "topup_id",
    "refund_id",
    "gateway",
    "gateway_payment_id",
    "gateway_reversal_id",
)


def _read_resolution(document: Document | None) -> Resolution | None:
    if document is None:
        return None
    return Resolution(
        by=document["by"],
        why=document["why"],
        transaction_id=document["transaction_id"],
        topup_id=document["topup_id"],
        time_ms=int(document["time"]),
        fingerprint=document.get("fingerprint", ""),
    )


def _read_freeze_cause(document: Document) -> FreezeCause:
    """Read why a wallet is frozen; whoever froze it without saying why is a person."""
    if document["state"] == WalletState.ACTIVE:
        return FreezeCause.NONE
    return FreezeCause(document.get("freeze_cause") or FreezeCause.OPERATOR)


def _reversal_document(reversal: Reversal) -> Document:
    return {
        "reversal_id": reversal.reversal_id,
        "payment_id": reversal.payment_id,
        "kind": reversal.kind.value,
        "amount": Int64(reversal.amount),
        "state": reversal.state.value,
        "is_final": reversal.is_final,
        "is_debited": reversal.is_debited,
    }


def _read_reversal(document: Document) -> Reversal:
    return Reversal(
        reversal_id=document["reversal_id"],
        payment_id=document["payment_id"],
        kind=ReversalKind(document["kind"]),
        amount=int(document["amount"]),
        state=ReversalState(document["state"]),
        is_final=document["is_final"],
        is_debited=document["is_debited"],
    )


def _idempotency_fields(idempotency: Idempotency) -> Document:
    return {
        "idempotency_id": idempotency_id(idempotency.key),
        "fingerprint": idempotency.fingerprint,
    }


def _read_idempotency(document: Document) -> Idempotency:
    caller, method, key = document["idempotency_id"].split(" ", 2)
    return Idempotency(IdempotencyKey(caller, method, key), document["fingerprint"])
