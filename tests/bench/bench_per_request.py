"""The floor that group commit is compared with: each payment in a MongoDB transaction of its own.

It is written as such services usually are: start a session, read inside the transaction, decide,
write, commit, and try again with backoff when another transaction came first. Requests run
concurrently; edge, validation, rules, documents, durability and deadlines are the service's. It
lives in the benchmark only.

The waits between attempts are those of MongoDB's own drivers (`with_transaction`). They hardly
matter on many wallets. On one hot wallet longer ones let more payments through, by keeping most
callers asleep: with waits of up to 0.1 s, doubling to 4 s, some ten times as many payments came
through, a few callers took nearly all of them, and p99 was 9 s.
"""

import asyncio
import random
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Self

from motor.motor_asyncio import AsyncIOMotorClientSession
from pymongo import WriteConcern
from pymongo.errors import DuplicateKeyError, PyMongoError
from pymongo.read_concern import ReadConcern

from server.commit.committer import CommitSettings, wall_clock_ms
from server.commit.errors import Conflicted, Rejected
from server.commit.lane import Observer
from server.ledger.commands import Command, PayOrder
from server.ledger.decide import decide
from server.ledger.decisions import Accepted, Decision, Reply
from server.ledger.limits import Limits
from server.ledger.records import WalletKey
from server.ledger.state import Changes, State
from server.store import documents, order_documents, schema
from server.store.connection import Database, is_transient

_UNKNOWN_COMMIT: Final = "UnknownTransactionCommitResult"
_FIRST_WAIT_SECONDS: Final = 0.005
_WAIT_GROWTH: Final = 1.5
_LONGEST_WAIT_SECONDS: Final = 0.5
_MOST_GROWTHS: Final = 20


class CommitterPerRequest:
    """Takes the place of `server.commit.committer.Committer`, for payments."""

    def __init__(
        self,
        database: Database,
        observer: Observer,
        settings: CommitSettings,
        *,
        limits: Limits,
        tracing: None,
    ) -> None:
        """`limits` and `tracing` are what the service switches on; here they are off."""
        assert not limits
        assert tracing is None
        self._database = database
        self._observer = observer
        self._settings = settings
        self._known_customers: set[str] = set()
        self._running: set[asyncio.Task[Decision]] = set()

    async def __aenter__(self) -> Self:
        """Start; there is nothing to start."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Let the running transactions end."""
        await asyncio.gather(*self._running, return_exceptions=True)

    @property
    def queues(self) -> list[Callable[[], int]]:
        """Tell how many commands wait for their turn: none ever does."""
        return [lambda: 0]

    async def submit(self, command: Command, timeout_seconds: float | None = None) -> Reply:
        """Carry out a payment, trying again until its time is over.

        Raises:
            Rejected, Conflicted.
        """
        assert isinstance(command, PayOrder), "the benchmark only pays"
        loop = asyncio.get_running_loop()
        budget = self._settings.budget_seconds
        deadline = loop.time() + min(budget, timeout_seconds or budget)
        attempt = 0
        while True:
            try:
                decision = await self._run_to_its_end(command)
            except PyMongoError as error:
                if not (is_transient(error) or isinstance(error, DuplicateKeyError)):
                    raise
                self._observer.batch_retried(type(error).__name__)
            else:
                if isinstance(decision, Accepted):
                    return decision.reply
                raise Rejected(decision)
            attempt += 1
            wait = _wait_seconds(attempt)
            if loop.time() + wait >= deadline:
                raise Conflicted
            await asyncio.sleep(wait)

    async def _run_to_its_end(self, command: PayOrder) -> Decision:
        """Run a transaction; a caller that goes away does not tear it apart."""
        task = asyncio.create_task(self._transaction(command))
        self._running.add(task)
        task.add_done_callback(self._ended)
        return await asyncio.shield(task)

    def _ended(self, task: asyncio.Task[Decision]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # It is nobody's any more where the caller has gone away.

    async def _transaction(self, command: PayOrder) -> Decision:
        async with (
            await self._database.client.start_session() as session,
            session.start_transaction(
                read_concern=ReadConcern("snapshot"),
                write_concern=WriteConcern("majority", j=True),
            ),
        ):
            state = await self._load(command, session)
            decision = decide(state, command, wall_clock_ms())
            if isinstance(decision, Accepted):
                await self._write(state, decision.changes, session)
            await _commit(session)
            return decision

    async def _load(self, command: PayOrder, session: AsyncIOMotorClientSession) -> State:
        wallet_key = WalletKey(command.customer_id, command.amount.currency_code)
        key = command.idempotency_key
        earlier = await self._one(
            schema.TRANSACTIONS, {"idempotency_id": documents.idempotency_id(key)}, session
        )
        wallet = await self._one(schema.WALLETS, {"_id": documents.wallet_id(wallet_key)}, session)
        order = await self._one(schema.ORDERS, {"_id": command.order_id}, session)
        return State(
            customers={command.customer_id: await self._knows(command.customer_id, session)},
            wallets={
                command.customer_id: (
                    {wallet_key.currency_code: documents.read_wallet(wallet)} if wallet else {}
                )
            },
            orders={command.order_id: order_documents.read_order(order) if order else None},
            transactions_by_key={key: documents.read_transaction(earlier) if earlier else None},
        )

    async def _knows(self, customer_id: str, session: AsyncIOMotorClientSession) -> bool:
        """Tell whether a customer exists; the known ones are remembered, as in the service."""
        if customer_id not in self._known_customers:
            if not await self._one(schema.CUSTOMERS, {"_id": customer_id}, session):
                return False
            self._known_customers.add(customer_id)
        return True

    async def _write(
        self, state: State, changes: Changes, session: AsyncIOMotorClientSession
    ) -> None:
        """Write the wallet first, so that a conflict shows before the rest is written."""
        for wallet in changes.wallets:
            document = documents.wallet_document(wallet)
            await self._database[schema.WALLETS].replace_one(
                {"_id": document["_id"]}, document, session=session
            )
        for transaction in changes.transactions:
            await self._database[schema.TRANSACTIONS].insert_one(
                documents.transaction_document(transaction), session=session
            )
        for order in changes.orders:
            before = state.orders[order.order_id]
            if before is None:
                await self._database[schema.ORDERS].insert_one(
                    order_documents.order_document(order), session=session
                )
            else:
                await self._database[schema.ORDERS].update_one(
                    {"_id": order.order_id},
                    order_documents.order_changes(before, order),
                    session=session,
                )

    async def _one(
        self, collection: str, query: dict[str, Any], session: AsyncIOMotorClientSession
    ) -> dict[str, Any] | None:
        return await self._database[collection].find_one(query, session=session)


def _wait_seconds(attempt: int) -> float:
    """Return the wait after so many failed attempts: exponential, with full jitter."""
    longest = _FIRST_WAIT_SECONDS * _WAIT_GROWTH ** min(attempt, _MOST_GROWTHS)
    return min(longest, _LONGEST_WAIT_SECONDS) * random.random()


async def _commit(session: AsyncIOMotorClientSession) -> None:
    """Commit, and ask again as long as MongoDB does not say what became of it."""
    while True:
        try:
            await session.commit_transaction()
        except PyMongoError as error:
            if not error.has_error_label(_UNKNOWN_COMMIT):
                raise
        else:
            return
