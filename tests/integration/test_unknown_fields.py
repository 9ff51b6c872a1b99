"""What a later release has written stays when this one writes the same record."""

import ast
import inspect
from typing import Any

import pytest

from harness import Harness
from server.store import documents
from wallet_payment.v1 import resources_pb2 as resources

LATER = {"$set": {"of_a_later_release": {"kept": True}}}


async def test_a_field_of_a_later_release_stays(harness: Harness) -> None:
    """Wallet, order and top-up keep what this release does not know, and lose what is over."""
    customer = await harness.customer(balance=1_000)
    topup = await harness.initiate(customer, 500)
    order = await harness.order(customer, 300)
    wallets, orders, topups = (harness.database[name] for name in ("wallets", "orders", "topups"))
    await wallets.update_one({"customer_id": customer}, LATER)
    await orders.update_one({"_id": order}, LATER)
    await topups.update_one({"_id": topup.topup_id}, LATER)
    assert "poll_time" in await topups.find_one({"_id": topup.topup_id})

    await harness.pay(customer, 300, order)
    await harness.pay_at_gateway(topup.gateway_order_id)
    await harness.wait_for_topup(topup, resources.TOPUP_STATE_CREDITED)

    found: list[dict[str, Any]] = [
        await wallets.find_one({"customer_id": customer}),
        await orders.find_one({"_id": order}),
        await topups.find_one({"_id": topup.topup_id}),
    ]
    assert [one["of_a_later_release"] for one in found] == [{"kept": True}] * 3
    assert found[0]["balance"] == 1_200
    assert "poll_time" not in found[2]


@pytest.mark.parametrize(
    ("write", "optional"),
    [
        (documents.topup_document, documents.OPTIONAL_TOPUP_FIELDS),
        (documents.event_document, documents.OPTIONAL_EVENT_FIELDS),
        (documents.wallet_document, frozenset()),
    ],
)
def test_every_field_that_may_be_missing_is_known_as_such(
    write: Any, optional: frozenset[str]
) -> None:
    """A field that is written under a condition is among those that are removed without it."""
    (function,) = ast.parse(inspect.getsource(write)).body
    conditional = {
        target.slice.value
        for block in ast.walk(function)
        if isinstance(block, ast.If)
        for node in ast.walk(block)
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Subscript)
        and isinstance(target.value, ast.Name)
        and isinstance(target.slice, ast.Constant)
    }

    assert conditional <= optional
