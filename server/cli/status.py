"""`wallet-payment status`: what is known under a name, whatever it is the name of."""

import asyncio
import sys
from typing import Any, Final

import click

from server.cli.answers import (
    money_json,
    money_text,
    one_line,
    print_fields,
    print_json,
    time_text,
)
from server.cli.operate import encryption_of, loaded_settings, opened_database
from server.ledger.money import Money
from server.ledger.records import GatewayEvent, Order, Topup, Transaction, Wallet, WalletState
from server.queries import TransactionFilter
from server.store.connection import Database
from server.store.encryption import Encryption
from server.store.inquiries import MongoInquiries
from server.store.queries import MongoQueries

_GATEWAYS: Final = ("razorpay", "paypal", "stripe")
"""Whose names of orders and payments are looked for."""
_RECENT: Final = 10
_OF_ITS_OWN: Final = {"record", "customer_id", "hash"}
"""Fields that say nothing new, or nothing to read, in the line of a record that belongs to one."""

Record = dict[str, Any]


@click.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status(name: str, as_json: bool) -> None:
    """Tell what is known of NAME.

    NAME is a customer, an order, a top-up (top_...), a transaction (txn_...), or the gateway's own
    id of an order or a payment. Whatever has that name is told. Exit status 1: nothing has.
    """

    async def run() -> list[Record]:
        settings = loaded_settings()
        async with opened_database(settings) as database:
            return await _records(database, encryption_of(settings), name)

    records = asyncio.run(run())
    if as_json:
        print_json(records)
    for number, record in enumerate(records):
        if not as_json:
            _print(record, is_first=number == 0)
    if not records:
        if not as_json:
            click.echo(f"Nothing is known of {name}.", err=True)
        sys.exit(1)


async def _records(database: Database, encryption: Encryption, name: str) -> list[Record]:
    inquiries = MongoInquiries(database, encryption)
    queries = MongoQueries(database, encryption)
    found = [
        _topup(topup, await inquiries.events_of_topup(topup.topup_id))
        for topup in await inquiries.topups(name, _GATEWAYS)
    ]
    transaction = await inquiries.transaction(name)
    if transaction is not None:
        found.append(_transaction(transaction))
    order = await inquiries.order(name)
    if order is not None:
        found.append(_order(order))
    if await queries.has_customer(name):
        found.append(
            {
                "record": "customer",
                "customer_id": name,
                "wallets": [_wallet(wallet) for wallet in await queries.wallets(name)],
                "pending_topups": [
                    _topup(topup, []) for topup in await queries.pending_topups(name, _RECENT)
                ],
                "recent_transactions": [
                    _transaction(entry)
                    for entry in await queries.transactions(TransactionFilter(name), _RECENT)
                ],
            }
        )
    return found


def _topup(topup: Topup, events: list[GatewayEvent]) -> Record:
    return {
        "record": "top-up",
        "topup_id": topup.topup_id,
        "customer_id": topup.customer_id,
        "amount": money_json(topup.amount),
        "state": topup.state.value,
        "failure_reason": topup.failure_reason,
        "gateway": topup.gateway,
        "method": topup.method,
        "gateway_order_id": topup.gateway_order_id,
        "gateway_payment_id": topup.gateway_payment_id,
        "transaction_id": topup.transaction_id,
        "order_id": topup.pay_order.order_id if topup.pay_order else "",
        "create_time": time_text(topup.create_time_ms),
        "update_time": time_text(topup.update_time_ms),
        "expire_time": time_text(topup.expire_time_ms),
        "events": [
            {
                "event_key": event.received.key,
                "event_type": event.received.event_type,
                "origin": event.received.origin.value,
                "outcome": event.outcome.value,
                "reason": event.reason,
                "receive_time": time_text(event.received.receive_time_ms),
            }
            for event in events
        ],
    }


def _transaction(entry: Transaction) -> Record:
    currency = entry.currency_code
    return {
        "record": "transaction",
        "transaction_id": entry.transaction_id,
        "customer_id": entry.customer_id,
        "type": entry.type.value,
        "amount": money_json(Money(currency, entry.amount)),
        "balance_after": money_json(Money(currency, entry.balance_after)),
        "sequence": entry.sequence,
        "order_id": entry.order_id,
        "topup_id": entry.topup_id,
        "refund_id": entry.refund_id,
        "gateway": entry.gateway,
        "gateway_payment_id": entry.gateway_payment_id,
        "gateway_reversal_id": entry.gateway_reversal_id,
        "hash": entry.hash,
        "create_time": time_text(entry.create_time_ms),
    }


def _order(order: Order) -> Record:
    def money(minor_units: int | None) -> Record | None:
        if minor_units is None or order.currency_code is None:
            return None
        return {"currency_code": order.currency_code, "minor_units": minor_units}

    return {
        "record": "order",
        "order_id": order.order_id,
        "customer_id": order.customer_id,
        "amount": money(order.amount),
        "payment_state": order.payment_state.value if order.payment_state else "NOT_PAID",
        "payment_method": order.payment_method.value if order.payment_method else "",
        "transaction_id": order.transaction_id,
        "refunded_amount": money(order.refunded_amount),
        "pay_time": "" if order.pay_time_ms is None else time_text(order.pay_time_ms),
        "refunds": [
            {
                "refund_id": refund.refund_id,
                "amount": money(refund.amount),
                "reason": refund.reason,
                "transaction_id": refund.transaction_id,
                "create_time": time_text(refund.create_time_ms),
            }
            for refund in order.refunds
        ],
    }


def _wallet(wallet: Wallet) -> Record:
    return {
        "currency_code": wallet.currency_code,
        "balance": money_json(Money(wallet.currency_code, wallet.balance)),
        "state": wallet.state.value,
        "freeze_cause": "" if wallet.state is WalletState.ACTIVE else wallet.freeze_cause.value,
        "sequence": wallet.sequence,
        "update_time": time_text(wallet.update_time_ms),
    }


def _print(record: Record, *, is_first: bool) -> None:
    """Print a record: its own values, and a line for each record that belongs to it."""
    if not is_first:
        click.echo()
    lists = {name: value for name, value in record.items() if isinstance(value, list)}
    print_fields({name: _shown(value) for name, value in record.items() if name not in lists})
    for name, rows in lists.items():
        for row in rows:
            parts = (
                _shown(value)
                for field, value in row.items()
                if field not in _OF_ITS_OWN and not isinstance(value, list)
            )
            click.echo(f"{name:<18} {'  '.join(filter(None, parts))}")


def _shown(value: Any) -> str:  # noqa: ANN401 - a value of a record
    if isinstance(value, dict):
        return money_text(value["currency_code"], value["minor_units"])
    return "" if value is None else one_line(str(value))
