"""The sidecar: takes gateways' webhooks over HTTP and hands them to the server over gRPC.

It stands at the edge and holds no gateway's secret. It limits what it takes, forwards the raw body
with its headers, and says the server's answer in HTTP; what an event means is not its business.
"""

import math
import secrets
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from http import HTTPStatus
from types import MappingProxyType
from typing import Final, Protocol

import grpc
import structlog
from aiohttp import web
from aiohttp.typedefs import Handler
from google.protobuf.timestamp_pb2 import Timestamp
from grpc_health.v1 import health_pb2

from gateway_adapters.sidecar.answers import (
    MAX_RETRY_AFTER_SECONDS,
    MIN_RETRY_AFTER_SECONDS,
    Refusal,
    failure_of,
    json_refusal,
    refusal_of,
    send_again_later,
)
from gateway_adapters.sidecar.connections import (
    NEXT_REQUEST_SECONDS,
    ConnectionLimits,
    Connections,
    GuardedRunner,
    connections_middleware,
)
from gateway_adapters.sidecar.http_log import HttpLog
from gateway_adapters.sidecar.limits import SidecarLimits, SidecarRates, TooMany
from gateway_adapters.sidecar.remote import TrustedProxies
from gateway_adapters.sidecar.requests import (
    MAX_BODY_BYTES,
    MAX_HEADER_BYTES,
    Refused,
    Webhook,
    read_webhook_request,
)
from wallet_payment.v1 import wallet_payment_service_pb2 as contract
from wallet_payment.v1 import wallet_payment_service_pb2_grpc as contract_grpc

READY_DEADLINE_SECONDS: Final = 1.0

_OUTCOMES: Final[Mapping[int, str]] = MappingProxyType(
    {
        contract.WEBHOOK_OUTCOME_APPLIED: "APPLIED",
        contract.WEBHOOK_OUTCOME_DUPLICATE: "DUPLICATE",
        contract.WEBHOOK_OUTCOME_IGNORED: "IGNORED",
        contract.WEBHOOK_OUTCOME_NEEDS_REVIEW: "NEEDS_REVIEW",
    }
)
_HEALTH_CHECK: Final = "/grpc.health.v1.Health/Check"
_MAX_LOGGED_LENGTH: Final = 64
_NO_PROXIES: Final = TrustedProxies()
NO_RATES: Final = SidecarRates()
DEFAULT_CONNECTION_LIMITS: Final = ConnectionLimits()
_LINGERING_SECONDS: Final = 1.0
"""So long the rest of a body is read that nobody wants, for the sender to see the answer."""
_SHUTDOWN_SECONDS: Final = 5.0
_CONNECTIONS: Final = web.AppKey("connections", Connections)

_log = structlog.stdlib.get_logger()


class WebhookTracing(Protocol):
    """Who traces webhooks on their way to the server."""

    def webhook(self, gateway: str) -> AbstractContextManager[tuple[tuple[str, str], ...]]:
        """Enclose a webhook's way; give the metadata that has the server go on with its trace."""


class _NoTracing:
    def webhook(self, _: str) -> AbstractContextManager[tuple[tuple[str, str], ...]]:
        return nullcontext(())


def sidecar_app(
    channel: Callable[[], grpc.aio.Channel],
    token: Callable[[], str],
    *,
    deadline_seconds: float = 4.0,
    rates: SidecarRates = NO_RATES,
    connection_limits: ConnectionLimits = DEFAULT_CONNECTION_LIMITS,
    proxies: TrustedProxies = _NO_PROXIES,
    tracing: WebhookTracing | None = None,
) -> web.Application:
    """Return the sidecar's application; `sidecar_runner` makes it run as it should.

    `channel` gives what leads to the server and stays its owner's; `token` a JSON Web Token with
    the scope `webhook.forward`; both whenever one is needed. Gateways wait for five seconds: in
    `deadline_seconds` the body has to be here and the server has to have answered. `rates` bound
    what is refused, and nothing else.
    """
    limits = SidecarLimits(rates)
    connections = Connections(connection_limits, limits, proxies)
    app = web.Application(
        client_max_size=MAX_BODY_BYTES,
        middlewares=[connections_middleware(connections), _answer_in_json],
    )
    app[_CONNECTIONS] = connections
    sidecar = _Sidecar(channel, token, deadline_seconds, limits, proxies, tracing or _NoTracing())
    app.router.add_post("/webhooks/{gateway}", sidecar.take_webhook)
    app.router.add_get("/healthz", sidecar.healthz)
    app.router.add_get("/readyz", sidecar.readyz)
    return app


def sidecar_runner(app: web.Application) -> web.AppRunner:
    """Return the sidecar's runner. It decompresses no body, not even one to be thrown away."""
    return GuardedRunner(
        app,
        app[_CONNECTIONS],
        auto_decompress=False,
        max_field_size=MAX_HEADER_BYTES,
        keepalive_timeout=NEXT_REQUEST_SECONDS,
        lingering_time=_LINGERING_SECONDS,
        shutdown_timeout=_SHUTDOWN_SECONDS,
        access_log=None,
        logger=HttpLog(),
    )


class _Stubs:
    """The calls that are made over one channel."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel = channel
        self.service = contract_grpc.WalletPaymentServiceStub(channel)
        self.check_health = channel.unary_unary(
            _HEALTH_CHECK,
            health_pb2.HealthCheckRequest.SerializeToString,
            health_pb2.HealthCheckResponse.FromString,
        )


class _Sidecar:
    """Owns the stubs to the server."""

    def __init__(
        self,
        channel: Callable[[], grpc.aio.Channel],
        token: Callable[[], str],
        deadline_seconds: float,
        limits: SidecarLimits,
        proxies: TrustedProxies,
        tracing: WebhookTracing,
    ) -> None:
        self._channel = channel
        self._last_stubs = _Stubs(channel())
        self._token = token
        self._deadline_seconds = deadline_seconds
        self._limits = limits
        self._proxies = proxies
        self._tracing = tracing

    @property
    def _stubs(self) -> _Stubs:
        channel = self._channel()
        if channel is not self._last_stubs.channel:
            self._last_stubs = _Stubs(channel)
        return self._last_stubs

    async def healthz(self, _request: web.Request) -> web.Response:
        """Say that the sidecar itself runs."""
        return web.json_response({"status": "ok"})

    async def readyz(self, _request: web.Request) -> web.Response:
        """Say whether the server takes webhooks now."""
        try:
            answer = await self._stubs.check_health(
                health_pb2.HealthCheckRequest(), timeout=READY_DEADLINE_SECONDS
            )
        except grpc.aio.AioRpcError:
            return json_refusal(send_again_later())
        if answer.status != health_pb2.HealthCheckResponse.SERVING:
            return json_refusal(send_again_later())
        return web.json_response({"status": "ready"})

    async def take_webhook(self, request: web.Request) -> web.Response:
        """Check the limits, forward, and say the answer in HTTP."""
        gateway = request.match_info["gateway"][:_MAX_LOGGED_LENGTH]
        remote = self._proxies.remote_of(request)
        try:
            with self._limits.counting(gateway, remote) as verdict:
                response = await self._answer(
                    request, remote, _log.bind(gateway=gateway, remote=remote)
                )
                verdict.status = response.status
                return response
        except TooMany as error:
            return json_refusal(_too_many(error.wait_seconds))

    async def _answer(
        self, request: web.Request, remote: str, log: structlog.stdlib.BoundLogger
    ) -> web.Response:
        give_up_at = time.monotonic() + self._deadline_seconds
        try:
            webhook = await read_webhook_request(request, self._deadline_seconds)
        except Refused as refused:
            log.info("webhook_refused", reason=refused.refusal.reason)
            return json_refusal(refused.refusal)
        correlation_id = secrets.token_hex(16)
        log = log.bind(correlation_id=correlation_id)
        with self._tracing.webhook(webhook.gateway) as trace:
            metadata = (("x-webhook-sender", remote), *trace)
            try:
                answer = await self._forward(webhook, correlation_id, give_up_at, metadata)
            except grpc.aio.AioRpcError as error:
                response = _failure(error, log)
            else:
                response = _success(answer, log)
        response.headers["X-Correlation-Id"] = correlation_id
        return response

    async def _forward(
        self,
        webhook: Webhook,
        correlation_id: str,
        give_up_at: float,
        metadata: tuple[tuple[str, str], ...],
    ) -> contract.ForwardWebhookResponse:
        receive_time = Timestamp()
        receive_time.FromNanoseconds(webhook.receive_time_ns)
        return await self._stubs.service.ForwardWebhook(
            contract.ForwardWebhookRequest(
                gateway=webhook.gateway,
                headers=[
                    contract.Header(name=name, value=value) for name, value in webhook.headers
                ],
                body=webhook.body,
                receive_time=receive_time,
            ),
            timeout=max(0.0, give_up_at - time.monotonic()),
            metadata=(
                ("authorization", f"Bearer {self._token()}"),
                ("x-correlation-id", correlation_id),
                *metadata,
            ),
        )


def _too_many(wait_seconds: float) -> Refusal:
    """Ask for patience; a gateway keeps the event and sends it again."""
    return Refusal(
        HTTPStatus.TOO_MANY_REQUESTS,
        "RATE_LIMITED",
        "Too many requests from here, or for this gateway, were refused. Send it again later.",
        min(max(math.ceil(wait_seconds), MIN_RETRY_AFTER_SECONDS), MAX_RETRY_AFTER_SECONDS),
    )


def _success(
    answer: contract.ForwardWebhookResponse, log: structlog.stdlib.BoundLogger
) -> web.Response:
    """Acknowledge the event, if the server really said what became of it."""
    outcome = _OUTCOMES.get(answer.outcome)
    if outcome is None:
        log.error("webhook_outcome_unknown", outcome=int(answer.outcome))
        return json_refusal(send_again_later())
    log.info("webhook_taken", outcome=outcome, event_id=answer.event_id)
    return web.json_response({"outcome": outcome, "event_id": answer.event_id})


def _failure(error: grpc.aio.AioRpcError, log: structlog.stdlib.BoundLogger) -> web.Response:
    """Say in HTTP what went wrong, and louder here where it is our own fault."""
    failure = failure_of(error)
    refusal = refusal_of(failure)
    record = log.error if refusal.is_our_fault else log.info
    record(
        "webhook_not_taken",
        code=failure.code.name,
        reason=failure.reason,
        http_status=int(refusal.status),
    )
    return json_refusal(refusal)


@web.middleware
async def _answer_in_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer every error in JSON; what nobody foresaw shows in the log and not in the answer."""
    try:
        return await handler(request)
    except web.HTTPException:
        # The router's own: no such path, or no such method on it.
        return json_refusal(
            Refusal(HTTPStatus.NOT_FOUND, "NOT_FOUND", "There is nothing at this address.")
        )
    except Exception:  # noqa: BLE001 - the outermost layer, and it is logged
        _log.exception("webhook_failed")
        return json_refusal(send_again_later())
