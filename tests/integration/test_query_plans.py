"""Every query that the store issues finds what it wants by an index, however much is stored."""

import ast
import importlib
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest
from bson import Int64
from google.protobuf.timestamp_pb2 import Timestamp
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo.monitoring import (
    CommandFailedEvent,
    CommandListener,
    CommandStartedEvent,
    CommandSucceededEvent,
)

import server.store
from harness import Harness, event_of, payment_of, running_harness, with_database
from server.audit import AuditEntry
from server.commit.committer import Committer
from server.deliveries import DeadLetter, Progress
from server.feed import EventFilter, HistoryPosition, LivePosition, Moment, WalletEventType
from server.ledger.chain import before_transactions_at
from server.ledger.commands import DismissEvent
from server.ledger.records import WalletKey
from server.metrics import Metrics
from server.store import books, checkup, connection, schema, seed
from server.store.audit_log import MongoAuditLog
from server.store.audit_records import AuditFilter, AuditReport, MongoAuditRecords
from server.store.event_feed import MongoEventFeed
from server.store.inquiries import MongoInquiries
from server.store.ledger_store import LedgerStore
from server.store.outgoing import MongoDeliveries
from server.store.queries import MongoGatewayRecords, MongoPollSchedule, MongoQueries
from server.store.standing import MongoStanding
from wallet_payment.v1 import resources_pb2 as resources
from wallet_payment.v1 import wallet_payment_service_pb2 as service

_STORE: Final = Path(server.store.__file__).parent
_DRIVER_CALLS: Final = frozenset(
    {
        *("found", "find", "find_one", "written", "write", "command", "aggregate", "distinct"),
        *("update_one", "update_many", "replace_one", "delete_one", "delete_many"),
        *("find_one_and_update", "count_documents", "bulk_write", "snapshot"),
    }
)
_SPECIAL_CASES: Final = frozenset({"seals", "books_legs", "books_lookups", "elections"})
"""Modules of the proof of the books, some of whose functions only a falsified ledger leads to, and
that which looks for one `_id` after an election. What a good one leads to is explained as well."""
_WITHOUT_A_QUERY: Final = frozenset(
    {
        *("insert", "getMore", "killCursors", "commitTransaction", "abortTransaction"),
        *("hello", "isMaster", "ping", "endSessions", "listCollections", "listIndexes"),
        *("create", "createIndexes", "collMod"),
        *("buildInfo", "getParameter", "replSetGetConfig"),
    }
)
_BEFORE_ALL_TIMES: Final = 1
_AFTER_ALL_TIMES: Final = 4_000_000_000

Function = tuple[str, str]
"""A module of the store and the name of a function in it, `Class.method` for a method."""


class Recorder(CommandListener):
    """Keeps the commands that the driver sends; it sends them from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._commands: list[dict[str, Any]] = []

    def started(self, event: CommandStartedEvent) -> None:
        """Keep a command."""
        with self._lock:
            self._commands.append({"name": event.command_name, **event.command})

    def succeeded(self, event: CommandSucceededEvent) -> None:
        """How it ended does not matter."""

    def failed(self, event: CommandFailedEvent) -> None:
        """How it ended does not matter."""

    def commands(self) -> list[dict[str, Any]]:
        """Return what was sent so far."""
        with self._lock:
            return list(self._commands)


def querying_functions() -> set[Function]:
    """Return the store's functions that call the driver, themselves or by a private function.

    `connection` is left out: it has the calls that the others make.
    """
    found: set[Function] = set()
    for file in sorted(_STORE.glob("*.py")):
        if file.stem in {"connection", "embedded", "__init__"}:
            continue
        calls = {name: called_by(node) for name, node in functions_of(ast.parse(file.read_text()))}
        wanted = set(_DRIVER_CALLS)
        while True:
            querying = {name for name, called in calls.items() if called & wanted}
            private = {name.rpartition(".")[2] for name in querying}
            private = {name for name in private if name.startswith("_")}
            if private <= wanted:
                break
            wanted |= private
        found |= {(file.stem, name) for name in querying}
    return found


def functions_of(module: ast.Module) -> Iterator[tuple[str, ast.AST]]:
    """Go through a module's functions and its classes' methods."""
    for node in module.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, node
        elif isinstance(node, ast.ClassDef):
            for method in node.body:
                if isinstance(method, ast.FunctionDef | ast.AsyncFunctionDef):
                    yield f"{node.name}.{method.name}", method


def called_by(function: ast.AST) -> set[str]:
    """Return the names that a function calls, without what they are called on."""
    called = set()
    for node in ast.walk(function):
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Name):
                called.add(node.func.id)
            elif isinstance(node.func, ast.Attribute):
                called.add(node.func.attr)
    return called


def watch(functions: set[Function], monkeypatch: pytest.MonkeyPatch) -> set[Function]:
    """Have the functions note that they are called, in the set that is returned."""
    called: set[Function] = set()

    def noting(function: Function, original: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*arguments: Any, **named: Any) -> Any:
            called.add(function)
            return original(*arguments, **named)

        return noted

    for module_name, name in functions:
        owner: Any = importlib.import_module(f"server.store.{module_name}")
        *path, attribute = name.split(".")
        for part in path:
            owner = getattr(owner, part)
        original = noting((module_name, name), getattr(owner, attribute))
        monkeypatch.setattr(owner, attribute, original)
    return called


@pytest.fixture
async def recorded(
    mongodb_uri: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Harness, Recorder, set[Function]]]:
    """A service on a database of its own, what it sends to MongoDB, and what was called for it."""
    recorder = Recorder()

    def listened_to(uri: str, **options: Any) -> Any:
        return AsyncIOMotorClient(uri, event_listeners=[recorder], **options)

    monkeypatch.setattr(connection, "AsyncIOMotorClient", listened_to)
    called = watch(querying_functions(), monkeypatch)
    uri = with_database(mongodb_uri, "query_plans")
    async with running_harness(uri, poll_interval_seconds=0.05) as running:
        yield running, recorder, called


async def everything_happens(harness: Harness) -> None:
    """Have the service do each thing that it can do, at least once."""
    customer_id = await harness.customer(balance=1_000)
    order_id = await harness.order(customer_id, 300)
    for _ in range(2):
        await harness.pay(customer_id, 300, order_id, idempotency_key="of-the-plans")
    await harness.refund(customer_id, order_id, 100)
    topup = await harness.initiate(customer_id, 700)
    await harness.verify(topup)
    await harness.topup(topup)
    for anyone in (customer_id, await harness.customer()):
        await harness.call("GetStatus", service.GetStatusRequest(customer_id=anyone))
    await harness.call(
        "GetOrderPayment",
        service.GetOrderPaymentRequest(customer_id=customer_id, order_id=order_id),
    )
    await reads_lists(harness, customer_id)
    await harness.initiate(customer_id, 900)  # The gateway is to be asked about it.
    another_amount = payment_of(topup, amount=600)
    assert (await harness.deliver(event_of("payment.captured", another_amount)))[0] == 200


async def reads_lists(harness: Harness, customer_id: str) -> None:
    """Ask for the customer's transactions with every combination of filters and a second page."""
    times = {
        "start_time": Timestamp(seconds=_BEFORE_ALL_TIMES),
        "end_time": Timestamp(seconds=_AFTER_ALL_TIMES),
    }
    types = [resources.TRANSACTION_TYPE_PAYMENT, resources.TRANSACTION_TYPE_TOPUP]
    for filters in (
        {},
        {"currency_code": "INR"},
        {"types": types},
        times,
        {"currency_code": "INR", "types": types, **times},
    ):
        request = service.ListTransactionsRequest(customer_id=customer_id, page_size=1)
        request.MergeFrom(service.ListTransactionsRequest(**filters))
        first = await harness.call("ListTransactions", request)
        assert first.next_page_token
        request.page_token = first.next_page_token
        await harness.call("ListTransactions", request)


async def operators_look(harness: Harness) -> None:
    """Do what operators do: review, reconcile, prove the books, prepare for development."""
    uri = harness.settings.mongodb_uri.get_secret_value()
    with connection.connect(uri) as database:
        await seed.seed_development(database)
        queries, records = MongoQueries(database), MongoGatewayRecords(database)
        async with Committer(LedgerStore(database), Metrics()) as committer:
            [event] = await records.waiting(limit=10)
            assert await records.event(event.received.key) == event
            await records.waiting_about_the_same(event)
            assert await queries.topup_by_id("razorpay", event.topup_id)
            assert await queries.topup_of_payment("razorpay", "pay_of_nobody") is None
            await committer.submit(DismissEvent(event.received.key, "a test", "a test"))
        entries = [
            entry
            async for entry in records.gateway_entries(
                "razorpay", _BEFORE_ALL_TIMES * 1_000, _AFTER_ALL_TIMES * 1_000
            )
        ]
        assert entries
        due = await MongoPollSchedule(database).claim_due(
            _AFTER_ALL_TIMES * 1_000, 10, lambda topup: topup.expire_time_ms
        )
        assert due
        assert (await books.verify_books(database, print)).differences == 0
        await reads_the_audit(database)
        await reads_the_feed(database)
        await delivers(database)
        await MongoStanding(database).note_reconciliation("razorpay", _BEFORE_ALL_TIMES, 0)


async def reads_the_audit(database: Any) -> None:
    """Write a segment of the audit, search it by all that it is searched by, and prove it."""
    async with MongoAuditLog(database, Metrics()) as log:
        log.put(AuditEntry(1, "GetStatus", "", "", "", "", "OK", "", "", 1))
    audit = MongoAuditRecords(database)
    start_ms, end_ms = _BEFORE_ALL_TIMES * 1_000, _AFTER_ALL_TIMES * 1_000
    wanted = AuditFilter(start_ms=start_ms, end_ms=end_ms)
    await audit.search(wanted, 10)
    for name in ("caller", "customer_id", "order_id", "method", "code", "reason", "correlation_id"):
        by_name: dict[str, Any] = {name: "x"}
        await audit.search(AuditFilter(**by_name), 10)
        await audit.search(replace(wanted, **by_name), 10)
    assert [one async for one in audit.verify(AuditReport())] == []


async def reads_the_feed(database: Any) -> None:
    """Read events with every combination of filters: of the past, and what comes."""
    feed = MongoEventFeed(database, 1)
    types = frozenset({WalletEventType.PAYMENT_MADE, WalletEventType.WALLET_FROZEN})
    first_id = before_transactions_at(0)
    for wanted in (
        EventFilter(),
        EventFilter("anyone"),
        EventFilter(types=types),
        EventFilter("anyone", types),
    ):
        await feed.reader(wanted, HistoryPosition(first_id, first_id)).next_page()
        gone = HistoryPosition(first_id, first_id, 0, Moment(1, 1))
        await feed.reader(wanted, gone).next_page()
        live = feed.reader(wanted, None)
        await live.next_page()
        await live.close()
    feed.close()


async def operators_ask(harness: Harness) -> None:
    """Ask what operators ask of everything that is stored."""
    with connection.connect(harness.settings.mongodb_uri.get_secret_value()) as database:
        inquiries = MongoInquiries(database)
        entry = await harness.database.wallet_transactions.find_one({"type": "TOPUP"})
        wallet = WalletKey(entry["customer_id"], entry["currency"])
        for name in (entry["topup_id"], entry["gateway_payment_id"]):
            (topup,) = await inquiries.topups(name, ("razorpay", "paypal"))
        assert await inquiries.events_of_topup(topup.topup_id)
        assert await inquiries.transaction(entry["_id"])
        assert await inquiries.order("order-1")
        times = (_BEFORE_ALL_TIMES * 1_000, _AFTER_ALL_TIMES * 1_000)
        assert await inquiries.balance_before(wallet, times[1])
        assert await inquiries.ledger_size()
        for pages in (
            inquiries.entries(wallet, *times),
            inquiries.moved_before(times[1]),
            inquiries.moved(*times),
            inquiries.made_topups(*times),
        ):
            assert [page async for page in pages]
        assert (await checkup.examine(database)).missing_indexes == ()


async def delivers(database: Any) -> None:
    """Take and give up the lead of outgoing webhooks, note progress, bury and revive."""
    deliveries = MongoDeliveries(database)
    while not await deliveries.claim("a server", 10):
        pass
    live, past = LivePosition(b"token"), HistoryPosition("txn_0", "txn_1", 1, Moment(1, 1))
    for position in (live, past):
        assert await deliveries.advance("a server", Progress(position, 5))
        assert await deliveries.progress() == Progress(position, 5)
    assert not await deliveries.advance("another", Progress(live, 6))
    await deliveries.release("a server")
    letter = DeadLetter("evt_1", "customer-1", b"{}", "HTTP 400", 1)
    await deliveries.bury(letter)
    assert await deliveries.dead_letter("evt_1") == letter
    assert await deliveries.buried(10) == [letter]
    await deliveries.revived("evt_1")
    assert await deliveries.buried(10) == []


def plans_of(command: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Return a command's queries, each as MongoDB is asked to explain it."""
    name = command["name"]
    collection = command[name]
    match name:
        case "find":
            parts = ("filter", "sort", "limit", "projection", "hint")
            yield {name: collection, **{part: command[part] for part in parts if part in command}}
        case "update":
            for statement in command["updates"]:
                yield {name: collection, "updates": [statement]}
        case "delete":
            for statement in command["deletes"]:
                yield {name: collection, "deletes": [statement]}
        case "aggregate" if collection == 1:
            assert "$changeStream" in command["pipeline"][0]  # it goes along the oplog
        case "aggregate" | "count" | "distinct" | "findAndModify":
            own = ("name", "lsid", "txnNumber", "$db", "$clusterTime", "readConcern")
            yield {part: value for part, value in command.items() if part not in own}
        case _:
            assert name in _WITHOUT_A_QUERY, f"say here whether {name} looks for documents"


def stages_of(plan: Any) -> set[str]:
    """Return the names of all stages in a plan, wherever they stand."""
    if isinstance(plan, list):
        return set().union(*map(stages_of, plan))
    if not isinstance(plan, dict):
        return set()
    own = {plan["stage"]} if isinstance(plan.get("stage"), str) else set()
    return own | stages_of([part for key, part in plan.items() if key != "rejectedPlans"])


async def explained(database: Any, query: Mapping[str, Any]) -> set[str]:
    """Return the stages of the plan that MongoDB has chosen for a query."""
    plan = await database.command({"explain": dict(query), "verbosity": "queryPlanner"})
    return stages_of(plan)


async def test_no_query_goes_through_a_whole_collection(
    recorded: tuple[Harness, Recorder, set[Function]],
) -> None:
    """Each query of all that the store can do uses an index, and sorts by it.

    A new query that nothing here leads to fails this test, too: add what leads to it.
    """
    harness, recorder, called = recorded
    await everything_happens(harness)
    await operators_look(harness)
    await operators_ask(harness)

    missing = {name for name in querying_functions() - called if name[0] not in _SPECIAL_CASES}
    assert missing == set(), "nothing here has led to these queries"
    slow = set()
    for command in recorder.commands():
        for query in plans_of(command):
            if await explained(harness.database, query) & {"COLLSCAN", "SORT"}:
                slow.add(str(query))
    assert slow == set()


async def test_a_query_without_an_index_would_be_found(mongodb_uri: str) -> None:
    """The plan of a query for which there is no index shows it, so that the test above can fail."""
    uri = with_database(mongodb_uri, "query_plans_without")
    with connection.connect(uri) as database:
        await schema.migrate(database)
        await database[schema.ORDERS].insert_one({"_id": "order", "amount": Int64(1)})
        by_amount = {"find": schema.ORDERS, "filter": {"amount": 1}}
        update = {"update": schema.ORDERS, "updates": [{"q": {"amount": 1}, "u": {"$set": {}}}]}

        assert "COLLSCAN" in await explained(database, by_amount)
        assert "COLLSCAN" in await explained(database, update)
        assert "SORT" in await explained(database, {**by_amount, "sort": {"amount": 1}})
