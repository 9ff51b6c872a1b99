"""What gateways answer: an adapter is asked for something, and gets any statuses and bodies.

An input is the question in its first byte, then answers, each with its status in its first byte.
Once there are no more, nobody answers.
"""

import json
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import zip_longest
from typing import Any, Final, Self

import aiohttp

import paypal_bench
import razorpay_bench
from event_samples import SAMPLES
from fuzz.changes import BETWEEN
from fuzz.target import Target, outcome_of
from fuzz.wallets import NOW_MS
from gateway_adapters.gateway import (
    Gateway,
    GatewayRefused,
    GatewayUnavailable,
    GooglePayProof,
    LookupProof,
    ProofInvalid,
    TokenGateway,
)
from gateway_adapters.paypal import Paypal, PaypalSettings
from gateway_adapters.razorpay import Razorpay, RazorpaySettings, UpiPayer
from gateway_adapters.sandbox.paypal_signing import make_keys
from gateway_adapters.stripe import Stripe, StripeSettings
from server.ledger.money import Money
from server.ledger.records import GatewayPayment, GatewayPaymentStatus, Topup, TopupState
from server.rpc import conversion

_STATUSES: Final = (200, 201, 204, 302, 400, 401, 404, 409, 422, 429, 500)
_OK, _BAD_REQUEST, _UNPROCESSABLE = 0, 4, 8
_REFUSALS: Final = (GatewayUnavailable, GatewayRefused, ProofInvalid)
_SECONDS: Final = NOW_MS // 1_000
_TRUST: Final = make_keys().root_pem.encode()
_MINUTE_MS: Final = 60_000

Ask = Callable[[Gateway, Topup], Coroutine[Any, Any, object]]


def targets() -> list[Target]:
    """Return a target for each gateway."""
    return [
        Target("razorpay_answers", _taking(_razorpay), _REFUSALS, _razorpay_seeds),
        Target("paypal_answers", _taking(_paypal), _REFUSALS, _paypal_seeds),
        Target("stripe_answers", _taking(_stripe), _REFUSALS, _stripe_seeds),
    ]


@dataclass
class _Answer:
    """One answer, as aiohttp hands it on."""

    status: int
    body: bytes

    @property
    def headers(self) -> dict[str, str]:
        """Let the first bytes be a Retry-After, too."""
        return {"Retry-After": self.body[:24].decode("latin-1")}

    @property
    def content(self) -> "_Answer":
        """The body is read from here."""
        return self

    async def iter_any(self) -> AsyncIterator[bytes]:
        """Give it in one piece."""
        yield self.body

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass


class _Answering:
    """Stands in for aiohttp's session."""

    def __init__(self, answers: Sequence[bytes]) -> None:
        self._answers = [answer for answer in answers if answer]
        self._next = 0

    def request(self, *_: Any, **__: Any) -> _Answer:
        """Answer with what is next.

        Raises:
            aiohttp.ClientConnectionError: there is nothing left.
        """
        if self._next >= len(self._answers):
            raise aiohttp.ClientConnectionError
        answer = self._answers[self._next]
        self._next += 1
        return _Answer(_STATUSES[answer[0] % len(_STATUSES)], answer[1:])


def _taking(make: Callable[[Any], tuple[Gateway, Topup]]) -> Callable[[bytes], object]:
    """Return what asks a gateway's adapter."""

    def take(content: bytes) -> object:
        session = _Answering(content[1:].split(BETWEEN))
        gateway, topup = make(session)
        ask = _QUESTIONS[content[0] % len(_QUESTIONS)] if content else _open
        return outcome_of(ask(gateway, topup))

    return take


async def _open(gateway: Gateway, topup: Topup) -> object:
    return await _open_again(gateway, replace(topup, gateway_order_id=""))


async def _open_again(gateway: Gateway, topup: Topup) -> object:
    """Have the order made or told again; the caller is then told how to pay it."""
    checkout = await gateway.open_topup(topup)
    conversion.topup(replace(topup, checkout=checkout, state=TopupState.PENDING))
    return checkout


async def _open_qr_code(gateway: Gateway, topup: Topup) -> object:
    method = "upi_qr" if topup.gateway == "razorpay" else topup.method
    return await _open(gateway, replace(topup, method=method))


async def _look_up(gateway: Gateway, topup: Topup) -> object:
    return await gateway.check_proof(topup, LookupProof())


async def _capture(gateway: Gateway, topup: Topup) -> object:
    order_id, on_hold = topup.gateway_order_id, GatewayPaymentStatus.AUTHORIZED
    payment_id = "pay_1" if topup.gateway == "razorpay" else order_id
    return await gateway.capture(topup, GatewayPayment(payment_id, order_id, on_hold, topup.amount))


async def _order_of(gateway: Gateway, topup: Topup) -> object:
    names = {"razorpay": "pay_1", "paypal": "CAPTURE1", "stripe": "ch_1"}
    return await gateway.order_of(names[topup.gateway])


async def _movements(gateway: Gateway, _topup: Topup) -> object:
    moved = gateway.movements(NOW_MS - _MINUTE_MS, NOW_MS + _MINUTE_MS)
    return [movement async for movement in moved]


async def _pay_with_token(gateway: Gateway, topup: Topup) -> object:
    if not isinstance(gateway, TokenGateway):
        return None
    return await gateway.pay_with_token(topup, GooglePayProof("{}"))


_QUESTIONS: Final[tuple[Ask, ...]] = (
    *(
        _open,
        _open_again,
        _look_up,
        _capture,
        _order_of,
        _movements,
        _pay_with_token,
        _open_qr_code,
    ),
)


def _razorpay(session: Any) -> tuple[Gateway, Topup]:
    settings = RazorpaySettings(
        *("https://api.razorpay.com", "rzp_test_key", "secret", ("secret",)),
        upi_payer=UpiPayer("shop@example.com", "+919000090000"),
        wallets=frozenset({"google_pay", "apple_pay"}),
    )
    topup = razorpay_bench.make_topup(Money("INR", 1_000), "upi")
    return Razorpay(session, settings), replace(topup, gateway_order_id="order_1")


def _paypal(session: Any) -> tuple[Gateway, Topup]:
    settings = PaypalSettings(
        *("https://api-m.sandbox.paypal.com", "client", "secret", "WH-1", "sandbox"),
        trust_anchors_pem=_TRUST,
    )
    topup = paypal_bench.make_topup(Money("USD", 1_000), gateway_order_id="ORDER1")
    return Paypal(session, settings), topup


def _stripe(session: Any) -> tuple[Gateway, Topup]:
    settings = StripeSettings("https://api.stripe.com", "sk_test", "pk_test", ("whsec",))
    topup = razorpay_bench.make_topup(Money("INR", 1_000))
    return Stripe(session, settings), replace(topup, gateway="stripe", gateway_order_id="pi_1")


def _asked(question: int, *answers: object, statuses: Sequence[int] = ()) -> bytes:
    """Write an input; answers succeed where no status is given."""
    written = [
        bytes([status]) + json.dumps(answer).encode()
        for status, answer in zip_longest(statuses, answers, fillvalue=_OK)
    ]
    return bytes([question]) + BETWEEN.join(written)


def _contents(gateway: str, kind: str) -> list[dict[str, Any]]:
    return [sample.content for sample in SAMPLES[gateway] if sample.kind.startswith(kind)]


def _listed(gateway: str, *kinds: str) -> list[dict[str, Any]]:
    return [content for kind in kinds for content in _contents(gateway, kind)]


def _razorpay_seeds() -> list[bytes]:
    entities = _listed("razorpay", "order.paid", "refund.processed", "payment.dispute.lost")
    by_name = {name: entity for content in entities for name, entity in content.items()}
    made = {"created_at": _SECONDS}
    order = by_name["order"] | made | {"receipt": razorpay_bench.TOPUP_ID, "status": "created"}
    payment = by_name["payment"] | made
    lists = [{"items": [by_name[name] | made]} for name in ("payment", "refund", "dispute")]
    lists[0] = {"items": [payment]}
    held = {"items": [payment | {"status": "authorized"}]}
    intent = {"razorpay_payment_id": "pay_1", "link": "upi://pay?pa=shop@bank&am=10.00&cu=INR"}
    nothing: dict[str, Any] = {"items": []}
    qr_code = made | {"id": "qr_1", "type": "upi_qr", "usage": "single_use", "fixed_amount": True}
    qr_code |= {"payment_amount": 1_000, "status": "active", "image_content": intent["link"]}
    qr_code |= {"notes": {"topup_id": razorpay_bench.TOPUP_ID}, "close_by": _SECONDS + 1_800}
    return [
        _asked(0, nothing, order, intent),
        _asked(1, {"items": [order]}, intent),
        _asked(2, lists[0], lists[1]),
        _asked(2, held),
        _asked(3, payment),
        _asked(
            3, {"error": {"description": "It was captured."}}, payment, statuses=(_BAD_REQUEST,)
        ),
        _asked(4, payment),
        _asked(5, *lists),
        _asked(6, {"razorpay_payment_id": "pay_1"}, payment),
        _asked(7, nothing, qr_code),
    ]


def _paypal_seeds() -> list[bytes]:
    [capture, *_] = _contents("paypal", "PAYMENT.CAPTURE.COMPLETED")
    [refund, *_] = _contents("paypal", "PAYMENT.CAPTURE.REFUNDED")
    amount = {"currency_code": "USD", "value": "10.00"}
    unit: dict[str, Any] = {"amount": amount, "custom_id": paypal_bench.TOPUP_ID}
    links = [{"rel": "payer-action", "href": "https://www.paypal.com/checkoutnow?token=ORDER1"}]
    order = {"id": "ORDER1", "status": "CREATED", "purchase_units": [unit], "links": links}
    paid_unit = unit | {"payments": {"captures": [capture], "refunds": [refund]}}
    paid = order | {"status": "COMPLETED", "purchase_units": [paid_unit]}
    entry = {
        "transaction_id": "CAPTURE1",
        "transaction_event_code": "T0006",
        "transaction_status": "S",
        "transaction_amount": {"currency_code": "USD", "value": "10.00"},
        "transaction_initiation_date": datetime.fromtimestamp(_SECONDS, UTC).isoformat(),
    }
    back = entry | {
        "transaction_event_code": "T1107",
        "transaction_amount": {"currency_code": "USD", "value": "-4.00"},
        "paypal_reference_id": "CAPTURE1",
        "paypal_reference_id_type": "TXN",
    }
    details = [{"transaction_info": entry}, {"transaction_info": back}]
    refused = {"name": "UNPROCESSABLE_ENTITY", "details": [{"issue": "INSTRUMENT_DECLINED"}]}
    token = {"access_token": "token", "expires_in": 3_600}
    return [
        _asked(0, token, order),
        _asked(1, token, order),
        _asked(2, token, paid),
        _asked(3, token, paid),
        _asked(3, token, refused, paid, statuses=(_OK, _UNPROCESSABLE)),
        _asked(4, token, capture),
        _asked(5, token, {"total_pages": 1, "transaction_details": details}),
    ]


def _stripe_seeds() -> list[bytes]:
    [intent, *_] = _contents("stripe", "payment_intent.succeeded")
    [refund, *_] = _contents("stripe", "refund.created")
    [dispute, *_] = _contents("stripe", "charge.dispute.closed")
    ours = intent | {"metadata": {"topup_id": razorpay_bench.TOPUP_ID}}
    fresh = ours | {"client_secret": "pi_1_secret_2", "status": "requires_payment_method"}
    made = {"created": _SECONDS}
    charge = made | {"id": "ch_1", "payment_intent": "pi_1", "status": "succeeded"}
    charge |= {"captured": True, "amount_captured": 1_000, "currency": "inr"}
    lists = [{"data": [made | one], "has_more": False} for one in (charge, refund, dispute)]
    taken = ours | {"latest_charge": {"amount_refunded": 400, "disputed": True}}
    return [
        _asked(0, fresh | {"amount_received": 0}),
        _asked(1, fresh | {"amount_received": 0}),
        _asked(2, taken, lists[1], lists[2]),
        _asked(3, ours),
        _asked(4, charge),
        _asked(5, *lists),
    ]
