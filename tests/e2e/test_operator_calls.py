"""`wallet-payment topup`, `pay`, `refund` and `status` as an operator meets them."""

import json
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from command_line import run_in_process
from harness import Harness, free_port, jwt_keys, token, unique
from wallet_payment.v1 import resources_pb2 as resources

Run = Callable[..., Awaitable[tuple[str, str]]]


@pytest.fixture
def run(harness: Harness, tmp_path: Path) -> Run:
    """The command line of whoever has the tests' keys and database."""

    async def run(*arguments: str, status: int = 0, **changes: str) -> tuple[str, str]:
        environment = {
            "WALLET_MONGODB_URI": harness.settings.mongodb_uri.get_secret_value(),
            "WALLET_SERVER_TARGET": harness.grpc_address,
            "WALLET_JWT_KEYS": json.dumps(jwt_keys()),
            "WALLET_JWT_ALGORITHMS": "HS256",
            "WALLET_DATA_DIR": str(tmp_path),
        } | changes
        return await run_in_process(
            *arguments, environment=environment, folder=tmp_path, status=status
        )

    return run


async def test_a_topup_is_started_and_told_by_its_names(harness: Harness, run: Run) -> None:
    """`topup` prints the key and how it is paid; `status` finds it by each of its three names."""
    customer = await harness.customer()

    output, errors = await run(
        "topup", customer, "INR:50000", "--gateway", "razorpay", "--method", "upi"
    )
    assert errors.startswith("idempotency key    operator-")
    fields = dict(line.split(maxsplit=1) for line in output.replace("'s ", "-").splitlines()[:2])
    assert fields["amount"] == "INR 500.00"
    topup_id = fields["top-up"]
    stored = await harness.database.topups.find_one({"_id": topup_id})
    assert stored["gateway_order_id"] in output
    await harness.pay_at_gateway(stored["gateway_order_id"])
    started = resources.Topup(topup_id=topup_id, customer_id=customer)
    credited = await harness.wait_for_topup(started, resources.TOPUP_STATE_CREDITED)

    for name in (topup_id, credited.gateway_order_id, credited.gateway_payment_id):
        records = json.loads((await run("status", name, "--json"))[0])
        (record,) = [one for one in records if one["record"] == "top-up"]
        assert (record["topup_id"], record["state"]) == (topup_id, "CREDITED")
        assert record["amount"] == {"currency_code": "INR", "minor_units": 50_000}
        assert "APPLIED" in {event["outcome"] for event in record["events"]}
    shown, _ = await run("status", topup_id)
    assert "state              CREDITED" in shown
    assert "amount             INR 500.00" in shown


async def test_a_payment_and_its_refund_by_hand(harness: Harness, run: Run) -> None:
    """`pay` and `refund` move the money once and say where it is; a repeat with the key agrees."""
    customer = await harness.customer(balance=1_000)
    order = unique("order")

    paid, errors = await run("pay", customer, order, "INR:600")
    key = errors.split()[-1]
    again, _ = await run("pay", customer, order, "INR:600", "--key", key)
    assert again == paid
    assert "wallet holds       INR 4.00" in paid
    refunded, _ = await run("refund", customer, order, "INR:250", "--reason", "one came back")
    assert "wallet holds       INR 6.50" in refunded
    rest = json.loads((await run("refund", customer, order, "--reason", "all", "--json"))[0])
    assert rest["refund"]["amount"]["minor_units"] == "350"
    assert rest["idempotency_key"].startswith("operator-")
    assert await harness.balance(customer) == 1_000

    (record,) = json.loads((await run("status", order, "--json"))[0])
    assert (record["payment_state"], record["refunded_amount"]["minor_units"]) == ("REFUNDED", 600)
    assert [refund["reason"] for refund in record["refunds"]] == ["one came back", "all"]
    (entry,) = json.loads((await run("status", record["transaction_id"], "--json"))[0])
    assert (entry["type"], entry["amount"]["minor_units"]) == ("PAYMENT", -600)
    shown, _ = await run("status", customer)
    assert shown.splitlines()[:2] == [
        "record             customer",
        f"customer_id        {customer}",
    ]
    assert "wallets            INR  INR 10.00  ACTIVE" in shown
    assert shown.count("recent_transactions") == 4
    assert re.search(r"^recent_transactions txn_\w+  TOPUP  ", shown, re.MULTILINE)
    assert not re.search(r"[0-9a-f]{64}", shown)


async def test_a_refusal_is_told_with_its_reason(harness: Harness, run: Run) -> None:
    """What the server refuses ends with 1, in words and as JSON, and moves nothing."""
    customer = await harness.customer(balance=100)

    _, errors = await run("pay", customer, unique("order"), "INR:600", status=1)
    assert "INSUFFICIENT_FUNDS" in errors
    assert "--key" not in errors
    output, _ = await run("pay", customer, unique("order"), "INR:600", "--json", status=1)
    told: dict[str, Any] = json.loads(output)["error"]
    assert (told["reason"], told["repeat"]) == ("INSUFFICIENT_FUNDS", False)
    assert await harness.balance(customer) == 100


async def test_where_nobody_answers_the_key_is_kept(run: Run) -> None:
    """Without a server the command ends with 2 and says how to ask for the same again."""
    target = f"127.0.0.1:{free_port()}"

    _, errors = await run(
        "pay", "asha", "order-1", "INR:600", status=2, WALLET_SERVER_TARGET=target
    )

    key = errors.split()[2]
    assert "check WALLET_SERVER_TARGET" in errors
    assert f"the same command with --key {key}" in errors


async def test_the_operators_own_token_is_used(harness: Harness, run: Run) -> None:
    """A token that is set is what calls are made with, whatever its scopes, and never shown."""
    customer = await harness.customer(balance=100)
    without = token(scope="status.read")

    output, errors = await run(
        "pay", customer, unique("order"), "INR:60", status=1, WALLET_OPERATOR_TOKEN=without
    )

    assert "SCOPE_MISSING" in errors
    assert without not in output + errors


@pytest.mark.parametrize("amount", ["600", "INR:-1", "INR:6.00", "EURO:1", "INR:", "INR:٣"])
async def test_what_is_no_amount_is_refused(run: Run, amount: str) -> None:
    """An amount that cannot be read is told with how one is written."""
    _, errors = await run("pay", "asha", "order-1", amount, status=2)

    assert "such as INR:50000" in errors


async def test_what_nobody_knows_ends_with_1(run: Run) -> None:
    """A name that nothing has is told so."""
    _, errors = await run("status", "pay_nobody", status=1)

    assert "Nothing is known of pay_nobody." in errors
    assert json.loads((await run("status", "pay_nobody", "--json", status=1))[0]) == []
