"""Books of their own for tests: written by the real commit path, then falsified behind its back."""

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Self

from harness import unique
from server.commit.committer import Committer
from server.ledger import chain
from server.ledger.books import Difference
from server.ledger.commands import (
    AdjustWallet,
    ApplyPayment,
    ApplyReversal,
    Command,
    CreateTopup,
    PayOrder,
    RecordEvent,
    RefundOrder,
)
from server.ledger.decisions import PaymentReply, RefundReply, TopupReply
from server.ledger.money import Money
from server.ledger.posting import counted
from server.ledger.records import (
    EventOrigin,
    EventOutcome,
    GatewayPayment,
    GatewayPaymentKey,
    GatewayPaymentStatus,
    GatewayReversal,
    IdempotencyKey,
    OrderToPay,
    ReceivedEvent,
    ReversalKind,
    ReversalState,
)
from server.ledger.usage import NO_USAGE
from server.metrics import Metrics
from server.store import documents, schema
from server.store.books import verify_books
from server.store.connection import Database, connect
from server.store.ledger_store import LedgerStore

Names = dict[str, str]
"""What the records of a busy customer are called."""


DAY_MS = 86_400_000
START_MS = 1_700_000_000_000
"""2023-11-14, 22:13:20 UTC."""


class WrittenBooks:
    """A database with books that nothing but the test touches, and a clock that it sets."""

    def __init__(self, uri: str, database: Database) -> None:
        self.uri = uri
        self.database = database
        self.now_ms = START_MS
        self._committer = Committer(LedgerStore(database), Metrics(), now_ms=lambda: self.now_ms)

    async def __aenter__(self) -> Self:
        """Start to write."""
        await self._committer.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop to write."""
        await self._committer.__aexit__(None, None, None)

    async def carry_out(self, command: Command) -> Any:
        """Carry out a command as a server would."""
        return await self._committer.submit(command)

    async def customer(self) -> str:
        """Return a new customer."""
        customer_id = unique("customer")
        await self.database[schema.CUSTOMERS].insert_one({"_id": customer_id})
        return customer_id

    async def pay(self, customer_id: str, minor_units: int, order_id: str = "") -> PaymentReply:
        """Pay an order from the wallet."""
        reply: PaymentReply = await self.carry_out(
            PayOrder(
                customer_id,
                order_id or unique("order"),
                Money("INR", minor_units),
                _key("PayWithWallet"),
                {},
            )
        )
        return reply

    async def top_up(self, customer_id: str, minor_units: int, order_id: str = "") -> Names:
        """Credit a top-up, which pays an order of a tenth of it where one is named."""
        amount = Money("INR", minor_units)
        order = OrderToPay(order_id, Money("INR", minor_units // 10)) if order_id else None
        created: TopupReply = await self.carry_out(
            CreateTopup(
                customer_id=customer_id,
                amount=amount,
                gateway="razorpay",
                method="upi",
                idempotency_key=_key("InitiateTopup"),
                pay_order=order,
                return_url="",
                metadata={},
                lifetime_ms=60_000,
                first_poll_ms=60_000,
            )
        )
        topup_id, payment_id = created.topup.topup_id, unique("pay")
        captured = GatewayPayment(payment_id, "", GatewayPaymentStatus.CAPTURED, amount)
        await self.carry_out(ApplyPayment(customer_id, topup_id, order_id, captured, _event()))
        return {"topup": topup_id, "gateway_payment": payment_id}

    async def busy_customer(self) -> Names:
        """Return a customer with an entry of every type; the wallet ends with 727."""
        customer_id, paid_at_once, order_id = (
            await self.customer(),
            unique("order"),
            unique("order"),
        )
        topup = await self.top_up(customer_id, 1_000, paid_at_once)
        payment = await self.pay(customer_id, 200, order_id)
        refund: RefundReply = await self.carry_out(
            RefundOrder(customer_id, order_id, Money("INR", 50), _key("RefundToWallet"), "late", {})
        )
        reversal = GatewayReversal(
            reversal_id=unique("rfnd"),
            kind=ReversalKind.REFUND,
            payment_id=topup["gateway_payment"],
            gateway_order_id="",
            amount=Money("INR", 30),
            state=ReversalState.TAKEN,
            is_final=True,
        )
        await self.carry_out(ApplyReversal(customer_id, topup["topup"], reversal, _event()))
        event = _event()
        stray, amount = unique("pay"), Money("INR", 7)
        await self.carry_out(
            RecordEvent(
                event,
                EventOutcome.NEEDS_REVIEW,
                "unknown",
                GatewayPayment(stray, "", GatewayPaymentStatus.CAPTURED, amount),
            )
        )
        settlement = GatewayPaymentKey(event.gateway, stray).credit_key
        await self.carry_out(
            AdjustWallet(event.key, settlement, customer_id, amount, "asha", "a test")
        )
        entries = {
            name: entry["_id"]
            for name, entry in zip(
                ("credit", "paid_by_topup", "payment", "refund_entry", "taken", "adjustment"),
                await self.entries(customer_id),
                strict=True,
            )
        }
        assert entries["payment"] == payment.transaction.transaction_id
        return (
            topup
            | entries
            | {
                "customer": customer_id,
                "wallet": f"{customer_id}:INR",
                "account": f"wallet:{customer_id}:INR",
                "topup_order": paid_at_once,
                "order": order_id,
                "refund": refund.refund.refund_id,
                "reversal": reversal.reversal_id,
                "event": event.key,
            }
        )

    async def entries(self, customer_id: str) -> list[dict[str, Any]]:
        """Return a customer's entries as they are stored, oldest first."""
        found = self.database[schema.TRANSACTIONS].find({"customer_id": customer_id})
        entries: list[dict[str, Any]] = await found.sort("sequence", 1).to_list(None)
        return entries

    async def recompute(self, customer_id: str) -> None:
        """Recompute the chain, the balances and the wallet, as somebody who knows how would."""
        balance, sequence, head, usage = 0, 0, chain.GENESIS_HASH, NO_USAGE
        for document in await self.entries(customer_id):
            entry = documents.read_transaction(document)
            balance, sequence = balance + entry.amount, sequence + 1
            entry = replace(
                entry, balance_after=balance, sequence=sequence, previous_hash=head, hash=""
            )
            own, other = entry.postings
            postings = (replace(own, amount=entry.amount), replace(other, amount=-entry.amount))
            entry = replace(entry, postings=postings)
            head = chain.entry_hash(entry)
            usage = counted(usage, entry.type, entry.amount, entry.create_time_ms)
            await self.database[schema.TRANSACTIONS].replace_one(
                {"_id": document["_id"]}, documents.transaction_document(replace(entry, hash=head))
            )
        written = await self.database[schema.WALLETS].find_one({"customer_id": customer_id})
        assert written is not None
        wallet = replace(
            documents.read_wallet(written),
            balance=balance,
            sequence=sequence,
            head_hash=head,
            usage=usage,
        )
        await self.database[schema.WALLETS].replace_one(
            {"_id": written["_id"]}, documents.wallet_document(wallet)
        )

    async def differences(self, **options: Any) -> list[Difference]:
        """Return everything that a proof names."""
        found: list[Difference] = []
        await verify_books(self.database, found.append, **options)
        return found


@asynccontextmanager
async def written_books(uri: str) -> AsyncIterator[WrittenBooks]:
    """Open books on a database of their own."""
    with connect(uri) as database:
        await schema.migrate(database)
        async with WrittenBooks(uri, database) as books:
            yield books
        await database.client.drop_database(database.name)


def _key(method: str) -> IdempotencyKey:
    return IdempotencyKey("shop", method, unique("key"))


def _event() -> ReceivedEvent:
    body = unique("event").encode()
    return ReceivedEvent(
        gateway="razorpay",
        event_id=body.decode(),
        event_type="test",
        body_digest=hashlib.sha256(body).hexdigest(),
        body=body,
        origin=EventOrigin.WEBHOOK,
        receive_time_ms=START_MS,
        report_time_ms=START_MS,
    )
