"""What tests look up behind a top-up: wallet, credit, records, and the gateway's books."""

import time
from typing import Any

import aiohttp

from harness import Harness
from server.gateways import gateways
from server.reconcile import Reconciliation, reconcile
from server.store.connection import connect
from server.store.queries import MongoGatewayRecords
from wallet_payment.v1 import resources_pb2 as resources
from wallet_payment.v1 import wallet_payment_service_pb2 as service

_HOUR_MS = 3_600_000


async def wallet_of(harness: Harness, topup: resources.Topup) -> resources.Wallet:
    """Return the one wallet of a top-up's customer."""
    request = service.GetStatusRequest(customer_id=topup.customer_id)
    (wallet,) = (await harness.call("GetStatus", request)).wallets
    found: resources.Wallet = wallet
    return found


async def was_credited_once(harness: Harness, topup: resources.Topup) -> bool:
    """Tell whether one entry credits the top-up, and the wallet holds just that."""
    entries = await harness.entries(topup.customer_id)
    balance = await harness.balance(topup.customer_id, topup.amount.currency_code)
    return [entry["type"] for entry in entries] == ["TOPUP"] and balance == topup.amount.minor_units


async def events_of(harness: Harness, topup: resources.Topup) -> list[dict[str, Any]]:
    """Return what was recorded of a top-up's order, oldest first."""
    query = {"gateway": topup.gateway, "gateway_order_id": topup.gateway_order_id}
    cursor = harness.database.gateway_events.find(query).sort("receive_time", 1)
    events: list[dict[str, Any]] = await cursor.to_list(None)
    return events


async def reconciliation(harness: Harness, gateway: str) -> Reconciliation:
    """Compare all that a gateway and the ledger say was moved in the last hour."""
    now_ms = round(time.time() * 1_000)
    uri = harness.settings.mongodb_uri.get_secret_value()
    with connect(uri) as database:
        async with aiohttp.ClientSession() as session:
            return await reconcile(
                gateways(harness.settings, session)[gateway],
                MongoGatewayRecords(database),
                now_ms - _HOUR_MS,
                now_ms + _HOUR_MS,
            )
