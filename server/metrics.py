"""Prometheus metrics, under the ecosystem's names."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Final

from aiohttp import web
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

from gateway_adapters.sidecar.connections import (
    ConnectionLimits,
    Connections,
    GuardedRunner,
    connections_middleware,
)
from gateway_adapters.sidecar.http_log import HttpLog
from gateway_adapters.sidecar.limits import SidecarLimits, SidecarRates
from gateway_adapters.sidecar.remote import TrustedProxies
from server.ledger.commands import Command
from server.ledger.decisions import Decision
from server.money_metrics import DELAYS, MoneyMetrics
from server.standing_metrics import StandingMetrics

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_CONNECTIONS: Final = ConnectionLimits(total=64, per_address=16)
"""They are files of the process that moves money: whoever holds them is to take none from it."""
_SIZES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)

disable_created_metrics()  # type: ignore[no-untyped-call] # series that no query uses


class MethodMetrics:
    """The metrics of one RPC, looked up once."""

    def __init__(self, metrics: "Metrics", kind: str, service: str, method: str) -> None:
        self._labels = (kind, service, method)
        self._handled = metrics.handled
        self._started = metrics.started.labels(*self._labels)
        self._seconds = metrics.handling_seconds.labels(*self._labels)
        self._by_code: dict[str, Counter] = {}

    def call_started(self) -> None:
        """Count a call that has begun."""
        self._started.inc()

    def call_handled(self, code: str, seconds: float) -> None:
        """Count a call that has ended with a status code, such as `OK`."""
        counter = self._by_code.get(code)
        if counter is None:
            counter = self._by_code[code] = self._handled.labels(*self._labels, code)
        counter.inc()
        self._seconds.observe(seconds)


class Metrics:
    """All metrics of one server; also the observer of its commit path and of what it delivers."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        rpc = ("grpc_type", "grpc_service", "grpc_method")
        self.started = Counter("grpc_server_started", "RPCs started.", rpc, registry=self.registry)
        self.handled = Counter(
            "grpc_server_handled",
            "RPCs ended, by code.",
            (*rpc, "grpc_code"),
            registry=self.registry,
        )
        self.handling_seconds = Histogram(
            "grpc_server_handling_seconds",
            "Time of an RPC in the server.",
            rpc,
            buckets=SECONDS,
            registry=self.registry,
        )
        self._batch_size = Histogram(
            "wallet_commit_batch_size",
            "Commands carried out together.",
            buckets=_SIZES,
            registry=self.registry,
        )
        self._commit_seconds = Histogram(
            "wallet_commit_seconds",
            "Time of a batch, from its load to its commit.",
            buckets=SECONDS,
            registry=self.registry,
        )
        self._retries = Counter(
            "wallet_commit_retries",
            "Batches tried again, by cause.",
            ("cause",),
            registry=self.registry,
        )
        self._webhooks = Counter(
            "wallet_webhooks",
            "Webhooks that came, by what became of them.",
            ("gateway", "outcome"),
            registry=self.registry,
        )
        self._circuit = Gauge(
            "wallet_gateway_circuit_open",
            "1 while a gateway that did not answer is left alone, 0 otherwise.",
            ("gateway",),
            registry=self.registry,
        )
        self._queue = Gauge(
            "wallet_commit_queue",
            "Commands that wait for their turn.",
            ("lane",),
            registry=self.registry,
        )
        self._queue_limit = Gauge(
            "wallet_commit_queue_limit",
            "Commands that may wait in all lanes together; more are refused.",
            registry=self.registry,
        )
        self._money = MoneyMetrics(self.registry)
        ProcessCollector(registry=self.registry)
        self._renewals = Counter(
            "wallet_renewals",
            "Keys, revoked tokens and certificates that were read again, by outcome.",
            ("what", "outcome"),
            registry=self.registry,
        )
        self._renewal_failing = Gauge(
            "wallet_renewal_failing",
            "1 while the last good one is in force, since what came after it cannot be used.",
            ("what",),
            registry=self.registry,
        )
        self._expiry = Gauge(
            "wallet_certificate_expiry_timestamp_seconds",
            "When the certificate that is in use expires.",
            ("what",),
            registry=self.registry,
        )
        self._audit_lost = Counter(
            "wallet_audit_lost",
            "Audit entries that were lost, because too many waited.",
            registry=self.registry,
        )
        self._audit_waiting = Gauge(
            "wallet_audit_waiting", "Audit entries that wait to be written.", registry=self.registry
        )
        self._audit_failing = Gauge(
            "wallet_audit_failing",
            "1 while the audit cannot be written, 0 otherwise.",
            registry=self.registry,
        )
        self._readers = Gauge(
            "wallet_event_readers", "Calls that read the event feed.", registry=self.registry
        )
        self._outgoing = Counter(
            "wallet_outgoing_webhooks",
            "Outgoing webhooks that were posted, by what became of it.",
            ("outcome",),
            registry=self.registry,
        )
        self._outgoing_delay = Histogram(
            "wallet_outgoing_delay_seconds",
            "Time from an event to its being taken as an outgoing webhook.",
            buckets=DELAYS,
            registry=self.registry,
        )

    def method(self, service: str, method: str, *, is_stream: bool = False) -> MethodMetrics:
        """Return the metrics of one RPC."""
        return MethodMetrics(self, "server_stream" if is_stream else "unary", service, method)

    def watch_queues(self, lengths: Sequence[Callable[[], int]], limit: int) -> None:
        """Show how many commands wait for their turn, lane by lane, and how many may in all."""
        self._queue_limit.set(limit)
        for lane, length in enumerate(lengths):
            self._queue.labels(str(lane)).set_function(length)

    def watch_readers(self, readers: Callable[[], int]) -> None:
        """Show how many calls read the event feed."""
        self._readers.set_function(readers)

    def watch_audit(self, waiting: Callable[[], int], fails: Callable[[], bool]) -> None:
        """Show how many audit entries wait to be written, and whether writing them fails."""
        self._audit_waiting.set_function(waiting)
        self._audit_failing.set_function(lambda: int(fails()))

    def audit_entry_lost(self) -> None:
        """Note an audit entry that was lost."""
        self._audit_lost.inc()

    def watch_circuit(self, gateway: str, is_open: Callable[[], bool]) -> None:
        """Show whether a gateway is left alone just now."""
        self._circuit.labels(gateway).set_function(lambda: int(is_open()))

    def watch_standing(self, gateways: Sequence[str] = ()) -> StandingMetrics:
        """Show how the records stand, as it is then told to what is returned."""
        standing = StandingMetrics(gateways)
        self.registry.register(standing)
        return standing

    def webhook_came(self, gateway: str, outcome: str) -> None:
        """Note what became of a webhook."""
        self._webhooks.labels(gateway, outcome).inc()

    def batch_committed(self, decided: Sequence[tuple[Command, Decision]], seconds: float) -> None:
        """Note a batch that was carried out, and what it came to."""
        self._batch_size.observe(len(decided))
        self._commit_seconds.observe(seconds)
        self._money.batch_committed(decided)

    def batch_retried(self, cause: str) -> None:
        """Note a batch that is tried again."""
        self._retries.labels(cause).inc()

    def renewed(self, what: str) -> None:
        """Note that `what` is in use as it was read last."""
        self._renewals.labels(what, "OK").inc()
        self._renewal_failing.labels(what).set(0)

    def renewal_failed(self, what: str) -> None:
        """Note that `what` could not be used as it was read last: the alarm."""
        self._renewals.labels(what, "FAILED").inc()
        self._renewal_failing.labels(what).set(1)

    def certificate_expires(self, what: str, time: datetime) -> None:
        """Note when the certificate that is in use expires."""
        self._expiry.labels(what).set(time.timestamp())

    def webhook_taken(self, seconds: float) -> None:
        """Note that an outgoing webhook was taken, so long after its event."""
        self._outgoing.labels("taken").inc()
        self._outgoing_delay.observe(seconds)

    def webhook_refused(self) -> None:
        """Note an attempt to post that was not taken."""
        self._outgoing.labels("refused").inc()

    def webhook_buried(self) -> None:
        """Note an outgoing webhook that became a dead letter."""
        self._outgoing.labels("buried").inc()

    async def told(self) -> bytes:
        """Return everything, to `metrics_runner`."""
        return self.exposition()

    def exposition(self) -> bytes:
        """Return everything in Prometheus' text format."""
        return generate_latest(self.registry)


def metrics_runner(exposition: Callable[[], Awaitable[bytes]]) -> web.AppRunner:
    """Return what answers Prometheus at /metrics, over few connections that say something."""

    async def tell(_: web.Request) -> web.Response:
        return web.Response(body=await exposition(), headers={"Content-Type": CONTENT_TYPE})

    connections = Connections(_CONNECTIONS, SidecarLimits(SidecarRates()), TrustedProxies())
    app = web.Application(middlewares=[connections_middleware(connections)])
    app.router.add_get("/metrics", tell)
    return GuardedRunner(app, connections, access_log=None, logger=HttpLog())
