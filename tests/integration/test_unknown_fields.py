"""What this release makes of what a later one has written into the same records."""

from harness import Harness
from wallet_payment.v1 import resources_pb2 as resources

LATER = {"$set": {"of_a_later_release": {"kept": True}}}


async def test_what_a_later_release_has_written_stops_nothing(harness: Harness) -> None:
    """Wallet and top-up are written whole, without what is unknown here; an order keeps it."""
    customer = await harness.customer(balance=1_000)
    topup = await harness.initiate(customer, 500)
    order = await harness.order(customer, 300)
    wallets, orders, topups = (harness.database[name] for name in ("wallets", "orders", "topups"))
    await wallets.update_one({"customer_id": customer}, LATER)
    await orders.update_one({"_id": order}, LATER)
    await topups.update_one({"_id": topup.topup_id}, LATER)

    await harness.pay(customer, 300, order)
    await harness.pay_at_gateway(topup.gateway_order_id)
    await harness.wait_for_topup(topup, resources.TOPUP_STATE_CREDITED)

    found = [
        await wallets.find_one({"customer_id": customer}),
        await topups.find_one({"_id": topup.topup_id}),
        await orders.find_one({"_id": order}),
    ]
    assert found[0]["balance"] == 1_200
    assert ["of_a_later_release" in one for one in found] == [False, False, True]
