"""The main job in a minute: top-up, payment, refunds, a repeat, a refusal, and then the books."""

import asyncio
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import click
import grpc
from pydantic import SecretStr

from server.cli.environment import Environment, running_environment
from server.cli.logs import configure_logs
from server.cli.stopping import run_until_stopped
from server.config import load_settings
from server.ledger.money import Money
from server.store.books import verify_books
from server.store.connection import connect
from server.told import ToldInWords
from wallet_payment.v1 import resources_pb2 as resources
from wallet_payment.v1 import wallet_payment_service_pb2 as service
from wallet_payment.v1 import wallet_payment_service_pb2_grpc as service_grpc

_CUSTOMER = "customer-1"
_ORDER = "order-1"
_WAIT_SECONDS = 20


class DemoFailed(ToldInWords):
    """A step did not do what it shows."""


@click.command()
def demo() -> None:
    """Show the main job in a minute, in an environment of its own that leaves nothing behind."""

    async def run() -> None:
        with tempfile.TemporaryDirectory(prefix="wallet-payment-demo-") as folder:
            any_port = "127.0.0.1:0"
            settings = load_settings(
                data_dir=Path(folder),
                mongodb_uri=SecretStr(""),
                grpc_address=any_port,
                sidecar_address=any_port,
                metrics_address=any_port,
                sandbox_address=any_port,
                log_level="error",
            )
            settings.check_development()
            configure_logs(settings)
            async with running_environment(settings) as environment:
                await run_demo(environment)

    run_until_stopped(run)


async def run_demo(environment: Environment) -> None:
    """Go through the main job against a fresh environment, saying each step.

    Raises:
        DemoFailed: something did not come out as it must.
    """
    metadata = (("authorization", f"Bearer {environment.token}"),)
    async with (
        grpc.aio.insecure_channel(environment.grpc_address) as channel,
        aiohttp.ClientSession() as http,
    ):
        steps = _Steps(service_grpc.WalletPaymentServiceStub(channel), metadata)
        topup = await steps.top_up(50_000)
        await _pay_at_sandbox(http, environment, topup.gateway_order_id)
        await steps.wait_until_credited(topup)
        payment = await steps.pay(25_000)
        again = await steps.pay(25_000, is_repeat=True)
        _check(again == payment, "a repeat gives the same answer")
        await steps.pay_again_with_another_key(25_000)
        await steps.refund(10_000)
        await steps.refund(None)
        await steps.show_history()
    with connect(environment.settings.mongodb_uri.get_secret_value()) as database:
        report = await verify_books(database, lambda difference: click.echo(difference.what))
    _check(report.differences == 0, "the books agree")
    click.echo(
        f"books verified         {report.transactions} transactions in {report.wallets} wallet, "
        f"{Money('INR', report.balances['INR'])} held, every hash and balance recomputed"
    )


@dataclass(frozen=True, slots=True)
class _Steps:
    """The steps, each said in a line."""

    stub: Any
    metadata: tuple[tuple[str, str], ...]

    async def top_up(self, amount: int) -> resources.Topup:
        request = service.InitiateTopupRequest(
            customer_id=_CUSTOMER,
            amount=_inr(amount),
            gateway="razorpay",
            method="upi",
            idempotency_key="demo-topup",
        )
        topup: resources.Topup = (
            await self.stub.InitiateTopup(request, metadata=self.metadata)
        ).topup
        _say("top-up started", f"{_text(topup.amount)}, order {topup.gateway_order_id} to pay")
        return topup

    async def wait_until_credited(self, topup: resources.Topup) -> None:
        request = service.GetTopupRequest(customer_id=_CUSTOMER, topup_id=topup.topup_id)
        async with asyncio.timeout(_WAIT_SECONDS):
            while True:
                current = (await self.stub.GetTopup(request, metadata=self.metadata)).topup
                if current.state == resources.TOPUP_STATE_CREDITED:
                    break
                await asyncio.sleep(0.05)
        _say("webhook arrived", f"wallet credited, transaction {current.transaction_id}")

    async def pay(self, amount: int, *, is_repeat: bool = False) -> service.PayWithWalletResponse:
        response: service.PayWithWalletResponse = await self.stub.PayWithWallet(
            self._payment(amount, "demo-pay"), metadata=self.metadata
        )
        what = "the same key again" if is_repeat else "order paid"
        _say(what, f"{_ORDER}, wallet holds {_text(response.wallet.balance)}")
        return response

    async def pay_again_with_another_key(self, amount: int) -> None:
        try:
            await self.stub.PayWithWallet(
                self._payment(amount, "demo-pay-twice"), metadata=self.metadata
            )
        except grpc.aio.AioRpcError as error:
            _check(error.code() is grpc.StatusCode.ALREADY_EXISTS, "a paid order is refused")
            _say("paying twice", f"refused: {error.details()}")
        else:
            raise DemoFailed("an order was paid twice")

    async def refund(self, amount: int | None) -> None:
        request = service.RefundToWalletRequest(
            customer_id=_CUSTOMER,
            order_id=_ORDER,
            amount=None if amount is None else _inr(amount),
            idempotency_key=f"demo-refund-{amount}",
            reason="demo",
        )
        response = await self.stub.RefundToWallet(request, metadata=self.metadata)
        _say(
            "refunded in part" if amount else "refunded the rest",
            f"{_text(response.refund.amount)}, wallet holds {_text(response.wallet.balance)}",
        )

    async def show_history(self) -> None:
        request = service.ListTransactionsRequest(customer_id=_CUSTOMER)
        response = await self.stub.ListTransactions(request, metadata=self.metadata)
        _check(
            [entry.sequence for entry in response.transactions] == [4, 3, 2, 1],
            "the ledger has the four entries",
        )
        click.echo("the ledger, newest first:")
        for entry in response.transactions:
            kind = resources.TransactionType.Name(entry.type).removeprefix("TRANSACTION_TYPE_")
            click.echo(
                f"  {entry.sequence}  {kind:<8} {_text(entry.amount):>12}   "
                f"balance {_text(entry.balance_after):>11}   {entry.hash[:12]}"
            )

    def _payment(self, amount: int, key: str) -> service.PayWithWalletRequest:
        return service.PayWithWalletRequest(
            customer_id=_CUSTOMER, order_id=_ORDER, amount=_inr(amount), idempotency_key=key
        )


async def _pay_at_sandbox(
    http: aiohttp.ClientSession, environment: Environment, gateway_order_id: str
) -> None:
    url = f"{environment.sandbox_url}/sandbox/orders/{gateway_order_id}/pay"
    async with http.post(url, json={}) as answer:
        _check(answer.status == 200, "the sandbox gateway takes the payment")  # noqa: PLR2004
        paid = await answer.json()
    _say("customer pays", f"at the sandbox gateway, payment {paid['payment_id']}")


def _inr(minor_units: int) -> resources.Money:
    return resources.Money(currency_code="INR", minor_units=minor_units)


def _text(money: resources.Money) -> str:
    return str(Money(money.currency_code, money.minor_units))


def _say(what: str, how: str) -> None:
    click.echo(f"{what:<22} {how}")


def _check(holds: bool, what: str) -> None:
    if not holds:
        raise DemoFailed(f"This did not hold: {what}.")
