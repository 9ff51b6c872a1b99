"""What each event does, found out by letting it happen: `docs/reference/events.md` is written here.

    .venv/bin/python tests/events_reference.py

Each sample is read by its gateway's adapter and told to a ledger: alone, again, and out of order.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from event_samples import SAMPLES, Sample, fact_of
from gateway_adapters.gateway import Fact
from server.ledger.commands import (
    ApplyPayment,
    ApplyReversal,
    Command,
    CreateTopup,
    ExpireTopup,
    Needs,
)
from server.ledger.decide import decide
from server.ledger.decisions import Accepted, EventReply, TopupReply
from server.ledger.money import Money
from server.ledger.records import (
    NO_METADATA,
    EventOrigin,
    EventOutcome,
    GatewayPayment,
    GatewayPaymentStatus,
    GatewayReversal,
    IdempotencyKey,
    ReceivedEvent,
    ReversalState,
    TopupState,
)
from server.ledger.state import State

PAGE: Final = Path(__file__).parents[1] / "docs" / "reference" / "events.md"
LIFETIME_MS: Final = 60_000


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    event: str
    effect: str
    again: str
    out_of_order: str


class Shop:
    """One customer's top-up of 1,000, and what gateways say of it."""

    def __init__(self) -> None:
        self._state = State()
        self._now_ms = 1_000
        self._events = 0
        money, key = Money("INR", 1_000), IdempotencyKey("shop", "InitiateTopup", "key")
        decided = self._carry_out(
            CreateTopup("customer", money, "g", "card", key, None, "", NO_METADATA, LIFETIME_MS, 0)
        )
        assert isinstance(decided.reply, TopupReply)
        self._topup_id = decided.reply.topup.topup_id

    @property
    def stands(self) -> tuple[TopupState, int]:
        """The top-up's state and the wallet's balance."""
        topup = self._state.topups[self._topup_id]
        wallet = self._state.wallets.get("customer", {}).get("INR")
        assert topup is not None
        return topup.state, wallet.balance if wallet else 0

    def tell(self, fact: Fact) -> EventOutcome:
        """Have the gateway tell something, under a new event's id."""
        self._events += 1
        return self.tell_again(fact)

    def tell_again(self, fact: Fact) -> EventOutcome:
        """Have the gateway send its last event again."""
        event_id = f"evt-{self._events}"
        event = ReceivedEvent(
            "g", event_id, "event", event_id, b"", EventOrigin.WEBHOOK, self._now_ms, self._events
        )
        fact = replace(fact, amount=Money("INR", fact.amount.minor_units))
        command: Command
        if isinstance(fact, GatewayReversal):
            command = ApplyReversal("customer", self._topup_id, fact, event)
        else:
            command = ApplyPayment("customer", self._topup_id, "", fact, event)
        reply = self._carry_out(command).reply
        assert isinstance(reply, EventReply)
        return reply.outcome

    def expire(self) -> None:
        """Let the time to pay be over."""
        self._now_ms += LIFETIME_MS
        self._carry_out(ExpireTopup("customer", self._topup_id))

    def _carry_out(self, command: Command) -> Accepted:
        needs = Needs()
        needs.add(command)
        state = self._state
        state.customers |= dict.fromkeys(needs.customers, True)
        for customer in needs.wallets_of:
            state.wallets.setdefault(customer, {})
        state.topups = dict.fromkeys(needs.topups) | state.topups
        state.topups_by_key = dict.fromkeys(needs.topups_by_key) | state.topups_by_key
        state.transactions_by_key = (
            dict.fromkeys(needs.transactions_by_key) | state.transactions_by_key
        )
        state.credits = dict.fromkeys(needs.credits) | state.credits
        state.events = dict.fromkeys(needs.events) | state.events
        self._now_ms += 1
        decision = decide(state, command, self._now_ms)
        assert isinstance(decision, Accepted), decision
        state.apply(decision.changes)
        return decision


def rows(gateway: str) -> list[Row]:
    """Return the table of a gateway, in the order of its samples."""
    return [_row(sample, fact_of(gateway, sample)) for sample in SAMPLES[gateway]]


def _row(sample: Sample, fact: Fact | None) -> Row:
    if fact is None:
        return Row(sample.title, IGNORED, NOTHING, NOTHING)
    if isinstance(fact, GatewayReversal):
        return Row(sample.title, _reversal(fact), _again(fact), _early_reversal(fact))
    return Row(sample.title, _payment(fact), _again(fact), _unordered_payment(fact))


CREDITS: Final = "credits the wallet: CREDITED"
ON_HOLD: Final = "has the service capture it; what is then captured is credited"
UNDER_WAY: Final = "credits nothing yet: PENDING"
FAILS: Final = "notes why: FAILED, until another attempt succeeds"
TAKES: Final = "debits the wallet by its own amount, also below zero"
GIVES_BACK: Final = "credits again what was taken"
LAST_WORD: Final = ", for good"
IGNORED: Final = "is recorded, IGNORED"
NOTHING: Final = "nothing"
ANY_ORDER: Final = "the same, whatever came before; also after FAILED and EXPIRED"
OLD_NEWS: Final = "after the credit or a newer report: nothing, IGNORED"
EARLY: Final = "before the payment: noted, and debited with its credit"
EARLY_OPEN: Final = f"{EARLY}. After the end: nothing"
END_FIRST: Final = "before what it ends: noted, and that then debits nothing"


def _payment(fact: GatewayPayment) -> str:
    """Tell what a payment's event does to a top-up that waits for it."""
    shop = Shop()
    shop.tell(fact)
    is_on_hold = fact.status is GatewayPaymentStatus.AUTHORIZED
    return {
        (TopupState.CREDITED, 1_000): CREDITS,
        (TopupState.PENDING, 0): ON_HOLD if is_on_hold else UNDER_WAY,
        (TopupState.FAILED, 0): FAILS,
    }[shop.stands]


def _unordered_payment(fact: GatewayPayment) -> str:
    """Tell what a payment's event does where it should have come at another time."""
    if _payment(fact) != CREDITS:
        credited = Shop()
        credited.tell(_told(GatewayPaymentStatus.CAPTURED))
        assert credited.tell(fact) is EventOutcome.IGNORED
        assert credited.stands == (TopupState.CREDITED, 1_000)
        return OLD_NEWS
    failed, expired = Shop(), Shop()
    failed.tell(_told(GatewayPaymentStatus.FAILED))
    expired.expire()
    assert (failed.stands, expired.stands) == ((TopupState.FAILED, 0), (TopupState.EXPIRED, 0))
    for shop in (failed, expired):
        shop.tell(fact)
        assert shop.stands == (TopupState.CREDITED, 1_000)
    return ANY_ORDER


def _reversal(fact: GatewayReversal) -> str:
    """Tell what a refund's or dispute's event does to the wallet that its payment filled."""
    shop = _credited_for(fact)
    if fact.state is ReversalState.RETURNED:
        shop.tell(_taken(fact))
        assert shop.stands == (TopupState.CREDITED, 600)
    shop.tell(fact)
    what = {(TopupState.CREDITED, 600): TAKES, (TopupState.CREDITED, 1_000): GIVES_BACK}
    return what[shop.stands] + (LAST_WORD if fact.is_final else "")


def _early_reversal(fact: GatewayReversal) -> str:
    """Tell what a reversal's event does before the payment, and after or before its own end."""
    early = Shop()
    early.tell(fact)
    early.tell(_payment_of(fact))
    assert early.stands == _in_order(fact)
    if fact.state is ReversalState.RETURNED:
        assert early.tell(_taken(fact)) is EventOutcome.DUPLICATE
        assert early.stands == (TopupState.CREDITED, 1_000)
        return END_FIRST
    if fact.is_final:
        return EARLY
    ended = _credited_for(fact)
    ended.tell(replace(fact, state=ReversalState.RETURNED, is_final=True))
    assert ended.tell(fact) is EventOutcome.DUPLICATE
    assert ended.stands == (TopupState.CREDITED, 1_000)
    return EARLY_OPEN


def _in_order(fact: GatewayReversal) -> tuple[TopupState, int]:
    shop = _credited_for(fact)
    shop.tell(fact)
    return shop.stands


def _again(fact: Fact) -> str:
    """Make sure that a repeat, under the same id or another one, changes nothing."""
    shop = Shop() if isinstance(fact, GatewayPayment) else _credited_for(fact)
    shop.tell(fact)
    once = shop.stands
    assert shop.tell_again(fact) is EventOutcome.DUPLICATE
    shop.tell(fact)
    assert shop.stands == once
    return NOTHING


def _credited_for(fact: GatewayReversal) -> Shop:
    shop = Shop()
    shop.tell(_payment_of(fact))
    return shop


def _taken(fact: GatewayReversal) -> GatewayReversal:
    """Return what was told of a reversal before its end."""
    return replace(fact, state=ReversalState.TAKEN, is_final=False)


def _payment_of(fact: GatewayReversal) -> GatewayPayment:
    return replace(_told(GatewayPaymentStatus.CAPTURED), payment_id=fact.payment_id)


def _told(status: GatewayPaymentStatus) -> GatewayPayment:
    return GatewayPayment("payment", "", status, Money("INR", 1_000))


def page() -> str:
    """Return the whole page."""
    return _TEXT.format(**{gateway: _table(rows(gateway)) for gateway in SAMPLES})


def _table(of: Sequence[Row]) -> str:
    lines = ["| event | what it does | again | out of order |", "| --- | --- | --- | --- |"]
    lines += [f"| {row.event} | {row.effect} | {row.again} | {row.out_of_order} |" for row in of]
    return "\n".join(lines)


_TEXT: Final = """\
# Every event of every gateway

Written by `tests/events_reference.py`, which lets each event happen; a test fails where this page
says something else than the code does.

What holds for all of them:

* An event takes effect in the commit that records it, and is acknowledged after that. The commit
  that credits a top-up also pays its order, where it has one.
* The same event again is DUPLICATE. The same news under another id changes nothing either: a
  payment is credited once, and a refund or dispute is debited once, by whichever of its events
  comes first.
* *Out of order* says what happens where it comes before or after what it should have followed.
  Whatever the order, the end is the same.
* What belongs to no top-up, or differs in amount or currency, is kept for a person: NEEDS_REVIEW.
* *For good* is the gateway's last word. A wallet below zero is frozen until it no longer is.
* An event that is not listed here is recorded and changes nothing.

## Razorpay

{razorpay}

## PayPal

{paypal}

(1) The hold of the dispute ends, and the refund that PayPal makes of the capture debits by an event
of its own. What no refund since its beginning tells, the dispute itself keeps debited, for good.

## Stripe

{stripe}

## Google Pay

Google signs no payments: who was paid is told by the gateway behind it. Its callbacks about passes
are verified and recorded.

| event | what it does | again | out of order |
| --- | --- | --- | --- |
| `save` | is recorded, IGNORED | nothing | nothing |
| `del` | is recorded, IGNORED | nothing | nothing |

Apple Pay has no webhooks.
"""


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
