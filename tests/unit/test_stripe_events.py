"""Stripe's events: what each says of money, and what it cannot say."""

import json
from typing import Any

import pytest

from gateway_adapters.gateway import MalformedEvent, WebhookEvent
from gateway_adapters.stripe.events import READERS, read_event
from gateway_adapters.stripe.wire import without_client_secrets
from server.ledger.money import Money
from server.ledger.records import (
    GatewayPayment,
    GatewayPaymentStatus,
    GatewayReversal,
    ReversalKind,
    ReversalState,
)

TOPUP_ID = "top_01JD8Z6Q7M0123456789ABCDEF"
TAKEN, RETURNED = ReversalState.TAKEN, ReversalState.RETURNED

Entity = dict[str, Any]


def body_of(event_type: object, entity: object, **fields: object) -> bytes:
    """Return the body of an event about an object."""
    event = {
        "id": "evt_1",
        "object": "event",
        "api_version": "2024-10-28.acacia",
        "created": 1_700_000_000,
        "data": {"object": entity},
        "livemode": False,
        "type": event_type,
    }
    return json.dumps(event | fields).encode()


def read(event_type: str, entity: Entity, **fields: object) -> WebhookEvent:
    """Read an event about an object."""
    return read_event(body_of(event_type, entity, **fields))


def intent(**fields: object) -> Entity:
    """Return a paid intent, changed as asked."""
    return {
        "id": "pi_1",
        "object": "payment_intent",
        "amount": 1_000,
        "amount_capturable": 0,
        "amount_received": 1_000,
        "currency": "inr",
        "cancellation_reason": None,
        "last_payment_error": None,
        "latest_charge": "ch_1",
        "metadata": {"topup_id": TOPUP_ID, "customer_id": "cus_1"},
        "status": "succeeded",
        **fields,
    }


def refund(**fields: object) -> Entity:
    """Return a part that was refunded, changed as asked."""
    return {
        "id": "re_1",
        "object": "refund",
        "amount": 400,
        "charge": "ch_1",
        "currency": "inr",
        "payment_intent": "pi_1",
        "reason": None,
        "status": "succeeded",
        **fields,
    }


def moved(*amounts: int, currency: str = "inr") -> list[Entity]:
    """Return balance transactions of a dispute; Stripe's fee stands beside their amounts."""
    return [{"amount": one, "currency": currency, "fee": 1_500} for one in amounts]


def dispute(**fields: object) -> Entity:
    """Return an open dispute whose money was withdrawn, changed as asked."""
    return {
        "id": "du_1",
        "object": "dispute",
        "amount": 1_000,
        "balance_transactions": moved(-1_000),
        "charge": "ch_1",
        "currency": "inr",
        "payment_intent": "pi_1",
        "status": "needs_response",
        **fields,
    }


def payment_of(event: WebhookEvent) -> GatewayPayment:
    """Return the payment that an event is about."""
    assert isinstance(event.fact, GatewayPayment)
    return event.fact


def reversal_of(event: WebhookEvent) -> GatewayReversal:
    """Return the reversal that an event is about."""
    assert isinstance(event.fact, GatewayReversal)
    return event.fact


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("succeeded", GatewayPaymentStatus.CAPTURED),
        ("amount_capturable_updated", GatewayPaymentStatus.AUTHORIZED),
        ("processing", GatewayPaymentStatus.PENDING),
        ("payment_failed", GatewayPaymentStatus.FAILED),
        ("canceled", GatewayPaymentStatus.FAILED),
    ],
)
def test_an_intents_event_names_the_payment_by_the_intent(
    name: str, status: GatewayPaymentStatus
) -> None:
    """The intent is order and payment in one, with its exact amount, top-up and time."""
    event = read(f"payment_intent.{name}", intent())
    assert payment_of(event) == GatewayPayment(
        "pi_1", "pi_1", status, Money("INR", 1_000), payment_of(event).failure_reason
    )
    assert (event.event_id, event.topup_id) == ("evt_1", TOPUP_ID)
    assert event.report_time_ms == 1_700_000_000_000


def test_only_what_was_received_counts_as_captured() -> None:
    """A part that was captured elsewhere is not credited as the whole."""
    event = read("payment_intent.succeeded", intent(amount_received=600))
    assert payment_of(event).amount == Money("INR", 600)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"last_payment_error": {"message": "Declined.", "code": "card_declined"}}, "Declined."),
        ({"last_payment_error": {"code": "card_declined"}}, "card_declined"),
        ({"last_payment_error": {}}, "Stripe gave no reason."),
        ({"cancellation_reason": "abandoned"}, "The payment was canceled at Stripe: abandoned."),
        ({"last_payment_error": "?", "cancellation_reason": 7}, ""),
    ],
)
def test_a_failure_says_why_where_stripe_does(fields: Entity, reason: str) -> None:
    """The customer reads Stripe's words for people first."""
    event = read("payment_intent.payment_failed", intent(**fields))
    assert payment_of(event).failure_reason == reason


@pytest.mark.parametrize("metadata", [None, {}, [], {"topup_id": 7}, {"topup_id": "x"}])
def test_an_intent_that_is_not_ours_names_no_top_up(metadata: object) -> None:
    """Foreign metadata is no reason to refuse an event."""
    event = read("payment_intent.succeeded", intent(metadata=metadata))
    assert event.topup_id == ""
    assert payment_of(event).gateway_order_id == "pi_1"


@pytest.mark.parametrize(
    "name", ["refund.created", "refund.updated", "charge.refund.updated", "refund.failed"]
)
def test_a_refund_is_taken_until_it_fails(name: str) -> None:
    """Each refund has its own id and amount; that it succeeded is not its last word."""
    for status in ("pending", "requires_action", "succeeded", None, "something new"):
        reversal = reversal_of(read(name, refund(status=status)))
        assert reversal == GatewayReversal(
            "re_1",
            ReversalKind.REFUND,
            "pi_1",
            "pi_1",
            Money("INR", 400),
            RETURNED if name == "refund.failed" else TAKEN,
            is_final=name == "refund.failed",
        )
    for status in ("failed", "canceled"):
        reversal = reversal_of(read(name, refund(status=status)))
        assert (reversal.state, reversal.is_final) == (RETURNED, True)


@pytest.mark.parametrize(
    "fields",
    [{"reason": "expired_uncaptured_charge"}, {"charge": None, "payment_intent": None}],
    ids=["of a hold", "of a customer balance"],
)
def test_a_refund_of_what_no_charge_brought_is_no_fact(fields: Entity) -> None:
    """Nothing was credited for it, and nothing is taken."""
    assert read("refund.created", refund(**fields)).fact is None


DISPUTE_EVENTS = [name for name in READERS if name.startswith("charge.dispute.")]


@pytest.mark.parametrize("name", DISPUTE_EVENTS)
@pytest.mark.parametrize(
    ("status", "amounts", "state", "is_final", "amount"),
    [
        ("needs_response", [-1_000], TAKEN, False, 1_000),
        ("under_review", [-1_000], TAKEN, False, 1_000),
        ("something_new", [-1_000], TAKEN, False, 1_000),
        ("lost", [-1_000], TAKEN, True, 1_000),
        ("prevented", [-1_000], TAKEN, True, 1_000),
        ("won", [-1_000], RETURNED, True, 1_000),
        ("won", [-1_000, 1_000], RETURNED, True, 1_000),
        ("under_review", [-1_000, 1_000], RETURNED, True, 1_000),
        ("needs_response", [-600], TAKEN, False, 600),
        ("won", [-1_000, 700], TAKEN, True, 300),
    ],
)
def test_a_disputes_money_is_what_stripe_moved_for_it(
    name: str, status: str, amounts: list[int], state: ReversalState, is_final: bool, amount: int
) -> None:
    """All events of a dispute are read alike, by its balance transactions, without the fee."""
    event = read(name, dispute(status=status, balance_transactions=moved(*amounts)))
    assert reversal_of(event) == GatewayReversal(
        "du_1",
        ReversalKind.DISPUTE,
        "pi_1",
        "pi_1",
        Money("INR", amount),
        state,
        is_final=is_final,
    )


@pytest.mark.parametrize(
    "status",
    [
        "warning_needs_response",
        "warning_under_review",
        "warning_closed",
        "prevented",
        "lost",
        "won",
        "needs_response",
    ],
)
def test_a_dispute_for_which_nothing_was_withdrawn_is_no_fact(status: str) -> None:
    """An inquiry takes no money, and neither does a dispute of what was refunded before."""
    for name in DISPUTE_EVENTS:
        assert read(name, dispute(status=status, balance_transactions=[])).fact is None


def test_a_dispute_in_another_currency_than_the_accounts_takes_the_disputed_amount() -> None:
    """The account's euros say that it was taken, and not how many rupees."""
    entries = moved(-11, currency="eur")
    reversal = reversal_of(read(DISPUTE_EVENTS[0], dispute(balance_transactions=entries)))
    assert (reversal.amount, reversal.state) == (Money("INR", 1_000), TAKEN)
    entries += moved(10, currency="eur")
    reversal = reversal_of(read(DISPUTE_EVENTS[0], dispute(balance_transactions=entries)))
    assert (reversal.amount, reversal.state) == (Money("INR", 1_000), RETURNED)


@pytest.mark.parametrize(
    ("name", "entity"), [("refund.created", refund()), ("charge.dispute.created", dispute())]
)
def test_what_a_reversal_refers_to_may_be_written_out(name: str, entity: Entity) -> None:
    """Stripe writes an id or the whole object; without an intent the charge stands in."""
    whole = {**entity, "payment_intent": intent(), "charge": {"id": "ch_1"}}
    assert reversal_of(read(name, whole)).payment_id == "pi_1"
    reversal = reversal_of(read(name, {**whole, "payment_intent": None}))
    assert (reversal.payment_id, reversal.gateway_order_id) == ("ch_1", "")


@pytest.mark.parametrize(
    "name",
    [
        "charge.succeeded",
        "charge.refunded",
        "charge.failed",
        "payment_intent.created",
        "payment_intent.requires_action",
        "payout.paid",
        "customer.created",
    ],
)
def test_other_events_are_no_fact(name: str) -> None:
    """They are recorded and change nothing; their money is told by another event."""
    event = read(name, {"id": "x_1", "amount": "?"})
    assert (event.fact, event.event_type) == (None, name)


@pytest.mark.parametrize("created", [None, "now", 0, -1, True, 10**15])
def test_an_event_without_a_time_is_still_read(created: object) -> None:
    """No money is refused because a time cannot be read."""
    event = read("payment_intent.succeeded", intent(), created=created)
    assert event.report_time_ms is None


@pytest.mark.parametrize(
    ("name", "entity"),
    [
        ("payment_intent.succeeded", intent(id="ch_1")),
        ("payment_intent.succeeded", intent(id="pi_1/../x")),
        ("payment_intent.succeeded", intent(id=None)),
        ("payment_intent.succeeded", intent(amount=None)),
        ("payment_intent.succeeded", intent(amount_received=1.0)),
        ("payment_intent.succeeded", intent(currency="INR")),
        ("refund.created", refund(id="re_../1")),
        ("refund.created", refund(amount=0)),
        ("refund.created", refund(payment_intent="pi/1")),
        ("refund.created", refund(payment_intent=7)),
        ("charge.dispute.created", dispute(balance_transactions=None)),
        ("charge.dispute.created", dispute(balance_transactions=["txn_1"])),
        ("charge.dispute.created", dispute(balance_transactions=[{"currency": "inr"}])),
        ("charge.dispute.created", dispute(balance_transactions=moved(-1, currency="?"))),
        ("charge.dispute.created", dispute(charge=None, payment_intent=None)),
        ("charge.dispute.created", dispute(id=None)),
    ],
)
def test_a_signed_object_that_is_not_what_is_documented_is_malformed(
    name: str, entity: Entity
) -> None:
    """A signature does not make money of what is none."""
    with pytest.raises(MalformedEvent):
        read(name, entity)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"\xff",
        b'{"x":NaN}',
        body_of("payment_intent.succeeded", []),
        body_of("payment_intent.succeeded", intent(), id="x"),
        body_of("payment_intent.succeeded", intent(), id=None),
        body_of("payment_intent.succeeded", intent(), object="v2.core.event"),
        body_of("payment_intent.succeeded", intent(), data=None),
        body_of(None, intent()),
        body_of("Payment Intent", intent()),
        body_of("a" * 97, intent()),
    ],
    ids=range(13),
)
def test_a_signed_body_that_is_no_event_is_malformed(body: bytes) -> None:
    """Whatever it is, it is told from a forged one."""
    with pytest.raises(MalformedEvent):
        read_event(body)


@pytest.mark.parametrize(
    ("body", "kept"),
    [
        (b'{"client_secret": "pi_1_secret_x"}', b'{"client_secret": "(not kept)"}'),
        (b'{"client_secret" :\n"a"}', b'{"client_secret" :\n"(not kept)"}'),
        (
            b'[{"client_secret":"a\\"b"},{"client_secret":"c"}]',
            b'[{"client_secret":"(not kept)"},{"client_secret":"(not kept)"}]',
        ),
        (b'{"client_secret": null, "note": "client_secret"}',) * 2,
        (b'{"id": "pi_1", "client_secrets": 1}',) * 2,
        (b"not JSON \xff",) * 2,
    ],
)
def test_client_secrets_are_taken_out_and_nothing_else(body: bytes, kept: bytes) -> None:
    """Wherever one stands, and however it is written; all other bytes stay."""
    assert without_client_secrets(body) == kept
