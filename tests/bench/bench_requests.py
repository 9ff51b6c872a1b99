"""Who pays for what: the customers, the token, and payments as the bytes that go over the wire.

All texts have fixed lengths, so that each payment is as large as every other.
"""

import base64
import itertools
import json
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import jwt
from bench_cases import HOT

from server.rpc.edge import SERVICE, required_scope
from wallet_payment.v1 import resources_pb2 as resources
from wallet_payment.v1 import wallet_payment_service_pb2 as service

JWT_ALGORITHM: Final = "HS256"
CALLER: Final = "order-service"
CURRENCY: Final = "INR"
PRICE_MINOR_UNITS: Final = 12_345
HOT_CUSTOMER: Final = "customer-hot-00"
DRIVER_WORKER: Final = 50
FILLING_WORKER: Final = 60
"""Numbers of the workers that are no load processes; these have the ones below."""

_JWT_SECRET: Final = "bench-secret-of-at-least-thirty-two-bytes"
_SCOPES: Final = " ".join(sorted({required_scope(method) for method in SERVICE.methods}))
_NUMBER: Final = "############"
_NUMBERS_OF_A_WORKER: Final = 10**10


def method(name: str) -> str:
    """Return the full name of an RPC."""
    return f"/{SERVICE.full_name}/{name}"


PAY_WITH_WALLET: Final = method("PayWithWallet")


def key_set() -> str:
    """Return the JSON Web Key Set that `token` is verified with."""
    secret = base64.urlsafe_b64encode(_JWT_SECRET.encode()).decode().rstrip("=")
    key = {"kty": "oct", "kid": "bench", "alg": JWT_ALGORITHM, "k": secret}
    return json.dumps({"keys": [key]})


def token() -> str:
    """Return a token that may do everything, good for longer than any run."""
    return jwt.encode(
        claims(int(time.time())), _JWT_SECRET, JWT_ALGORITHM, headers={"kid": "bench"}
    )


def claims(now: int) -> dict[str, Any]:
    """Return what tokens of a run say."""
    return {
        "iss": "wallet-payment",
        "aud": "wallet-payment",
        "sub": CALLER,
        "iat": now,
        "exp": now + 86_400,
        "scope": _SCOPES,
    }


def customers_of(wallets: int) -> tuple[str, ...]:
    """Name the owners of so many wallets; the hot one's if it is `HOT`."""
    if wallets == HOT:
        return (HOT_CUSTOMER,)
    return tuple(f"customer-{number:06}" for number in range(wallets))


def numbers_of(worker: int) -> "itertools.count[int]":
    """Return the numbers of a worker's payments; no other worker has them."""
    return itertools.count(worker * _NUMBERS_OF_A_WORKER)


def order_id(number: int) -> str:
    """Name an order."""
    return f"order-{number:012}"


def checkout_key(number: int) -> str:
    """Return the idempotency key of an order's payment."""
    return f"checkout-{number:012}"


class Payments:
    """Draws one payment after another, each of an order and a key of its own.

    A payment is serialised once for each customer; then only the number is put into it. Workers
    with different numbers never make the same payment.
    """

    def __init__(self, worker: int) -> None:
        self._numbers = numbers_of(worker)
        self._draw = random.Random(worker).choice
        self._templates: dict[int, list[_Template]] = {}

    def of_wallets(self, wallets: int) -> Callable[[], bytes]:
        """Return what draws payments from so many wallets; from the hot one if it is `HOT`."""
        if wallets not in self._templates:
            customers = customers_of(wallets)
            self._templates[wallets] = [_Template.of(customer) for customer in customers]
        templates, numbers, draw = self._templates[wallets], self._numbers, self._draw
        return lambda: draw(templates).payment(next(numbers))


@dataclass(frozen=True, slots=True)
class _Template:
    """A serialised payment, cut where the number goes."""

    before: bytes
    between: bytes
    after: bytes

    @classmethod
    def of(cls, customer_id: str) -> "_Template":
        request = service.PayWithWalletRequest(
            customer_id=customer_id,
            order_id=f"order-{_NUMBER}",
            amount=resources.Money(currency_code=CURRENCY, minor_units=PRICE_MINOR_UNITS),
            idempotency_key=f"checkout-{_NUMBER}",
        )
        return cls(*request.SerializeToString().split(_NUMBER.encode()))

    def payment(self, number: int) -> bytes:
        digits = b"%012d" % number
        return b"".join((self.before, digits, self.between, digits, self.after))
