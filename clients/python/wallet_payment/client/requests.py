"""The requests of the contract, from plain arguments."""

import secrets
from collections.abc import Iterable, Mapping
from datetime import datetime

from google.protobuf.timestamp_pb2 import Timestamp

from wallet_payment.v1 import resources_pb2 as resources
from wallet_payment.v1 import wallet_payment_service_pb2 as service


def new_key() -> str:
    """Return a new idempotency key: make one for each intended change, store it with the intent."""
    return secrets.token_urlsafe(18)


def money(currency_code: str, minor_units: int) -> resources.Money:
    """Return an amount: 25,000 minor units of INR are 250.00 INR."""
    return resources.Money(currency_code=currency_code, minor_units=minor_units)


def topup(
    customer_id: str,
    amount: resources.Money,
    gateway: str,
    method: str,
    key: str,
    *,
    pay_order: resources.PayOrder | None = None,
    return_url: str = "",
    metadata: Mapping[str, str] | None = None,
) -> service.InitiateTopupRequest:
    """Return the request that starts a top-up."""
    return service.InitiateTopupRequest(
        customer_id=customer_id,
        amount=amount,
        gateway=gateway,
        method=method,
        idempotency_key=key,
        pay_order=pay_order,
        return_url=return_url,
        metadata=metadata or {},
    )


def payment(
    customer_id: str,
    order_id: str,
    amount: resources.Money,
    key: str,
    *,
    metadata: Mapping[str, str] | None = None,
) -> service.PayWithWalletRequest:
    """Return the request that pays an order."""
    return service.PayWithWalletRequest(
        customer_id=customer_id,
        order_id=order_id,
        amount=amount,
        idempotency_key=key,
        metadata=metadata or {},
    )


def refund(
    customer_id: str,
    order_id: str,
    key: str,
    *,
    amount: resources.Money | None = None,
    reason: str = "",
    metadata: Mapping[str, str] | None = None,
) -> service.RefundToWalletRequest:
    """Return the request that refunds an order; without an amount all that remains."""
    return service.RefundToWalletRequest(
        customer_id=customer_id,
        order_id=order_id,
        amount=amount,
        idempotency_key=key,
        reason=reason,
        metadata=metadata or {},
    )


def watch(
    customer_id: str,
    types: Iterable[resources.WalletEventType.ValueType],
    cursor: str,
    start_time: datetime | None,
) -> service.WatchEventsRequest:
    """Return the request that watches events."""
    request = service.WatchEventsRequest(customer_id=customer_id, types=types, cursor=cursor)
    if start_time is not None:
        stamp = Timestamp()
        stamp.FromDatetime(start_time)
        request.start_time.CopyFrom(stamp)
    return request


def copy_of(request: service.ListTransactionsRequest) -> service.ListTransactionsRequest:
    """Return a copy, whose page token may change."""
    copied = service.ListTransactionsRequest()
    copied.CopyFrom(request)
    return copied
