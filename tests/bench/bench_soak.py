"""The soak: the service at half of its saturation rate for long, and the memory that it takes."""

import asyncio
import statistics
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import bench_books
from bench_cases import GROUP, SATURATION, Case
from bench_processes import resident_mebibytes, running_program
from bench_requests import HOT_CUSTOMER, PAY_WITH_WALLET, method
from bench_run import Call, Plan, Rig, Sample, Tell, measure, pid_of_mongod
from bench_service import running_service

from server.store.embedded import embedded_mongod
from wallet_payment.v1 import wallet_payment_service_pb2 as service

_SATURATION_SECONDS: Final = 5.0
_WARMUP_SECONDS: Final = 1.0
_STALL_SECONDS: Final = 2.0
"""The burst has as many callers as the soak has calls in this time, which is longer than MongoDB
stalls: memory follows the most calls that there were at once so far, since what they leave is in
pieces between what stays."""
_MOST_CALLERS: Final = 4_000
"""More would be too many for the server's queue."""
_SHARE: Final = 0.5
_READS_A_PAYMENT: Final = 0.1
_MOMENTS: Final = 200
"""At which the memory is looked at."""
_TENTHS: Final = 10

Memory = list[tuple[float, dict[str, float]]]
"""Seconds since the start -> process -> MiB resident."""


@dataclass(frozen=True, slots=True)
class Soaked:
    """What a soak measured."""

    samples: list[Sample]
    measures: dict[str, float]
    memory: Memory


async def run(seconds: float, tell: Tell) -> Soaked:
    """Keep payments and reads coming for so long; prove the books.

    Raises:
        BooksDiffer, ProgramEnded, EmbeddedMongoError, TimeoutError.
    """
    closed = Sample(Case(SATURATION, GROUP))
    payments = Sample(Case("soak_payments", GROUP, callers=0, share=_SHARE))
    reads = Sample(Case("soak_reads", GROUP, callers=0, share=_SHARE, request="status"))
    async with AsyncExitStack() as resources:
        folder = Path(resources.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        uri = await resources.enter_async_context(embedded_mongod(folder))
        await bench_books.seed(uri)
        mongod_pid = await pid_of_mongod(uri)
        async with AsyncExitStack() as programs:
            running = await programs.enter_async_context(running_service(uri))
            loads = [
                await programs.enter_async_context(running_program("bench_load.py", str(number)))
                for number in range(2)
            ]
            rig = Rig(running.address, running.pids, loads)
            pay = Call(PAY_WITH_WALLET, b"")
            brief = Plan(1, min(_SATURATION_SECONDS, seconds), _WARMUP_SECONDS, len(loads))
            tell("the saturation rate")
            await measure(brief, closed, rig, mongod_pid, pay, 0)
            rate = _SHARE * closed.payments / closed.seconds
            callers = min(round(rate * _STALL_SECONDS), _MOST_CALLERS)
            burst = Sample(Case("soak_burst", GROUP, callers=callers))
            tell(f"a burst of {callers:,} callers")
            await measure(brief, burst, rig, mongod_pid, pay, 0)
            tell(f"{rate:,.0f} payments/s for {seconds:,.0f} s, and a read beside every tenth")
            status = service.GetStatusRequest(customer_id=HOT_CUSTOMER)
            read = Call(method("GetStatus"), status.SerializeToString())
            plan = Plan(1, seconds, 0, 1)
            memory, _, _ = await asyncio.gather(
                _watch(running.pids, mongod_pid, seconds, tell),
                measure(plan, payments, _of_one(rig, 0), mongod_pid, pay, rate),
                measure(plan, reads, _of_one(rig, 1), mongod_pid, read, rate * _READS_A_PAYMENT),
            )
        paid = (closed, burst, payments)
        came = await bench_books.prove(uri, sum(sample.acknowledged for sample in paid))
        tell(f"the books prove {came} payments")
    at_once = {
        "soak_burst_at_once": float(callers),
        "soak_most_at_once": float(payments.most_at_once + reads.most_at_once),
    }
    return Soaked([burst, payments, reads], at_once | _measures(memory), memory)


async def _watch(server_pids: Sequence[int], mongod_pid: int, seconds: float, tell: Tell) -> Memory:
    memory: Memory = []
    begin = time.monotonic()
    for moment in range(_MOMENTS):
        await asyncio.sleep(begin + moment * seconds / _MOMENTS - time.monotonic())
        server = resident_mebibytes(server_pids)
        mongod = resident_mebibytes([mongod_pid])
        memory.append((time.monotonic() - begin, {"server": server, "mongod": mongod}))
        if moment % (_MOMENTS // _TENTHS) == 0:
            tell(f"{memory[-1][0]:,.0f} s: server {server:,.0f} MiB, mongod {mongod:,.0f} MiB")
    return memory


def _measures(memory: Memory) -> dict[str, float]:
    """Compare the second tenth, once everything is warm, with the middle and with the end."""

    def of_tenth(number: int) -> float:
        size = _MOMENTS // _TENTHS
        some = memory[number * size : (number + 1) * size]
        return statistics.median(values["server"] for _, values in some)

    start, middle, end = of_tenth(1), of_tenth(_TENTHS // 2), of_tenth(_TENTHS - 1)
    return {
        "soak_memory_start_mebibytes": start,
        "soak_memory_middle_mebibytes": middle,
        "soak_memory_end_mebibytes": end,
        "soak_memory_end_over_start": end / start,
    }


def _of_one(rig: Rig, load: int) -> Rig:
    return Rig(rig.address, rig.server_pids, [rig.loads[load]])
