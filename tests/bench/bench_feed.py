"""What a reader of the event feed costs the payments beside it: `make bench-feed`.

Slices of load with and without a reader follow each other, so that whatever else the machine does
meets both. The reader is a process of its own and takes every event. CPU time of MongoDB and the
server is told as well: on a machine that others use it says more than payments a second.
"""

import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click
import grpc
from bench_figures import filed

from event_watch import watching
from harness import running_harness
from payment_load import Load, serving
from server.store.embedded import embedded_mongod
from wallet_payment.v1 import wallet_payment_service_pb2_grpc as service_grpc

_CUSTOMERS: Final = 50
_BALANCE: Final = 10_000_000
_WARMUP_SECONDS: Final = 3.0


@click.group()
def main() -> None:
    """Measure payments with a reader of the event feed and without."""


@main.command()
@click.argument("address")
def watch(address: str) -> None:
    """Read every event at an address until the process is ended."""
    asyncio.run(_watch(address))


@main.command()
@click.option("--pairs", type=click.IntRange(min=1), default=8, show_default=True)
@click.option("--seconds", type=click.FloatRange(min=0.5), default=4.0, show_default=True)
@filed("feed.json")
def measure(pairs: int, seconds: float, json_file: Path) -> None:
    """Measure so many pairs of slices, and tell the ratio of their payments."""
    figures = asyncio.run(_measure(pairs, seconds))
    json_file.parent.mkdir(parents=True, exist_ok=True)
    json_file.write_text(json.dumps(figures, indent=2) + "\n", "utf-8")
    click.echo(
        f"{figures['alone_per_second']:,.0f} payments/s alone, "
        f"{figures['watched_per_second']:,.0f} with a reader: ratio {figures['ratio']:.3f} "
        f"(pairs from {min(figures['ratios']):.3f} to {max(figures['ratios']):.3f}); "
        f"CPU of a payment {figures['alone_cpu_us']:.0f} us alone, "
        f"{figures['watched_cpu_us']:.0f} us with a reader: ratio {figures['cpu_ratio']:.3f}, "
        f"written to {json_file}"
    )


async def _watch(address: str) -> None:
    async with (
        grpc.aio.insecure_channel(address) as channel,
        watching(service_grpc.WalletPaymentServiceStub(channel)),
    ):
        click.echo("watching")  # the process that measures waits for it
        await asyncio.Event().wait()


async def _measure(pairs: int, seconds: float) -> dict[str, Any]:
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="wallet-payment-feed-"))
        uri = await stack.enter_async_context(embedded_mongod(Path(folder)))
        async with running_harness(uri) as harness:
            customers = [await harness.customer(_BALANCE) for _ in range(_CUSTOMERS)]
        _, address = await stack.enter_async_context(serving(uri))
        services = _children_of(os.getpid())  # MongoDB and the server
        await _payments(address, customers, services, min(_WARMUP_SECONDS, seconds))
        alone: list[_Slice] = []
        watched: list[_Slice] = []
        for number in range(pairs):
            for is_watched in (number % 2 == 0, number % 2 == 1):
                if is_watched:
                    watched.append(await _watched_payments(address, customers, services, seconds))
                else:
                    alone.append(await _payments(address, customers, services, seconds))
    ratios = [one.per_second / other.per_second for one, other in zip(watched, alone, strict=True)]
    alone_cpu_us, watched_cpu_us = _cpu_us_of(alone), _cpu_us_of(watched)
    return {
        "alone_per_second": statistics.mean(one.per_second for one in alone),
        "watched_per_second": statistics.mean(one.per_second for one in watched),
        "ratio": statistics.median(ratios),
        "ratios": ratios,
        "alone_cpu_us": alone_cpu_us,
        "watched_cpu_us": watched_cpu_us,
        "cpu_ratio": alone_cpu_us / watched_cpu_us,
    }


@dataclass(frozen=True, slots=True)
class _Slice:
    """What a slice of load came to."""

    payments: int
    seconds: float
    cpu_seconds: float

    @property
    def per_second(self) -> float:
        return self.payments / self.seconds


def _cpu_us_of(slices: list[_Slice]) -> float:
    """Return the CPU time of a payment, in microseconds."""
    payments = sum(one.payments for one in slices)
    return 1_000_000 * sum(one.cpu_seconds for one in slices) / payments


def _children_of(pid: int) -> list[int]:
    """Return the processes that a process has started."""
    threads = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for thread in threads for child in thread.read_text().split()]


def _cpu_seconds_of(processes: list[int]) -> float:
    """Return the CPU time of processes so far."""
    ticks = 0
    for process in processes:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


async def _watched_payments(
    address: str, customers: list[str], services: list[int], seconds: float
) -> _Slice:
    reader = await asyncio.create_subprocess_exec(
        *(sys.executable, __file__, "watch", address), stdout=asyncio.subprocess.PIPE
    )
    try:
        assert reader.stdout is not None
        await reader.stdout.readline()
        return await _payments(address, customers, services, seconds)
    finally:
        reader.kill()
        await reader.wait()


async def _payments(
    address: str, customers: list[str], services: list[int], seconds: float
) -> _Slice:
    """Pay for so long."""
    load = Load(address, customers)
    start, cpu = time.monotonic(), _cpu_seconds_of(services)
    running = asyncio.create_task(load.run())
    await asyncio.sleep(seconds)
    load.end()
    await running
    cpu_seconds = _cpu_seconds_of(services) - cpu
    return _Slice(len(load.acknowledged), time.monotonic() - start, cpu_seconds)


if __name__ == "__main__":
    main()
