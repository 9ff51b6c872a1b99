"""Elections: a new primary is not believed before it has committed something of its own."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from motor.motor_asyncio import AsyncIOMotorClient

from harness import eventually
from replica_set import ReplicaSet, running_replica_set
from server.commit.port import StoreUnavailable
from server.store import schema
from server.store.connection import connect, find

_PRIMARY = 1


@pytest.fixture
async def replica_set(tmp_path: Path) -> AsyncIterator[ReplicaSet]:
    """Three members whose replication can be stopped."""
    async with running_replica_set(tmp_path, "--setParameter", "enableTestCommands=1") as running:
        yield running


@asynccontextmanager
async def replication_stopped(addresses: Iterable[str]) -> AsyncIterator[None]:
    """Have some members fetch nothing from others for a while."""
    async with AsyncExitStack() as stack:
        for address in addresses:
            client: AsyncIOMotorClient[Any] = AsyncIOMotorClient(
                f"mongodb://{address}/?directConnection=true"
            )
            stack.callback(client.close)

            async def set_to(mode: str, client: AsyncIOMotorClient[Any] = client) -> None:
                await client.admin.command("configureFailPoint", "stopReplProducer", mode=mode)

            await set_to("alwaysOn")
            stack.push_async_callback(set_to, "off")
        yield


async def elect(replica_set: ReplicaSet, address: str) -> None:
    """Have a member be the primary."""
    client: AsyncIOMotorClient[Any] = AsyncIOMotorClient(
        f"mongodb://{address}/?directConnection=true"
    )
    try:
        await client.admin.command("replSetStepUp", 1)
    finally:
        client.close()

    async def is_primary() -> bool:
        return (await replica_set.states()).get(address) == _PRIMARY

    await eventually(is_primary)


async def linearizable_reads(replica_set: ReplicaSet) -> int:
    """Return how many reads of that concern the members have carried out."""
    counted = 0
    for address in replica_set.members:
        client: AsyncIOMotorClient[Any] = AsyncIOMotorClient(
            f"mongodb://{address}/?directConnection=true"
        )
        status = await client.admin.command("serverStatus")
        counted += status["readConcernCounters"]["nonTransactionOps"]["linearizable"]
        client.close()
    return counted


async def test_a_primary_that_has_committed_nothing_yet_is_not_believed(
    replica_set: ReplicaSet,
) -> None:
    """What it tells may be older than what was acknowledged: no answer, then the right one."""
    with connect(replica_set.uri) as database:
        await schema.migrate(database)
        assert await find(database, schema.SETTINGS, {"_id": "schema"})
        states = await replica_set.whole()
        new = next(address for address, state in states.items() if state != _PRIMARY)
        async with replication_stopped(address for address in states if address != new):
            await elect(replica_set, new)

            with pytest.raises(StoreUnavailable):
                await find(database, schema.SETTINGS, {"_id": "schema"})

        async def answers() -> bool:
            try:
                return bool(await find(database, schema.SETTINGS, {"_id": "schema"}))
            except StoreUnavailable:
                return False

        await eventually(answers)


async def test_one_read_waits_for_each_election(replica_set: ReplicaSet) -> None:
    """The wait is paid for by one read; those before and after it cost what they always do."""
    with connect(replica_set.uri) as database:
        await schema.migrate(database)
        before = await linearizable_reads(replica_set)
        for _ in range(3):
            await find(database, schema.SETTINGS, {"_id": "schema"})
        assert await linearizable_reads(replica_set) == before
        states = await replica_set.whole()
        await elect(
            replica_set, next(address for address, state in states.items() if state != _PRIMARY)
        )

        async def answers() -> bool:
            try:
                return bool(await find(database, schema.SETTINGS, {"_id": "schema"}))
            except StoreUnavailable:
                return False

        await eventually(answers)
        settled = await linearizable_reads(replica_set)
        assert settled > before
        await asyncio.gather(
            *(find(database, schema.SETTINGS, {"_id": "schema"}) for _ in range(10))
        )
        assert await linearizable_reads(replica_set) == settled
