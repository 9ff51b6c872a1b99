"""`wallet-payment import wallets`: the balances of an earlier system, each brought in once.

A balance is money that the earlier system hands over, and the ledger takes it as such: the system
is a gateway, the balance a payment of it that no top-up waits for, and a person puts it into the
wallet. So the entry is an ADJUSTMENT with who and why, once for each wallet by the rule that a
gateway's payment is settled once, and the books agree with it.
"""

import asyncio
import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import click

from server.cli.answers import money_text
from server.cli.books_progress import Progress
from server.cli.operate import encryption_of, loaded_settings, opened_ledger
from server.cli.wallet_file import WalletToImport, read_wallet_file
from server.commit.committer import Committer, wall_clock_ms
from server.commit.errors import CommitError, Rejected
from server.ledger.commands import AdjustWallet, Needs, RecordEvent
from server.ledger.records import (
    EventMoney,
    EventOrigin,
    EventOutcome,
    GatewayPayment,
    GatewayPaymentStatus,
    IdempotencyKey,
    ReceivedEvent,
    settlement_key,
)
from server.store.ledger_store import LedgerStore

_AT_ONCE: Final = 200
_MOST_NAMED: Final = 20
_REASON: Final = "A balance of an earlier system, on its way into the wallet."


class Standing(StrEnum):
    """How a wallet of the file stands in the ledger."""

    MISSING = "MISSING"
    """Its balance is not in the ledger."""
    IMPORTED = "IMPORTED"
    EMPTY = "EMPTY"
    """It holds nothing: there is nothing to write."""
    DIFFERS = "DIFFERS"
    """It was brought in with another amount."""
    NO_CUSTOMER = "NO_CUSTOMER"
    """The customer service does not know the customer."""


_STOPS: Final = {
    Standing.DIFFERS: "was brought in with another amount",
    Standing.NO_CUSTOMER: "the customer service does not know the customer",
}
"""What a person has to look at."""


@dataclass(slots=True)
class _Import:
    """What is brought in, and what has come of it."""

    system: str
    by: str
    why: str
    counts: Counter[Standing] = field(default_factory=Counter)
    totals: dict[Standing, Counter[str]] = field(default_factory=dict)
    named: list[str] = field(default_factory=list)
    imported_now: int = 0

    @property
    def gateway(self) -> str:
        """The earlier system as the ledger knows it, apart from every gateway."""
        return f"import-{self.system}"

    def key(self, wallet: WalletToImport) -> IdempotencyKey:
        """Return what makes a wallet come in once."""
        return settlement_key(self.gateway, EventMoney.CAPTURED, wallet.name)

    def note(self, wallet: WalletToImport, standing: Standing) -> None:
        """Count a wallet; the first that a person has to look at are named."""
        amount = wallet.amount
        self.counts[standing] += 1
        self.totals.setdefault(standing, Counter())[amount.currency_code] += amount.minor_units
        if standing in _STOPS:
            self.name(wallet, standing, _STOPS[standing])

    def name(self, wallet: WalletToImport, what: str, why: str) -> None:
        """Name a wallet that is not brought in, and why; the first of them will do."""
        if len(self.named) < _MOST_NAMED:
            self.named.append(f"{what}  {wallet.name} {wallet.amount}: {why}")


def _system(_: click.Context, __: click.Parameter, value: str) -> str:
    if not (value.isascii() and value.replace("-", "").isalnum() and value == value.lower()):
        raise click.BadParameter("takes lower-case letters, digits and hyphens, such as old-shop.")
    return value


@click.group("import")
def import_() -> None:
    """Bring in what an earlier system holds."""


@import_.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--system", required=True, callback=_system, help="The earlier system's name.")
@click.option("--why", required=True, help="The reason; it is kept with each entry.")
@click.option("--by", required=True, help="Who decides; kept with it.")
@click.option("--apply", is_flag=True, help="Write; without it, only tell what would be written.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def wallets(file: Path, system: str, why: str, by: str, apply: bool, as_json: bool) -> None:
    """Put the balances of FILE into the wallets, each wallet once for each --system.

    FILE is CSV: customer_id,currency_code,minor_units. A run that was broken off is gone on with by
    the same command. Exit status 1: not everything of FILE is in the ledger and can be.
    """
    if not why.strip() or not by.strip():
        raise click.UsageError("Say why with --why, and who decides with --by: both are kept.")
    to_import = read_wallet_file(file)
    done = _Import(system, by, why)
    asyncio.run(_run(done, to_import, apply=apply))
    if as_json:
        click.echo(json.dumps(_as_json(done)))
    else:
        click.echo(_summary(done, is_applied=apply))
    stopped = sum(done.counts[standing] for standing in _STOPS)
    if stopped or (apply and done.counts[Standing.MISSING]):
        raise SystemExit(1)


async def _run(done: _Import, wallets: Sequence[WalletToImport], *, apply: bool) -> None:
    """Look at each wallet, bring in what is missing, and look at it again in the ledger."""
    settings = loaded_settings()
    async with opened_ledger(settings) as (database, committer):
        store = LedgerStore(database, encryption_of(settings))
        with Progress(len(wallets), 0, is_shown=True, label="importing") as progress:
            for place, some in _in_parts(wallets):
                standings = await _look(store, done, some)
                missing = [one for one in some if standings[one.name] is Standing.MISSING]
                if apply and missing:
                    await asyncio.gather(*(_bring_in(committer, done, one) for one in missing))
                    standings |= await _look(store, done, missing)
                    after = [standings[one.name] for one in missing]
                    done.imported_now += after.count(Standing.IMPORTED)
                for one in some:
                    done.note(one, standings[one.name])
                progress.reach(place + len(some))


def _in_parts(wallets: Sequence[WalletToImport]) -> Iterator[tuple[int, Sequence[WalletToImport]]]:
    for place in range(0, len(wallets), _AT_ONCE):
        yield place, wallets[place : place + _AT_ONCE]


async def _look(
    store: LedgerStore, done: _Import, wallets: Sequence[WalletToImport]
) -> dict[str, Standing]:
    """Return how wallets stand in the ledger, all as of one moment."""
    needs = Needs()
    for wallet in wallets:
        needs.customers.add(wallet.customer_id)
        needs.transactions_by_key.add(done.key(wallet))
    state = (await store.load(needs)).state
    found = {}
    for wallet in wallets:
        entry = state.transactions_by_key[done.key(wallet)]
        if entry is not None:
            is_same = entry.amount == wallet.amount.minor_units
            found[wallet.name] = Standing.IMPORTED if is_same else Standing.DIFFERS
        elif not wallet.amount.minor_units:
            found[wallet.name] = Standing.EMPTY
        else:
            is_known = state.customers[wallet.customer_id]
            found[wallet.name] = Standing.MISSING if is_known else Standing.NO_CUSTOMER
    return found


async def _bring_in(committer: Committer, done: _Import, wallet: WalletToImport) -> None:
    """Record the balance, and put it into the wallet: a repeat of either changes nothing."""
    amount = wallet.amount
    body = f"{wallet.customer_id},{amount.currency_code},{amount.minor_units}".encode()
    digest, now_ms = hashlib.sha256(body).hexdigest(), wall_clock_ms()
    event = ReceivedEvent(
        *(done.gateway, wallet.name, "balance", digest, body, EventOrigin.LOOKUP, now_ms, now_ms)
    )
    payment = GatewayPayment(
        payment_id=wallet.name,
        gateway_order_id="",
        status=GatewayPaymentStatus.CAPTURED,
        amount=amount,
    )
    record = RecordEvent(event, EventOutcome.NEEDS_REVIEW, _REASON, payment)
    settle = AdjustWallet(
        event.key, done.key(wallet), wallet.customer_id, amount, done.by, done.why
    )
    try:
        await committer.submit(record)
        await committer.submit(settle)
    except Rejected as error:
        done.name(wallet, "REFUSED", error.rejection.message)
    except CommitError:
        done.name(wallet, "NO_ANSWER", "perhaps it came in: the same command tells, and goes on")


def _summary(done: _Import, *, is_applied: bool) -> str:
    lines = list(done.named)
    for standing, totals in done.totals.items():
        sums = ", ".join(money_text(*one) for one in sorted(totals.items()))
        lines.append(f"{standing:<12} {done.counts[standing]:>9} wallets  {sums}")
    if is_applied:
        lines.append(f"brought in now: {done.imported_now} wallets, against {done.gateway}")
    elif done.counts[Standing.MISSING]:
        lines.append("Nothing was written: --apply brings in what is MISSING.")
    return "\n".join(lines)


def _as_json(done: _Import) -> dict[str, Any]:
    return {
        "gateway": done.gateway,
        "imported_now": done.imported_now,
        "wallets": dict(done.counts),
        "minor_units": {standing: dict(totals) for standing, totals in done.totals.items()},
        "named": done.named,
    }
