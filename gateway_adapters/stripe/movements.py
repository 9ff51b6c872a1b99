"""Stripe's own books: the charges that it captured, its refunds, and its disputes.

Source: https://docs.stripe.com/api/charges/list, https://docs.stripe.com/api/refunds/list and
https://docs.stripe.com/api/disputes/list.
"""

from collections.abc import AsyncIterator

from gateway_adapters.gateway import Movement
from gateway_adapters.stripe.api import StripeApi, reading
from gateway_adapters.stripe.reversals import read_dispute, read_refund
from gateway_adapters.stripe.wire import created_ms, read_captured_charge
from gateway_adapters.wire import Unreadable
from server.ledger.records import GatewayReversal


async def movements(
    api: StripeApi, start_time_ms: int, end_time_ms: int
) -> AsyncIterator[Movement]:
    """Go through what was captured, refunded and disputed; see Gateway.

    The time of each is the second in which Stripe made it: when a charge was captured, it does not
    tell. They are all that the account has, also what was not for a wallet.
    """
    query = {
        "created[gte]": str(max(0, start_time_ms // 1000)),
        "created[lt]": str(max(0, -(-end_time_ms // 1000))),
    }
    for path, read_fact in (
        ("/v1/charges", read_captured_charge),
        ("/v1/refunds", read_refund),
        ("/v1/disputes", read_dispute),
    ):
        async for entry in api.entries(path, query):
            with reading():
                fact, time_ms = read_fact(entry), created_ms(entry)
                if time_ms is None:
                    raise Unreadable("The entry tells no time.")
            if fact is not None and start_time_ms <= time_ms < end_time_ms:
                yield Movement(fact, time_ms)


async def refunds_of(api: StripeApi, intent_id: str) -> tuple[GatewayReversal, ...]:
    """Return what was refunded of a payment, whoever started it.

    Raises:
        GatewayUnavailable, GatewayRefused.
    """
    return await _reversals(api, "/v1/refunds", intent_id)


async def disputes_of(api: StripeApi, intent_id: str) -> tuple[GatewayReversal, ...]:
    """Return what is or was disputed of a payment.

    Raises:
        GatewayUnavailable, GatewayRefused.
    """
    return await _reversals(api, "/v1/disputes", intent_id)


async def _reversals(api: StripeApi, path: str, intent_id: str) -> tuple[GatewayReversal, ...]:
    read_fact = read_refund if path == "/v1/refunds" else read_dispute
    found: list[GatewayReversal] = []
    async for entry in api.entries(path, {"payment_intent": intent_id}):
        with reading():
            fact = read_fact(entry)
        if fact is not None and fact.payment_id == intent_id:
            found.append(fact)
    return tuple(found)
