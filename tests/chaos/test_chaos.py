"""A short round of what `make chaos` does for minutes."""

from pathlib import Path

import pytest
from chaos_run import run_chaos


@pytest.mark.timeout(300)
async def test_nothing_is_lost_in_a_short_round(tmp_path: Path) -> None:
    """The primary and a server die, the primary hangs, the gateway is out: no money is lost."""
    report = await run_chaos(tmp_path, seed=7, seconds=24)
    assert report.faults >= 4
    assert report.operations > 100
    assert report.reads > 20
    assert report.streams > 1
    assert report.verdict.findings == []
