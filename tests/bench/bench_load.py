"""A process that makes load: `bench_load.py <worker number>`.

It reads one job after another as lines of JSON and answers each with a line. In a closed loop each
caller pays the next order as soon as the last one is answered. In an open loop payments are due at
fixed times, whatever becomes of those before; their latency counts from when they were due, so
that a server that stalls is charged with everybody who would have come meanwhile. Requests and
answers are bytes, so that the load costs as little as it can.
"""

import asyncio
import gc
import itertools
import json
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import grpc
from bench_jobs import Job, Tally
from bench_latency import bucket_of
from bench_requests import Payments, token
from bench_secure import credentials_in, token_in
from google.rpc import error_details_pb2, status_pb2

_CALL_SECONDS: Final = 30.0
_LAST_CALLS_SECONDS: Final = 2.0
_CHANNELS: Final = 4
"""Connections of a process, so that all workers behind a port get their share."""
_MOST_IN_FLIGHT: Final = 10_000
"""Where an open loop waits; what is due meanwhile still counts from when it was due."""
_UNANSWERED: Final = "UNANSWERED"
_GARBAGE_THRESHOLD: Final = 50_000
_STATUS_DETAILS: Final = "grpc-status-details-bin"

Pay = Callable[[], Awaitable[Any]]


async def make_load(job: Job, draw: Callable[[], bytes]) -> Tally:
    """Carry out a job; what is not answered soon after its end is given up."""
    tally = Tally()
    shown = token_in(Path(job.access)) if job.access else token()
    metadata = (("authorization", f"Bearer {shown}"),)
    async with AsyncExitStack() as channels:
        methods = itertools.cycle(
            [await _method(channels, job) for _ in range(min(_CHANNELS, job.callers or _CHANNELS))]
        )

        def pay() -> Awaitable[Any]:
            call: Awaitable[Any] = next(methods)(draw(), metadata=metadata, timeout=_CALL_SECONDS)
            return call

        if job.rate:
            calls = await _begin_open_loop(job, pay, tally)
        else:
            calls = {asyncio.create_task(_caller(job, pay, tally)) for _ in range(job.callers)}
        await _finish(job, calls)
    return tally


async def _method(channels: AsyncExitStack, job: Job) -> Any:
    """Open a connection of its own, and return the RPC on it."""
    options = (("grpc.use_local_subchannel_pool", 1),)
    channel = await channels.enter_async_context(
        grpc.aio.secure_channel(job.address, credentials_in(Path(job.access)), options)
        if job.access
        else grpc.aio.insecure_channel(job.address, options=options)
    )
    return channel.unary_unary(job.method, request_serializer=None, response_deserializer=None)


async def _caller(job: Job, pay: Pay, tally: Tally) -> None:
    now = asyncio.get_running_loop().time
    while (started := now()) < job.measure_until:
        if not await _is_paid(pay, tally):
            continue
        ended = now()
        if job.measure_from <= ended < job.measure_until:
            tally.payments += 1
            tally.latencies[bucket_of(ended - started)] += 1


async def _begin_open_loop(job: Job, pay: Pay, tally: Tally) -> set[asyncio.Task[None]]:
    """Send what is due until the end; return what is not answered by then."""
    now = asyncio.get_running_loop().time
    in_flight: set[asyncio.Task[None]] = set()
    room = asyncio.Semaphore(_MOST_IN_FLIGHT)

    def answered(call: asyncio.Task[None]) -> None:
        in_flight.discard(call)
        room.release()

    begin = now()
    for number in itertools.count():
        due = begin + number / job.rate
        if due >= job.measure_until:
            return in_flight
        await asyncio.sleep(due - now())
        await room.acquire()
        call = asyncio.create_task(_due_call(job, pay, tally, due))
        in_flight.add(call)
        tally.most_at_once = max(tally.most_at_once, len(in_flight))
        call.add_done_callback(answered)
    raise AssertionError("an open loop ends")


async def _due_call(job: Job, pay: Pay, tally: Tally, due: float) -> None:
    now = asyncio.get_running_loop().time
    is_measured = job.measure_from <= due
    try:
        is_paid = await _is_paid(pay, tally)
    except asyncio.CancelledError:
        tally.errors[_UNANSWERED] += 1
        if is_measured:  # It has waited until now at least.
            tally.latencies[bucket_of(now() - due)] += 1
        raise
    if is_paid and is_measured:
        tally.payments += 1
        tally.latencies[bucket_of(now() - due)] += 1


async def _is_paid(pay: Pay, tally: Tally) -> bool:
    """Make a call, and note how it ended."""
    try:
        await pay()
    except grpc.aio.AioRpcError as error:
        tally.errors[_reason(error)] += 1
        return False
    tally.acknowledged += 1
    return True


async def _finish(job: Job, calls: set[asyncio.Task[None]]) -> None:
    """Wait for the last answers for a while; then give up what is left."""
    if not calls:
        return
    calls = set(calls)
    remaining = job.measure_until - asyncio.get_running_loop().time()
    await asyncio.wait(calls, timeout=max(0.0, remaining) + _LAST_CALLS_SECONDS)
    for call in calls:
        call.cancel()
    for outcome in await asyncio.gather(*calls, return_exceptions=True):
        if isinstance(outcome, Exception):
            raise outcome


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
    payments = Payments(worker)
    gc.freeze()
    gc.set_threshold(_GARBAGE_THRESHOLD)
    while line := await asyncio.to_thread(sys.stdin.readline):
        job = Job(**json.loads(line))
        draw = (
            _same(job.request) if job.request else payments.of_wallets(job.wallets, job.has_notes)
        )
        tally = await make_load(job, draw)
        sys.stdout.write(json.dumps(tally.message()) + "\n")
        sys.stdout.flush()


def _same(request: str) -> Callable[[], bytes]:
    serialised = bytes.fromhex(request)
    return lambda: serialised


if __name__ == "__main__":
    asyncio.run(_work(int(sys.argv[1])))
