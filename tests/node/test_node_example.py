"""The example for Node, against everything that `wallet-payment up` runs."""

import os
from pathlib import Path

from running_up import ROOT, running_up

NODE = os.environ.get("WALLET_TEST_NODE", "")
EXAMPLE = ROOT / "build" / "node-example"


async def test_the_example_tops_up_pays_refunds_and_hears_of_it(tmp_path: Path) -> None:
    """Each step of the checkout works from Node, and the feed tells all three."""
    async with running_up(tmp_path) as up:
        printed = await up.paste(
            f"export TOKEN=$(wallet-payment token) WALLET_TARGET=127.0.0.1:50051\n"
            f"export WALLET_SANDBOX=http://127.0.0.1:8090 WALLET_PROTOS={ROOT}/protos\n"
            f"{NODE} {EXAMPLE}/checkout.mjs"
        )

    assert "TOPUP_STATE_PENDING" in printed
    assert "once: true" in printed
    assert "refused  ORDER_ALREADY_PAID" in printed
    assert "refunded 20000 INR" in printed
    assert "heard    TOPUP_CREDITED, PAYMENT_MADE, REFUND_MADE" in printed
