"""A three-member MongoDB replica set on loopback, whose members can be killed and stopped."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from motor.motor_asyncio import AsyncIOMotorClient
from pymongo.errors import PyMongoError

from harness import eventually, free_port
from server.processes import end_with_parent
from server.store.embedded import find_mongod

_NAME = "wallet"
_PRIMARY, _SECONDARY = 1, 2


class KeptProcess:
    """Owns a process with its children; whenever it ends, it is started again."""

    def __init__(
        self, name: str, arguments: tuple[str, ...], environment: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self._arguments = arguments
        self._environment = environment
        self._process: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Start it."""
        await self._start()
        self._keeper = asyncio.create_task(self._keep())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End it for good."""
        assert self._keeper is not None
        self._keeper.cancel()
        await asyncio.gather(self._keeper, return_exceptions=True)
        self.send(signal.SIGKILL)
        if self._process is not None:
            await self._process.wait()

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process and all that it has started."""
        if self._process is not None:
            for pid in (*_children_of(self._process.pid), self._process.pid):
                with suppress(ProcessLookupError):
                    os.kill(pid, number)

    async def _keep(self) -> None:
        while True:
            assert self._process is not None
            await self._process.wait()
            await asyncio.sleep(0.2)  # who cannot start is not tried in a tight loop
            await self._start()

    async def _start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            *self._arguments,
            env=self._environment,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            preexec_fn=end_with_parent,
            start_new_session=True,
        )


class ReplicaSet:
    """The running members, by their addresses."""

    def __init__(self, members: dict[str, KeptProcess]) -> None:
        self.members = members
        self.uri = f"mongodb://{','.join(members)}/wallet_payment?replicaSet={_NAME}"

    async def states(self) -> dict[str, int]:
        """Return each member's own view of its state; a member that does not answer has none."""
        answers = await asyncio.gather(*(_state(address) for address in self.members))
        found = zip(self.members, answers, strict=True)
        return {address: state for address, state in found if state is not None}

    async def whole(self) -> dict[str, int]:
        """Wait until there is one primary and all others follow it; return the states."""

        async def is_whole() -> dict[str, int] | None:
            states = await self.states()
            return states if sorted(states.values()) == [_PRIMARY, _SECONDARY, _SECONDARY] else None

        states: dict[str, int] = await eventually(is_whole, 60)
        return states

    async def primary(self) -> KeptProcess:
        """Return the primary of a whole set."""
        states = await self.whole()
        return next(self.members[one] for one, state in states.items() if state == _PRIMARY)

    async def secondaries(self) -> list[KeptProcess]:
        """Return the secondaries of a whole set."""
        states = await self.whole()
        return [self.members[one] for one, state in states.items() if state == _SECONDARY]


@asynccontextmanager
async def running_replica_set(folder: Path, *arguments: str) -> AsyncIterator[ReplicaSet]:
    """Run three members that elect a primary within seconds, as long as the context lasts.

    `arguments` are given to each besides its own.
    """
    async with AsyncExitStack() as stack:
        members = {}
        for number in range(3):
            data = folder / f"member-{number}"
            data.mkdir()
            port = free_port()
            member = KeptProcess(f"mongod {number}", (*_arguments(data, port), *arguments))
            members[f"127.0.0.1:{port}"] = await stack.enter_async_context(member)
        replica_set = ReplicaSet(members)
        await _initiate(list(members))
        await replica_set.whole()
        yield replica_set


def _arguments(data: Path, port: int) -> tuple[str, ...]:
    return (
        str(find_mongod()),
        *("--dbpath", str(data), "--replSet", _NAME, "--bind_ip", "127.0.0.1"),
        *("--port", str(port), "--logpath", f"{data}.log", "--logappend"),
        *("--wiredTigerCacheSizeGB", "0.25", "--oplogSize", "128"),
        *("--networkMessageCompressors", "disabled"),
        *("--setParameter", "diagnosticDataCollectionEnabled=false"),
        *("--setParameter", "transactionLifetimeLimitSeconds=5"),
    )


def _children_of(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children")
    try:
        return [int(child) for child in children.read_text("ascii").split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


async def _initiate(addresses: list[str]) -> None:
    config = {
        "_id": _NAME,
        "members": [{"_id": number, "host": host} for number, host in enumerate(addresses)],
        "settings": {"electionTimeoutMillis": 1_000},
    }

    async def is_initiated() -> bool:
        with suppress(PyMongoError):
            await _asked(addresses[0], "replSetInitiate", config)
            return True
        return False

    await eventually(is_initiated, 60)


async def _state(address: str) -> int | None:
    with suppress(PyMongoError):
        return int((await _asked(address, "replSetGetStatus", 1))["myState"])
    return None


async def _asked(address: str, command: str, value: Any) -> dict[str, Any]:
    client: AsyncIOMotorClient[Any] = AsyncIOMotorClient(
        f"mongodb://{address}/?directConnection=true",
        serverSelectionTimeoutMS=500,
        socketTimeoutMS=20_000 if command == "replSetInitiate" else 500,
    )
    try:
        answer: dict[str, Any] = await client.admin.command(command, value)
        return answer
    finally:
        client.close()
