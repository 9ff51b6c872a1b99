"""What callers send: requests of every RPC, page tokens, tokens of the edge, and payment links."""

import base64
import hashlib
import hmac
import json
from collections.abc import Sequence
from typing import Any, Final

from google.protobuf.json_format import ParseDict
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from fuzz.changes import BETWEEN
from fuzz.target import Target
from gateway_adapters import upi
from server.access.trust import TrustedKeys, VerificationKey
from server.feed import EventFilter, HistoryPosition, Position
from server.queries import TransactionFilter
from server.rpc import conversion, validation
from server.rpc.auth import Authenticator, Caller
from server.rpc.cursors import Cursors
from server.rpc.edge import SERVICE
from server.rpc.errors import RpcError
from server.rpc.page_tokens import PageTokens
from wallet_payment.v1 import wallet_payment_service_pb2 as service

_NOW: Final = 1_785_000_000
_KEY: Final = b"a shared secret of at least thirty-two bytes"
_PAGES: Final = PageTokens(b"a key of page tokens")
_WANTED: Final = TransactionFilter("customer-1")
_CURSORS: Final = Cursors(b"a key of cursors")
_EVENTS: Final = EventFilter("customer-1")
METHODS: Final = sorted(SERVICE.methods, key=lambda method: str(method.name))
_MOST_CLAIMS_BYTES: Final = 6_000


def targets() -> list[Target]:
    """Return all targets of the edge."""
    refusals = (RpcError,)
    return [
        Target("rpc_request", _request, (*refusals, DecodeError), request_seeds),
        Target("page_token", _page_token, refusals, _page_token_seeds),
        Target("cursor", _cursor, refusals, _cursor_seeds),
        Target("authorization", _authorization, refusals, lambda: [_signed(_claims()).encode()]),
        Target("signed_claims", _signed_claims, refusals, _claims_seeds),
        Target("upi_uri", _upi_uri, (upi.InvalidIntent,), _upi_seeds),
    ]


def _request(content: bytes) -> object:
    """Take the method in the first byte, and its request as it is on the wire in the others."""
    method = METHODS[content[0] % len(METHODS)] if content else METHODS[0]
    request = GetMessageClass(method.input_type).FromString(content[1:])
    return _validated(request)


def _validated(request: Message) -> object:  # noqa: C901 - a case for each method
    """Do what the servicer does before it asks the ledger."""
    match request:
        case service.InitiateTopupRequest():
            return validation.create_topup(request, "caller", 1, 1)
        case service.VerifyTopupRequest():
            return validation.customer_and(request), conversion.proof(request)
        case service.GetTopupRequest():
            return validation.customer_and(request)
        case service.PayWithWalletRequest():
            return validation.pay_order(request, "caller")
        case service.RefundToWalletRequest():
            return validation.refund_order(request, "caller")
        case service.GetStatusRequest():
            return validation.customer(request)
        case service.GetOrderPaymentRequest():
            return validation.customer_and_order(request)
        case service.ListTransactionsRequest():
            wanted, size = validation.transaction_filter(request)
            assert 0 < size <= validation.MAX_PAGE_SIZE
            return wanted, _PAGES.read(wanted, request.page_token)
        case service.WatchEventsRequest():
            return validation.watched_events(request)
        case service.CreateApplePaySessionRequest():
            return validation.apple_pay_session(request)
        case service.ForwardWebhookRequest():
            return validation.webhook(request)
    raise AssertionError(f"no target for {type(request).__name__}")


def _page_token(content: bytes) -> str:
    token = content.decode("utf-8", "replace")
    last_id = _PAGES.read(_WANTED, token)
    assert not token or _PAGES.make(_WANTED, last_id) == token
    return last_id


def _cursor(content: bytes) -> Position:
    return _CURSORS.read(_EVENTS, content.decode("utf-8", "replace"))


def _authorization(content: bytes) -> Caller:
    """Take metadata as gRPC hands it on: ASCII."""
    return _authenticated(content.decode("ascii", "replace"))


def _signed_claims(content: bytes) -> Caller:
    """Take a header and claims in a token that a trusted key has signed."""
    header, _, claims = content[:_MOST_CLAIMS_BYTES].partition(BETWEEN)
    caller = _authenticated(_signed(claims, header))
    assert caller.name.isprintable()
    return caller


def _authenticated(authorization: str) -> Caller:
    """Return the caller; without a key server there is nothing to wait for."""
    trusted = TrustedKeys()
    trusted.set_keys("own", (VerificationKey("shared", "HS256", _KEY),))
    edge = Authenticator(trusted, issuer="issuer", audience="audience", now=lambda: _NOW)
    try:
        edge.authenticate(authorization, "status.read").send(None)
    except StopIteration as end:
        caller: Caller = end.value
        return caller
    raise AssertionError("it waited")


def _upi_uri(content: bytes) -> object:
    """Take a link that a gateway gives for a customer's app."""
    uri = content.decode("utf-8", "replace")
    asked = upi.read_intent_uri(uri)
    assert upi.is_vpa(asked.payee_vpa)
    assert asked.amount.minor_units > 0
    return asked, upi.google_pay_ios_uri_of(uri)


def _signed(claims: bytes, header: bytes = b'{"alg": "HS256", "typ": "JWT"}') -> str:
    message = b".".join(_segment(part) for part in (header, claims))
    signature = hmac.digest(_KEY, message, hashlib.sha256)
    return f"Bearer {(message + b'.' + _segment(signature)).decode()}"


def _segment(content: bytes) -> bytes:
    return base64.urlsafe_b64encode(content).rstrip(b"=")


def _claims(**changes: Any) -> bytes:
    claims = {
        "iss": "issuer",
        "aud": "audience",
        "sub": "order-service",
        "iat": 1,
        "exp": 253_402_300_799,
        "scope": "status.read payment.write",
    }
    return json.dumps(claims | changes).encode()


def _claims_seeds() -> Sequence[bytes]:
    header = b'{"alg": "HS256", "kid": "shared"}' + BETWEEN
    return [header + _claims(), header + _claims(aud=["audience"], nbf=1, exp=9e9)]


def _page_token_seeds() -> Sequence[bytes]:
    return [b"", _PAGES.make(_WANTED, "txn_01JD8Z6Q7M0123456789ABCDEF").encode()]


def _cursor_seeds() -> Sequence[bytes]:
    return [_CURSORS.make(_EVENTS, HistoryPosition("txn_1", "txn_2")).encode()]


def _upi_seeds() -> Sequence[bytes]:
    return [
        b"upi://pay?pa=shop@bank&pn=Shop%20One&am=10.00&cu=INR&tr=top1&tn=Top-up",
        b"upi://pay?am=1&pa=a.b-c@upi",
    ]


def request_seeds(customer_id: str = "customer-1", topup_id: str = "top_1") -> Sequence[bytes]:
    """Return a request of every method, for a customer and one of its top-ups."""
    amount = {"currencyCode": "INR", "minorUnits": 1_000}
    customer: dict[str, Any] = {"customerId": customer_id}
    of_topup, of_order = customer | {"topupId": topup_id}, customer | {"orderId": "order-1"}
    change = of_order | {"idempotencyKey": "key-1", "amount": amount, "metadata": {"a": "b"}}
    start = customer | {"idempotencyKey": "key-1", "amount": amount, "gateway": "razorpay"}
    start |= {"method": "upi", "payOrder": {"orderId": "order-1", "amount": amount}}
    start |= {"returnUrl": "https://shop.example/thanks", "metadata": {"cart_id": "c-1"}}
    time = "2026-07-01T12:00:00Z"
    filtered = customer | {"currencyCode": "INR", "types": [1, 2], "startTime": time}
    url = "https://apple-pay-gateway.apple.com/paymentservices/startSession"
    webhook = {"gateway": "razorpay", "headers": [{"name": "X-A", "value": "b"}], "body": "e30="}
    requests: list[tuple[type[Message], dict[str, Any]]] = [
        (service.InitiateTopupRequest, start),
        (service.VerifyTopupRequest, of_topup | {"razorpay": {"paymentId": "pay_1"}}),
        (service.VerifyTopupRequest, of_topup | {"googlePay": {"token": "{}"}}),
        (service.GetTopupRequest, of_topup),
        (service.PayWithWalletRequest, change),
        (service.RefundToWalletRequest, change | {"reason": "returned"}),
        (service.GetStatusRequest, customer),
        (service.GetOrderPaymentRequest, of_order),
        (service.WatchEventsRequest, customer | {"types": [1], "startTime": time}),
        (service.ListTransactionsRequest, filtered | {"pageSize": 3}),
        (
            service.CreateApplePaySessionRequest,
            of_topup | {"validationUrl": url, "domain": "shop.example"},
        ),
        (service.ForwardWebhookRequest, webhook | {"receiveTime": time}),
    ]
    written = (ParseDict(content, message()) for message, content in requests)
    return [bytes([_number_of(request)]) + request.SerializeToString() for request in written]


def _number_of(request: Message) -> int:
    names = [method.input_type.full_name for method in METHODS]
    return names.index(request.DESCRIPTOR.full_name)
