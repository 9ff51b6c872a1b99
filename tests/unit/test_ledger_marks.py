"""What the ledger writes for others to read: versions, ids in order, and what went past a limit."""

from dataclasses import replace

from checked_ledger import Ledger
from one_topup import CAPTURED, FAILED, NOW, World, create
from server.ledger import chain
from server.ledger.limits import Limits, WalletLimits
from server.ledger.posting import Cause, counted, empty_wallet, gateway_account, post
from server.ledger.records import (
    FreezeCause,
    TransactionType,
    Wallet,
    WalletKey,
    WalletState,
)
from server.ledger.usage import NO_USAGE

LIMITS = Limits({"default": {"INR": WalletLimits(max_balance=150)}})
ASHA = WalletKey("asha", "INR")


def test_a_limited_top_up_writes_its_customers_standing_each_time() -> None:
    """Of two starts at once one waits for the other, and sees it: the version goes up by one."""
    limited = Ledger(LIMITS)
    for number in (1, 2):
        limited.carry_out(create(number, amount=create().amount))
        assert (limited.standings["asha"].customer_id, limited.standings["asha"].tier) == (
            "asha",
            "",
        )
        assert limited.standings["asha"].version == number
        limited.topups.clear()

    free = Ledger()
    free.carry_out(create())
    assert not any(free.standings.values())


def test_a_credit_beyond_a_limit_is_kept_on_its_top_up() -> None:
    """It was captured and is credited; what it went past stands on the top-up and in its reason."""
    world = World(limits=LIMITS)
    assert world.told(CAPTURED)[1] == ""
    assert world.topup.passed_limits == ()

    beyond = World()
    beyond.ledger.limits = Limits({"default": {"INR": WalletLimits(max_balance=50)}})
    _, reason = beyond.told(CAPTURED)
    assert beyond.topup.passed_limits == ("max_balance",)
    assert reason == "Credited beyond max_balance: it was captured."


def test_a_failure_is_noted_with_the_version_that_it_made() -> None:
    """By that a reader of the top-up knows a new failure from an old one."""
    world = World()
    assert world.topup.failure_version == 0
    world.told(FAILED, at=1)
    assert world.topup.failure_version == world.topup.version


def test_an_entry_says_whether_it_froze_or_thawed_its_wallet() -> None:
    """It does where the state after it is another one, in either direction."""

    def changed(wallet: Wallet, amount: int) -> bool:
        account = gateway_account("razorpay", "INR")
        return post(wallet, TransactionType.REVERSAL, amount, account, Cause(), NOW)[
            1
        ].has_changed_state

    wallet = replace(empty_wallet(ASHA, NOW), balance=100)
    owing = replace(wallet, balance=-10, state=WalletState.FROZEN, freeze_cause=FreezeCause.DEBT)
    assert not changed(wallet, -100)
    assert changed(wallet, -101)
    assert not changed(owing, 9)
    assert changed(owing, 10)


def test_payments_and_top_ups_alone_count_in_a_wallets_usage() -> None:
    """Both gross: what comes back or is put right by a person counts for nothing."""
    usage = NO_USAGE.with_topup(7, NOW)
    assert counted(usage, TransactionType.TOPUP, 5, NOW) == usage.with_topup(5, NOW) != usage
    assert counted(usage, TransactionType.PAYMENT, -5, NOW) == usage.with_payment(5, NOW) != usage
    for other in (TransactionType.REFUND, TransactionType.REVERSAL, TransactionType.ADJUSTMENT):
        assert counted(usage, other, 5, NOW) == usage


def test_ids_of_a_time_sort_between_its_bounds() -> None:
    """An id of a moment sorts after that moment's first one, and before that of the next."""
    for time_ms in (0, 1, NOW):
        action = chain.action_id("asha", "FREEZE INR", 3, time_ms)
        assert chain.first_id("act_", time_ms) < action < chain.first_id("act_", time_ms + 1)
        assert len(action) == len(chain.action_id("ben", "SET_TIER", 1, NOW))
    assert chain.first_id("txn_", -5) == chain.first_id("txn_", 0)
    assert chain.first_id("txn_", NOW).startswith("txn_")
    assert chain.action_id("asha", "FREEZE INR", 3, NOW) == "act_01HF7YAT0000000006SSER1N31"
