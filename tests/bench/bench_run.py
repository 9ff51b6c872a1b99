"""The run: MongoDB, servers and load processes are started, then measured case by case.

Cases alternate in rounds, and their figures are sums over all rounds: whatever else the machine
does meanwhile, it does to both sides of a ratio.
"""

import asyncio
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

import bench_books
from bench_cases import ECHO, Case
from bench_latency import Latencies
from bench_load import Job, Tally, read_tally
from bench_processes import Program, cpu_seconds, forget_peak, peak_mebibytes, running_program

from server.store.connection import connect
from server.store.embedded import embedded_mongod

_START_SECONDS: Final = 0.2
"""From sending the jobs to the first call, for all processes to get theirs."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be run."""

    cases: Sequence[Case]
    rounds: int
    seconds: float
    """How long a case is measured in each round."""
    warmup_seconds: float
    load_processes: int


@dataclass(slots=True)
class Sample:
    """What was measured of one case, summed over the rounds."""

    case: Case
    seconds: float = 0.0
    payments: int = 0
    acknowledged: int = 0
    latencies: Latencies = field(default_factory=Latencies)
    errors: Counter[str] = field(default_factory=Counter)
    server_cpu_seconds: float = 0.0
    mongod_cpu_seconds: float = 0.0
    load_cpu_seconds: float = 0.0
    server_peak_mebibytes: float = 0.0
    mongod_peak_mebibytes: float = 0.0

    def add(self, tally: Tally) -> None:
        """Add what a load process saw."""
        self.payments += tally.payments
        self.acknowledged += tally.acknowledged
        self.latencies += tally.latencies
        self.errors += tally.errors


async def run(plan: Plan, tell: Callable[[str], None]) -> list[Sample]:
    """Carry out a plan, prove the books, and return what was measured; `tell` takes progress.

    Raises:
        BooksDiffer, ProgramEnded, EmbeddedMongoError.
    """
    samples = [Sample(case) for case in plan.cases]
    targets = dict.fromkeys(case.target for case in plan.cases)
    async with AsyncExitStack() as resources:
        folder = Path(resources.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        uri = await resources.enter_async_context(embedded_mongod(folder))
        uris = {target: bench_books.uri_of_database(uri, f"bench_{target}") for target in targets}
        for target, target_uri in uris.items():
            if target != ECHO:
                await bench_books.seed(target_uri)
        async with AsyncExitStack() as programs:
            servers = {
                target: await programs.enter_async_context(
                    running_program("bench_server.py", target, target_uri)
                )
                for target, target_uri in uris.items()
            }
            workers = [
                await programs.enter_async_context(running_program("bench_load.py", str(number)))
                for number in range(plan.load_processes)
            ]
            addresses = {
                target: str((await server.read())["address"]) for target, server in servers.items()
            }
            mongod_pid = await _pid_of_mongod(uri)
            for number in range(1, plan.rounds + 1):
                for sample in samples:
                    tell(f"round {number} of {plan.rounds}: {sample.case.name}")
                    target = sample.case.target
                    machinery = _Machinery(
                        servers[target].pid, mongod_pid, addresses[target], workers
                    )
                    await _measure(plan, sample, machinery)
        for target, target_uri in uris.items():
            if target != ECHO:
                acknowledged = sum(
                    sample.acknowledged for sample in samples if sample.case.target == target
                )
                paid = await bench_books.prove(target_uri, acknowledged)
                tell(f"{target}: the books prove {paid} payments, {acknowledged} acknowledged")
    return samples


@dataclass(frozen=True, slots=True)
class _Machinery:
    """The processes that one case takes."""

    server_pid: int
    mongod_pid: int
    address: str
    workers: Sequence[Program]


async def _measure(plan: Plan, sample: Sample, machinery: _Machinery) -> None:
    """Put a case's load on for one round, and add what came of it to the sample."""
    measure_from = time.monotonic() + _START_SECONDS + plan.warmup_seconds
    measure_until = measure_from + plan.seconds
    jobs = [
        Job(machinery.address, sample.case.wallets, share, measure_from, measure_until)
        for share in _shares(sample.case.callers, len(machinery.workers))
    ]
    _, *tallies = await asyncio.gather(
        _watch(sample, machinery, measure_from, measure_until),
        *(
            worker.ask(asdict(job))
            for worker, job in zip(machinery.workers, jobs, strict=True)
            if job.callers
        ),
    )
    for tally in tallies:
        assert tally is not None
        sample.add(read_tally(tally))


async def _watch(
    sample: Sample, machinery: _Machinery, measure_from: float, measure_until: float
) -> None:
    """Add to the sample what the processes use from one moment to another."""
    await _sleep_until(measure_from)
    forget_peak(machinery.server_pid)
    forget_peak(machinery.mongod_pid)
    before = _used(machinery)
    await _sleep_until(measure_until)
    server, mongod, load = (now - then for now, then in zip(_used(machinery), before, strict=True))
    sample.seconds += measure_until - measure_from
    sample.server_cpu_seconds += server
    sample.mongod_cpu_seconds += mongod
    sample.load_cpu_seconds += load
    sample.server_peak_mebibytes = max(
        sample.server_peak_mebibytes, peak_mebibytes(machinery.server_pid)
    )
    sample.mongod_peak_mebibytes = max(
        sample.mongod_peak_mebibytes, peak_mebibytes(machinery.mongod_pid)
    )


def _used(machinery: _Machinery) -> tuple[float, float, float]:
    """Return the CPU seconds used so far by server, MongoDB, and load processes together."""
    return (
        cpu_seconds(machinery.server_pid),
        cpu_seconds(machinery.mongod_pid),
        sum(cpu_seconds(worker.pid) for worker in machinery.workers),
    )


def _shares(callers: int, workers: int) -> list[int]:
    """Spread callers over processes as evenly as can be."""
    each, more = divmod(callers, workers)
    return [each + (number < more) for number in range(workers)]


async def _sleep_until(moment: float) -> None:
    await asyncio.sleep(max(0.0, moment - time.monotonic()))


async def _pid_of_mongod(uri: str) -> int:
    with connect(uri) as database:
        return int((await database.client.admin.command("serverStatus"))["pid"])
