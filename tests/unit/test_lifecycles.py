"""The diagrams of lifecycles show what the ledger does: each step, and no other."""

import random
import re
from collections import defaultdict
from pathlib import Path
from typing import Final

import pytest

from checked_ledger import Ledger, key, received
from server.ledger.commands import (
    AdjustWallet,
    ApplyPayment,
    ApplyReversal,
    Command,
    CreateTopup,
    DismissEvent,
    ExpireTopup,
    OpenTopup,
    PayOrder,
    RecordEvent,
    RefundOrder,
    TieToTopup,
)
from server.ledger.decide import decide
from server.ledger.decisions import Accepted, Decision
from server.ledger.money import Money
from server.ledger.records import (
    Checkout,
    EventOutcome,
    GatewayEvent,
    GatewayPayment,
    GatewayPaymentStatus,
    GatewayReversal,
    ReceivedEvent,
    ReversalKind,
    ReversalState,
)

PAGE: Final = Path(__file__).parents[2] / "docs" / "concepts" / "lifecycles.md"
STORIES, STEPS = 2_000, 30
CUSTOMER: Final = "asha"

Steps = set[tuple[str, str]]


class Records(Ledger):
    """All records; that each step is right is checked by the tests of the ledger's properties."""

    def carry_out(self, command: Command) -> Decision:
        """Decide a command and let its changes happen."""
        decision = decide(self.load(command), command, self.now_ms)
        if isinstance(decision, Accepted):
            self._take(decision.changes)
        return decision


class Story:
    """One top-up, an order and a wallet, and whatever happens to them."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._ledger = Records()
        self._number = 0
        self._told: list[Command] = []
        self._shares = [self._random.random() for _ in range(4)]
        self._told_again = self._random.random() / 2
        money, name = Money("INR", 100), key("InitiateTopup", 0)
        self._ledger.carry_out(
            CreateTopup(CUSTOMER, money, "g", "card", name, None, "", {}, 1_000, 0)
        )
        (self._topup_id,) = self._ledger.topups
        if seed % 4 == 0:  # a report that comes before its payment is rare
            self._ledger.carry_out(self._reversal("pay_1", received("g", "report", 0)))

    def states(self) -> dict[tuple[str, str], str]:
        """Return in which state each record is, by its kind and name."""
        ledger = self._ledger
        found = {("top-up", one.topup_id): one.state.value for one in ledger.topups.values()}
        found |= {("wallet", str(name)): one.state.value for name, one in ledger.wallets.items()}
        for order in ledger.orders.values():
            if order.payment_state is not None:
                found["order", order.order_id] = order.payment_state.value
        found |= {("event", name): one.outcome.value for name, one in ledger.events.items()}
        return found

    def go_on(self) -> None:
        """Let something happen, after some time."""
        self._ledger.now_ms += self._random.choice((1, 1, 1, 2_000))
        self._number += 1
        self._ledger.carry_out(self._next())

    def _next(self) -> Command:
        waiting = [
            one for one in self._ledger.events.values() if one.outcome is EventOutcome.NEEDS_REVIEW
        ]
        choices = [self._by_the_gateway, self._by_a_caller, self._by_time]
        if waiting:
            choices.append(lambda: self._by_a_person(self._random.choice(waiting)))
        (choice,) = self._random.choices(choices, self._shares[: len(choices)])
        return choice()

    def _by_time(self) -> Command:
        return ExpireTopup(CUSTOMER, self._topup_id)

    def _by_a_caller(self) -> Command:
        name = key("call", self._number)
        return self._random.choice(
            (
                OpenTopup(CUSTOMER, self._topup_id, Checkout("order_1", "", "")),
                PayOrder(CUSTOMER, self._order_id(), Money("INR", 60), name, {}),
                RefundOrder(
                    CUSTOMER,
                    self._order_id(),
                    self._random.choice((Money("INR", 20), None)),
                    name,
                    "",
                    {},
                ),
            )
        )

    def _order_id(self) -> str:
        return f"order-{self._random.randint(1, 2)}"

    def _by_the_gateway(self) -> Command:
        if self._told and self._random.random() < self._told_again:
            return self._random.choice(self._told)
        self._told.append(self._report(received("g", "report", self._number)))
        return self._told[-1]

    def _report(self, event: ReceivedEvent) -> Command:
        payment_id = self._random.choice(("pay_1", "pay_1", "pay_2"))
        if self._random.random() < 0.4:
            return self._reversal(payment_id, event)
        payment = GatewayPayment(
            payment_id=payment_id,
            gateway_order_id="",
            status=self._random.choice(list(GatewayPaymentStatus)),
            amount=Money("INR", self._random.choice((100, 100, 100, 99))),
        )
        known = ApplyPayment(CUSTOMER, self._topup_id, "", payment, event)
        if payment.status is GatewayPaymentStatus.CAPTURED and self._random.random() < 0.2:
            self._told.append(known)
            outcome = EventOutcome.NEEDS_REVIEW
            return RecordEvent(event, outcome, "It belongs to no top-up yet.", payment)
        return known

    def _reversal(self, payment_id: str, event: ReceivedEvent) -> Command:
        number = self._random.randint(1, 3)
        reversal = GatewayReversal(
            reversal_id=f"rev_{number}",
            payment_id=payment_id,
            gateway_order_id="",
            kind=ReversalKind.REFUND,
            state=self._random.choice(list(ReversalState)),
            amount=Money("INR", 100 if number == 1 else 40),
            is_final=self._random.random() < 0.2,
        )
        return ApplyReversal(CUSTOMER, self._topup_id, reversal, event)

    def _by_a_person(self, event: GatewayEvent) -> Command:
        name = event.received.key
        amount = event.amount or Money("INR", 1)
        return self._random.choice(
            (
                TieToTopup(
                    *(name, "g", event.gateway_payment_id, CUSTOMER, self._topup_id, ""),
                    *("asha", "It is hers."),
                ),
                AdjustWallet(name, event.settlement_key, CUSTOMER, amount, "asha", "It is hers."),
                DismissEvent(name, "asha", "It is settled."),
            )
        )


@pytest.fixture(scope="module")
def taken() -> dict[str, Steps]:
    """Every step from state to state that any of many stories took, by kind of record."""
    found: dict[str, Steps] = defaultdict(set)
    for seed in range(STORIES):
        story = Story(seed)
        found["top-up"].add(("[*]", "CREATED"))
        before = story.states()
        for _ in range(STEPS):
            story.go_on()
            after = story.states()
            for record, state in after.items():
                if before.get(record) != state:
                    found[record[0]].add((before.get(record, "[*]"), state))
            before = after
    return found


def drawn(kind: str) -> Steps:
    """Return the steps that the page's diagram of a kind of record shows."""
    text = PAGE.read_text("utf-8")
    (diagram,) = re.findall(
        rf"^## [^\n]*{kind}\n.*?^```mermaid\nstateDiagram-v2\n(.*?)^```",
        text,
        re.MULTILINE | re.DOTALL | re.IGNORECASE,
    )
    return set(re.findall(r"^ +(\S+) --> ([A-Z_]+)", diagram, re.MULTILINE))


@pytest.mark.parametrize("kind", ["top-up", "wallet", "order", "event"])
def test_a_diagram_shows_each_step_and_no_other(taken: dict[str, Steps], kind: str) -> None:
    """What many stories of callers, gateways, time and persons do is what is drawn."""
    assert taken[kind] == drawn(kind)
