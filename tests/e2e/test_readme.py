"""The README's commands, pasted as they stand into a shell, against a real `wallet-payment up`."""

import asyncio
import base64
import json
import re
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from command_line import run
from pasted import blocks_of
from running_up import ROOT, Up, running_up


@pytest.fixture(scope="module")
async def up(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Up]:
    """Everything, started by the command that the README names."""
    async with running_up(tmp_path_factory.mktemp("up")) as up:
        yield up


async def test_each_line_of_the_readme_works_when_pasted(up: Up) -> None:
    """Top-up, payment, refund, history and books, as the README shows them."""
    blocks = blocks_of("README.md")
    assert len(blocks) >= 5

    output = await up.paste("\n".join(blocks))

    assert '"TOPUP_STATE_PENDING"' in output
    assert '"TRANSACTION_TYPE_PAYMENT"' in output
    assert '"TRANSACTION_TYPE_REFUND"' in output
    assert "3 transactions, INR 350.00 held: the books agree" in output

    again = await up.paste("\n".join(block for block in blocks if "sandbox/orders" not in block))

    assert "3 transactions, INR 350.00 held: the books agree" in again


async def test_each_line_of_the_guide_to_wallets_works_when_pasted(up: Up) -> None:
    """Google Pay, Apple Pay with its session, refusals and callbacks, as the guide shows them."""
    blocks = blocks_of("docs/guides/google-and-apple-pay.md")
    assert len(blocks) >= 5

    output = await up.paste("\n".join(blocks))

    assert output.count('"TOPUP_STATE_CREDITED"') == 2
    assert output.count('"TOPUP_STATE_FAILED"') == 1
    assert "merchantSessionIdentifier" in output
    assert "The token was signed too long ago." in output
    assert "Refused, as it should be." in output
    assert "USD 20.00 held: the books agree" in output

    again = await up.paste("\n".join(blocks))

    assert "It is paid already." in again
    assert "USD 20.00 held: the books agree" in again


async def test_the_lines_of_the_operators_page_work_when_pasted(up: Up) -> None:
    """A secret for webhooks; and by Stripe a top-up, its client secret, and its credit."""
    set_up = blocks_of("README.md")[0]
    blocks = blocks_of("docs/operation/running.md")
    assert len(blocks) == 2

    output = await up.paste("\n".join([set_up, *blocks, 'echo "$TOPUP"']))

    (secret,) = re.findall(r"^whsec_(\S+)$", output, re.MULTILINE)
    assert len(base64.b64decode(secret)) == 32
    paid, _, topup = output.rpartition('"topup": {')
    assert '"TOPUP_STATE_PENDING"' in topup
    assert re.search(r'"client_secret": "pi_\w+_secret_\w+"', topup)
    assert '"TRANSACTION_TYPE_TOPUP"' in paid
    assert '"minor_units": "5000"' in paid


@pytest.mark.timeout(400)
async def test_each_line_of_the_page_on_the_command_line_works_when_pasted(up: Up) -> None:
    """Top-up, payment and refund by hand, statement, report and completion, as they stand."""
    blocks = blocks_of("docs/operation/command-line.md")
    assert len(blocks) == 5
    (ROOT / "build").mkdir(exist_ok=True)

    output = await up.paste("\n".join([*blocks, "complete -p wallet-payment"]))

    assert "state              CREDITED" in output
    assert "payment_state      PARTIALLY_REFUNDED" in output
    assert "build/statement.html: INR 350.00 at the end" in output
    assert "page       build/report.html" in output
    assert output.count("takes the credentials") == 3
    assert "problem  " not in output
    assert "_wallet_payment_completion wallet-payment" in output


async def test_what_up_prints_works_when_pasted_anywhere(up: Up, tmp_path: Path) -> None:
    """Its lines find the commands of the environment it runs in, from any folder."""
    lines = up.printed.partition("Paste in another shell, here:")[2].partition("Ctrl-C")[0]

    output = await up.paste(f"PATH=/usr/bin:/bin\ncd {tmp_path}\n{lines}")

    assert isinstance(json.loads(output), dict)


async def test_grpcurl_lists_and_describes(up: Up) -> None:
    """Reflection tells services, methods with their scopes, and messages."""
    grpcurl = "grpcurl -plaintext 127.0.0.1:50051"

    assert "wallet_payment.v1.WalletPaymentService" in await up.paste(f"{grpcurl} list")
    described = await up.paste(
        f"{grpcurl} describe wallet_payment.v1.WalletPaymentService.RefundToWallet"
    )
    assert 'required_scope) = "refund.write"' in described
    assert "int64 minor_units = 2" in await up.paste(f"{grpcurl} describe wallet_payment.v1.Money")


async def test_metrics_count_calls(up: Up) -> None:
    """The address that `up` prints serves Prometheus' metrics under the ecosystem's names."""
    output = await up.paste("curl --silent --fail http://127.0.0.1:9464/metrics")

    assert "grpc_server_handled_total" in output
    assert "wallet_commit_batch_size_bucket" in output


async def test_a_second_up_on_the_same_folder_says_what_to_do(up: Up) -> None:
    """The folder's MongoDB is in use: the error names the setting to change."""
    _, errors = await run("up", environment=up.environment, status=2)

    assert "WALLET_DATA_DIR" in errors


async def test_up_stops_cleanly_on_ctrl_c_and_keeps_its_data(up: Up) -> None:
    """After SIGINT the process ends with success, and the books are still there to verify."""
    before = await up.paste("wallet-payment books verify")

    up.process.send_signal(signal.SIGINT)
    async with asyncio.timeout(20):
        status = await up.process.wait()

    assert status == 0
    assert await up.paste("wallet-payment books verify") == before
