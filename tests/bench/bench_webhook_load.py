"""A process that sends webhooks: `bench_webhook_load.py <first number> <how many>`.

Each webhook reports the payment of another top-up that waits for it, and is sent again when the
answer is not 2xx, as gateways do. Jobs are those of `bench_load`, with the sidecar's URL as
address; a job of `{"burst": n}` sends so many at once, and is answered once all are taken.
"""

import asyncio
import json
import sys
import time
from collections.abc import Iterator
from typing import Any, Final

import aiohttp
from bench_jobs import Job, Tally
from bench_latency import bucket_of
from bench_webhook_bodies import webhook

_CONNECTIONS: Final = 256
_CALL_SECONDS: Final = 5.0
"""For how long gateways wait for an answer."""
_AGAIN_SECONDS: Final = 0.2
"""Gateways wait much longer; then the time until all are credited would be that of the gateway."""


class TopupsUsedUp(Exception):
    """More webhooks were wanted than top-ups had been prepared for."""


async def sustained(job: Job, numbers: Iterator[int]) -> Tally:
    """Keep so many callers sending, one webhook after another."""
    tally = Tally()
    now = asyncio.get_running_loop().time

    async def caller() -> None:
        while (started := now()) < job.measure_until:
            await _deliver(session, job.address, _next(numbers), tally)
            ended = now()
            tally.acknowledged += 1
            if job.measure_from <= ended < job.measure_until:
                tally.payments += 1
                tally.latencies[bucket_of(ended - started)] += 1

    async with _session() as session:
        await asyncio.gather(*(caller() for _ in range(job.callers)))
    return tally


async def burst(address: str, count: int, numbers: Iterator[int]) -> Tally:
    """Send so many webhooks at once."""
    tally = Tally()

    async def one(number: int) -> None:
        started = time.monotonic()
        await _deliver(session, address, number, tally)
        tally.latencies[bucket_of(time.monotonic() - started)] += 1
        tally.acknowledged += 1

    async with _session() as session:
        await asyncio.gather(*(one(_next(numbers)) for _ in range(count)))
    return tally


async def _deliver(session: aiohttp.ClientSession, address: str, number: int, tally: Tally) -> None:
    """Send a webhook until it is taken."""
    body, headers = webhook(number)
    while True:
        try:
            async with session.post(
                f"{address}/webhooks/razorpay", data=body, headers=headers
            ) as answer:
                if answer.ok:
                    return
                tally.errors[f"HTTP {answer.status}"] += 1
        except (aiohttp.ClientError, TimeoutError) as error:
            tally.errors[type(error).__name__] += 1
        await asyncio.sleep(_AGAIN_SECONDS)


def _session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=_CONNECTIONS),
        # The time in the queue for a connection is the load's own.
        timeout=aiohttp.ClientTimeout(
            total=None, sock_connect=_CALL_SECONDS, sock_read=_CALL_SECONDS
        ),
    )


def _next(numbers: Iterator[int]) -> int:
    number = next(numbers, None)
    if number is None:
        raise TopupsUsedUp("Prepare more top-ups: see bench_webhooks.")
    return number


async def _work(first: int, count: int) -> None:
    numbers = iter(range(first, first + count))
    while line := await asyncio.to_thread(sys.stdin.readline):
        message: dict[str, Any] = json.loads(line)
        if "burst" in message:
            tally = await burst(message["address"], message["burst"], numbers)
        else:
            tally = await sustained(Job(**message), numbers)
        sys.stdout.write(json.dumps(tally.message()) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(_work(int(sys.argv[1]), int(sys.argv[2])))
