"""The composition root: builds every resource, owns it, and closes it in the right order."""

import asyncio
import gc
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp
import jwt
import structlog
from aiohttp import web

from gateway_adapters.gateway import Gateway
from gateway_adapters.paypal import Paypal, PaypalSettings
from gateway_adapters.razorpay import Razorpay, RazorpaySettings
from gateway_adapters.stripe import Stripe, StripeSettings
from server.commit.committer import CommitSettings, Committer, wall_clock_ms
from server.commit.port import StoreUnavailable
from server.config import Settings, SettingsError, read_key_set
from server.listening import address_of, bind, http_server
from server.metrics import CONTENT_TYPE, Metrics
from server.poller import Poller
from server.rpc.auth import Authenticator, VerificationKey
from server.rpc.edge import ServicerSlot, generic_handler
from server.rpc.page_tokens import PageTokens
from server.rpc.server import rpc_server
from server.rpc.servicer import WalletPaymentServicer
from server.store import schema
from server.store.audit_log import MongoAuditLog
from server.store.connection import Database, check_replica_set, connect
from server.store.ledger_store import LedgerStore
from server.store.queries import MongoPollSchedule, MongoQueries
from server.topups import Topups

_DATABASE_RETRY_SECONDS: Final = 1.0
_GARBAGE_THRESHOLD: Final = 50_000
"""New objects between two looks at the youngest of them."""

_log: structlog.stdlib.BoundLogger = structlog.get_logger("server")


@dataclass(frozen=True, slots=True)
class RunningServer:
    """Where a running server listens, host:port each."""

    grpc_address: str
    metrics_address: str


@asynccontextmanager
async def running_server(settings: Settings) -> AsyncIterator[RunningServer]:
    """Serve as long as the context lasts; it is entered once calls are taken.

    Leaving stops taking calls, lets the running ones finish, commits what is queued, writes the
    audit, and closes MongoDB last.

    Raises:
        AddressInUse, NotAReplicaSet, NewerSchema.
    """
    metrics = Metrics()
    slot = ServicerSlot()
    async with AsyncExitStack() as resources:
        database = resources.enter_context(connect(settings.mongodb_uri.get_secret_value()))
        audit = await resources.enter_async_context(MongoAuditLog(database))
        session = await resources.enter_async_context(aiohttp.ClientSession())
        committer = await resources.enter_async_context(
            Committer(LedgerStore(database), metrics, commit_settings(settings))
        )
        metrics.watch_queue(lambda: committer.queued)
        queries = MongoQueries(database)
        topups = Topups(committer, queries, gateways(settings, session), wall_clock_ms)
        resources.push_async_callback(topups.close)
        metrics_socket = bind(settings.metrics_address, "WALLET_METRICS_ADDRESS")
        metrics_address = address_of(metrics_socket)
        await resources.enter_async_context(http_server(_metrics_runner(metrics), metrics_socket))
        rpc = await resources.enter_async_context(
            rpc_server(
                generic_handler(slot, authenticator(settings), metrics, audit),
                address=settings.grpc_address,
                has_reflection=settings.reflection,
                grace_seconds=settings.shutdown_grace_seconds,
            )
        )
        await _prepare(database)
        first_poll_ms = round(settings.poll_first_seconds * 1_000)
        slot.servicer = WalletPaymentServicer(
            committer,
            queries,
            topups,
            PageTokens(await schema.page_token_key(database)),
            topup_lifetime_ms=settings.topup_lifetime_seconds * 1_000,
            first_poll_ms=first_poll_ms,
        )
        await resources.enter_async_context(
            Poller(
                topups,
                MongoPollSchedule(database),
                first_ms=first_poll_ms,
                interval_seconds=settings.poll_interval_seconds,
                now_ms=wall_clock_ms,
            )
        )
        _tune_garbage_collection()
        await rpc.set_serving(True)
        _log.info("serving", grpc=rpc.address, metrics=metrics_address)
        try:
            yield RunningServer(rpc.address, metrics_address)
        finally:
            _log.info("stopping")


def commit_settings(settings: Settings) -> CommitSettings:
    """Return the bounds of the commit path."""
    return CommitSettings(
        lanes=settings.commit_lanes,
        max_batch=settings.commit_max_batch,
        max_queue=settings.commit_max_queue,
    )


def authenticator(settings: Settings) -> Authenticator:
    """Return who verifies tokens, with the keys whose algorithms are allowed."""
    keys = [
        VerificationKey(key["kid"], key["alg"], jwt.PyJWK(key).key)
        for key in read_key_set(settings.jwt_keys)
        if key["alg"] in settings.jwt_algorithms
    ]
    return Authenticator(keys, issuer=settings.jwt_issuer, audience=settings.jwt_audience)


def gateways(settings: Settings, session: aiohttp.ClientSession) -> dict[str, Gateway]:
    """Return the gateways that have credentials here, by name.

    Raises:
        SettingsError: a setting of one of them does not fit; it names the variable.
    """
    found: list[Gateway] = []
    if settings.razorpay_key_id:
        found.append(_razorpay(settings, session))
    if settings.paypal_client_id:
        found.append(_paypal(settings, session))
    if settings.stripe_publishable_key:
        found.append(_stripe(settings, session))
    return {gateway.name: gateway for gateway in found}


def _razorpay(settings: Settings, session: aiohttp.ClientSession) -> Gateway:
    with _naming("WALLET_RAZORPAY_API_URL"):
        return Razorpay(
            session,
            RazorpaySettings(
                api_url=settings.razorpay_api_url,
                key_id=settings.razorpay_key_id,
                key_secret=settings.razorpay_key_secret.get_secret_value(),
                webhook_secrets=tuple(
                    secret.get_secret_value() for secret in settings.razorpay_webhook_secrets
                ),
                checkout_url=settings.razorpay_checkout_url,
            ),
        )


def _paypal(settings: Settings, session: aiohttp.ClientSession) -> Gateway:
    trust_anchors = b""
    if settings.paypal_trust_anchors:
        with _naming("WALLET_PAYPAL_TRUST_ANCHORS"):
            trust_anchors = Path(settings.paypal_trust_anchors).read_bytes()
    with _naming("WALLET_PAYPAL_API_URL or WALLET_PAYPAL_CERTIFICATE_URL_PREFIX"):
        return Paypal(
            session,
            PaypalSettings(
                api_url=settings.paypal_api_url,
                client_id=settings.paypal_client_id,
                client_secret=settings.paypal_client_secret.get_secret_value(),
                webhook_id=settings.paypal_webhook_id,
                environment=settings.paypal_environment,
                return_url=settings.paypal_return_url,
                trust_anchors_pem=trust_anchors,
                certificate_url_prefix=settings.paypal_certificate_url_prefix,
            ),
        )


def _stripe(settings: Settings, session: aiohttp.ClientSession) -> Gateway:
    with _naming("WALLET_STRIPE_PUBLISHABLE_KEY"):
        account = StripeSettings(
            api_url=settings.stripe_api_url,
            secret_key=settings.stripe_secret_key.get_secret_value(),
            publishable_key=settings.stripe_publishable_key,
            webhook_secrets=tuple(
                secret.get_secret_value() for secret in settings.stripe_webhook_secrets
            ),
            checkout_url=settings.stripe_checkout_url,
        )
    with _naming("WALLET_STRIPE_API_URL"):
        return Stripe(session, account)


@contextmanager
def _naming(variables: str) -> Iterator[None]:
    """Say which setting it was that an adapter cannot use; its value is not shown."""
    try:
        yield
    except (ValueError, OSError) as error:
        raise SettingsError(f"{variables}: {type(error).__name__}: it cannot be used.") from error


async def _prepare(database: Database) -> None:
    """Bring the database up to date, however long it takes to come up."""
    while True:
        try:
            await check_replica_set(database)
            await schema.migrate(database)
        except StoreUnavailable as error:
            _log.warning("waiting for MongoDB", cause=str(error))
            await asyncio.sleep(_DATABASE_RETRY_SECONDS)
        else:
            return


def _tune_garbage_collection() -> None:
    """Keep the collector from walking over what lives as long as the process, again and again.

    Calls leave few cycles behind. Measured: 16 % less CPU for a payment.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GARBAGE_THRESHOLD)


def _metrics_runner(metrics: Metrics) -> web.AppRunner:
    async def exposition(_: web.Request) -> web.Response:
        return web.Response(body=metrics.exposition(), headers={"Content-Type": CONTENT_TYPE})

    app = web.Application()
    app.router.add_get("/metrics", exposition)
    return web.AppRunner(app, access_log=None)
