"""Outgoing webhooks to a real receiver: signed, repeated, buried, replayed, by one leader."""

import base64
import hashlib
import hmac
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

from command_line import run_in_process
from harness import Harness, eventually, running_harness, with_database
from payment_load import serving
from scraped import Scraped, scraped
from server.listening import address_of, bind, http_server

KEY = b"k" * 32
QUICK: Any = {"watch_interval_seconds": 0.05}
SECRET = f"whsec_{base64.b64encode(KEY).decode()}"


@dataclass
class Post:
    """A webhook as it was received."""

    webhook_id: str
    body: dict[str, Any]
    time: float

    @property
    def customer_id(self) -> str:
        """Whose event it is."""
        return str(self.body["data"]["customer_id"])


@dataclass
class Inbox:
    """A receiver that verifies, keeps what it takes, and answers as `status_of` says."""

    url: str = ""
    status_of: Callable[[str], int] = lambda _: 204
    retry_after: str = ""
    seen: list[Post] = field(default_factory=list)
    taken: list[Post] = field(default_factory=list)

    async def receive(self, request: web.Request) -> web.Response:
        """Take a webhook, if it is rightly signed."""
        raw = await request.read()
        webhook_id, stamp = request.headers["webhook-id"], request.headers["webhook-timestamp"]
        content = f"{webhook_id}.{stamp}.".encode() + raw
        expected = base64.b64encode(hmac.digest(KEY, content, hashlib.sha256)).decode()
        assert request.headers["webhook-signature"] == f"v1,{expected}"
        post = Post(webhook_id, json.loads(raw), time.monotonic())
        self.seen.append(post)
        status = self.status_of(webhook_id)
        if status < 300:
            self.taken.append(post)
        return web.Response(status=status, headers={"retry-after": self.retry_after})

    async def until(self, condition: Callable[[], Any]) -> None:
        """Wait for a condition of what was received."""

        async def holds() -> Any:
            return condition()

        await eventually(holds, 40)


@asynccontextmanager
async def running_inbox() -> AsyncIterator[Inbox]:
    """Receive webhooks as long as the context lasts."""
    inbox = Inbox()
    app = web.Application()
    app.router.add_post("/hooks", inbox.receive)
    listening = bind("127.0.0.1:0", "inbox")
    inbox.url = f"http://{address_of(listening)}/hooks"
    async with http_server(web.AppRunner(app), listening):
        yield inbox


@asynccontextmanager
async def telling_harness(mongodb_uri: str, inbox: Inbox, **given: Any) -> AsyncIterator[Harness]:
    """Run a service on a database of its own that posts to the inbox; wait until it leads."""
    settings: dict[str, Any] = {
        "outgoing_webhook_url": inbox.url,
        "outgoing_webhook_secrets": SECRET,
        "outgoing_webhook_retry_seconds": 0.01,
    }
    async with running_harness(mongodb_uri, **settings | given) as harness:
        await lead(harness.database)
        yield harness


async def lead(database: Any) -> None:
    """Wait until somebody leads and has noted where it starts."""

    async def is_had() -> Any:
        found = await database.service_settings.find_one({"_id": "outgoing_webhooks"})
        return found and found["holder"] and "position" in found

    await eventually(is_had)


async def test_events_are_posted_signed_and_in_order(mongodb_uri: str) -> None:
    """Each event of the wanted types arrives once, in order, as the contract has it."""
    uri = with_database(mongodb_uri, "outgoing_order")
    types = "PAYMENT_MADE,REFUND_MADE"
    async with (
        running_inbox() as inbox,
        telling_harness(uri, inbox, outgoing_webhook_types=types) as harness,
    ):
        customer = await harness.customer(10_000)
        paid = await harness.pay(customer, 5_000)
        await harness.refund(customer, paid.payment.order_id)
        await inbox.until(lambda: len(inbox.taken) >= 2)

    assert [post.body["type"] for post in inbox.taken] == ["payment.made", "refund.made"]
    data = inbox.taken[0].body["data"]
    assert data["transaction"]["transaction_id"] == paid.transaction.transaction_id
    assert data["event_id"] == inbox.taken[0].webhook_id
    assert data["transaction"]["amount"]["minor_units"] == "-5000"


async def test_an_operators_freeze_and_thaw_are_posted(mongodb_uri: str, tmp_path: Path) -> None:
    """They come once each, in order with what moves money, and name the wallet's currency."""
    uri = with_database(mongodb_uri, "outgoing_freezes")
    async with running_inbox() as inbox, telling_harness(uri, inbox) as harness:
        customer = await harness.customer(10_000)
        for command in ("freeze", "freeze", "unfreeze"):
            await run_in_process(
                *("wallet", command, customer, "INR", "--why", "a stolen phone"),
                environment={"WALLET_MONGODB_URI": uri},
                folder=tmp_path,
            )
        await harness.pay(customer, 5_000)
        await inbox.until(lambda: len(inbox.taken) >= 4)

    assert [post.body["type"] for post in inbox.taken] == [
        "topup.credited",
        "wallet.frozen",
        "wallet.thawed",
        "payment.made",
    ]
    frozen = inbox.taken[1]
    assert frozen.body["data"] == {
        "event_id": frozen.webhook_id,
        "type": "WALLET_EVENT_TYPE_WALLET_FROZEN",
        "customer_id": customer,
        "create_time": frozen.body["timestamp"],
        "currency_code": "INR",
    }


async def test_what_is_not_taken_at_first_is_posted_again(mongodb_uri: str) -> None:
    """After refusals the same event comes again with the same id, and the next one waits for it."""
    uri = with_database(mongodb_uri, "outgoing_again")
    async with running_inbox() as inbox, telling_harness(uri, inbox) as harness:
        tries: Counter[str] = Counter()

        def third_time(webhook_id: str) -> int:
            tries[webhook_id] += 1
            return 204 if tries[webhook_id] >= 3 else 503

        inbox.status_of = third_time
        customer = await harness.customer(10_000)
        await harness.pay(customer, 5_000)
        await inbox.until(lambda: len(inbox.taken) >= 2)

    assert [post.body["type"] for post in inbox.taken] == ["topup.credited", "payment.made"]
    assert set(tries.values()) == {3}
    assert [post.webhook_id for post in inbox.seen] == sorted(
        (post.webhook_id for post in inbox.seen),
        key=[post.webhook_id for post in inbox.taken].index,
    )


async def test_a_receiver_is_left_alone_as_long_as_it_asks(mongodb_uri: str) -> None:
    """A Retry-After in seconds puts the next attempt off; what is no number is passed over."""
    uri = with_database(mongodb_uri, "outgoing_later")
    async with running_inbox() as inbox, telling_harness(uri, inbox) as harness:
        inbox.status_of, inbox.retry_after = lambda _: 503, "1"
        await harness.customer(10_000)
        await inbox.until(lambda: len(inbox.seen) >= 2)
        inbox.retry_after = "soon"
        await inbox.until(lambda: len(inbox.seen) >= 4)

    first, second, *_, third, fourth = inbox.seen
    assert second.time - first.time >= 1.0
    assert fourth.time - third.time < 1.0


async def test_a_dead_letter_is_listed_and_replayed(mongodb_uri: str, tmp_path: Path) -> None:
    """What is refused for good is kept, others go on, and the command line posts it again."""
    uri = with_database(mongodb_uri, "outgoing_dead")
    async with (
        running_inbox() as inbox,
        telling_harness(uri, inbox, outgoing_webhook_attempts=2, **QUICK) as harness,
    ):
        inbox.status_of = lambda webhook_id: 400 if "credited" in webhook_id else 204
        customer = await harness.customer(10_000)
        await harness.pay(customer, 5_000)
        await inbox.until(lambda: inbox.taken)

        async def buried() -> Scraped | None:
            seen = await scraped(harness.http, harness.metrics_url)
            return seen if seen.value("wallet_outgoing_dead_letters") else None

        told = await eventually(buried)
        environment = {
            "WALLET_MONGODB_URI": uri,
            "WALLET_OUTGOING_WEBHOOK_URL": inbox.url,
            "WALLET_OUTGOING_WEBHOOK_SECRETS": SECRET,
        }

        async def run(*arguments: str, status: int = 0) -> str:
            output, errors = await run_in_process(
                "outgoing", *arguments, environment=environment, folder=tmp_path, status=status
            )
            return output + errors

        (letter,) = json.loads(await run("list", "--json"))
        refused = await run("replay", "--all", status=2)
        inbox.status_of = lambda _: 204
        replayed = json.loads(await run("replay", letter["event_id"], "--json"))
        unknown = await run("replay", letter["event_id"], status=2)
        empty = await run("list")

        async def nothing_is_buried() -> bool:
            seen = await scraped(harness.http, harness.metrics_url)
            return seen.value("wallet_outgoing_dead_letters") == 0

        await eventually(nothing_is_buried)

    by_outcome = {
        outcome: told.value("wallet_outgoing_webhooks_total", outcome=outcome)
        for outcome in ("taken", "refused", "buried")
    }
    assert by_outcome == {"taken": 1, "refused": 2, "buried": 1}
    assert told.value("wallet_outgoing_delay_seconds_count") == 1
    assert 0 < told.value("wallet_outgoing_delay_seconds_sum") < 60
    assert (letter["customer_id"], letter["problem"]) == (customer, "HTTP 400")
    assert "was not taken: HTTP 400" in refused
    assert replayed == {"taken": 1}
    assert "There is no dead letter" in unknown
    assert empty == "there are no dead letters\n"
    assert [post.body["type"] for post in inbox.taken] == ["payment.made", "topup.credited"]


async def test_another_server_goes_on_when_the_leader_dies(mongodb_uri: str) -> None:
    """With three servers one posts; it is killed, another takes over, and nothing is missed."""
    uri = with_database(mongodb_uri, "outgoing_leaders")
    async with running_inbox() as inbox, AsyncExitStack() as stack:
        settings: dict[str, Any] = {
            "WALLET_OUTGOING_WEBHOOK_URL": inbox.url,
            "WALLET_OUTGOING_WEBHOOK_SECRETS": SECRET,
        }
        first, _ = await stack.enter_async_context(serving(uri, **settings))
        async with running_harness(uri) as harness:
            await lead(harness.database)
            await stack.enter_async_context(serving(uri, **settings))
            customer = await harness.customer(10_000)
            await harness.pay(customer, 1)
            await inbox.until(lambda: len(inbox.taken) >= 2)
            first.kill()
            for _ in range(3):
                await harness.pay(customer, 1)
            await inbox.until(lambda: len({post.webhook_id for post in inbox.taken}) >= 5)

    sequences = [int(post.body["data"]["transaction"]["sequence"]) for post in inbox.taken]
    once = list(dict.fromkeys(sequences))
    assert once == [1, 2, 3, 4, 5]
