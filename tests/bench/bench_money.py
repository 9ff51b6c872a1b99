"""The run on the money path: each target is started, measured case by case, and proven.

* echo, group, secure, unaudited, unmetered, limited, encrypted, mixed, per-request: `bench_server`,
  each on an own database; mixed is group once more, for what would make the database of group
  larger than those it is compared with
* two-workers: `wallet-payment serve --workers 2`
* driver: `bench_driver`, no server at all
* medici: the npm package in its own processes, where Node.js is present
* webhooks: `wallet-payment sidecar` before `wallet-payment serve`
"""

import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import bench_books
from bench_cases import (
    DRIVER,
    ECHO,
    ENCRYPTED,
    GROUP,
    LIMITED,
    MEDICI,
    MIXED,
    PER_REQUEST,
    SECURE,
    TWO_WORKERS,
    UNAUDITED,
    UNMETERED,
    WEBHOOKS,
    WORKERS,
    Case,
)
from bench_medici import NoMedici, install, prove_medici, running_medici
from bench_processes import Program, running_program
from bench_run import Plan, Rig, Sample, Tell, pid_of_mongod, run_rounds
from bench_service import running_service, startup_seconds
from bench_webhooks import Webhooks, prove_webhooks, running_webhooks, topups_for

from server.store.embedded import embedded_mongod

_SERVED: Final = (
    *(ECHO, GROUP, SECURE, UNAUDITED, UNMETERED, ENCRYPTED, LIMITED, MIXED, PER_REQUEST),
)
_PROVEN: Final = (
    *(GROUP, SECURE, UNAUDITED, UNMETERED, ENCRYPTED, LIMITED, MIXED, PER_REQUEST),
    *(TWO_WORKERS, DRIVER),
)


@dataclass(slots=True)
class Outcome:
    """What a run measured."""

    samples: list[Sample]
    measures: dict[str, float] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    """Case -> why it could not be run here."""


async def run(plan: Plan, cases: Sequence[Case], burst: int, starts: int, tell: Tell) -> Outcome:
    """Carry out a plan, prove the books, and return what was measured; `tell` takes progress.

    A `burst` is of so many webhooks, and the service starts so many times.

    Raises:
        BooksDiffer, ProgramEnded, EmbeddedMongoError, TimeoutError.
    """
    outcome = Outcome([])
    if any(case.target == MEDICI for case in cases):
        try:
            await install()
        except NoMedici as why:
            absent = [case for case in cases if case.target == MEDICI]
            outcome.absent = {case.name: str(why) for case in absent}
    outcome.samples = [Sample(case) for case in cases if case.name not in outcome.absent]
    targets = list(dict.fromkeys(sample.case.target for sample in outcome.samples))
    async with AsyncExitStack() as resources:
        folder = Path(resources.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        uri = await resources.enter_async_context(embedded_mongod(folder))
        uris = {target: bench_books.uri_of_database(uri, f"bench_{target}") for target in targets}
        for target in targets:
            if target not in (ECHO, MEDICI):
                await bench_books.seed(uris[target])
        mongod_pid = await pid_of_mongod(uri)
        async with AsyncExitStack() as programs:
            loads = [
                await programs.enter_async_context(running_program("bench_load.py", str(number)))
                for number in range(plan.load_processes)
            ]
            rigs: dict[str, Rig] = {}
            webhooks: Webhooks | None = None
            for target in targets:
                if target == WEBHOOKS:
                    webhooks = await programs.enter_async_context(
                        running_webhooks(uris[target], plan.load_processes, topups_for(plan, burst))
                    )
                    rigs[target] = webhooks.rig
                else:
                    rigs[target] = await programs.enter_async_context(
                        _running_rig(target, uris[target], loads)
                    )
            await run_rounds(plan, outcome.samples, rigs, mongod_pid, tell)
            if webhooks is not None:
                tell("a burst of webhooks")
                outcome.measures |= await webhooks.burst(burst)
        if GROUP in targets:
            tell("start-up")
            outcome.measures["startup_seconds"] = await startup_seconds(uris[GROUP], starts)
        for target in targets:
            await _prove(target, uris[target], outcome.samples, webhooks, tell)
    return outcome


@asynccontextmanager
async def _running_rig(target: str, uri: str, loads: Sequence[Program]) -> AsyncIterator[Rig]:
    """Start what takes load."""
    if target in _SERVED:
        async with running_program("bench_server.py", target, uri) as server:
            told = await server.read()
            yield Rig(str(told["address"]), (server.pid,), loads, str(told.get("access", "")))
    elif target == TWO_WORKERS:
        async with running_service(uri, workers=WORKERS) as service:
            yield Rig(service.address, service.pids, loads)
    elif target == DRIVER:
        async with running_program("bench_driver.py", uri) as driver:
            yield Rig("", (), [driver])
    else:
        assert target == MEDICI, target
        async with running_medici(uri, len(loads)) as running:
            yield Rig("", (), running)


async def _prove(
    target: str, uri: str, samples: Sequence[Sample], webhooks: Webhooks | None, tell: Tell
) -> None:
    """Prove that everything that a target acknowledged is there, once.

    Raises:
        BooksDiffer.
    """
    acknowledged = sum(sample.acknowledged for sample in samples if sample.case.target == target)
    if target in _PROVEN:
        came = await bench_books.prove(uri, acknowledged)
        tell(f"{target}: the books prove {came} payments, {acknowledged} acknowledged")
    elif target == MEDICI:
        came = prove_medici(uri, acknowledged)
        tell(f"{target}: the journal has {came} payments, {acknowledged} acknowledged")
    elif webhooks is not None and target == WEBHOOKS:
        acknowledged += webhooks.acknowledged_in_burst
        came = await prove_webhooks(uri, acknowledged)
        tell(f"{target}: the books prove {came} top-ups, {acknowledged} acknowledged")
