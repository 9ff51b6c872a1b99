"""Operators' questions on a real replica set: secondaries answer them, also without a primary."""

import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo.monitoring import (
    CommandFailedEvent,
    CommandListener,
    CommandStartedEvent,
    CommandSucceededEvent,
)

from harness import eventually, unique, with_database
from replica_set import running_replica_set
from server.ledger.records import WalletKey
from server.store import connection, schema
from server.store.inquiries import MongoInquiries
from written_books import DAY_MS, START_MS, written_books

TIME = (START_MS - DAY_MS, START_MS + DAY_MS)
PRIMARY = 1


class Asked(CommandListener):
    """Keeps which member was asked for documents."""

    def __init__(self) -> None:
        self.members: set[str] = set()

    def started(self, event: CommandStartedEvent) -> None:
        """Keep the member."""
        if event.command_name in {"find", "getMore"}:
            host, port = event.connection_id
            self.members.add(f"{host}:{port}")

    def succeeded(self, event: CommandSucceededEvent) -> None:
        """How it ended does not matter."""

    def failed(self, event: CommandFailedEvent) -> None:
        """How it ended does not matter."""


def asks(inquiries: MongoInquiries, wallet: WalletKey) -> Callable[[], Awaitable[list[int]]]:
    """Return what asks for a wallet's amounts."""

    async def amounts() -> list[int]:
        pages = [page async for page in inquiries.entries(wallet, *TIME)]
        return [entry.amount for page in pages for entry in page]

    return amounts


async def test_a_member_that_has_no_index_yet_answers_also(mongodb_uri: str) -> None:
    """A secondary that is behind may have a wallet's entries before their index: no error."""
    async with written_books(with_database(mongodb_uri, unique("behind"))) as books:
        names = await books.busy_customer()
        await books.database[schema.TRANSACTIONS].drop_index("customer_id_1__id_-1")
        inquiries = MongoInquiries(books.database)
        wallet = WalletKey(names["customer"], "INR")

        amounts = await asks(inquiries, wallet)()

        assert sum(amounts) == 727
        assert await inquiries.balance_before(wallet, TIME[1]) == 727


@pytest.mark.timeout(300)
async def test_secondaries_answer_also_while_there_is_no_primary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The primary is not asked for anything, and its loss does not break a statement off."""
    asked = Asked()

    def listened_to(uri: str, **options: Any) -> Any:
        return AsyncIOMotorClient(uri, event_listeners=[asked], **options)

    async with (
        running_replica_set(tmp_path) as replica_set,
        written_books(replica_set.uri) as books,
    ):
        names = await books.busy_customer()
        states = await replica_set.whole()
        (primary,) = [address for address, state in states.items() if state == PRIMARY]
        monkeypatch.setattr(connection, "AsyncIOMotorClient", listened_to)
        with connection.connect(replica_set.uri) as database:
            inquiries = MongoInquiries(database)
            amounts = asks(inquiries, WalletKey(names["customer"], "INR"))

            async def knows_all() -> bool:
                return len(database.delegate.client.secondaries) == len(states) - 1

            async def has_come() -> bool:
                return sum(await amounts()) == 727

            await database.client.admin.command("ping")  # it connects with its first command
            await eventually(knows_all)
            await eventually(has_come)
            assert asked.members
            assert primary not in asked.members

            replica_set.members[primary].send(signal.SIGKILL)
            await eventually(has_come)  # the other one may be a little behind
            assert primary not in asked.members
        await replica_set.whole()
