"""The guides for newcomers and operators: their commands, pasted as they stand."""

import asyncio
import os
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from command_line import BIN
from harness import unique, with_database
from pasted import blocks_of
from running_up import ROOT, Up, running_up
from written_books import DAY_MS, START_MS, written_books

FLAGS = re.MULTILINE | re.DOTALL


@pytest.fixture(scope="module")
async def up(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Up]:
    """Everything, started by the command that the guides name."""
    async with running_up(tmp_path_factory.mktemp("up")) as up:
        yield up


@pytest.mark.timeout(400)
async def test_the_first_hour_goes_as_its_guide_says(up: Up) -> None:
    """Top-up, payment, refusal, events, faults, review, metrics and books, one after the other."""
    blocks = blocks_of("docs/guides/first-hour.md")
    assert len(blocks) >= 12

    output = await up.paste("\n".join(blocks))

    assert "wallet_payment.v1.WalletPaymentService" in output
    assert "INSUFFICIENT_FUNDS" in output
    assert re.findall(r'"(WALLET_EVENT_TYPE_\w+)"', output) == [
        "WALLET_EVENT_TYPE_TOPUP_CREDITED",
        "WALLET_EVENT_TYPE_PAYMENT_MADE",
        "WALLET_EVENT_TYPE_REFUND_MADE",
    ]
    assert re.findall(r"^TOPUP_STATE_\w+$", output, re.MULTILINE) == [
        "TOPUP_STATE_PENDING",
        "TOPUP_STATE_CREDITED",
    ]
    assert "Captured were INR 90.00, the top-up is for INR 100.00." in output
    assert "resolved by transaction txn_" in output
    assert 'wallet_payments_total{outcome="paid"} 1.0' in output
    assert "5 transactions, INR 740.00 held: the books agree" in output


async def test_wallets_are_migrated_as_the_guide_says(up: Up) -> None:
    """Looked at, brought in, brought in again: what is printed is what the guide shows."""
    guide = "docs/guides/migrate-wallets.md"
    shown = re.findall(r"^```\n(MISSING.*?)^```", (ROOT / guide).read_text("utf-8"), FLAGS)
    assert len(shown) == 1

    output = await up.paste("\n".join(blocks_of(guide)))

    assert shown[0] in output
    assert "brought in now: 3 wallets, against import-old-shop" in output
    assert "brought in now: 0 wallets, against import-old-shop" in output
    assert re.search(r"gateway:import-old-shop:INR +INR -1599\.50", output)
    assert "the books agree" in output


async def test_secrets_are_rotated_as_the_guide_says(mongodb_uri: str, tmp_path: Path) -> None:
    """The token's file is replaced, no secret is shown, and each seal holds by its own key."""
    async with written_books(with_database(mongodb_uri, unique("rotated"))) as books:
        customer = await books.busy_customer()
        books.now_ms = START_MS + DAY_MS
        await books.pay(customer["customer"], 1)
        script = "\n".join(blocks_of("docs/guides/rotate-secrets.md"))
        for example, day in (("2026-11-01", "2023-11-14"), ("2026-11-02", "2023-11-15")):
            script = script.replace(example, day)
        process = await asyncio.create_subprocess_exec(
            *("bash", "-e", "-o", "pipefail", "-c", script),
            cwd=tmp_path,
            env={
                "PATH": f"{BIN}:{os.environ['PATH']}",
                "WALLET_MONGODB_URI": books.uri,
                "WALLET_DATA_DIR": str(tmp_path / "data"),
            },
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output = (await process.communicate())[0].decode()

    assert process.returncode == 0, output
    secrets = tmp_path / "build/secrets"
    assert (secrets / "sidecar").stat().st_mode & 0o777 == 0o600
    assert "(secret, set),(secret, set)" in output
    assert output.count("WALLET_RAZORPAY_WEBHOOK_SECRETS=(secret, set)") == 2
    assert (secrets / "razorpay-webhook").read_text().strip() not in output
    assert output.count("1 seals compared") == 2
    assert output.count("the books agree") == 2


async def test_a_qr_code_is_paid_as_the_guide_to_upi_says(up: Up) -> None:
    """With the README's `call`, the QR code of the top-up is paid, and credits the wallet."""
    set_up = blocks_of("README.md")[0]

    output = await up.paste("\n".join([set_up, *blocks_of("docs/guides/pay-by-upi.md")]))

    assert '"TRANSACTION_TYPE_TOPUP"' in output
    assert '"minor_units": "50000"' in output


async def test_calls_are_found_as_the_page_on_the_audit_says(up: Up) -> None:
    """A customer's calls in a time, and those that were refused for their token."""
    calls = """
call GetStatus '{"customer_id": "customer-1"}' > /dev/null
TOKEN=of-nobody
! call GetStatus '{"customer_id": "customer-1"}' 2> /dev/null
until wallet-payment audit search --outcome UNAUTHENTICATED > /dev/null; do sleep 0.1; done
"""
    (search,) = blocks_of("docs/operation/audit.md")
    today = datetime.now(UTC)
    for example, day in (("2026-11-01", today), ("2026-11-02", today + timedelta(days=2))):
        search = search.replace(example, f"{day:%Y-%m-%d}")

    output = await up.paste("\n".join([blocks_of("README.md")[0], calls, search]))

    assert "GetStatus" in output
    assert '"TOKEN_INVALID"' in output


async def test_rate_limits_are_taken_as_their_page_writes_them(up: Up) -> None:
    """The settings of the example are good ones."""
    (lines,) = blocks_of("docs/operation/rate-limits.md")

    output = await up.paste(f"{lines}\nwallet-payment config")

    assert "WALLET_RATE_LIMIT_CALLERS=500:1000,InitiateTopup=20:100  (set)" in output
    assert "WALLET_RATE_LIMIT_CUSTOMERS=PayWithWallet=2:10,InitiateTopup=0.2:5  (set)" in output
