"""A short round of what `make flood` does, without its clock."""

from pathlib import Path

import pytest
from flood_run import run_flood

from harness import unique, with_database
from wallet_payment.v1 import resources_pb2 as resources


@pytest.mark.timeout(300)
async def test_a_flood_moves_no_money_and_takes_no_memory(mongodb_uri: str, tmp_path: Path) -> None:
    """Forged and slow webhooks credit nothing; payments and a real gateway's webhooks go on."""
    uri = with_database(mongodb_uri, unique("flood"))

    report = await run_flood(uri, tmp_path, seconds=4, rounds=1)

    assert report.forged.state == resources.TOPUP_STATE_PENDING
    assert min(report.attacked_per_second) > 0
    assert report.webhooks > 0
    assert not [answer for answer in report.answers if answer.endswith(" 200")]
    assert report.answers["signature 429"] > 0
    reached_the_server = sum(
        report.answers.get(f"{kind} 401", 0) for kind in ("signature", "large")
    )
    assert 0 < reached_the_server < 500 + 10 * 60
    assert report.answers["too large 413"] > 0
    assert {answer for answer in report.answers if answer.startswith("slow")} != set()
    assert report.sidecar_peak_mebibytes < 400
    assert report.server_grown_mebibytes < 200
