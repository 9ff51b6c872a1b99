"""Events: what each record tells, and which records are asked for."""

from dataclasses import replace

import pytest

from checked_ledger import Ledger
from one_topup import CAPTURED, World
from server.feed import EventFilter, WalletEvent, WalletEventType, state_change_of
from server.ledger.commands import Command, FreezeWallet, SetTier, UnfreezeWallet
from server.ledger.decisions import Accepted
from server.ledger.records import OperatorAction, Wallet, WalletKey, WalletState
from server.store.event_sources import SOURCES
from server.store.limit_documents import action_document, read_action

ASHA = WalletKey("asha", "INR")
FREEZE, UNFREEZE = FreezeWallet(*ASHA, "ravi", "a doubt"), UnfreezeWallet(*ASHA, "ravi", "found")
FROZEN, THAWED = WalletEventType.WALLET_FROZEN, WalletEventType.WALLET_THAWED


def holding() -> Ledger:
    """Return a ledger with a wallet that was topped up."""
    world = World()
    world.told(CAPTURED)
    return world.ledger


def owing(ledger: Ledger) -> Ledger:
    """Have the wallet owe something, as after a reversal."""
    wallet = ledger.wallets[ASHA]
    ledger.wallets[ASHA] = replace(wallet, balance=-1)
    return ledger


def done(ledger: Ledger, command: Command) -> tuple[Wallet, list[OperatorAction]]:
    """Carry out a command; return the wallet, and what is recorded of what was done."""
    decision = ledger.carry_out(command)
    assert isinstance(decision, Accepted)
    return ledger.wallets[ASHA], list(decision.changes.actions)


def test_a_person_freezes_and_thaws_and_both_are_told_once() -> None:
    """Each has an event of its own, with the wallet's currency; a repeat records nothing."""
    ledger = holding()
    frozen, [freeze] = done(ledger, FREEZE)
    assert done(ledger, FREEZE) == (frozen, [])
    thawed, [unfreeze] = done(ledger, UNFREEZE)
    assert done(ledger, UNFREEZE) == (thawed, [])

    assert [state_change_of(one) for one in (freeze, unfreeze)] == [
        WalletEvent(
            f"evt_{one.action_id.removeprefix('act_')}_{kind.lower()}",
            kind,
            "asha",
            "INR",
            one.time_ms,
        )
        for one, kind in ((freeze, FROZEN), (unfreeze, THAWED))
    ]


def test_a_wallet_that_owes_is_frozen_whatever_a_person_does() -> None:
    """What changes nothing for its owner is recorded, and no event."""
    ledger = holding()
    done(ledger, FREEZE)
    wallet, [unfreeze] = done(owing(ledger), UNFREEZE)
    assert (wallet.state, unfreeze.has_changed_state) == (WalletState.FROZEN, False)

    wallet, [freeze] = done(ledger, FREEZE)
    assert (wallet.state, freeze.has_changed_state) == (WalletState.FROZEN, False)


def test_what_a_person_does_is_later_than_all_that_was_done_to_the_wallet() -> None:
    """Also by a clock that is behind, the ids are in the order in which it happened."""
    ledger = holding()
    entry = ledger.entries[-1]
    ledger.now_ms -= 60_000
    frozen, [freeze] = done(ledger, FREEZE)
    thawed, [unfreeze] = done(ledger, UNFREEZE)

    assert freeze.time_ms == frozen.update_time_ms == entry.create_time_ms + 1
    assert unfreeze.time_ms == thawed.update_time_ms == entry.create_time_ms + 2
    places = [entry.transaction_id[4:], freeze.action_id[4:], unfreeze.action_id[4:]]
    assert places == sorted(places)
    assert len({len(place) for place in places}) == 1


def test_an_action_comes_back_as_it_was_written() -> None:
    """Whether it changed a state is written only where it did, as earlier releases know it."""
    ledger = holding()
    _, [freeze] = done(ledger, FREEZE)
    _, [tier] = done(ledger, SetTier("asha", "verified", "ravi", "papers"))

    for action in (freeze, tier):
        document = action_document(action)
        assert read_action(document) == action
        assert ("has_changed_state" in document) == (action is freeze)


@pytest.mark.parametrize("kind", WalletEventType)
def test_each_type_is_asked_for_where_it_is_written(kind: WalletEventType) -> None:
    """There is a source of each; a filter by type leaves out all others."""
    wanted = EventFilter("asha", frozenset({kind}))
    queries = [query for source in SOURCES if (query := source.query(wanted)) is not None]

    assert len(queries) == (2 if kind in {FROZEN, THAWED} else 1)
    assert {query["customer_id"] for query in queries} == {"asha"}


def test_without_a_filter_all_that_tells_anything_is_asked_for() -> None:
    """Entries all tell something; of top-ups and actions those that are marked."""
    assert [source.query(EventFilter()) for source in SOURCES] == [
        {},
        {"is_new_failure": True},
        {"has_changed_state": True},
    ]
