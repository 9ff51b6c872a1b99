"""`wallet-payment topup`, `pay` and `refund`: what callers do, by hand and through the server.

Each prints its idempotency key before it calls. Whatever becomes of the answer, the same command
with that key asks again, and no money moves twice.
"""

import asyncio
import getpass
import secrets
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import click
import grpc
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from server.cli import answers
from server.cli.answers import print_fields, print_json
from server.cli.development import development_settings
from server.cli.operate import loaded_settings
from server.cli.server_link import server_channel
from server.cli.tokens import make_token
from server.config import Settings
from server.ledger.money import Money
from server.rpc.edge import SERVICE, required_scope
from wallet_payment.v1 import resources_pb2 as resources
from wallet_payment.v1 import wallet_payment_service_pb2 as service
from wallet_payment.v1 import wallet_payment_service_pb2_grpc as service_grpc

_SECONDS: Final = 30
_TOKEN_SECONDS: Final = 60
_REFUSED: Final = 1
_UNKNOWN: Final = 2
_WORTH_A_REPEAT: Final = frozenset(
    {
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.UNKNOWN,
    }
)
"""After these a change may have been made all the same, or may be made the next time."""


@dataclass(frozen=True, slots=True)
class _Told:
    """How a call was refused."""

    reason: str
    message: str
    is_worth_a_repeat: bool


def _key_options(command: Callable[..., None]) -> Callable[..., None]:
    """Return a command with what all that change something take."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print JSON."),
        click.option(
            "--key",
            default=lambda: f"operator-{secrets.token_hex(12)}",
            show_default="a new one",
            help="The idempotency key: give that of a former try to ask for the same again.",
        ),
    ):
        command = option(command)
    return command


@click.command()
@click.argument("customer")
@click.argument("amount", type=answers.amount)
@click.option("--gateway", required=True, help="Such as razorpay.")
@click.option("--method", required=True, help="Such as upi or card.")
@_key_options
def topup(customer: str, amount: Money, gateway: str, method: str, key: str, as_json: bool) -> None:
    """Start a top-up of AMOUNT, such as INR:50000, and print how it is paid."""
    request = service.InitiateTopupRequest(
        customer_id=customer,
        amount=_money(amount),
        gateway=gateway,
        method=method,
        idempotency_key=key,
    )
    response = _call("InitiateTopup", request, key, as_json=as_json)
    started: resources.Topup = response.topup
    fields = {
        "top-up": started.topup_id,
        "amount": _text(started.amount),
        "state": resources.TopupState.Name(started.state).removeprefix("TOPUP_STATE_"),
        "gateway's order": started.gateway_order_id,
        "to be paid at": started.checkout.url,
    }
    _answer(response, fields, key, as_json=as_json)


@click.command()
@click.argument("customer")
@click.argument("order")
@click.argument("amount", type=answers.amount)
@_key_options
def pay(customer: str, order: str, amount: Money, key: str, as_json: bool) -> None:
    """Pay ORDER of AMOUNT, such as INR:25000, from the customer's wallet."""
    request = service.PayWithWalletRequest(
        customer_id=customer, order_id=order, amount=_money(amount), idempotency_key=key
    )
    response = _call("PayWithWallet", request, key, as_json=as_json)
    fields = {
        "paid": f"{order}, {_text(response.payment.amount)}",
        "transaction": response.transaction.transaction_id,
        "wallet holds": _text(response.wallet.balance),
    }
    _answer(response, fields, key, as_json=as_json)


@click.command()
@click.argument("customer")
@click.argument("order")
@click.argument("amount", type=answers.amount, required=False)
@click.option("--reason", required=True, help="It is kept with the refund.")
@_key_options
def refund(
    customer: str, order: str, amount: Money | None, reason: str, key: str, as_json: bool
) -> None:
    """Refund AMOUNT of ORDER, such as INR:10000, into the wallet; without it, all that remains."""
    request = service.RefundToWalletRequest(
        customer_id=customer,
        order_id=order,
        amount=None if amount is None else _money(amount),
        reason=reason,
        idempotency_key=key,
    )
    response = _call("RefundToWallet", request, key, as_json=as_json)
    fields = {
        "refunded": f"{order}, {_text(response.refund.amount)}",
        "refund": response.refund.refund_id,
        "transaction": response.transaction.transaction_id,
        "wallet holds": _text(response.wallet.balance),
    }
    _answer(response, fields, key, as_json=as_json)


def _call(method: str, request: Message, key: str, *, as_json: bool) -> Any:  # noqa: ANN401 - a response
    """Call the server; a refusal ends the command, saying what can be done."""
    settings = loaded_settings()
    metadata = (("authorization", f"Bearer {_token(settings, method)}"),)
    if not as_json:
        click.echo(f"{'idempotency key':<18} {key}", err=True)

    async def run() -> Any:  # noqa: ANN401 - a response
        async with server_channel(settings) as channel:
            stub = service_grpc.WalletPaymentServiceStub(channel)
            return await getattr(stub, method)(request, metadata=metadata, timeout=_SECONDS)

    try:
        return asyncio.run(run())
    except grpc.aio.AioRpcError as error:
        told = _told(error)
    if as_json:
        content = {"reason": told.reason, "message": told.message, "idempotency_key": key}
        print_json({"error": content | {"repeat": told.is_worth_a_repeat}})
    else:
        click.echo(f"wallet-payment: {told.reason}: {told.message}", err=True)
        if told.is_worth_a_repeat:
            click.echo(f"It is safe to ask again: the same command with --key {key}", err=True)
    sys.exit(_UNKNOWN if told.is_worth_a_repeat else _REFUSED)


def _token(settings: Settings, method: str) -> str:
    """Return the operator's token, or one for this call alone."""
    given = settings.operator_token.get_secret_value()
    if given:
        return given
    user = "operator"
    with suppress(KeyError, OSError):
        user = f"operator:{getpass.getuser()}"
    return make_token(
        development_settings(settings),
        subject=user,
        scopes=(required_scope(SERVICE.methods_by_name[method]),),
        lifetime_seconds=_TOKEN_SECONDS,
    )


def _told(error: grpc.aio.AioRpcError) -> _Told:
    """Read a refusal: the reason that the server gives, or the code where nobody has answered."""
    code = error.code()
    info, status = error_details_pb2.ErrorInfo(), status_pb2.Status()
    trailing: Any = error.trailing_metadata() or ()
    for name, value in trailing:
        if name == "grpc-status-details-bin":
            status.ParseFromString(value)
    for detail in status.details:
        detail.Unpack(info)
    message = error.details() or ""
    if not info.reason:
        message = "The server does not answer: check WALLET_SERVER_TARGET, and that it runs."
    return _Told(info.reason or code.name, message, code in _WORTH_A_REPEAT)


def _answer(response: Message, fields: dict[str, Any], key: str, *, as_json: bool) -> None:
    if as_json:
        content = MessageToDict(response, preserving_proto_field_name=True)
        print_json({"idempotency_key": key} | content)
    else:
        print_fields(fields)


def _money(money: Money) -> resources.Money:
    return resources.Money(currency_code=money.currency_code, minor_units=money.minor_units)


def _text(money: resources.Money) -> str:
    return str(Money(money.currency_code, money.minor_units))
