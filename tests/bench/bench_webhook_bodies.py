"""Webhooks of top-ups' payments, as Razorpay sends them."""

import hashlib
import hmac
import json
import time
from typing import Final

from bench_requests import CURRENCY, PRICE_MINOR_UNITS

WEBHOOK_SECRET: Final = "bench-webhook-secret"


def gateway_order_id(number: int) -> str:
    """Name the gateway's order of a top-up."""
    return f"order_{number:014}"


def webhook(number: int) -> tuple[bytes, dict[str, str]]:
    """Return the body and the headers that report the payment of this number as captured."""
    now = int(time.time())
    payment = {
        "id": f"pay_{number:014}",
        "entity": "payment",
        "amount": PRICE_MINOR_UNITS,
        "currency": CURRENCY,
        "status": "captured",
        "order_id": gateway_order_id(number),
        "invoice_id": None,
        "international": False,
        "method": "card",
        "amount_refunded": 0,
        "refund_status": None,
        "captured": True,
        "description": "Wallet top-up",
        "card_id": f"card_{number:014}",
        "bank": None,
        "wallet": None,
        "vpa": None,
        "email": "customer@example.com",
        "contact": "+919999999999",
        "notes": [],
        "fee": 291,
        "tax": 44,
        "error_code": None,
        "error_description": None,
        "created_at": now,
    }
    event = {
        "entity": "event",
        "account_id": "acc_00000000000001",
        "event": "payment.captured",
        "contains": ["payment"],
        "payload": {"payment": {"entity": payment}},
        "created_at": now,
    }
    body = json.dumps(event).encode()
    return body, {
        "Content-Type": "application/json",
        "X-Razorpay-Event-Id": f"evt_{number:014}",
        "X-Razorpay-Signature": hmac.new(WEBHOOK_SECRET.encode(), body, hashlib.sha256).hexdigest(),
    }
