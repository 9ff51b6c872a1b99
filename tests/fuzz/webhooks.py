"""Webhooks of every gateway: their headers, and what stands behind a signature that fits."""

import base64
import hashlib
import hmac
import json
import zlib
from collections.abc import Sequence
from functools import cache
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256

from event_samples import SAMPLES, Sample
from fuzz.target import Target
from fuzz.wallets import GOOGLE, GOOGLE_ROOTS, ISSUER_ID, NOW_MS
from gateway_adapters.gateway import (
    MalformedEvent,
    SignatureInvalid,
    WebhookEvent,
)
from gateway_adapters.google_pay import GooglePayError, PassCallback, verify_pass_callback
from gateway_adapters.paypal import events as paypal
from gateway_adapters.paypal import signature as paypal_signature
from gateway_adapters.paypal.certificates import is_allowed
from gateway_adapters.razorpay.webhook import read_webhook as read_razorpay
from gateway_adapters.sandbox.google_pay_signing import PASSES, pass_callback, signed_message
from gateway_adapters.stripe import events as stripe
from gateway_adapters.stripe import signature as stripe_signature
from gateway_adapters.stripe.wire import without_client_secrets
from server.ledger.money import Money

SECRET: Final = "webhook-secret"
WEBHOOK_ID: Final = "WH-FUZZ"
_REFUSALS: Final = (SignatureInvalid, MalformedEvent)
_SECONDS: Final = NOW_MS // 1_000
_CERTIFICATES: Final = "https://api.paypal.com/v1/notifications/certs/"
_FIXED_BODY: Final = b'{"event": "payment.downtime.started", "payload": {}}'
_MAX_EVENT_ID, _MAX_EVENT_TYPE = 128, 128


def targets() -> list[Target]:
    """Return all targets of webhooks."""
    return [
        Target("razorpay_body", _razorpay_body, _REFUSALS, lambda: _bodies("razorpay")),
        Target("paypal_body", _paypal_body, _REFUSALS, lambda: _bodies("paypal")),
        Target("stripe_body", _stripe_body, _REFUSALS, lambda: _bodies("stripe")),
        Target("webhook_headers", _headers, _REFUSALS, _header_seeds),
        Target("pass_callback", _pass_callback, (GooglePayError,), _callback_seeds),
        Target("pass_message", _pass_message, (GooglePayError,), _message_seeds),
    ]


def _razorpay_headers(body: bytes) -> dict[str, str]:
    """Sign a body as Razorpay does."""
    return {
        "x-razorpay-signature": hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest(),
        "x-razorpay-event-id": "evt_00000000000001",
    }


def _razorpay_body(body: bytes) -> WebhookEvent:
    return _checked(read_razorpay(_razorpay_headers(body), body, [SECRET]))


def _paypal_body(body: bytes) -> object:
    told = paypal.read_event(body)
    _checked(told.event)
    return told, paypal.taken_by_dispute(told.event, Money("USD", 1))


def _stripe_body(body: bytes) -> WebhookEvent:
    stripe_signature.verify(_stripe_headers(body), body, [SECRET], _SECONDS)
    event = _checked(stripe.read_event(body))
    assert len(without_client_secrets(body)) <= len(body) + 13 * body.count(b"client_secret")
    return event


def stripe_signature_of(body: bytes, secret: str, seconds: int) -> str:
    """Sign a body as Stripe does, at a time."""
    message = f"{seconds}.".encode() + body
    digest = hmac.new(secret.encode(), message, hashlib.sha256).hexdigest()
    return f"t={seconds},v1={digest}"


def _stripe_headers(body: bytes) -> dict[str, str]:
    return {"stripe-signature": stripe_signature_of(body, SECRET, _SECONDS)}


def _headers(content: bytes) -> object:
    """Take lines `name: value` as the headers of the webhook of the gateway that the first names.

    The body is always the same, so that its right signature is a seed.
    """
    gateway, *lines = content.decode("utf-8", "replace").split("\n")
    headers = {
        name.strip().lower(): value.strip()
        for name, _, value in (line.partition(":") for line in lines)
    }
    if gateway == "razorpay":
        return _checked(read_razorpay(headers, _FIXED_BODY, ["older-secret", SECRET]))
    if gateway == "stripe":
        stripe_signature.verify(headers, _FIXED_BODY, ["older-secret", SECRET], _SECONDS)
        return None
    transmission = paypal_signature.read_transmission(headers)
    paypal_signature.check_signature(transmission, _FIXED_BODY, WEBHOOK_ID, _key().public_key())
    return is_allowed(transmission.certificate_url, _CERTIFICATES)


def _pass_callback(body: bytes) -> PassCallback:
    return verify_pass_callback(body, GOOGLE_ROOTS, ISSUER_ID, NOW_MS)


def _pass_message(content: bytes) -> PassCallback:
    """Take what a callback says, once it is signed."""
    text = content.decode("utf-8", "replace")
    body = signed_message(GOOGLE.passes_root, GOOGLE.intermediate, PASSES, ISSUER_ID, text, NOW_MS)
    return _pass_callback(body.encode())


def _checked(event: WebhookEvent) -> WebhookEvent:
    assert 0 < len(event.event_id) <= _MAX_EVENT_ID
    assert 0 < len(event.event_type) <= _MAX_EVENT_TYPE
    assert event.event_id.isprintable()
    assert event.event_type.isprintable()
    if event.fact is not None:
        assert event.fact.amount.minor_units >= 0
    return event


def _bodies(gateway: str) -> Sequence[bytes]:
    return [json.dumps(body_of(gateway, sample)).encode() for sample in SAMPLES[gateway]]


def body_of(gateway: str, sample: Sample) -> dict[str, Any]:
    """Return what a gateway sends for a sample."""
    if gateway == "razorpay":
        payload = {name: {"entity": entity} for name, entity in sample.content.items()}
        return {"event": sample.kind, "created_at": _SECONDS, "payload": payload}
    if gateway == "paypal":
        return {
            "id": "WH-1",
            "event_type": sample.kind,
            "create_time": "2026-07-01T12:00:00.000Z",
            "resource": sample.content,
        }
    return {
        "id": "evt_1",
        "object": "event",
        "type": sample.kind,
        "created": _SECONDS,
        "data": {"object": sample.content},
    }


@cache
def _key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65_537, 2_048)


def _header_seeds() -> list[bytes]:
    seeds = []
    for gateway, headers in (
        ("razorpay", _razorpay_headers(_FIXED_BODY)),
        ("stripe", _stripe_headers(_FIXED_BODY)),
        ("paypal", _paypal_headers()),
    ):
        lines = [gateway, *(f"{name}: {value}" for name, value in headers.items())]
        seeds.append("\n".join(lines).encode())
    return seeds


def _paypal_headers() -> dict[str, str]:
    transmission_id, time = "dfb3be50-fd74-11e4-8bf3-77339302725b", "2026-07-01T12:00:00Z"
    message = f"{transmission_id}|{time}|{WEBHOOK_ID}|{zlib.crc32(_FIXED_BODY)}".encode()
    signature = _key().sign(message, PKCS1v15(), SHA256())
    return {
        "paypal-auth-algo": "SHA256withRSA",
        "paypal-transmission-id": transmission_id,
        "paypal-transmission-time": time,
        "paypal-transmission-sig": base64.b64encode(signature).decode(),
        "paypal-cert-url": f"{_CERTIFICATES}CERT-1",
    }


def _content() -> dict[str, Any]:
    return {
        "classId": f"{ISSUER_ID}.class",
        "objectId": f"{ISSUER_ID}.object",
        "expTimeMillis": NOW_MS + 60_000,
        "eventType": "save",
        "nonce": "c1e59b8a",
    }


def _callback_seeds() -> list[bytes]:
    return [pass_callback(GOOGLE, ISSUER_ID, _content(), NOW_MS).encode()]


def _message_seeds() -> list[bytes]:
    return [json.dumps(_content()).encode(), json.dumps(_content() | {"classId": None}).encode()]
