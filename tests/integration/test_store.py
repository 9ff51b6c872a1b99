"""The service on MongoDB when that goes away, answers nothing, or is shared with another server."""

import asyncio
import os
import signal
import threading
from collections import Counter
from collections.abc import AsyncIterator, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from motor.motor_asyncio import AsyncIOMotorClient

from harness import (
    IMPATIENT,
    Harness,
    Refused,
    bearer,
    differences,
    event_of,
    eventually,
    free_port,
    inr,
    outcomes_of,
    payment_of,
    refusal_of,
    refused,
    running_harness,
    settings_for,
    token,
    unique,
    with_database,
)
from server.app import running_server
from server.commit.port import WriteRefused
from server.store import connection, schema
from server.store.connection import NotAReplicaSet, connect, write
from server.store.embedded import embedded_mongod, find_mongod
from wallet_payment.v1 import wallet_payment_service_pb2 as service
from wallet_payment.v1 import wallet_payment_service_pb2_grpc as service_grpc

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def payment_request(customer: str, amount: int = 1) -> service.PayWithWalletRequest:
    """Return a payment that can be repeated."""
    return service.PayWithWalletRequest(
        customer_id=customer,
        order_id=unique("order"),
        amount=inr(amount),
        idempotency_key=unique("key"),
    )


async def test_a_server_has_all_its_threads_from_the_start(
    mongodb_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None is added when calls coincide later on, and no memory with it."""
    with ThreadPoolExecutor(16, thread_name_prefix="of-this-test") as pool:
        monkeypatch.setattr(connection, "_THREADS", pool)
        async with running_harness(with_database(mongodb_uri, unique("threads"))):
            names = {thread.name for thread in threading.enumerate()}

    assert len({name for name in names if name.startswith("of-this-test")}) == 16


async def test_threads_that_are_busy_do_not_hold_up_a_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Who waits for MongoDB in one of them has it for long; the others go on without it."""
    is_over = threading.Event()
    with ThreadPoolExecutor(16) as pool:
        monkeypatch.setattr(connection, "_THREADS", pool)
        monkeypatch.setattr(connection, "_START_SECONDS", 0.05)
        busy = pool.submit(is_over.wait)
        try:
            await asyncio.wait_for(connection.start_threads(), 20)
            assert not busy.done()
        finally:
            is_over.set()


async def health(channel: grpc.aio.Channel) -> int:
    """Return what the server says of its health, or None before it listens."""
    stub: Any = health_pb2_grpc.HealthStub(channel)
    answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=5, wait_for_ready=True)
    status: int = answer.status
    return status


class Proxy:
    """A TCP proxy before MongoDB that can lose what is said.

    It runs in a thread of its own, because the driver waits for MongoDB in the tests' one, too.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._carriers: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._is_cut = False
        self.commits_to_lose = 0
        """So many commits get no answer: the connection ends."""
        self.is_passed_on = True
        """Whether a commit that gets no answer reaches MongoDB all the same."""
        self.lost = 0

    async def __aenter__(self) -> int:
        """Start; return the port to connect to."""
        self._thread.start()
        started = asyncio.start_server(self._accept, "127.0.0.1", 0)
        self._server = await self._run(started)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def __aexit__(self, *_: object) -> None:
        """End all connections and stop."""
        await self.cut()
        self._loop.call_soon_threadsafe(self._server.close)
        await self._run(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def cut(self) -> None:
        """End all connections, and take no new ones until they are restored."""

        async def close() -> None:
            self._is_cut = True
            for writer in tuple(self._writers):
                writer.close()

        await self._run(close())

    def restore(self) -> None:
        """Lose nothing any more, and take connections again."""
        self.commits_to_lose, self._is_cut = 0, False

    async def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

    async def _end(self) -> None:
        await asyncio.gather(*self._carriers, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        carrier = self._loop.create_task(self._carry(reader, writer))
        self._carriers.add(carrier)
        carrier.add_done_callback(self._carriers.discard)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is_cut:
            writer.close()
            return
        upstream_reader, upstream_writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._writers |= {writer, upstream_writer}
        await asyncio.gather(
            self._pass_on(reader, upstream_writer, writer),
            self._pass_on(upstream_reader, writer, None),
        )
        self._writers -= {writer, upstream_writer}

    async def _pass_on(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        client: asyncio.StreamWriter | None,
    ) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(1 << 20):
                if client is not None and self.commits_to_lose and b"commitTransaction" in data:
                    self.commits_to_lose -= 1
                    self.lost += 1
                    client.close()
                    if not self.is_passed_on:
                        break
                writer.write(data)
                await writer.drain()
        writer.close()


@asynccontextmanager
async def proxied(mongodb_uri: str) -> AsyncIterator[tuple[Harness, Proxy]]:
    """Run a service that reaches its own database of the shared MongoDB through a proxy."""
    proxy = Proxy(int(mongodb_uri.split("/")[2].rpartition(":")[2]))
    database = unique("proxied")
    async with proxy as port:
        uri = f"mongodb://127.0.0.1:{port}/{database}?directConnection=true"
        async with running_harness(uri, books_agree=False) as harness:
            yield harness, proxy
    assert await differences(with_database(mongodb_uri, database)) == []


@pytest.mark.parametrize("is_passed_on", [True, False])
async def test_a_commit_whose_answer_is_lost_takes_effect_once(
    mongodb_uri: str, is_passed_on: bool
) -> None:
    """Connections break at the commit, before or after it happened: one payment, answered OK."""
    async with proxied(mongodb_uri) as (harness, proxy):
        customer = await harness.customer(1_000)
        proxy.is_passed_on = is_passed_on
        for times in (1, 1, 2, 3, 3):
            proxy.commits_to_lose = times
            await asyncio.gather(*(harness.pay(customer, 10) for _ in range(8)))
        assert proxy.lost == 10
        assert await harness.balance(customer) == 1_000 - 5 * 8 * 10
        assert len(await harness.entries(customer)) == 1 + 5 * 8


async def test_commits_that_never_get_an_answer_are_settled_by_repeats(mongodb_uri: str) -> None:
    """While answers are lost, then all is cut, nobody is told anything wrong; repeats settle it."""
    async with proxied(mongodb_uri) as (harness, proxy):
        customer = await harness.customer(1_000)
        requests = [payment_request(customer) for _ in range(40)]
        proxy.commits_to_lose = 3

        calls = asyncio.gather(
            *(harness.call("PayWithWallet", request, timeout=2) for request in requests),
            return_exceptions=True,
        )
        await eventually(lambda: _holds(lambda: proxy.lost >= 1))
        await proxy.cut()
        hurried = await calls
        refusals = [error for error in hurried if isinstance(error, grpc.aio.AioRpcError)]
        told = {refused(error).reason for error in refusals if error.trailing_metadata()}
        assert told <= {"DATABASE_UNAVAILABLE", "DEADLINE_EXCEEDED"}
        assert told

        proxy.restore()
        answers = await harness.settled("PayWithWallet", requests)
        assert len({answer.transaction.transaction_id for answer in answers}) == 40
        assert await harness.balance(customer) == 960


async def _holds(condition: Any) -> bool:
    return bool(condition())


async def test_mongodb_killed_and_restarted_loses_no_acknowledged_payment(tmp_path: Path) -> None:
    """Killed under load, MongoDB comes back: what was acknowledged is there, the rest once."""
    port = free_port()
    async with AsyncExitStack() as mongodbs:
        uri = await mongodbs.enter_async_context(embedded_mongod(tmp_path, port=port))
        async with running_harness(uri, books_agree=False) as harness:
            customer = await harness.customer(1_000)
            topup = await harness.initiate(customer, 500)
            webhook = event_of("payment.captured", payment_of(topup))
            requests = [payment_request(customer) for _ in range(300)]
            acknowledged: set[str] = set()

            async def pay(request: service.PayWithWalletRequest) -> None:
                answer = await harness.call("PayWithWallet", request, timeout=1.5)
                acknowledged.add(answer.transaction.transaction_id)

            calls = [asyncio.create_task(pay(request)) for request in requests]
            await eventually(lambda: _holds(lambda: acknowledged))
            pid = _pid_of(tmp_path)
            os.kill(pid, signal.SIGKILL)
            outcomes = await asyncio.gather(*calls, return_exceptions=True)
            assert any(isinstance(outcome, grpc.aio.AioRpcError) for outcome in outcomes)
            status, _ = await harness.deliver(webhook, "evt-killed")
            assert status == 503
            told = await refusal_of(harness.call("PayWithWallet", requests[-1], timeout=1))
            # Its turn had come and the database is away, or its turn never came.
            assert told.reason in {"DATABASE_UNAVAILABLE", "DEADLINE_EXCEEDED"}
            assert told.retry_after_seconds or told.reason == "DEADLINE_EXCEEDED"

            await eventually(lambda: _holds(lambda: not Path(f"/proc/{pid}").exists()))
            await mongodbs.enter_async_context(embedded_mongod(tmp_path, port=port))
            answers = await harness.settled("PayWithWallet", requests)
            assert acknowledged <= {answer.transaction.transaction_id for answer in answers}
            assert await harness.balance(customer) == 700
            delivered = [await harness.deliver(webhook, "evt-killed") for _ in range(2)]
            taken = [answer["outcome"] for _, answer in delivered]
            assert taken == ["APPLIED", "DUPLICATE"]
            assert await harness.balance(customer) == 1_200
            assert await differences(uri) == []


async def test_mongodb_that_hangs_is_unavailable_and_loses_nothing(tmp_path: Path) -> None:
    """While MongoDB answers nothing, calls end in time and say so; repeats give one payment."""
    async with embedded_mongod(tmp_path) as uri, running_harness(uri) as harness:
        customer = await harness.customer(1_000)
        requests = [payment_request(customer) for _ in range(20)]
        pid = _pid_of(tmp_path)
        os.kill(pid, signal.SIGSTOP)
        try:
            outcomes = await outcomes_of(
                [harness.call("PayWithWallet", request, timeout=1) for request in requests]
            )
        finally:
            os.kill(pid, signal.SIGCONT)
        refusals = [outcome for outcome in outcomes if isinstance(outcome, Refused)]
        assert len(refusals) == 20
        assert {refusal.reason for refusal in refusals} <= {
            "DATABASE_UNAVAILABLE",
            "DEADLINE_EXCEEDED",
        }

        await harness.settled("PayWithWallet", requests)
        assert await harness.balance(customer) == 980


async def test_two_servers_share_one_wallet(harness: Harness, mongodb_uri: str) -> None:
    """200 payments of 1 through two servers at once against 100: exactly 100 succeed."""
    async with running_harness(mongodb_uri) as other:
        customer = await harness.customer(100)
        outcomes = await outcomes_of(
            [server.pay(customer, 1) for server in (harness, other) for _ in range(100)]
        )
        refusals = [outcome for outcome in outcomes if isinstance(outcome, Refused)]
        assert {refusal.reason for refusal in refusals} == {"INSUFFICIENT_FUNDS"}
        assert len(refusals) == 100
        assert await harness.balance(customer) == await other.balance(customer) == 0


async def test_two_servers_share_keys_orders_and_top_ups(
    harness: Harness, mongodb_uri: str
) -> None:
    """The same key, the same order and the same webhook through two servers take effect once."""
    async with running_harness(mongodb_uri) as other:
        customer = await harness.customer(1_000)
        request = payment_request(customer, 100)
        answers = await asyncio.gather(
            *(
                server.call("PayWithWallet", request)
                for server in (harness, other)
                for _ in range(10)
            )
        )
        assert len({answer.transaction.transaction_id for answer in answers}) == 1

        order = unique("order")
        outcomes = await outcomes_of(
            [server.pay(customer, 100, order) for server in (harness, other) for _ in range(10)]
        )
        refusals = [outcome for outcome in outcomes if isinstance(outcome, Refused)]
        assert [refusal.reason for refusal in refusals] == ["ORDER_ALREADY_PAID"] * 19

        topup = await harness.initiate(customer, 500)
        body, event_id = event_of("payment.captured", payment_of(topup)), unique("evt")
        delivered = await asyncio.gather(
            *(server.deliver(body, event_id) for server in (harness, other) for _ in range(10))
        )
        taken = Counter(answer["outcome"] for _, answer in delivered)
        assert taken == {"APPLIED": 1, "DUPLICATE": 19}
        assert await harness.balance(customer) == 1_000 - 200 + 500


async def test_a_server_without_its_database_says_so(tmp_path: Path) -> None:
    """Before MongoDB is up: NOT_SERVING and DATABASE_UNAVAILABLE; once it is up: SERVING."""
    port, grpc_port = free_port(), free_port()
    uri = f"mongodb://127.0.0.1:{port}/wallet_payment?replicaSet=wallet"
    settings = settings_for(
        uri + "&serverSelectionTimeoutMS=200",
        "http://127.0.0.1:9",
        grpc_address=f"127.0.0.1:{grpc_port}",
    )
    stop = asyncio.Event()

    async def serve() -> None:
        async with running_server(settings):
            await stop.wait()

    server = asyncio.create_task(serve())
    async with grpc.aio.insecure_channel(f"127.0.0.1:{grpc_port}", IMPATIENT) as channel:
        assert await health(channel) == NOT_SERVING
        stub: Any = service_grpc.WalletPaymentServiceStub(channel)
        request = service.GetStatusRequest(customer_id="asha")
        told = await refusal_of(stub.GetStatus(request, metadata=bearer(token()), timeout=5))
        assert (told.code, told.reason) == (grpc.StatusCode.UNAVAILABLE, "DATABASE_UNAVAILABLE")
        assert told.retry_after_seconds
        async with embedded_mongod(tmp_path, port=port):

            async def is_serving() -> bool:
                return bool(await health(channel) == SERVING)

            await eventually(is_serving)
            told = await refusal_of(stub.GetStatus(request, metadata=bearer(token()), timeout=5))
            assert told.reason == "CUSTOMER_NOT_FOUND"
            stop.set()
            await server


async def test_a_single_mongod_is_refused(tmp_path: Path) -> None:
    """A MongoDB without a replica set, which has no transactions, is refused in clear words."""
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        str(find_mongod()),
        *("--dbpath", str(tmp_path), "--port", str(port), "--bind_ip", "127.0.0.1"),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        settings = settings_for(f"mongodb://127.0.0.1:{port}/wallet_payment", "http://127.0.0.1:9")
        with pytest.raises(NotAReplicaSet, match="--replSet"):
            async with asyncio.timeout(30), running_server(settings):
                pass
    finally:
        process.kill()
        await process.wait()


async def test_a_database_of_a_later_release_is_refused(mongodb_uri: str) -> None:
    """A schema version that this release does not know keeps it from serving."""
    uri = with_database(mongodb_uri, unique("later"))
    client: AsyncIOMotorClient[Any] = AsyncIOMotorClient(uri)
    settings = client.get_default_database().service_settings
    await settings.insert_one({"_id": "schema", "version": schema.VERSION + 1})
    client.close()

    with pytest.raises(schema.NewerSchema, match=str(schema.VERSION + 1)):
        async with running_server(settings_for(uri, "http://127.0.0.1:9")):
            pass


async def test_a_server_starts_while_transactions_are_open(
    harness: Harness, mongodb_uri: str
) -> None:
    """The transaction that a server left open when it died does not hold up the next one."""
    customer = await harness.customer(100)
    client: AsyncIOMotorClient[Any] = AsyncIOMotorClient(mongodb_uri)
    async with await client.start_session() as session, session.start_transaction():
        for name in ("wallets", "topups", "wallet_transactions", "orders"):
            await client.get_default_database()[name].update_one(
                {"customer_id": customer}, {"$set": {"touched": True}}, session=session
            )
        async with asyncio.timeout(3):
            async with running_harness(mongodb_uri, books_agree=False) as other:
                other_customer = await other.customer(100)
                await other.pay(other_customer, 1)
        await session.abort_transaction()
    client.close()


async def test_many_servers_may_start_on_an_empty_database_at_once(mongodb_uri: str) -> None:
    """Four servers that migrate one new database at the same moment all come up."""
    uri = with_database(mongodb_uri, unique("fresh"))
    async with AsyncExitStack() as stack:
        servers = [running_harness(uri, books_agree=False) for _ in range(4)]
        first, *others = await asyncio.gather(
            *(stack.enter_async_context(server) for server in servers)
        )
        customer = await first.customer(100)
        for other in others:
            await other.pay(customer, 1)
        assert await first.balance(customer) == 97


@pytest.mark.parametrize(
    ("collection", "change"),
    [
        ("wallets", {"balance": 5}),
        ("wallets", {"state": "OPEN"}),
        ("wallet_transactions", {"amount": 5.0}),
        ("wallet_transactions", {"postings": []}),
        ("wallet_transactions", {"currency": "inr"}),
        ("topups", {"state": "PAID"}),
    ],
    ids=str,
)
async def test_validators_refuse_what_the_service_would_never_write(
    harness: Harness, collection: str, change: dict[str, Any]
) -> None:
    """An int32, a double, an unknown state or half an entry does not get into the ledger."""
    customer = await harness.customer(100)
    document = await harness.database[collection].find_one({"customer_id": customer})
    changed = document | {"_id": unique("forged"), "customer_id": unique("forged")} | change
    changed |= {name: unique(name) for name in ("idempotency_id",) if name in changed}

    uri = harness.settings.mongodb_uri.get_secret_value()
    with connect(uri) as database, pytest.raises(WriteRefused):
        await write(database, collection, "insert", [changed])


async def test_every_call_is_audited_without_secrets(harness: Harness) -> None:
    """What was asked, by whom and how it ended is written down; tokens and notes are not."""
    customer = await harness.customer(100)
    order = unique("order")
    given = bearer(token())
    request = payment_request(customer)
    request.order_id, request.metadata["note"] = order, "secret-note"
    await harness.call("PayWithWallet", request, metadata=(*given, ("x-correlation-id", order)))
    await refusal_of(harness.pay(customer, 1, order))

    async def written() -> list[Any] | None:
        logs = await harness.database.integration_logs.find({"order_id": order}).to_list(None)
        return logs if len(logs) == 2 else None

    first, second = await eventually(written)
    assert (first["method"], first["caller"], first["code"]) == (
        "PayWithWallet",
        "order-service",
        "OK",
    )
    assert first["correlation_id"] == order
    assert first["customer_id"] == customer
    assert (second["code"], second["reason"]) == ("ALREADY_EXISTS", "ORDER_ALREADY_PAID")
    assert "secret-note" not in str(first)
    assert given[0][1].split()[1] not in str(first)


async def test_an_oversized_request_does_not_swell_the_audit(harness: Harness) -> None:
    """A caller without a token who sends huge ids leaves a short line in the audit, no more."""
    correlation_id = unique("large")
    request = service.GetOrderPaymentRequest(customer_id="c" * 400_000, order_id="o" * 50_000)
    call = harness.call(
        "GetOrderPayment", request, metadata=(("x-correlation-id", correlation_id),)
    )
    assert (await refusal_of(call)).reason == "TOKEN_MISSING"

    async def written() -> Any:
        return await harness.database.integration_logs.find_one({"correlation_id": correlation_id})

    assert len(str(await eventually(written))) < 1_000


async def test_metrics_count_what_was_done(harness: Harness) -> None:
    """Prometheus gets handled calls by code, and the sizes and times of commits."""
    await harness.pay(await harness.customer(100), 1)
    await refusal_of(harness.pay(unique("stranger"), 1))

    async with harness.http.get(harness.metrics_url) as answer:
        text = await answer.text()
    service_and_method = (
        'grpc_method="PayWithWallet",grpc_service="wallet_payment.v1.WalletPaymentService"'
    )
    for code in ("OK", "NOT_FOUND"):
        counter = f'grpc_server_handled_total{{grpc_code="{code}",{service_and_method}'
        assert any(line.startswith(counter) for line in text.splitlines())
    assert "wallet_commit_batch_size_bucket" in text
    assert "wallet_commit_seconds_bucket" in text


def _pid_of(folder: Path) -> int:
    """Return the process of the embedded mongod, which it writes into its data folder."""
    return int((folder / "mongodb" / "mongod.lock").read_text())
