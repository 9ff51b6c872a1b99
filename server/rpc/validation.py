"""What a well-formed request is: fields in, commands out, and every wrong field named at once."""

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from google.protobuf.timestamp_pb2 import Timestamp

from server.feed import EventFilter, HistoryPosition, WalletEventType
from server.ledger.chain import first_id
from server.ledger.commands import CreateTopup, PayOrder, RefundOrder
from server.ledger.money import MAX_AMOUNT_MINOR_UNITS, Money, is_currency
from server.ledger.records import (
    NO_METADATA,
    IdempotencyKey,
    OrderToPay,
    TransactionType,
)
from server.queries import TransactionFilter
from server.rpc.card_numbers import has_card_number
from server.rpc.errors import InvalidArgument, Violation
from wallet_payment.v1 import resources_pb2 as resources
from wallet_payment.v1 import wallet_payment_service_pb2 as service

MAX_BODY_BYTES: Final = 256 * 1024
MAX_PAGE_SIZE: Final = 200
DEFAULT_PAGE_SIZE: Final = 50

_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@:/#+=-]{0,127}")
_IDEMPOTENCY_KEY: Final = re.compile(r"[\x20-\x7e]{1,255}")
_NAME: Final = re.compile(r"[a-z][a-z0-9_-]{0,31}")
_METADATA_KEY: Final = re.compile(r"[A-Za-z0-9_.-]{1,40}")
_MAX_METADATA: Final = 20
_MAX_METADATA_VALUE: Final = 500
_MAX_REASON: Final = 500
_MAX_URL: Final = 2_048
_MAX_HEADERS: Final = 100
_MAX_HEADER_CHARACTERS: Final = 16 * 1024
_LOOPBACK_HOSTS: Final = frozenset({"localhost", "127.0.0.1", "::1"})


class Fields:
    """Collects what is wrong with a request; `check` ends it if anything is."""

    def __init__(self) -> None:
        self._violations: list[Violation] = []

    def wrong(self, field: str, description: str) -> None:
        """Note a field that is wrong."""
        self._violations.append(Violation(field, description))

    def check(self) -> None:
        """Refuse the request if a field is wrong.

        Raises:
            InvalidArgument: with every field that is.
        """
        if self._violations:
            raise InvalidArgument(self._violations)

    def id(self, field: str, value: str) -> str:
        """Take the id of a customer, an order or a top-up."""
        if not _ID.fullmatch(value):
            self.wrong(
                field,
                "is required"
                if not value
                else "takes 1 to 128 letters, digits or ._@:/#+=- and "
                "starts with a letter or digit",
            )
        return value

    def idempotency_key(self, value: str) -> str:
        """Take an idempotency key."""
        if not _IDEMPOTENCY_KEY.fullmatch(value):
            self.wrong(
                "idempotency_key",
                "is required: make one for each intended change and keep it over all repeats"
                if not value
                else "takes 1 to 255 printable ASCII characters",
            )
        self.no_card_number("idempotency_key", value)
        return value

    def no_card_number(self, field: str, value: str) -> None:
        """Refuse what nothing here may keep; it is not told back."""
        if has_card_number(value):
            self.wrong(field, "looks like a card number: card numbers may not be sent here")

    def name(self, field: str, value: str) -> str:
        """Take the name of a gateway or a method."""
        if not _NAME.fullmatch(value):
            self.wrong(
                field, "is required" if not value else "is a name in lower case, such as razorpay"
            )
        return value

    def money(self, field: str, message: resources.Money) -> Money:
        """Take an amount that is to be moved."""
        if not is_currency(message.currency_code):
            self.wrong(
                f"{field}.currency_code",
                "is not an ISO 4217 code in upper case, such as INR"
                if message.currency_code
                else "is required, an ISO 4217 code such as INR",
            )
        if not 1 <= message.minor_units <= MAX_AMOUNT_MINOR_UNITS:
            self.wrong(
                f"{field}.minor_units",
                f"has to be from 1 to {MAX_AMOUNT_MINOR_UNITS}, in minor units (100 is 1.00 INR)",
            )
        return Money(message.currency_code, message.minor_units)

    def text(self, field: str, value: str, most: int) -> str:
        """Take a text of at most so many characters."""
        if len(value) > most:
            self.wrong(field, f"takes at most {most} characters")
        if "\x00" in value:
            self.wrong(field, "has a NUL character")
        self.no_card_number(field, value)
        return value

    def metadata(self, given: Mapping[str, str]) -> Mapping[str, str]:
        """Take the caller's notes."""
        if not given:
            return NO_METADATA
        if len(given) > _MAX_METADATA:
            self.wrong("metadata", f"takes at most {_MAX_METADATA} entries")
        for key, value in given.items():
            if not _METADATA_KEY.fullmatch(key):
                self.wrong(
                    "metadata", "takes keys of 1 to 40 letters, digits or _.- as in `cart_id`"
                )
            if has_card_number(key):
                self.wrong("metadata", "has a key that looks like a card number")
            else:
                self.text(f"metadata.{key[:40]}", value, _MAX_METADATA_VALUE)
        return dict(given)

    def url(self, field: str, value: str) -> str:
        """Take where a customer is sent back to."""
        if not value:
            return value
        try:
            parts = urlsplit(value)
            is_good = parts.scheme == "https" or (
                parts.scheme == "http" and parts.hostname in _LOOPBACK_HOSTS
            )
            is_good = is_good and bool(parts.hostname) and value.isprintable() and " " not in value
        except ValueError:
            is_good = False
        if not is_good or len(value) > _MAX_URL:
            self.wrong(field, f"is an https URL of at most {_MAX_URL} characters")
        self.no_card_number(field, value)
        return value

    def time_ms(self, field: str, message: Timestamp) -> int:
        """Take a time, as milliseconds since the epoch."""
        try:
            return message.ToMilliseconds()
        except ValueError:
            self.wrong(field, "is not a time between the years 1 and 9999")
            return 0


def create_topup(
    request: service.InitiateTopupRequest, caller: str, lifetime_ms: int, first_poll_ms: int
) -> CreateTopup:
    """Make the command of an InitiateTopup."""
    fields = Fields()
    pay_order = None
    if request.HasField("pay_order"):
        pay_order = OrderToPay(
            fields.id("pay_order.order_id", request.pay_order.order_id),
            fields.money("pay_order.amount", request.pay_order.amount),
        )
    command = CreateTopup(
        customer_id=fields.id("customer_id", request.customer_id),
        amount=fields.money("amount", request.amount),
        gateway=fields.name("gateway", request.gateway),
        method=fields.name("method", request.method),
        idempotency_key=IdempotencyKey(
            caller, "InitiateTopup", fields.idempotency_key(request.idempotency_key)
        ),
        pay_order=pay_order,
        return_url=fields.url("return_url", request.return_url),
        metadata=fields.metadata(request.metadata),
        lifetime_ms=lifetime_ms,
        first_poll_ms=first_poll_ms,
    )
    fields.check()
    return command


def pay_order(request: service.PayWithWalletRequest, caller: str) -> PayOrder:
    """Make the command of a PayWithWallet."""
    fields = Fields()
    command = PayOrder(
        customer_id=fields.id("customer_id", request.customer_id),
        order_id=fields.id("order_id", request.order_id),
        amount=fields.money("amount", request.amount),
        idempotency_key=IdempotencyKey(
            caller, "PayWithWallet", fields.idempotency_key(request.idempotency_key)
        ),
        metadata=fields.metadata(request.metadata),
    )
    fields.check()
    return command


def refund_order(request: service.RefundToWalletRequest, caller: str) -> RefundOrder:
    """Make the command of a RefundToWallet."""
    fields = Fields()
    command = RefundOrder(
        customer_id=fields.id("customer_id", request.customer_id),
        order_id=fields.id("order_id", request.order_id),
        amount=fields.money("amount", request.amount) if request.HasField("amount") else None,
        idempotency_key=IdempotencyKey(
            caller, "RefundToWallet", fields.idempotency_key(request.idempotency_key)
        ),
        reason=fields.text("reason", request.reason, _MAX_REASON),
        metadata=fields.metadata(request.metadata),
    )
    fields.check()
    return command


def apple_pay_session(request: service.CreateApplePaySessionRequest) -> tuple[str, str, str, str]:
    """Take the ids of a customer and one of its top-ups, Apple's URL and the page's host."""
    fields = Fields()
    customer_id = fields.id("customer_id", request.customer_id)
    topup_id = fields.id("topup_id", request.topup_id)
    for field in ("validation_url", "domain"):
        if not getattr(request, field):
            fields.wrong(field, "is required")
    validation_url = fields.url("validation_url", request.validation_url)
    fields.check()
    return customer_id, topup_id, validation_url, request.domain


def customer_and(request: service.GetTopupRequest | service.VerifyTopupRequest) -> tuple[str, str]:
    """Take the ids of a customer and one of its top-ups."""
    fields = Fields()
    ids = (
        fields.id("customer_id", request.customer_id),
        fields.id("topup_id", request.topup_id),
    )
    if isinstance(request, service.VerifyTopupRequest) and request.WhichOneof("proof") is None:
        fields.wrong("proof", "is required; use `lookup` to have the gateway asked without one")
    fields.check()
    return ids


def customer(request: service.GetStatusRequest) -> str:
    """Take the id of a customer."""
    fields = Fields()
    customer_id = fields.id("customer_id", request.customer_id)
    fields.check()
    return customer_id


def customer_and_order(request: service.GetOrderPaymentRequest) -> tuple[str, str]:
    """Take the ids of a customer and an order."""
    fields = Fields()
    ids = (
        fields.id("customer_id", request.customer_id),
        fields.id("order_id", request.order_id),
    )
    fields.check()
    return ids


def transaction_filter(request: service.ListTransactionsRequest) -> tuple[TransactionFilter, int]:
    """Take what a list is about, and the size of its pages."""
    fields = Fields()
    customer_id = fields.id("customer_id", request.customer_id)
    if request.currency_code and not is_currency(request.currency_code):
        fields.wrong("currency_code", "is not an ISO 4217 code in upper case, such as INR")
    types = set()
    for number in request.types:
        known = _TRANSACTION_TYPES.get(number)
        if known is None:
            fields.wrong("types", f"has no type of number {number}")
        else:
            types.add(known)
    if request.page_size < 0:
        fields.wrong("page_size", f"has to be from 1 to {MAX_PAGE_SIZE}, or 0 for the default")
    start, end = request.HasField("start_time"), request.HasField("end_time")
    wanted = TransactionFilter(
        customer_id=customer_id,
        currency_code=request.currency_code,
        types=frozenset(types),
        start_time_ms=fields.time_ms("start_time", request.start_time) if start else None,
        end_time_ms=fields.time_ms("end_time", request.end_time) if end else None,
    )
    fields.check()
    return wanted, min(request.page_size or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)


def watched_events(
    request: service.WatchEventsRequest,
) -> tuple[EventFilter, HistoryPosition | None]:
    """Take which events are wanted, and where in the past they start."""
    fields = Fields()
    if request.customer_id:
        fields.id("customer_id", request.customer_id)
    types = set()
    for number in request.types:
        known = _WALLET_EVENT_TYPES.get(number)
        if known is None:
            fields.wrong("types", f"has no type of number {number}")
        else:
            types.add(known)
    start = None
    if request.HasField("start_time"):
        if request.cursor:
            fields.wrong("start_time", "cannot be given with `cursor`, which says where to start")
        before = first_id("txn_", fields.time_ms("start_time", request.start_time))
        start = HistoryPosition(before, before)
    fields.check()
    return EventFilter(request.customer_id, frozenset(types)), start


def webhook(request: service.ForwardWebhookRequest) -> tuple[dict[str, str], int | None]:
    """Check a forwarded webhook's bounds; return its headers by lower-case name, and its time."""
    fields = Fields()
    fields.name("gateway", request.gateway)
    if not request.body:
        fields.wrong("body", "is required")
    if len(request.body) > MAX_BODY_BYTES:
        fields.wrong("body", f"takes at most {MAX_BODY_BYTES} bytes")
    size = sum(len(header.name) + len(header.value) for header in request.headers)
    if len(request.headers) > _MAX_HEADERS or size > _MAX_HEADER_CHARACTERS:
        fields.wrong("headers", f"takes at most {_MAX_HEADERS}, and {_MAX_HEADER_CHARACTERS} bytes")
    time_ms = None
    if request.HasField("receive_time"):
        time_ms = fields.time_ms("receive_time", request.receive_time)
    fields.check()
    return {header.name.lower(): header.value for header in request.headers}, time_ms


_TRANSACTION_TYPES: Final = {
    resources.TransactionType.Value(f"TRANSACTION_TYPE_{kind.value}"): kind
    for kind in TransactionType
}
_WALLET_EVENT_TYPES: Final = {
    resources.WalletEventType.Value(f"WALLET_EVENT_TYPE_{kind.value}"): kind
    for kind in WalletEventType
}
