"""Makes a failing history shorter: fewer actors, fewer faults, until nothing can be left out."""

import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Final

from sim.history import Result, simulate
from sim.world import Fault, Plan

_MOST_RUNS: Final = 3_000
_OTHER_SEEDS: Final = 40
"""So many other seeds each smaller plan is tried with: what is left out changes all draws."""
_LAST_SEEDS: Final = 300
"""So many other seeds the smallest plan is tried with: one of them may come to it sooner."""


def shortest(failed: Result) -> Result:
    """Return the shortest history found in which the same rule is broken."""
    best, runs = failed, 0
    candidates = _smaller(best.plan)
    while runs < _MOST_RUNS and (plan := next(candidates, None)) is not None:
        result = simulate(plan)
        runs += 1
        if _is_same(failed, result):
            best, candidates = result, _smaller(plan)
    for seed in range(1, _LAST_SEEDS + 1):
        result = simulate(replace(best.plan, seed=seed))
        if _is_same(failed, result) and result.steps < best.steps:
            best = result
    return best


def written(plan: Plan) -> str:
    """Write a plan so that it can be given to the command line."""
    return json.dumps(asdict(plan) | {"faults": sorted(plan.faults)})


def read(text: str) -> Plan:
    """Read a plan that was written.

    Raises:
        ValueError, TypeError: it is none.
    """
    fields = json.loads(text)
    return Plan(**fields | {"faults": frozenset(map(Fault, fields["faults"]))})


def _is_same(failed: Result, result: Result) -> bool:
    if failed.violation is None or result.violation is None:
        return False
    return failed.violation.rule == result.violation.rule


def _smaller(plan: Plan) -> Iterator[Plan]:
    """Go through plans with something left out, the largest cuts first, each with some seeds."""
    for fewer in _cuts(plan):
        yield fewer
        for seed in range(1, _OTHER_SEEDS + 1):
            yield replace(fewer, seed=seed)
    for fault in sorted(plan.faults):
        yield replace(plan, faults=plan.faults - {fault})


def _cuts(plan: Plan) -> Iterator[Plan]:
    faults = sorted(plan.faults)
    half = len(faults) // 2
    if plan.least_steps:
        yield replace(plan, least_steps=0)
    for kept in ([], faults[:half], faults[half:], faults[::2], faults[1::2]):
        if len(kept) < len(faults):
            yield replace(plan, faults=frozenset(kept))
    for operations in sorted({1, plan.operations // 2, plan.operations - 1}):
        if 0 < operations < plan.operations:
            yield replace(plan, operations=operations)
    if plan.callers > 1:
        yield replace(plan, callers=plan.callers - 1)
    if plan.servers > 1:
        yield replace(plan, servers=plan.servers - 1)
    if plan.is_shuffled:
        yield replace(plan, is_shuffled=False)
    if plan.has_limits:
        yield replace(plan, has_limits=False)
