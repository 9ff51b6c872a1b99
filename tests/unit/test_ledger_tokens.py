"""A wallet's token in the ledger: tied to one top-up, and one at a time on its way."""

from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.ledger.commands import ClaimToken, Command, Needs, ReleaseToken
from server.ledger.decide import decide
from server.ledger.decisions import Accepted, Decision, TokenReply
from server.ledger.money import Money
from server.ledger.records import (
    NO_METADATA,
    Checkout,
    EventOrigin,
    GatewayEvent,
    Idempotency,
    IdempotencyKey,
    ReceivedEvent,
    TokenClaim,
    Topup,
    TopupState,
)
from server.ledger.rejection import Reason, Rejection
from server.ledger.state import State
from server.ledger.tokens import TOKEN_WAIT_MS

NOW = 1_700_000_000_000


def make_topup(topup_id: str = "top_1", **changes: Any) -> Topup:
    """Return a top-up that waits for its payment."""
    topup = Topup(
        topup_id=topup_id,
        customer_id="asha",
        amount=Money("USD", 1_000),
        gateway="razorpay",
        method="google_pay",
        state=TopupState.PENDING,
        gateway_order_id=f"order_{topup_id}",
        gateway_payment_id="",
        transaction_id="",
        pay_order=None,
        pay_order_outcome=None,
        failure_reason="",
        checkout=Checkout(f"order_{topup_id}", "rzp", ""),
        reversals=(),
        return_url="",
        create_time_ms=NOW,
        update_time_ms=NOW,
        expire_time_ms=NOW + 1_800_000,
        report_time_ms=0,
        poll_time_ms=None,
        poll_attempts=0,
        metadata=NO_METADATA,
        idempotency=Idempotency(IdempotencyKey("shop", "InitiateTopup", topup_id), "f"),
        version=1,
    )
    return replace(topup, **changes)


@dataclass(slots=True)
class World:
    """Top-ups, claims and the clock; commands are decided on what they say they need."""

    topups: dict[str, Topup] = field(default_factory=lambda: {"top_1": make_topup()})
    events: dict[str, GatewayEvent] = field(default_factory=dict)
    now_ms: int = NOW

    def do(self, command: Command) -> Decision:
        """Decide a command and let its changes happen."""
        needs = Needs()
        needs.add(command)
        state = State(
            topups={topup: self.topups.get(topup) for topup in needs.topups},
            events={event: self.events.get(event) for event in needs.events},
        )
        decision = decide(state, command, self.now_ms)
        if isinstance(decision, Accepted):
            self.topups |= {topup.topup_id: topup for topup in decision.changes.topups}
            self.events |= {event.received.key: event for event in decision.changes.events}
        return decision

    def claim(self, digest: str = "a", topup_id: str = "top_1") -> TokenClaim | Reason:
        """Claim a token; return what may be done with it, or why it was refused."""
        decision = self.do(claim_of(digest, topup_id))
        if isinstance(decision, Rejection):
            return decision.reason
        assert isinstance(decision.reply, TokenReply)
        assert decision.reply.topup == self.topups[topup_id]
        return decision.reply.claim

    def release(self, since_ms: int, topup_id: str = "top_1") -> None:
        """Note that the gateway has answered."""
        assert isinstance(self.do(ReleaseToken("asha", topup_id, since_ms)), Accepted)


def claim_of(digest: str, topup_id: str = "top_1", customer_id: str = "asha") -> ClaimToken:
    """Return the command that claims a token by its digest."""
    event = ReceivedEvent(
        gateway="google_pay",
        event_id=f"sha256:{digest}",
        event_type="token.claimed",
        body_digest=digest,
        body=b"",
        origin=EventOrigin.PROOF,
        receive_time_ms=NOW,
        report_time_ms=NOW,
    )
    return ClaimToken(customer_id, topup_id, event)


def test_the_first_claim_may_hand_on_and_nobody_else_meanwhile() -> None:
    """While one token is on its way, neither it nor another one is handed on."""
    world = World()

    assert world.claim("a") is TokenClaim.NEW
    assert world.claim("a") is TokenClaim.WAITING
    assert world.claim("b") is TokenClaim.WAITING
    assert [event.topup_id for event in world.events.values()] == ["top_1"]


def test_a_gateway_that_has_answered_frees_the_top_up_at_once() -> None:
    """The next token is new; the first one, brought again, is known."""
    world = World()
    world.claim("a")
    world.release(NOW)

    assert world.claim("a") is TokenClaim.REPEATED
    world.release(NOW)
    assert world.claim("b") is TokenClaim.NEW


def test_a_gateway_that_never_answers_frees_the_top_up_after_a_while() -> None:
    """To the millisecond, and not before."""
    world = World()
    world.claim("a")

    world.now_ms += TOKEN_WAIT_MS - 1
    assert world.claim("a") is TokenClaim.WAITING
    world.now_ms += 1
    assert world.claim("a") is TokenClaim.REPEATED
    assert world.claim("b") is TokenClaim.WAITING


def test_a_late_answer_does_not_free_what_another_waits_for() -> None:
    """Only who handed on last may say that the gateway has answered."""
    world = World()
    world.claim("a")
    world.now_ms += TOKEN_WAIT_MS
    world.claim("b")

    world.release(NOW)

    assert world.claim("c") is TokenClaim.WAITING


def test_a_token_is_tied_to_its_top_up() -> None:
    """Another top-up is refused, whatever state either of them is in."""
    world = World(topups={name: make_topup(name) for name in ("top_1", "top_2")})
    world.claim("a")
    world.topups["top_1"] = make_topup(state=TopupState.FAILED)

    assert world.claim("a", "top_2") is Reason.PROOF_INVALID
    assert world.topups["top_2"] == make_topup("top_2")


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (TopupState.PENDING, TokenClaim.NEW),
        (TopupState.FAILED, TokenClaim.NEW),
        (TopupState.CREDITED, TokenClaim.WAITING),
        (TopupState.REVERSED, TokenClaim.WAITING),
        (TopupState.CREATED, Reason.TOPUP_STATE),
        (TopupState.EXPIRED, Reason.TOPUP_STATE),
        (TopupState.NEEDS_REVIEW, Reason.TOPUP_STATE),
    ],
)
def test_only_what_waits_for_a_payment_takes_a_token(
    state: TopupState, expected: TokenClaim | Reason
) -> None:
    """What is paid is only asked about; what is over or not ready is refused."""
    world = World(topups={"top_1": make_topup(state=state)})

    assert world.claim() == expected
    assert bool(world.events) is (expected is TokenClaim.NEW)


@pytest.mark.parametrize(
    "command",
    [
        claim_of("a", "top_unknown"),
        claim_of("a", customer_id="ben"),
        ReleaseToken("asha", "top_unknown", NOW),
        ReleaseToken("ben", "top_1", NOW),
    ],
)
def test_a_top_up_is_its_customers_own(command: ClaimToken | ReleaseToken) -> None:
    """For an unknown top-up, and for somebody else's, nothing is claimed or freed."""
    world = World()

    decision = world.do(command)

    assert isinstance(decision, Rejection)
    assert decision.reason is Reason.TOPUP_NOT_FOUND
    assert world == World()


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["claim", "claim", "release", "wait"]),
        st.sampled_from("abc"),
        st.sampled_from(["top_1", "top_2"]),
        st.integers(0, TOKEN_WAIT_MS),
    ),
    max_size=40,
)


@given(STEPS)
def test_whatever_happens_tokens_are_handed_on_one_at_a_time(
    steps: list[tuple[str, str, str, int]],
) -> None:
    """No token is handed on for two top-ups, and none while another may be on its way."""
    world = World(topups={name: make_topup(name) for name in ("top_1", "top_2")})
    handed_on: dict[str, str] = {}
    busy_until = {"top_1": 0, "top_2": 0}
    for step, token, topup_id, wait_ms in steps:
        if step == "wait":
            world.now_ms += wait_ms
        elif step == "release":
            since_ms = world.topups[topup_id].token_time_ms
            world.release(since_ms, topup_id)
            busy_until[topup_id] = 0
        else:
            claim = world.claim(token, topup_id)
            if claim in {TokenClaim.NEW, TokenClaim.REPEATED}:
                assert handed_on.setdefault(token, topup_id) == topup_id
                assert world.now_ms >= busy_until[topup_id]
                busy_until[topup_id] = world.now_ms + TOKEN_WAIT_MS
