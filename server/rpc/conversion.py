"""The ledger's records as the contract's messages."""

from functools import lru_cache
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from gateway_adapters import upi
from gateway_adapters.gateway import LookupProof, OtherProof, PaypalProof, Proof, RazorpayProof
from server.ledger.decisions import PaymentReply, RefundReply
from server.ledger.money import Money
from server.ledger.records import (
    Checkout,
    EventOutcome,
    Order,
    OrderPaymentMethod,
    OrderPaymentState,
    Refund,
    Topup,
    TopupState,
    Transaction,
    TransactionType,
    Wallet,
    WalletState,
)
from server.topups import WebhookReceipt
from wallet_payment.v1 import resources_pb2 as resources
from wallet_payment.v1 import wallet_payment_service_pb2 as service

_WALLET_STATES: Final = {
    state: resources.WalletState.Value(f"WALLET_STATE_{state.value}") for state in WalletState
}
_TOPUP_STATES: Final = {
    state: resources.TopupState.Value(f"TOPUP_STATE_{state.value}") for state in TopupState
}
_ORDER_PAYMENT_STATES: Final = {
    state: resources.OrderPaymentState.Value(f"ORDER_PAYMENT_STATE_{state.value}")
    for state in OrderPaymentState
}
_ORDER_PAYMENT_METHODS: Final = {
    method: resources.OrderPaymentMethod.Value(f"ORDER_PAYMENT_METHOD_{method.value}")
    for method in OrderPaymentMethod
}
_TRANSACTION_TYPES: Final = {
    kind: resources.TransactionType.Value(f"TRANSACTION_TYPE_{kind.value}")
    for kind in TransactionType
}
_WEBHOOK_OUTCOMES: Final[dict[EventOutcome, service.WebhookOutcome.ValueType]] = {
    outcome: service.WebhookOutcome.Value(f"WEBHOOK_OUTCOME_{outcome.value}")
    for outcome in EventOutcome
    if outcome is not EventOutcome.RESOLVED  # no webhook is answered so
}


def payment_response(reply: PaymentReply) -> service.PayWithWalletResponse:
    """Answer a PayWithWallet."""
    return service.PayWithWalletResponse(
        payment=order_payment(reply.payment),
        transaction=transaction(reply.transaction),
        wallet=wallet(reply.wallet),
    )


def refund_response(reply: RefundReply) -> service.RefundToWalletResponse:
    """Answer a RefundToWallet."""
    return service.RefundToWalletResponse(
        refund=refund(reply.refund, reply.transaction.currency_code),
        payment=order_payment(reply.payment),
        transaction=transaction(reply.transaction),
        wallet=wallet(reply.wallet),
    )


def webhook_response(receipt: WebhookReceipt) -> service.ForwardWebhookResponse:
    """Answer a ForwardWebhook."""
    return service.ForwardWebhookResponse(
        outcome=_WEBHOOK_OUTCOMES[receipt.outcome], event_id=receipt.event_id
    )


def wallet(record: Wallet) -> resources.Wallet:
    """Write a wallet."""
    return resources.Wallet(
        customer_id=record.customer_id,
        balance=_amount(record.currency_code, record.balance),
        state=_WALLET_STATES[record.state],
        sequence=record.sequence,
        update_time=_time(record.update_time_ms),
    )


def transaction(record: Transaction) -> resources.WalletTransaction:
    """Write a transaction."""
    currency = record.currency_code
    return resources.WalletTransaction(
        transaction_id=record.transaction_id,
        customer_id=record.customer_id,
        type=_TRANSACTION_TYPES[record.type],
        amount=_amount(currency, record.amount),
        balance_after=_amount(currency, record.balance_after),
        sequence=record.sequence,
        postings=[
            resources.Posting(account=posting.account, amount=_amount(currency, posting.amount))
            for posting in record.postings
        ],
        order_id=record.order_id,
        topup_id=record.topup_id,
        refund_id=record.refund_id,
        gateway=record.gateway,
        gateway_payment_id=record.gateway_payment_id,
        hash=record.hash,
        create_time=_time(record.create_time_ms),
        metadata=record.metadata,
    )


def order_payment(record: Order) -> resources.OrderPayment:
    """Write the payment of a paid order."""
    assert record.payment_state is not None  # noqa: S101 - it is paid
    assert record.payment_method is not None  # noqa: S101
    currency = record.currency_code or ""
    return resources.OrderPayment(
        order_id=record.order_id,
        customer_id=record.customer_id or "",
        amount=_amount(currency, record.amount or 0),
        refunded_amount=_amount(currency, record.refunded_amount),
        state=_ORDER_PAYMENT_STATES[record.payment_state],
        method=_ORDER_PAYMENT_METHODS[record.payment_method],
        transaction_id=record.transaction_id,
        refunds=[refund(one, currency) for one in record.refunds],
        pay_time=None if record.pay_time_ms is None else _time(record.pay_time_ms),
    )


def refund(record: Refund, currency_code: str) -> resources.Refund:
    """Write a refund."""
    return resources.Refund(
        refund_id=record.refund_id,
        amount=_amount(currency_code, record.amount),
        reason=record.reason,
        transaction_id=record.transaction_id,
        create_time=_time(record.create_time_ms),
    )


def topup(record: Topup) -> resources.Topup:
    """Write a top-up; how to pay it is told only while it can be paid."""
    message = resources.Topup(
        topup_id=record.topup_id,
        customer_id=record.customer_id,
        amount=_money(record.amount),
        gateway=record.gateway,
        method=record.method,
        state=_TOPUP_STATES[record.state],
        gateway_order_id=record.gateway_order_id,
        gateway_payment_id=record.gateway_payment_id,
        transaction_id=record.transaction_id,
        failure_reason=record.failure_reason,
        create_time=_time(record.create_time_ms),
        update_time=_time(record.update_time_ms),
        expire_time=_time(record.expire_time_ms),
        metadata=record.metadata,
    )
    if record.pay_order is not None:
        message.pay_order.order_id = record.pay_order.order_id
        message.pay_order.amount.CopyFrom(_money(record.pay_order.amount))
    if record.pay_order_outcome is not None:
        message.pay_order_outcome.transaction_id = record.pay_order_outcome.transaction_id
        message.pay_order_outcome.failure_reason = record.pay_order_outcome.failure_reason
    if record.checkout is not None and record.is_payable:
        message.checkout.CopyFrom(_checkout(record.checkout))
    return message


def proof(request: service.VerifyTopupRequest) -> Proof:
    """Read the proof of a VerifyTopup."""
    match request.WhichOneof("proof"):
        case "razorpay":
            return RazorpayProof(request.razorpay.payment_id, request.razorpay.signature)
        case "paypal":
            return PaypalProof(request.paypal.order_id)
        case "lookup":
            return LookupProof()
        case kind:
            return OtherProof(str(kind))


def _checkout(record: Checkout) -> resources.Checkout:
    message = resources.Checkout(
        gateway_order_id=record.gateway_order_id,
        public_key=record.public_key,
        url=record.url,
        client_secret=record.client_secret,
    )
    if record.upi_intent_uri:
        message.upi.CopyFrom(_upi_checkout(record.upi_intent_uri))
    return message


@lru_cache(maxsize=1_000)
def _upi_checkout(intent_uri: str) -> resources.UpiCheckout:
    """Draw the QR code once for each top-up, however often it is asked for."""
    return resources.UpiCheckout(
        intent_uri=intent_uri,
        google_pay_ios_uri=upi.google_pay_ios_uri_of(intent_uri),
        google_pay_android_package=upi.GOOGLE_PAY_ANDROID_PACKAGE,
        qr_svg=upi.qr_svg(intent_uri),
    )


def _money(money: Money) -> resources.Money:
    return resources.Money(currency_code=money.currency_code, minor_units=money.minor_units)


def _amount(currency_code: str, minor_units: int) -> resources.Money:
    return resources.Money(currency_code=currency_code, minor_units=minor_units)


def _time(time_ms: int) -> Timestamp:
    seconds, milliseconds = divmod(time_ms, 1_000)
    return Timestamp(seconds=seconds, nanos=milliseconds * 1_000_000)
