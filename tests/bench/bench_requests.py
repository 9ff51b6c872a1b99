"""Who pays for what: the wallets, the token, and payments as the bytes that go over the wire.

All texts have fixed lengths, so that each payment is as large as every other.
"""

import base64
import itertools
import json
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import jwt
from bench_cases import HOT

from server.ledger.commands import PayOrder
from server.ledger.decide import decide
from server.ledger.decisions import Accepted, PaymentReply
from server.ledger.money import Money
from server.ledger.posting import Cause, empty_wallet, gateway_account, post
from server.ledger.records import (
    NO_METADATA,
    IdempotencyKey,
    Transaction,
    TransactionType,
    Wallet,
    WalletKey,
)
from server.ledger.state import State
from server.rpc import conversion
from server.rpc.edge import SERVICE
from wallet_payment.v1 import resources_pb2 as resources
from wallet_payment.v1 import wallet_payment_service_pb2 as service

PAY_WITH_WALLET: Final = f"/{SERVICE.full_name}/PayWithWallet"
JWT_ALGORITHM: Final = "HS256"

_JWT_SECRET: Final = "bench-secret-of-at-least-thirty-two-bytes"
_CALLER: Final = "order-service"
_CURRENCY: Final = "INR"
_GATEWAY: Final = "razorpay"
_HOT_CUSTOMER: Final = "customer-hot-00"
_SPREAD_CUSTOMERS: Final = tuple(f"customer-{number:06}" for number in range(1_000))
_BALANCE_MINOR_UNITS: Final = 10**12
_PRICE_MINOR_UNITS: Final = 12_345
_NUMBER: Final = "############"
_NUMBERS_OF_A_WORKER: Final = 10**10

CUSTOMERS: Final = (_HOT_CUSTOMER, *_SPREAD_CUSTOMERS)
"""Everyone who has a wallet."""


def key_set() -> str:
    """Return the JSON Web Key Set that `token` is verified with."""
    secret = base64.urlsafe_b64encode(_JWT_SECRET.encode()).decode().rstrip("=")
    key = {"kty": "oct", "kid": "bench", "alg": JWT_ALGORITHM, "k": secret}
    return json.dumps({"keys": [key]})


def token() -> str:
    """Return a token that may pay, good for longer than any run."""
    now = int(time.time())
    claims = {
        "iss": "wallet-payment",
        "aud": "wallet-payment",
        "sub": _CALLER,
        "iat": now,
        "exp": now + 86_400,
        "scope": "payment.write",
    }
    return jwt.encode(claims, _JWT_SECRET, JWT_ALGORITHM, headers={"kid": "bench"})


def funded_wallet(customer_id: str, now_ms: int) -> tuple[Wallet, Transaction]:
    """Return a wallet with its first entry, a top-up that no load uses up."""
    return post(
        empty_wallet(WalletKey(customer_id, _CURRENCY), now_ms),
        TransactionType.TOPUP,
        _BALANCE_MINOR_UNITS,
        gateway_account(_GATEWAY, _CURRENCY),
        Cause(
            topup_id=f"top_{customer_id}",
            gateway=_GATEWAY,
            gateway_payment_id=f"pay_{customer_id}",
        ),
        now_ms,
    )


def payments(wallets: str, worker: int) -> Callable[[], bytes]:
    """Return what draws one payment after another, each of an order and a key of its own.

    A payment is serialised once for each customer; then only the number is put into it. Workers
    with different numbers never make the same payment.
    """
    customers = (_HOT_CUSTOMER,) if wallets == HOT else _SPREAD_CUSTOMERS
    templates = [_Template.of(customer) for customer in customers]
    numbers = itertools.count(worker * _NUMBERS_OF_A_WORKER)
    draw = random.Random(worker).choice
    return lambda: draw(templates).payment(next(numbers))


def sample_response() -> bytes:
    """Return the answer to a payment, as the service itself would write it."""
    customer_id = _SPREAD_CUSTOMERS[0]
    now_ms = time.time_ns() // 1_000_000
    request = _request(customer_id)
    key = IdempotencyKey(_CALLER, "PayWithWallet", request.idempotency_key)
    wallet, _ = funded_wallet(customer_id, now_ms)
    state = State(
        customers={customer_id: True},
        wallets={customer_id: {_CURRENCY: wallet}},
        orders={request.order_id: None},
        transactions_by_key={key: None},
    )
    amount = Money(_CURRENCY, _PRICE_MINOR_UNITS)
    command = PayOrder(customer_id, request.order_id, amount, key, NO_METADATA)
    decision = decide(state, command, now_ms)
    assert isinstance(decision, Accepted)
    assert isinstance(decision.reply, PaymentReply)
    return conversion.payment_response(decision.reply).SerializeToString()


@dataclass(frozen=True, slots=True)
class _Template:
    """A serialised payment, cut where the number goes."""

    before: bytes
    between: bytes
    after: bytes

    @classmethod
    def of(cls, customer_id: str) -> "_Template":
        serialised = _request(customer_id).SerializeToString()
        return cls(*serialised.split(_NUMBER.encode()))

    def payment(self, number: int) -> bytes:
        digits = b"%012d" % number
        return b"".join((self.before, digits, self.between, digits, self.after))


def _request(customer_id: str) -> service.PayWithWalletRequest:
    return service.PayWithWalletRequest(
        customer_id=customer_id,
        order_id=f"order-{_NUMBER}",
        amount=resources.Money(currency_code=_CURRENCY, minor_units=_PRICE_MINOR_UNITS),
        idempotency_key=f"checkout-{_NUMBER}",
    )
