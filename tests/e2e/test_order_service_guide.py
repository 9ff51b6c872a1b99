"""The order service's guide: its program runs as it stands, and its table has every reason."""

import os
import re
import subprocess
import venv
from pathlib import Path

import pytest

from pasted import blocks_of
from running_up import ROOT, running_up
from server.rpc.errors import STATUS_CODES

GUIDE = "docs/guides/integrate-the-order-service.md"


def test_every_reason_has_its_advice_in_the_guide() -> None:
    """The table names each reason of the contract once, and none that is not there."""
    text = (ROOT / GUIDE).read_text("utf-8")
    rows = re.findall(r"^\| ([A-Z_, ]+) \|", text, re.MULTILINE)
    named = [reason for row in rows for reason in row.split(", ")]

    assert sorted(named) == sorted(STATUS_CODES)


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The programs of an environment that has what the guide installs, and nothing else of ours."""
    venv.create(tmp_path / "own", with_pip=True)
    programs = tmp_path / "own/bin"
    (install,) = blocks_of(GUIDE)
    environment = os.environ | {"PATH": f"{programs}:{os.environ['PATH']}"}
    subprocess.run(["bash", "-e", "-c", install], check=True, cwd=ROOT, env=environment)
    return programs


@pytest.mark.timeout(300)
async def test_the_guides_program_works_as_it_stands(installed: Path, tmp_path: Path) -> None:
    """With the client that it installs: a top-up that pays the order, a refund, all of it heard."""
    text = (ROOT / GUIDE).read_text("utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    async with running_up(tmp_path / "up") as up:
        program = "\n".join(blocks)
        for default, actual in up.addresses.items():
            program = program.replace(default, actual)
        file = tmp_path / "order_service.py"
        file.write_text(program, "utf-8")
        printed = await up.paste(f"{installed}/python {file}")

    assert len(blocks) >= 6
    assert re.search(r"^first: +TOP_UP$", printed, re.MULTILINE)
    assert re.search(r"^then: +PAID$", printed, re.MULTILINE)
    assert re.search(r"^back: +25000$", printed, re.MULTILINE)
    heard = re.findall(r"^heard: +WALLET_EVENT_TYPE_(\w+)$", printed, re.MULTILINE)
    assert heard == ["PAYMENT_MADE", "REFUND_MADE"]
