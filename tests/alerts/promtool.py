"""Asks promtool which alerts fire on what servers told: their scrapes become its input series.

promtool's clock begins at zero and its samples are a minute apart, so that times are told as if
the last scrape had been at zero. What a counter rose by between two scrapes, it rises by each
minute.
"""

import asyncio
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from prometheus_client.samples import Sample

from monitoring_files import RULES
from scraped import Scraped

MINUTES: Final = 420
"""How long a story goes on: longer than the longest window of a rule."""
_TARGET: Final = {"job": "wallet-payment", "instance": "here:9464"}
_TIMES: Final = "_timestamp_seconds"


@dataclass(frozen=True)
class Told:
    """What a server told at the beginning and at the end of a minute."""

    before: Scraped
    after: Scraped
    end_time: float


def told(before: Scraped, after: Scraped) -> Told:
    """Put two scrapes together; the second one was made just now."""
    return Told(before, after, time.time())


async def firing(story: Told, folder: Path, *, is_up: bool = True) -> set[str]:
    """Return the alerts that fire at the end of a story that went on for hours."""
    series = [_series(sample, story) for sample in story.after.samples]
    up = {"series": _name("up", {}), "values": f"{int(is_up)}+0x{MINUTES}"}
    query = 'count by (alertname) (ALERTS{alertstate="firing"})'
    expected: dict[str, Any] = {"expr": query, "eval_time": f"{MINUTES}m", "exp_samples": []}
    test = {
        "rule_files": [str(RULES)],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [*series, up],
                "promql_expr_test": [expected],
            }
        ],
    }
    file = folder / "story.json"
    file.write_text(json.dumps(test), "utf-8")
    output = await run("test", "rules", str(file), may_fail=True)
    return _alerts_in(output)


async def run(*arguments: str, may_fail: bool = False) -> str:
    """Run promtool; return what it prints."""
    process = await asyncio.create_subprocess_exec(
        os.environ["WALLET_TEST_PROMTOOL"],
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output = (await process.communicate())[0].decode()
    assert may_fail or process.returncode == 0, output
    return output


def _alerts_in(output: str) -> set[str]:
    """Read what promtool got instead of nothing: it says so where anything fires."""
    if "SUCCESS" in output:
        return set()
    lines = [line for line in output.splitlines() if line.strip().startswith("got:")]
    assert len(lines) == 1, output
    return {part.split('"')[1] for part in lines[0].split("alertname=")[1:]}


def _series(sample: Sample, story: Told) -> dict[str, str]:
    value, rise = sample.value, 0.0
    if sample.name.endswith(_TIMES):
        value -= story.end_time
        # What was read a minute ago is read again and again; a certificate's end stays where it is.
        rise = 0.0 if "expiry" in sample.name else 60.0
    earlier = story.before.value(sample.name, **sample.labels)
    is_counter = sample.name.endswith(("_total", "_count", "_sum", "_bucket"))
    if is_counter:
        value, rise = earlier, max(0.0, value - earlier)
    values = f"{value:.6f}+{rise:.6f}x{MINUTES}"
    return {"series": _name(sample.name, sample.labels), "values": values}


def _name(name: str, labels: dict[str, str]) -> str:
    pairs = ",".join(f'{label}="{value}"' for label, value in (labels | _TARGET).items())
    return f"{name}{{{pairs}}}"
