"""Case by case: load is put on, and what comes of it is measured.

Cases alternate in rounds, and their figures are sums over all rounds: whatever else the machine
does meanwhile, it does to both sides of a ratio.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Final

from bench_cases import PAYMENT, SATURATION, Case
from bench_jobs import Job, Tally, read_tally
from bench_latency import Latencies
from bench_processes import Program, cpu_seconds, forget_peak, peak_mebibytes
from bench_requests import PAY_WITH_WALLET

from server.store.connection import connect

Tell = Callable[[str], None]

_START_SECONDS: Final = 0.2
"""From sending the jobs to the first call, for all processes to get theirs."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How long what is run."""

    rounds: int
    seconds: float
    """How long a case is measured in each round."""
    warmup_seconds: float
    load_processes: int

    @property
    def total_seconds(self) -> float:
        """How long a case is under load in the whole run."""
        return self.rounds * (_START_SECONDS + self.warmup_seconds + self.seconds)


@dataclass(frozen=True, slots=True)
class Rig:
    """A target, and who puts load on it."""

    address: str
    server_pids: tuple[int, ...]
    """Empty where the load does the work itself."""
    loads: Sequence[Program]
    access: str = ""
    """See Job."""


@dataclass(frozen=True, slots=True)
class Call:
    """What a case calls, if it is no payment."""

    method: str
    request: bytes


@dataclass(slots=True)
class Sample:
    """What was measured of one case, summed over the rounds."""

    case: Case
    seconds: float = 0.0
    due: float = 0.0
    """Calls that an open loop had to make."""
    payments: int = 0
    acknowledged: int = 0
    latencies: Latencies = field(default_factory=Latencies)
    errors: Counter[str] = field(default_factory=Counter)
    most_at_once: int = 0
    """Calls of an open loop that waited at the same time, at most, in one process."""
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
        self.most_at_once = max(self.most_at_once, tally.most_at_once)


async def run_rounds(
    plan: Plan,
    samples: Sequence[Sample],
    rigs: Mapping[str, Rig],
    mongod_pid: int,
    tell: Tell,
    calls: Mapping[str, Call] | None = None,
) -> None:
    """Measure all cases in rounds; `rigs` by target, `calls` by what a case requests.

    Raises:
        ProgramEnded.
    """
    for number in range(1, plan.rounds + 1):
        for sample in samples:
            tell(f"round {number} of {plan.rounds}: {sample.case.name}")
            rig = rigs[sample.case.target]
            call = (calls or {}).get(sample.case.request, Call(PAY_WITH_WALLET, b""))
            rate = _saturation(samples) * sample.case.share if sample.case.share else 0.0
            await measure(plan, sample, rig, mongod_pid, call, rate)


async def measure(
    plan: Plan,
    sample: Sample,
    rig: Rig,
    mongod_pid: int,
    call: Call,
    rate: float,
) -> None:
    """Put a case's load on once, and add what came of it to the sample; `rate` is in calls/s."""
    assert (sample.case.request == PAYMENT) is not bool(call.request), "a read says what it reads"
    measure_from = time.monotonic() + _START_SECONDS + plan.warmup_seconds
    measure_until = measure_from + plan.seconds
    sample.due += rate * plan.seconds
    jobs = [
        Job(
            address=rig.address,
            wallets=sample.case.wallets,
            callers=share,
            rate=rate / len(rig.loads),
            method=call.method,
            request=call.request.hex(),
            has_notes=sample.case.has_notes,
            measure_from=measure_from,
            measure_until=measure_until,
            access=rig.access,
        )
        for share in _shares(sample.case.callers, len(rig.loads))
    ]
    _, *tallies = await asyncio.gather(
        _watch(sample, rig, mongod_pid, measure_from, measure_until),
        *(
            load.ask(asdict(job))
            for load, job in zip(rig.loads, jobs, strict=True)
            if job.callers or job.rate
        ),
    )
    for tally in tallies:
        assert tally is not None
        sample.add(read_tally(tally))


async def pid_of_mongod(uri: str) -> int:
    """Return the process id of the MongoDB."""
    with connect(uri) as database:
        return int((await database.client.admin.command("serverStatus"))["pid"])


async def _watch(
    sample: Sample, rig: Rig, mongod_pid: int, measure_from: float, measure_until: float
) -> None:
    """Add to the sample what the processes use from one moment to another."""
    await _sleep_until(measure_from)
    watched = (*rig.server_pids, mongod_pid)
    forget_peak(watched)
    before = _used(rig, mongod_pid)
    await _sleep_until(measure_until)
    used = (now - then for now, then in zip(_used(rig, mongod_pid), before, strict=True))
    server, mongod, load = used
    sample.seconds += measure_until - measure_from
    sample.server_cpu_seconds += server
    sample.mongod_cpu_seconds += mongod
    sample.load_cpu_seconds += load
    sample.server_peak_mebibytes = max(
        sample.server_peak_mebibytes, peak_mebibytes(rig.server_pids)
    )
    sample.mongod_peak_mebibytes = max(sample.mongod_peak_mebibytes, peak_mebibytes([mongod_pid]))


def _used(rig: Rig, mongod_pid: int) -> tuple[float, float, float]:
    """Return the CPU seconds used so far by server, MongoDB, and load processes together."""
    return (
        cpu_seconds(rig.server_pids),
        cpu_seconds([mongod_pid]),
        cpu_seconds(load.pid for load in rig.loads),
    )


def _saturation(samples: Sequence[Sample]) -> float:
    """Return the calls a second at which the closed loop has saturated the service so far."""
    found = next(sample for sample in samples if sample.case.name == SATURATION)
    return found.payments / found.seconds


def _shares(callers: int, loads: int) -> list[int]:
    """Spread callers over processes as evenly as can be."""
    each, more = divmod(callers, loads)
    return [each + (number < more) for number in range(loads)]


async def _sleep_until(moment: float) -> None:
    await asyncio.sleep(max(0.0, moment - time.monotonic()))
