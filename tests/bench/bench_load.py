"""A process that makes load: `bench_load.py <worker number>`.

It reads one job after another as lines of JSON and answers each with a line. Its callers form a
closed loop: each pays the next order as soon as the last one is answered. Requests and answers are
bytes, so that the load costs as little as it can.
"""

import asyncio
import json
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

import grpc
from bench_cases import HOT, SPREAD
from bench_latency import Latencies, bucket_of
from bench_requests import PAY_WITH_WALLET, payments, token
from google.rpc import error_details_pb2, status_pb2

_CALL_SECONDS: Final = 30.0
_LAST_CALLS_SECONDS: Final = 2.0
_STATUS_DETAILS: Final = "grpc-status-details-bin"

Pay = Callable[[bytes], Awaitable[bytes]]


@dataclass(frozen=True, slots=True)
class Job:
    """Load for one case. Times are CLOCK_MONOTONIC in seconds, the same for all processes."""

    address: str
    wallets: str
    callers: int
    measure_from: float
    """What is answered before is warm-up."""
    measure_until: float
    """From here on nothing is sent any more."""


@dataclass(slots=True)
class Tally:
    """What a process saw of one case."""

    payments: int = 0
    """Answered well within the time that is measured."""
    acknowledged: int = 0
    """Answered well at any time."""
    latencies: Latencies = field(default_factory=Latencies)
    """Of `payments`."""
    errors: Counter[str] = field(default_factory=Counter)
    """Status code and reason -> how often, at any time."""

    def message(self) -> dict[str, Any]:
        """Return what `read_tally` reads."""
        return {
            "payments": self.payments,
            "acknowledged": self.acknowledged,
            "latencies": dict(self.latencies),
            "errors": dict(self.errors),
        }


def read_tally(message: dict[str, Any]) -> Tally:
    """Read what a process answered."""
    return Tally(
        payments=message["payments"],
        acknowledged=message["acknowledged"],
        latencies=Latencies({int(key): count for key, count in message["latencies"].items()}),
        errors=Counter(message["errors"]),
    )


async def make_load(job: Job, draw: Callable[[], bytes]) -> Tally:
    """Carry out a job; what is not answered soon after its end is given up."""
    tally = Tally()
    metadata = (("authorization", f"Bearer {token()}"),)
    async with grpc.aio.insecure_channel(job.address) as channel:
        method: Any = channel.unary_unary(
            PAY_WITH_WALLET, request_serializer=None, response_deserializer=None
        )

        def pay(request: bytes) -> Awaitable[bytes]:
            call: Awaitable[bytes] = method(request, metadata=metadata, timeout=_CALL_SECONDS)
            return call

        callers = [asyncio.create_task(_call(job, pay, draw, tally)) for _ in range(job.callers)]
        remaining = job.measure_until - asyncio.get_running_loop().time()
        await asyncio.wait(callers, timeout=remaining + _LAST_CALLS_SECONDS)
        for caller in callers:
            caller.cancel()
        ended = await asyncio.gather(*callers, return_exceptions=True)
    for outcome in ended:
        if isinstance(outcome, Exception):
            raise outcome
    return tally


async def _call(job: Job, pay: Pay, draw: Callable[[], bytes], tally: Tally) -> None:
    now = asyncio.get_running_loop().time
    while (started := now()) < job.measure_until:
        try:
            await pay(draw())
        except grpc.aio.AioRpcError as error:
            tally.errors[_reason(error)] += 1
            continue
        ended = now()
        tally.acknowledged += 1
        if job.measure_from <= ended < job.measure_until:
            tally.payments += 1
            tally.latencies[bucket_of(ended - started)] += 1


def _reason(error: grpc.aio.AioRpcError) -> str:
    """Name an error by its status code and, where the service gave one, its reason."""
    info = error_details_pb2.ErrorInfo()
    trailing: Any = error.trailing_metadata() or ()
    for key, value in trailing:
        if key == _STATUS_DETAILS:
            for detail in status_pb2.Status.FromString(value).details:
                detail.Unpack(info)
    return f"{error.code().name} {info.reason}".strip()


async def _work(worker: int) -> None:
    draws = {wallets: payments(wallets, 2 * worker + hot) for hot, wallets in enumerate(_WALLETS)}
    while line := await asyncio.to_thread(sys.stdin.readline):
        job = Job(**json.loads(line))
        tally = await make_load(job, draws[job.wallets])
        sys.stdout.write(json.dumps(tally.message()) + "\n")
        sys.stdout.flush()


_WALLETS: Final = (SPREAD, HOT)


if __name__ == "__main__":
    asyncio.run(_work(int(sys.argv[1])))
