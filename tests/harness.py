"""The whole service for tests: real MongoDB, real gRPC and HTTP over sockets, real signatures."""

import asyncio
import base64
import hashlib
import hmac
import itertools
import json
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import aiohttp
import grpc
import jwt
import structlog
from aiohttp import web
from bson import Int64
from google.rpc import error_details_pb2, status_pb2
from motor.motor_asyncio import AsyncIOMotorClient

from gateway_adapters.sandbox import sandbox_app
from gateway_adapters.sidecar import sidecar_app, sidecar_runner
from server.app import running_server
from server.cli.development import sandbox_api_urls, sandbox_certificates
from server.cli.environment import sandbox_settings
from server.cli.sandbox_wallets import SandboxWallets, running_wallets
from server.config import Settings, load_settings
from server.ledger.books import Difference
from server.listening import address_of, bind, http_server
from server.rpc.edge import SERVICE, required_scope
from server.store.books import verify_books
from server.store.connection import connect
from wallet_payment.v1 import resources_pb2 as resources
from wallet_payment.v1 import wallet_payment_service_pb2 as service
from wallet_payment.v1 import wallet_payment_service_pb2_grpc as service_grpc

JWT_SECRET = "test-secret-of-at-least-thirty-two-bytes"
KEY_ID = "rzp_test_harness"
KEY_SECRET = "test-razorpay-key-secret"
WEBHOOK_SECRET = "test-razorpay-webhook-secret"
STRIPE_SECRET_KEY = "sk_test_harness"
STRIPE_PUBLISHABLE_KEY = "pk_test_harness"
STRIPE_WEBHOOK_SECRET = "whsec_test_harness"
IMPATIENT = (("grpc.initial_reconnect_backoff_ms", 50), ("grpc.max_reconnect_backoff_ms", 100))
"""Options of a channel to a server that is just starting."""
WORTH_A_REPEAT = {"UNAVAILABLE", "DEADLINE_EXCEEDED", "ABORTED"}
ALL_SCOPES = " ".join(sorted({required_scope(method) for method in SERVICE.methods}))

structlog.configure(  # as text through the standard library, for pytest to show where one fails
    processors=[
        structlog.stdlib.add_log_level,
        structlog.processors.format_exc_info,
        structlog.processors.KeyValueRenderer(key_order=["event"]),
    ],
    logger_factory=structlog.stdlib.LoggerFactory(),
    wrapper_class=structlog.stdlib.BoundLogger,
)
_numbers = itertools.count(1)


def unique(prefix: str) -> str:
    """Return a name that no other test uses."""
    return f"{prefix}-{next(_numbers)}"


def inr(minor_units: int) -> resources.Money:
    """Return an amount in INR, in paise."""
    return resources.Money(currency_code="INR", minor_units=minor_units)


def token(**claims: Any) -> str:
    """Return a token of the order service with every scope; `claims` change it, None removes."""
    now = int(time.time())
    given: dict[str, Any] = {
        "iss": "wallet-payment",
        "aud": "wallet-payment",
        "sub": "order-service",
        "iat": now,
        "exp": now + 3_600,
        "scope": ALL_SCOPES,
    } | claims
    present = {name: value for name, value in given.items() if value is not None}
    return jwt.encode(present, JWT_SECRET, "HS256", headers={"kid": "test"})


def gateway_id(prefix: str) -> str:
    """Return a new id in Razorpay's shape, such as `pay_00000000000042`."""
    return f"{prefix}_{next(_numbers):014}"


def payment_of(topup: resources.Topup, **fields: Any) -> dict[str, Any]:
    """Return Razorpay's payment of a top-up's order, captured and unlike any other."""
    return {
        "id": gateway_id("pay"),
        "entity": "payment",
        "order_id": topup.gateway_order_id,
        "amount": topup.amount.minor_units,
        "currency": topup.amount.currency_code,
        "status": "captured",
        "captured": True,
        "notes": [],
        "created_at": int(time.time()),
    } | fields


def event_of(kind: str, payment: dict[str, Any], **order: Any) -> bytes:
    """Return the raw body of Razorpay's webhook about a payment; `order` goes beside it."""
    payload: dict[str, Any] = {"payment": {"entity": payment}}
    if kind == "order.paid":
        entity = {"id": payment["order_id"], "entity": "order", "status": "paid"}
        amounts = {"amount": payment["amount"], "currency": payment["currency"]}
        payload["order"] = {"entity": entity | amounts | order}
    event = {"entity": "event", "event": kind, "contains": list(payload), "payload": payload}
    return json.dumps(event).encode()


def signature_of(body: bytes, secret: str = WEBHOOK_SECRET) -> str:
    """Sign a webhook's raw body."""
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def bearer(text: str) -> tuple[tuple[str, str], ...]:
    """Return the metadata that carries a token."""
    return (("authorization", f"Bearer {text}"),)


@dataclass(frozen=True)
class Refused:
    """A call's refusal as a client sees it."""

    code: grpc.StatusCode
    reason: str
    message: str
    metadata: dict[str, str]
    fields: tuple[str, ...]
    retry_after_seconds: float | None


def refused(error: grpc.aio.AioRpcError) -> Refused:
    """Read the rich status of an error."""
    metadata: Any = error.trailing_metadata() or ()
    trailing = dict(metadata)
    status = status_pb2.Status.FromString(trailing["grpc-status-details-bin"])
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    retry = error_details_pb2.RetryInfo()
    for detail in status.details:
        for message in (info, bad, retry):
            detail.Unpack(message)
    assert info.domain == "wallet_payment.v1"
    assert status.code == error.code().value[0]
    assert status.message == error.details()
    delay = retry.retry_delay.ToMilliseconds() / 1000
    return Refused(
        error.code(),
        info.reason,
        status.message,
        dict(info.metadata),
        tuple(violation.field for violation in bad.field_violations),
        delay or None,
    )


async def refusal_of(call: Awaitable[Any]) -> Refused:
    """Return how a call is refused; fail if it is not."""
    try:
        answer = await call
    except grpc.aio.AioRpcError as error:
        return refused(error)
    raise AssertionError(f"was not refused: {answer}")


async def outcomes_of(calls: Sequence[Awaitable[Any]]) -> list[Any]:
    """Carry out calls at the same moment; return each answer, or its `Refused`."""
    answers = await asyncio.gather(*calls, return_exceptions=True)
    for answer in answers:
        if isinstance(answer, BaseException) and not isinstance(answer, grpc.aio.AioRpcError):
            raise answer
    return [
        refused(answer) if isinstance(answer, grpc.aio.AioRpcError) else answer
        for answer in answers
    ]


async def eventually(condition: Callable[[], Awaitable[Any]], within_seconds: float = 20) -> Any:
    """Ask again until the condition holds; return what it then gave."""
    async with asyncio.timeout(within_seconds):
        while not (value := await condition()):
            await asyncio.sleep(0.01)
        return value


class Harness:
    """A running service, with what a test needs to call it and to look behind it."""

    def __init__(
        self,
        settings: Settings,
        channel: grpc.aio.Channel,
        database: Any,
        http: aiohttp.ClientSession,
        addresses: dict[str, str],
        wallets: SandboxWallets,
    ) -> None:
        self.settings = settings
        self.wallets = wallets
        self.channel = channel
        self.database = database
        self.http = http
        self.grpc_address = addresses["grpc"]
        self.sidecar_url = f"http://{addresses['sidecar']}"
        self.sandbox_url = f"http://{addresses['sandbox']}"
        self.metrics_url = f"http://{addresses['metrics']}/metrics"
        self.stub: Any = service_grpc.WalletPaymentServiceStub(channel)
        self.metadata = bearer(token())
        self.sidecar_token = token(sub="sidecar", scope="webhook.forward")

    async def call(self, method: str, request: Any, **options: Any) -> Any:
        """Call an RPC with a good token, or with the metadata given."""
        options.setdefault("metadata", self.metadata)
        options.setdefault("timeout", 30)
        return await getattr(self.stub, method)(request, **options)

    async def settled(self, method: str, requests: Sequence[Any]) -> list[Any]:
        """Repeat requests until each has its answer, as a careful client does."""

        async def until_answered(request: Any) -> Any:
            while True:
                try:
                    return await self.call(method, request, timeout=5)
                except grpc.aio.AioRpcError as error:
                    if error.code().name not in WORTH_A_REPEAT:
                        raise
                    await asyncio.sleep(0.05)

        async with asyncio.timeout(60):
            return await asyncio.gather(*(until_answered(request) for request in requests))

    async def customer(self, balance: int = 0, currency: str = "INR") -> str:
        """Return a new customer, whose wallet holds `balance` by a real top-up."""
        customer_id = unique("customer")
        await self.database.customers_v2.insert_one({"_id": customer_id})
        if balance:
            topup = await self.initiate(customer_id, balance, currency=currency)
            await self.pay_at_gateway(topup.gateway_order_id)
            await self.wait_for_topup(topup, resources.TOPUP_STATE_CREDITED)
        return customer_id

    async def order(self, customer: str, minor_units: int, **fields: Any) -> str:
        """Return an order that the order service has recorded, unpaid unless `fields` say so."""
        order_id = unique("order")
        await self.database.orders.insert_one(
            {
                "_id": order_id,
                "customer_id": customer,
                "amount": Int64(minor_units),
                "currency": "INR",
                "payment_status": "PENDING",
            }
            | fields
        )
        return order_id

    async def initiate(self, customer_id: str, amount: int, **fields: Any) -> resources.Topup:
        """Start a top-up: in INR by card through Razorpay, where `fields` do not say otherwise."""
        money = resources.Money(currency_code=fields.pop("currency", "INR"), minor_units=amount)
        given = {"gateway": "razorpay", "method": "card", "idempotency_key": unique("key")} | fields
        request = service.InitiateTopupRequest(customer_id=customer_id, amount=money, **given)
        topup: resources.Topup = (await self.call("InitiateTopup", request)).topup
        return topup

    async def verify(self, topup: resources.Topup, **proof: Any) -> service.VerifyTopupResponse:
        """Bring a top-up up to date, with the proof given or by a lookup."""
        given = proof or {"lookup": service.LookupProof()}
        request = service.VerifyTopupRequest(
            customer_id=topup.customer_id, topup_id=topup.topup_id, **given
        )
        response: service.VerifyTopupResponse = await self.call("VerifyTopup", request)
        return response

    async def pay_at_gateway(
        self, gateway_order_id: str, action: str = "pay", **options: Any
    ) -> dict[str, Any]:
        """Have the sandbox's Razorpay take the customer's money or `fail`, and send webhooks."""
        return await self.at_sandbox(f"orders/{gateway_order_id}/{action}", **options)

    async def at_sandbox(self, path: str, **content: Any) -> dict[str, Any]:
        """Act as a customer, a bank or a merchant at a gateway of the sandbox."""
        async with self.http.post(f"{self.sandbox_url}/sandbox/{path}", json=content) as answer:
            assert answer.status == 200, await answer.text()
            done: dict[str, Any] = await answer.json()
            return done

    async def deliver(
        self, body: bytes, event_id: str = "", gateway: str = "razorpay", **headers: str
    ) -> tuple[int, dict[str, Any]]:
        """Send a webhook to the sidecar, rightly signed unless `headers` say otherwise."""
        given = {
            "Content-Type": "application/json",
            "X-Razorpay-Event-Id": event_id or unique("evt"),
            "X-Razorpay-Signature": signature_of(body),
        } | {name.replace("_", "-"): value for name, value in headers.items()}
        url = f"{self.sidecar_url}/webhooks/{gateway}"
        async with self.http.post(url, data=body, headers=given) as answer:
            return answer.status, await answer.json()

    async def topup(self, topup: resources.Topup) -> resources.Topup:
        """Return a top-up as it now is."""
        request = service.GetTopupRequest(customer_id=topup.customer_id, topup_id=topup.topup_id)
        current: resources.Topup = (await self.call("GetTopup", request)).topup
        return current

    async def wait_for_topup(self, topup: resources.Topup, state: int) -> resources.Topup:
        """Wait until a top-up has come to a state."""

        async def reached() -> resources.Topup | None:
            current = await self.topup(topup)
            return current if current.state == state else None

        reached_topup: resources.Topup = await eventually(reached)
        return reached_topup

    async def pay(
        self, customer_id: str, amount: int, order_id: str = "", **fields: Any
    ) -> service.PayWithWalletResponse:
        """Pay an order from the wallet."""
        money = resources.Money(currency_code=fields.pop("currency", "INR"), minor_units=amount)
        given = {"idempotency_key": unique("key")} | fields
        request = service.PayWithWalletRequest(
            customer_id=customer_id,
            order_id=order_id or unique("order"),
            amount=money,
            **given,
        )
        response: service.PayWithWalletResponse = await self.call("PayWithWallet", request)
        return response

    async def refund(
        self, customer_id: str, order_id: str, amount: int | None = None, **fields: Any
    ) -> service.RefundToWalletResponse:
        """Refund an order into the wallet."""
        given = {"idempotency_key": unique("key"), "reason": "returned"} | fields
        request = service.RefundToWalletRequest(customer_id=customer_id, order_id=order_id, **given)
        if amount is not None:
            request.amount.CopyFrom(inr(amount))
        response: service.RefundToWalletResponse = await self.call("RefundToWallet", request)
        return response

    async def balance(self, customer_id: str, currency: str = "INR") -> int:
        """Return what a wallet holds, by GetStatus; 0 where there is none."""
        status = await self.call("GetStatus", service.GetStatusRequest(customer_id=customer_id))
        balances = {
            wallet.balance.currency_code: wallet.balance.minor_units for wallet in status.wallets
        }
        return int(balances.get(currency, 0))

    async def entries(self, customer_id: str) -> list[dict[str, Any]]:
        """Return a customer's ledger as it is stored, oldest first."""
        cursor = self.database.wallet_transactions.find({"customer_id": customer_id})
        entries: list[dict[str, Any]] = await cursor.sort("sequence", 1).to_list(None)
        return entries


async def differences(mongodb_uri: str) -> list[Difference]:
    """Return everything that `books verify` would name."""
    found: list[Difference] = []
    with connect(mongodb_uri) as database:
        await verify_books(database, found.append)
    return found


def with_database(mongodb_uri: str, name: str) -> str:
    """Return the URI with another database."""
    return mongodb_uri.replace("/wallet_payment?", f"/{name}?")


def free_port() -> int:
    """Return a port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def jwt_keys() -> dict[str, Any]:
    """Return the JSON Web Key Set that verifies the tests' tokens."""
    secret = base64.urlsafe_b64encode(JWT_SECRET.encode()).decode().rstrip("=")
    return {"keys": [{"kty": "oct", "kid": "test", "alg": "HS256", "k": secret}]}


def settings_for(mongodb_uri: str, sandbox_url: str, **given: Any) -> Settings:
    """Return settings of a server on free ports that trusts the tests' tokens."""
    return load_settings(
        **{
            "mongodb_uri": mongodb_uri,
            "grpc_address": "127.0.0.1:0",
            "metrics_address": "127.0.0.1:0",
            "reflection": True,
            "rate_limit_addresses": "",  # all tests come from one, many of them with bad tokens
            "poll_first_seconds": 3_600,  # or the pollers of all tests ask about all top-ups
            "jwt_algorithms": "HS256",
            "jwt_keys": json.dumps(jwt_keys()),
            "razorpay_key_id": KEY_ID,
            "razorpay_key_secret": KEY_SECRET,
            "razorpay_webhook_secrets": WEBHOOK_SECRET,
            "razorpay_checkout_url": f"{sandbox_url}/checkout",
            "stripe_checkout_url": f"{sandbox_url}/checkout",
            "razorpay_upi_email": "shop@example.com",
            "razorpay_upi_contact": "+919000090000",
            "stripe_secret_key": STRIPE_SECRET_KEY,
            "stripe_publishable_key": STRIPE_PUBLISHABLE_KEY,
            "stripe_webhook_secrets": STRIPE_WEBHOOK_SECRET,
        }
        | sandbox_api_urls(sandbox_url)
        | given
    )


@asynccontextmanager
async def running_harness(
    mongodb_uri: str, *, books_agree: bool = True, has_wallets: bool = False, **given: Any
) -> AsyncIterator[Harness]:
    """Run server, sidecar and sandbox gateway on one database; `given` settings change it.

    With `has_wallets` the server is set up for the sandbox's Google Pay and Apple Pay.

    Whatever the tests did, the books have to agree afterwards, unless they are to be falsified.
    """
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        http = await stack.enter_async_context(
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        )
        sandbox_socket = bind("127.0.0.1:0", "sandbox")
        sidecar_socket = bind("127.0.0.1:0", "sidecar")
        sandbox_url = f"http://{address_of(sandbox_socket)}"
        sidecar_url = f"http://{address_of(sidecar_socket)}"
        wallets = await stack.enter_async_context(running_wallets(folder, sandbox_url, sidecar_url))
        paypal = {
            "data_dir": folder,
            "paypal_client_id": "test-paypal-client",
            "paypal_client_secret": "test-paypal-client-secret",
            "paypal_webhook_id": "4JH86294D6297924G",
            "paypal_environment": "sandbox",
        } | sandbox_certificates(folder, sandbox_url)
        offered = wallets.settings if has_wallets else {}
        settings = settings_for(mongodb_uri, sandbox_url, **paypal | offered | given)
        accounts = sandbox_settings(settings, sandbox_url, sidecar_url, wallets)
        sandbox = sandbox_app(replace(accounts, data_file=None), http)
        running = await stack.enter_async_context(running_server(settings))
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(running.grpc_address))
        sidecar_token = token(sub="sidecar", scope="webhook.forward")
        sidecar = sidecar_app(lambda: channel, lambda: sidecar_token)
        await stack.enter_async_context(http_server(sidecar_runner(sidecar), sidecar_socket))
        await stack.enter_async_context(
            http_server(web.AppRunner(sandbox, access_log=None), sandbox_socket)
        )
        client: AsyncIOMotorClient[Any] = AsyncIOMotorClient(mongodb_uri)
        stack.callback(client.close)
        yield Harness(
            settings,
            channel,
            client.get_default_database(),
            http,
            {
                "grpc": running.grpc_address,
                "metrics": running.metrics_address,
                "sidecar": address_of(sidecar_socket),
                "sandbox": address_of(sandbox_socket),
            },
            wallets,
        )
    if books_agree:
        found = await differences(mongodb_uri)
        assert found == [], found


@asynccontextmanager
async def another_server(harness: Harness, **changes: Any) -> AsyncIterator[Any]:
    """Run one more server on a harness's database, with changed settings; give its stub."""
    settings = harness.settings.model_copy(update=changes)
    async with (
        running_server(settings) as running,
        grpc.aio.insecure_channel(running.grpc_address) as channel,
    ):
        yield service_grpc.WalletPaymentServiceStub(channel)
