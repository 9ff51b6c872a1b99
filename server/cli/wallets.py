"""`wallet-payment wallet`: look at a customer's wallets, freeze them, and set what limits them."""

import asyncio
from datetime import UTC, datetime
from typing import Any, Final

import click

from server.cli.answers import print_json
from server.cli.operate import loaded_settings, opened_database, opened_ledger, operator_name
from server.commit.errors import Rejected
from server.ledger.commands import Command, FreezeWallet, SetTier, UnfreezeWallet
from server.ledger.decisions import StandingReply, WalletReply
from server.ledger.limits import DEFAULT_TIER
from server.ledger.money import Money, is_currency
from server.ledger.records import FreezeCause, OperatorAction, Standing, Topup, Wallet
from server.store.customer_records import MongoCustomerRecords
from server.store.queries import MongoQueries
from server.told import ToldInWords

_MOST: Final = 1_000


class WalletRefused(ToldInWords):
    """It cannot be done to the wallet; the message says why."""


_why = click.option("--why", required=True, help="The reason; it is kept.")
_by = click.option(
    "--by", default=operator_name, show_default="you", help="Who decides; it is kept."
)
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group()
def wallet() -> None:
    """Look at a customer's wallets, freeze and unfreeze them, set the tier that limits them."""


@wallet.command()
@click.argument("customer_id")
@_json
def show(customer_id: str, as_json: bool) -> None:
    """Show a customer's wallets, tier, and what was done to them by hand, newest first."""

    async def run() -> tuple[list[Wallet], Standing | None, list[OperatorAction]]:
        async with opened_database(loaded_settings()) as database:
            records = MongoCustomerRecords(database)
            return (
                await MongoQueries(database).wallets(customer_id),
                await records.standing(customer_id),
                await records.actions(customer_id, _MOST),
            )

    wallets, standing, actions = asyncio.run(run())
    tier = standing.tier if standing and standing.tier else DEFAULT_TIER
    if as_json:
        content = {
            "customer_id": customer_id,
            "tier": tier,
            "wallets": [_wallet_json(one) for one in wallets],
            "actions": [_action_json(one) for one in actions],
        }
        print_json(content)
        return
    click.echo(f"{customer_id}: tier {tier}, {len(wallets) or 'no'} wallets")
    for one in wallets:
        click.echo(f"  {_line(one)}")
    for action in actions:
        about = action.currency_code or f"tier {action.tier or DEFAULT_TIER}"
        click.echo(f"  {_time(action.time_ms)}  {action.kind} {about} by {action.by}: {action.why}")


@wallet.command()
@click.argument("customer_id")
@click.argument("currency_code")
@_why
@_by
@_json
def freeze(customer_id: str, currency_code: str, why: str, by: str, as_json: bool) -> None:
    """Let a wallet spend nothing until it is unfrozen. It still takes credits and refunds."""
    _check(currency_code, why, by)
    _change_wallet(FreezeWallet(customer_id, currency_code, by, why), as_json=as_json)


@wallet.command()
@click.argument("customer_id")
@click.argument("currency_code")
@_why
@_by
@_json
def unfreeze(customer_id: str, currency_code: str, why: str, by: str, as_json: bool) -> None:
    """Lift a freeze. A wallet that owes stays frozen until that is settled."""
    _check(currency_code, why, by)
    _change_wallet(UnfreezeWallet(customer_id, currency_code, by, why), as_json=as_json)


@wallet.command()
@click.argument("customer_id")
@click.argument("name")
@_why
@_by
@_json
def tier(customer_id: str, name: str, why: str, by: str, as_json: bool) -> None:
    """Give a customer's wallets the limits of the tier NAME of WALLET_LIMITS."""
    _check("", why, by)
    known = {DEFAULT_TIER, *loaded_settings().wallet_limits().tiers}
    if name not in known:
        raise click.UsageError(f"WALLET_LIMITS has no tier {name}, but {', '.join(sorted(known))}.")
    reply = _submitted(SetTier(customer_id, "" if name == DEFAULT_TIER else name, by, why))
    assert isinstance(reply, StandingReply)  # noqa: S101 - what this command replies
    given = reply.standing.tier or DEFAULT_TIER
    if as_json:
        print_json({"customer_id": customer_id, "tier": given})
        return
    click.echo(f"{customer_id}: tier {given}")


@wallet.command("beyond-limits")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, _MOST))
@_json
def beyond_limits(limit: int, as_json: bool) -> None:
    """List top-ups that were captured and credited beyond a limit, by limit, newest first."""

    async def run() -> list[Topup]:
        async with opened_database(loaded_settings()) as database:
            return await MongoCustomerRecords(database).beyond_limits(limit)

    found = [_beyond_json(topup) for topup in asyncio.run(run())]
    if as_json:
        print_json(found)
        return
    for one in found:
        click.echo("  ".join(str(value) for value in one.values()))
    if not found:
        click.echo("no top-up was credited beyond a limit")


def _check(currency_code: str, why: str, by: str) -> None:
    if not why.strip() or not by.strip():
        raise click.UsageError("Say why with --why, and who decides with --by: both are kept.")
    if currency_code and not is_currency(currency_code):
        raise click.UsageError("CURRENCY_CODE is an ISO 4217 code in upper case, such as INR.")


def _change_wallet(command: FreezeWallet | UnfreezeWallet, *, as_json: bool) -> None:
    reply = _submitted(command)
    assert isinstance(reply, WalletReply)  # noqa: S101 - what these commands reply
    if as_json:
        print_json({"customer_id": command.customer_id} | _wallet_json(reply.wallet))
        return
    click.echo(_line(reply.wallet))


def _submitted(command: Command) -> object:
    async def run() -> object:
        async with opened_ledger(loaded_settings()) as (_, committer):
            try:
                return await committer.submit(command)
            except Rejected as error:
                raise WalletRefused(error.rejection.message) from None

    return asyncio.run(run())


def _line(found: Wallet) -> str:
    why = {
        FreezeCause.NONE: "",
        FreezeCause.DEBT: ", until it owes nothing",
        FreezeCause.OPERATOR: ", by an operator",
    }[found.freeze_cause]
    balance = Money(found.currency_code, found.balance)
    return f"{found.customer_id} {found.currency_code}: {found.state}{why}, holds {balance}"


def _wallet_json(found: Wallet) -> dict[str, Any]:
    return {
        "currency_code": found.currency_code,
        "balance_minor_units": found.balance,
        "state": found.state.value,
        "freeze_cause": found.freeze_cause.value,
        "usage_time": _time(found.usage.time_ms),
        "usage": {name: getattr(found.usage, name)._asdict() for name in ("hour", "day", "month")},
    }


def _action_json(action: OperatorAction) -> dict[str, Any]:
    return {
        "action_id": action.action_id,
        "kind": action.kind.value,
        "currency_code": action.currency_code,
        "tier": action.tier,
        "by": action.by,
        "why": action.why,
        "time": _time(action.time_ms),
    }


def _beyond_json(topup: Topup) -> dict[str, Any]:
    return {
        "time": _time(topup.update_time_ms),
        "topup_id": topup.topup_id,
        "customer_id": topup.customer_id,
        "amount": str(topup.amount),
        "passed_limits": ", ".join(topup.passed_limits),
    }


def _time(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1_000, UTC).isoformat(timespec="milliseconds")
