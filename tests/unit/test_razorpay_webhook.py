"""Razorpay's webhooks: signatures over raw bytes, and every trap in what they carry."""

import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession

from gateway_adapters.gateway import MalformedEvent, SignatureInvalid
from gateway_adapters.razorpay import Razorpay, RazorpaySettings
from gateway_adapters.razorpay.webhook import is_signed
from server.ledger.money import Money
from server.ledger.records import GatewayPayment, GatewayPaymentStatus, GatewayReversal

VECTORS = Path(__file__).parents[2].parent / "shared" / "vectors"
CURRENT, PREVIOUS = "current-secret", "previous-secret"
TOPUP_ID = "top_01JD8Z6Q7M0123456789ABCDEF"

Entity = dict[str, Any]
MakeRazorpay = Callable[..., Razorpay]


@pytest.fixture
async def make_razorpay() -> AsyncIterator[MakeRazorpay]:
    """Give what makes an adapter with the given webhook secrets; no test here connects."""
    async with ClientSession() as session:
        yield lambda *secrets: Razorpay(
            session, RazorpaySettings("http://127.0.0.1:1", "rzp_test_key", "key-secret", secrets)
        )


@pytest.fixture
def razorpay(make_razorpay: MakeRazorpay) -> Razorpay:
    """Give an adapter in the middle of a rotation of secrets."""
    return make_razorpay(CURRENT, PREVIOUS)


def sign(body: bytes, secret: str = CURRENT) -> str:
    """Sign as Razorpay does."""
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def signed(body: bytes, event_id: str = "evt1", secret: str = CURRENT) -> dict[str, str]:
    """Return the headers of a signed webhook."""
    return {"x-razorpay-signature": sign(body, secret), "x-razorpay-event-id": event_id}


def payment_entity(**fields: object) -> Entity:
    """Return a captured payment, changed as asked."""
    return {
        "id": "pay_DESyzxuld02Zul",
        "entity": "payment",
        "amount": 12345,
        "currency": "INR",
        "status": "captured",
        "order_id": "order_DESxiijbl9xjDB",
        "captured": True,
        "notes": [],
        "error_description": None,
        "error_reason": None,
        "created_at": 1567675356,
        **fields,
    }


def order_entity(**fields: object) -> Entity:
    """Return a paid order, changed as asked."""
    return {
        "id": "order_DESxiijbl9xjDB",
        "entity": "order",
        "amount": 12345,
        "currency": "INR",
        "receipt": TOPUP_ID,
        "status": "paid",
        "notes": [],
        "created_at": 1567675283,
        **fields,
    }


def event_body(event: object, **entities: Entity) -> bytes:
    """Return the body of an event."""
    payload = {name: {"entity": entity} for name, entity in entities.items()}
    return json.dumps({"entity": "event", "event": event, "payload": payload}).encode()


CAPTURED = event_body("payment.captured", payment=payment_entity())


async def read(razorpay: Razorpay, body: bytes) -> Any:
    """Read a body under a good signature."""
    return await razorpay.read_webhook(signed(body), body)


async def test_a_signed_capture_is_read_in_the_ledgers_terms(razorpay: Razorpay) -> None:
    """A captured payment comes with its id, order, exact amount and event id."""
    event = await razorpay.read_webhook(signed(CAPTURED, "evt_7"), CAPTURED)
    assert (event.event_id, event.event_type) == ("evt_7", "payment.captured")
    assert isinstance(event.fact, GatewayPayment)
    assert event.fact.payment_id == "pay_DESyzxuld02Zul"
    assert event.fact.gateway_order_id == "order_DESxiijbl9xjDB"
    assert event.fact.status is GatewayPaymentStatus.CAPTURED
    assert event.fact.amount == Money("INR", 12345)
    assert event.fact.failure_reason == ""


async def test_every_flipped_bit_of_the_body_breaks_the_signature(razorpay: Razorpay) -> None:
    """No single bit of the signed body can be changed."""
    headers = signed(CAPTURED)
    for position in range(len(CAPTURED)):
        for bit in range(8):
            forged = bytearray(CAPTURED)
            forged[position] ^= 1 << bit
            with pytest.raises(SignatureInvalid):
                await razorpay.read_webhook(headers, bytes(forged))


async def test_a_reserialised_body_does_not_fit_its_signature(razorpay: Razorpay) -> None:
    """The same JSON in other bytes is another body."""
    reserialised = json.dumps(json.loads(CAPTURED), separators=(",", ":")).encode()
    assert json.loads(reserialised) == json.loads(CAPTURED)
    with pytest.raises(SignatureInvalid):
        await razorpay.read_webhook(signed(CAPTURED), reserialised)


async def test_another_secret_is_refused(razorpay: Razorpay) -> None:
    """Only the configured secrets sign."""
    with pytest.raises(SignatureInvalid):
        await razorpay.read_webhook(signed(CAPTURED, secret="somebody-elses"), CAPTURED)


@pytest.mark.parametrize("secret", [CURRENT, PREVIOUS])
async def test_both_secrets_of_a_rotation_are_taken(razorpay: Razorpay, secret: str) -> None:
    """Retries that were signed before the rotation still count."""
    assert (await razorpay.read_webhook(signed(CAPTURED, secret=secret), CAPTURED)).fact is not None


async def test_a_retired_secret_is_refused(make_razorpay: MakeRazorpay) -> None:
    """After the rotation the earlier secret signs no more."""
    with pytest.raises(SignatureInvalid):
        await make_razorpay(CURRENT).read_webhook(signed(CAPTURED, secret=PREVIOUS), CAPTURED)


async def test_without_any_secret_nothing_is_taken(make_razorpay: MakeRazorpay) -> None:
    """An adapter that has no secret refuses even what is signed with an empty one."""
    with pytest.raises(SignatureInvalid):
        await make_razorpay().read_webhook(signed(CAPTURED, secret=""), CAPTURED)


@pytest.mark.parametrize("secrets", [("",), (CURRENT, "")])
def test_a_blank_secret_is_refused_at_start(secrets: tuple[str, ...]) -> None:
    """A blank secret, with which anybody could sign, does not come into use."""
    with pytest.raises(ValueError, match="blank"):
        RazorpaySettings("http://127.0.0.1:1", "key", "key-secret", secrets)


@pytest.mark.parametrize(
    "signature",
    ["", "0" * 64, "\u00e9" * 64, "\udcff", "x", sign(CAPTURED).upper(), f" {sign(CAPTURED)}"],
)
async def test_a_signature_that_is_not_exactly_it_is_refused(
    razorpay: Razorpay, signature: str
) -> None:
    """Empty, wrong, foreign or decorated signatures are refused and break nothing."""
    with pytest.raises(SignatureInvalid):
        await razorpay.read_webhook({"x-razorpay-signature": signature}, CAPTURED)


async def test_a_missing_signature_is_refused_before_the_body_is_read(razorpay: Razorpay) -> None:
    """Without the header not even a broken body is looked at."""
    with pytest.raises(SignatureInvalid):
        await razorpay.read_webhook({}, b"{")


def test_secrets_show_in_no_representation() -> None:
    """Settings can be printed without giving a secret away."""
    shown = repr(RazorpaySettings("http://127.0.0.1:1", "key", "key-secret", (CURRENT,)))
    assert "key-secret" not in shown
    assert CURRENT not in shown


@pytest.mark.parametrize(
    ("body", "what"),
    [
        (b"", "empty"),
        (b"{", "not JSON"),
        (b"[]", "a list"),
        (b"null", "null"),
        (b'"event"', "a text"),
        (b"\xff\xfe{}", "not UTF-8"),
        (b'{"event":"payment.captured\xff"}', "not UTF-8 inside"),
        (b'\xef\xbb\xbf{"event":"x.y"}', "a byte order mark"),
        (b"[" * 200_000, "too deep"),
        (b'{"event":"a.b","x":' + b"[" * 200_000 + b"]" * 200_000 + b"}", "too deep inside"),
        (b'{"event":"a.b","x":NaN}', "NaN"),
        (b'{"event":"a.b","x":-Infinity}', "infinity"),
        (b'{"event":"a.b","x":' + b"9" * 10_000 + b"}", "a huge number"),
        (b"{}", "no event"),
        (event_body(None), "event null"),
        (event_body(7), "event a number"),
        (event_body(""), "event empty"),
        (event_body("a" * 65), "event too long"),
        (event_body("payment captured"), "event with a space"),
        (event_body("\ud800"), "event half a character"),
        (event_body("payment.captured"), "no payment"),
        (b'{"event":"payment.captured"}', "no payload"),
        (b'{"event":"payment.captured","payload":[]}', "payload a list"),
        (b'{"event":"payment.captured","payload":{"payment":[]}}', "payment a list"),
        (b'{"event":"payment.captured","payload":{"payment":{"entity":1}}}', "entity a number"),
        (event_body("order.paid", payment=payment_entity()), "no order"),
        (
            event_body(
                "order.paid",
                payment=payment_entity(),
                order=order_entity(id="order_Another"),
            ),
            "another order",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_signed_body_that_is_no_event_is_malformed(
    razorpay: Razorpay, body: bytes, what: str
) -> None:
    """A signature does not make an event of what is none."""
    assert what
    with pytest.raises(MalformedEvent):
        await read(razorpay, body)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("amount", True),
        ("amount", False),
        ("amount", "12345"),
        ("amount", 123.0),
        ("amount", 1e3),
        ("amount", None),
        ("amount", []),
        ("amount", 0),
        ("amount", -1),
        ("amount", 2**63),
        ("amount", 10**400),
        ("currency", None),
        ("currency", ""),
        ("currency", "inr"),
        ("currency", "XXX"),
        ("currency", 356),
        ("currency", ["INR"]),
        ("id", None),
        ("id", 7),
        ("id", ""),
        ("id", "order_1"),
        ("id", "pay_"),
        ("id", "pay_../x"),
        ("id", "pay_1\n"),
        ("order_id", 7),
        ("order_id", ""),
        ("order_id", "pay_1"),
        ("order_id", "order_1/2"),
        ("order_id", "order_" + "a" * 33),
        ("status", None),
        ("status", 1),
        ("status", True),
        ("status", {}),
    ],
)
async def test_a_field_of_another_kind_is_malformed(
    razorpay: Razorpay, field: str, value: object
) -> None:
    """No field is read as something that it is not; least of all the amount."""
    entity = payment_entity(**{field: value})
    with pytest.raises(MalformedEvent):
        await read(razorpay, event_body("payment.captured", payment=entity))


@pytest.mark.parametrize(
    ("event", "status", "expected"),
    [
        ("payment.authorized", "authorized", GatewayPaymentStatus.AUTHORIZED),
        ("payment.authorized", "captured", GatewayPaymentStatus.CAPTURED),
        ("payment.authorized", "refunded", GatewayPaymentStatus.CAPTURED),
        ("payment.authorized", "failed", GatewayPaymentStatus.AUTHORIZED),
        ("payment.captured", "captured", GatewayPaymentStatus.CAPTURED),
        ("payment.captured", "refunded", GatewayPaymentStatus.CAPTURED),
        ("payment.failed", "failed", GatewayPaymentStatus.FAILED),
    ],
)
async def test_the_event_and_the_status_tell_what_happened(
    razorpay: Razorpay, event: str, status: str, expected: GatewayPaymentStatus
) -> None:
    """An authorized payment is captured only where its status says so, refunds included."""
    body = event_body(event, payment=payment_entity(status=status))
    assert (await read(razorpay, body)).fact.status is expected


@pytest.mark.parametrize(
    ("event", "status", "expected"),
    [
        ("payment.failed", "failed", GatewayPaymentStatus.FAILED),
        ("payment.authorized", "authorized", GatewayPaymentStatus.AUTHORIZED),
    ],
)
async def test_the_captured_flag_is_not_trusted(
    razorpay: Razorpay, event: str, status: str, expected: GatewayPaymentStatus
) -> None:
    """`captured: true` on a payment that is not captured credits nothing."""
    body = event_body(event, payment=payment_entity(status=status, captured=True))
    assert (await read(razorpay, body)).fact.status is expected


@pytest.mark.parametrize(
    ("description", "reason", "expected"),
    [
        ("Payment failed", "payment_failed", "Payment failed"),
        ("", "payment_failed", "payment_failed"),
        (None, None, ""),
        (7, ["x"], ""),
        ("line one\nline\x00two\ud800", "", "line one line two"),
        ("x" * 5000, "", "x" * 500),
    ],
)
async def test_why_a_payment_failed_is_fit_to_be_stored(
    razorpay: Razorpay, description: object, reason: object, expected: str
) -> None:
    """The reason may be null, empty, overlong or full of control characters."""
    entity = payment_entity(status="failed", error_description=description, error_reason=reason)
    event = await read(razorpay, event_body("payment.failed", payment=entity))
    assert event.fact.failure_reason == expected


@pytest.mark.parametrize("currency", ["INR", "JPY", "KWD"])
async def test_amounts_are_minor_units_in_every_currency(razorpay: Razorpay, currency: str) -> None:
    """Whatever the exponent, the number is taken as it is."""
    body = event_body("payment.captured", payment=payment_entity(currency=currency))
    assert (await read(razorpay, body)).fact.amount == Money(currency, 12345)


async def test_a_paid_order_names_the_topup_by_its_receipt(razorpay: Razorpay) -> None:
    """The receipt, which only this service sets, comes before notes, which a customer may set."""
    entity = payment_entity(notes={"topup_id": "top_SOMEBODYELSES"})
    event = await read(razorpay, event_body("order.paid", payment=entity, order=order_entity()))
    assert event.topup_id == TOPUP_ID
    assert event.fact.status is GatewayPaymentStatus.CAPTURED


@pytest.mark.parametrize("event_type", ["payment.captured", "order.paid"])
@pytest.mark.parametrize("notes", [{"topup_id": TOPUP_ID}, [], None, "top_1", {"topup_id": 7}])
async def test_a_customers_notes_never_name_a_topup(
    razorpay: Razorpay, event_type: str, notes: object
) -> None:
    """A customer can note any top-up on a payment for something else; it is not believed."""
    order = order_entity() | {"receipt": "shop-order-1"}
    body = event_body(event_type, payment=payment_entity(notes=notes), order=order)
    assert (await read(razorpay, body)).topup_id == ""


@pytest.mark.parametrize("receipt", [None, 7, "", "order_1", "top_1; drop", "top_" + "1" * 200])
async def test_a_receipt_that_is_not_a_topups_names_none(
    razorpay: Razorpay, receipt: object
) -> None:
    """What does not look like a top-up's id is none."""
    order = order_entity() | {"receipt": receipt}
    body = event_body("order.paid", payment=payment_entity(), order=order)
    assert (await read(razorpay, body)).topup_id == ""


async def test_a_payment_without_an_order_is_still_told(razorpay: Razorpay) -> None:
    """Money that came without an order is not dropped: somebody may have to look at it."""
    entity = payment_entity(order_id=None)
    event = await read(razorpay, event_body("payment.captured", payment=entity))
    assert event.fact.gateway_order_id == ""


@pytest.mark.parametrize(
    "event",
    [
        "refund.speed_changed",
        "qr_code.created",
        "qr_code.closed",
        "payment.downtime.started",
        "payment.downtime.resolved",
        "payment.dispute.something_new",
        "something.new",
    ],
)
async def test_other_events_change_nothing(razorpay: Razorpay, event: str) -> None:
    """Events without a meaning here are read no further than to their name."""
    found = await read(razorpay, event_body(event, payment={"id": 7}))
    assert (found.event_type, found.fact) == (event, None)


@pytest.mark.parametrize(
    ("envelope", "expected"),
    [
        ({"created_at": 1567675356}, 1567675356000),
        ({"payload": {"created_at": 1567675356}}, 1567675356000),
        ({}, None),
        ({"created_at": None}, None),
        ({"created_at": "1567675356"}, None),
        ({"created_at": True}, None),
        ({"created_at": 0}, None),
        ({"created_at": -1}, None),
        ({"created_at": 1.5}, None),
        ({"created_at": 10**400}, None),
    ],
)
async def test_an_event_tells_when_it_was_made(
    razorpay: Razorpay, envelope: Entity, expected: int | None
) -> None:
    """The envelope has the second; `refund.speed_changed` has it one level deeper."""
    content = {"event": "refund.speed_changed", "payload": {}, **envelope}
    assert (await read(razorpay, json.dumps(content).encode())).report_time_ms == expected


@pytest.mark.parametrize("event_id", ["", "x" * 129, "a b", "\u00e9", "\n", "a\x00", "\ud800"])
async def test_an_unusable_event_id_is_replaced_by_the_bodys_digest(
    razorpay: Razorpay, event_id: str
) -> None:
    """The event id is one short printable word in any case, and the same for the same body."""
    event = await razorpay.read_webhook(signed(CAPTURED, event_id), CAPTURED)
    assert event.event_id == f"sha256:{hashlib.sha256(CAPTURED).hexdigest()}"


async def test_an_event_id_of_full_length_is_kept(razorpay: Razorpay) -> None:
    """128 printable characters are taken as they are."""
    event = await razorpay.read_webhook(signed(CAPTURED, "~" * 128), CAPTURED)
    assert event.event_id == "~" * 128


def vectors(name: str) -> Any:
    """Return published vectors, or skip where they are not at hand."""
    path = VECTORS / name
    if not path.exists():
        pytest.skip(f"The published vectors are not here: {path} is absent.")
    return json.loads(path.read_bytes())


def test_the_published_signatures_hold() -> None:
    """The official SDKs' signatures, of webhooks and of checkouts, are the ones computed here."""
    found = vectors("razorpay_signatures.json")
    for case in found["cases"]:
        message = case["message"].encode()
        assert is_signed(message, case["expected_signature"], case["secret"]), case["name"]
    for case in found["negative_cases"]:
        assert not is_signed(case["message"].encode(), case["signature"], case["secret"])


async def test_the_published_signed_webhook_is_taken(make_razorpay: MakeRazorpay) -> None:
    """The Python SDK's sample, authorized by name and captured by status, counts as captured."""
    case = vectors("razorpay_signatures.json")["cases"][0]
    event = await make_razorpay(case["secret"]).read_webhook(
        {"x-razorpay-signature": case["expected_signature"]}, case["message"].encode()
    )
    assert isinstance(event.fact, GatewayPayment)
    assert event.event_type == "payment.authorized"
    assert event.fact.status is GatewayPaymentStatus.CAPTURED
    assert event.fact.amount == Money("INR", 1_000_000)


async def test_the_documented_payloads_are_read_as_they_are(razorpay: Razorpay) -> None:
    """Each documented sample is read: its ids, its exact amount, its time, and what it means."""
    expected = {
        "payment.authorized": GatewayPaymentStatus.AUTHORIZED,
        "payment.captured": GatewayPaymentStatus.CAPTURED,
        "payment.failed": GatewayPaymentStatus.FAILED,
        "order.paid": GatewayPaymentStatus.CAPTURED,
        "qr_code.credited": GatewayPaymentStatus.CAPTURED,
    }
    reversing = {
        "refund.created": ("refund", "TAKEN", False),
        "refund.processed": ("refund", "TAKEN", True),
        "payment.dispute.created": ("dispute", "TAKEN", False),
        "payment.dispute.lost": ("dispute", "TAKEN", True),
    }
    cases = vectors("razorpay_payloads.json")["cases"]
    assert {case["event"] for case in cases} == {*expected, *reversing}
    for case in cases:
        event = await read(razorpay, json.dumps(case["payload"]).encode())
        assert event.event_type == case["event"]
        assert event.report_time_ms == case["payload"]["created_at"] * 1000
        entities = {name: part["entity"] for name, part in case["payload"]["payload"].items()}
        payment = entities["payment"]
        assert event.fact.payment_id == payment["id"]
        if event.event_type in expected:
            assert event.fact.status is expected[event.event_type]
            assert event.fact.amount == Money(payment["currency"], payment["amount"])
            place = payment["order_id"] or entities["qr_code"]["id"]
            assert event.fact.gateway_order_id == place
            continue
        assert isinstance(event.fact, GatewayReversal)
        name, state, is_final = reversing[event.event_type]
        assert event.fact.reversal_id == entities[name]["id"]
        assert event.fact.kind.lower() == name
        assert (event.fact.state, event.fact.is_final) == (state, is_final)
        assert event.fact.amount == Money("INR", entities[name]["amount"])
        assert event.fact.gateway_order_id == payment["order_id"]
