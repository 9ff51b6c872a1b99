"""What counts in which hour, day and month: the calendar's, in UTC."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from server.ledger.commands import CreateTopup
from server.ledger.decide import decide
from server.ledger.decisions import Accepted, TopupReply
from server.ledger.limits import Limits, WalletLimits, refuse_payment, refuse_topup
from server.ledger.money import Money
from server.ledger.posting import Cause, empty_wallet, gateway_account, orders_account, post
from server.ledger.records import (
    IdempotencyKey,
    Standing,
    Topup,
    TransactionType,
    Wallet,
    WalletKey,
)
from server.ledger.state import State
from server.ledger.usage import NOTHING, Period, Usage, period_end_ms, period_start_ms

ASHA = WalletKey("asha", "INR")


def ms(text: str) -> int:
    """Return a time in UTC as milliseconds since the epoch."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1_000


def holding(amount: int, time_ms: int) -> Wallet:
    """Return a wallet with a credited top-up."""
    account = gateway_account("razorpay", "INR")
    wallet = empty_wallet(ASHA, time_ms)
    return post(wallet, TransactionType.TOPUP, amount, account, Cause(), time_ms)[0]


def paying(wallet: Wallet, amount: int, time_ms: int) -> Wallet:
    """Return a wallet after a payment."""
    account = orders_account("INR")
    return post(wallet, TransactionType.PAYMENT, -amount, account, Cause(), time_ms)[0]


def started_topup(amount: int) -> Topup:
    """Return a top-up that was just started."""
    key = IdempotencyKey("shop", "InitiateTopup", "one")
    money = Money("INR", amount)
    command = CreateTopup("asha", money, "razorpay", "card", key, None, "", {}, 1_000, 100)
    state = State(customers={"asha": True}, topups_by_key={key: None})
    decision = decide(state, command, 0)
    assert isinstance(decision, Accepted)
    assert isinstance(decision.reply, TopupReply)
    return decision.reply.topup


@pytest.mark.parametrize(
    ("period", "now", "start", "end"),
    [
        (Period.HOUR, "2024-02-29T23:59:59", "2024-02-29T23:00:00", "2024-03-01T00:00:00"),
        (Period.DAY, "2024-02-28T23:59:59", "2024-02-28T00:00:00", "2024-02-29T00:00:00"),
        (Period.MONTH, "2024-02-29T12:00:00", "2024-02-01T00:00:00", "2024-03-01T00:00:00"),
        (Period.MONTH, "2023-12-31T23:59:59", "2023-12-01T00:00:00", "2024-01-01T00:00:00"),
        (Period.MONTH, "2024-01-01T00:00:00", "2024-01-01T00:00:00", "2024-02-01T00:00:00"),
    ],
)
def test_periods_are_those_of_the_calendar(period: Period, now: str, start: str, end: str) -> None:
    """A period begins with its first millisecond and ends before the first of the next."""
    assert period_start_ms(period, ms(now)) == ms(start)
    assert period_end_ms(period, ms(now)) == ms(end)
    assert period_start_ms(period, ms(end) - 1) == ms(start)


def test_what_was_spent_counts_until_its_period_is_over() -> None:
    """The hour begins anew, then the day, then the month; each has what came in it."""
    wallet = paying(holding(1_000, ms("2024-02-28T10:00:00")), 10, ms("2024-02-28T10:30:00"))
    wallet = paying(wallet, 20, ms("2024-02-28T11:00:00"))
    wallet = paying(wallet, 30, ms("2024-02-29T11:00:00"))
    wallet = paying(wallet, 40, ms("2024-03-01T00:00:00"))
    assert [wallet.usage.window(period).payment_amount for period in Period] == [40, 40, 40]
    assert wallet.usage.month.topup_amount == 0

    earlier = paying(holding(1_000, ms("2024-02-28T10:00:00")), 10, ms("2024-02-28T10:30:00"))
    earlier = paying(paying(earlier, 20, ms("2024-02-28T11:00:00")), 30, ms("2024-02-29T11:00:00"))
    amounts = [earlier.usage.window(period).payment_amount for period in Period]
    assert amounts == [30, 30, 60]
    assert earlier.usage.at(ms("2024-03-01T00:00:00")) == Usage(
        ms("2024-03-01T00:00:00"), NOTHING, NOTHING, NOTHING
    )


def test_a_clock_that_is_behind_brings_no_former_day_back() -> None:
    """After an entry of the new day, a slow server counts by that day, too."""
    limits = WalletLimits(daily_spend=100)
    wallet = paying(holding(1_000, ms("2024-02-28T12:00:00")), 100, ms("2024-02-29T00:00:01"))

    refusal = refuse_payment(limits, ASHA, wallet, 1, ms("2024-02-28T23:59:59"))

    assert refusal is not None
    assert refusal.metadata["reset_time"] == "2024-03-01T00:00:00Z"


def test_of_several_limits_the_one_that_stands_the_longest_is_told() -> None:
    """What both a day and a month forbid is possible again with the month alone."""
    limits = WalletLimits(daily_spend=50, monthly_spend=90, hourly_payment_count=1)
    wallet = paying(holding(1_000, ms("2024-02-28T10:00:00")), 50, ms("2024-02-28T10:30:00"))

    refusal = refuse_payment(limits, ASHA, wallet, 41, ms("2024-02-28T10:31:00"))

    assert refusal is not None
    assert refusal.metadata["limit"] == "monthly_spend"
    assert refusal.metadata["remaining_minor_units"] == "40"
    assert refusal.metadata["reset_time"] == "2024-03-01T00:00:00Z"


def test_no_more_topups_are_open_than_may_be() -> None:
    """A count of none lets none be opened; a wallet without limits refuses nothing."""
    zero = refuse_topup(WalletLimits(max_open_topups=0), ASHA, None, (), 1, 0)
    assert zero is not None
    assert (zero.metadata["limit"], zero.metadata["limit_count"]) == ("max_open_topups", "0")
    assert refuse_topup(WalletLimits(max_balance=5), ASHA, None, (), 5, 0) is None
    assert refuse_topup(None, ASHA, None, (), 5, 0) is None


def test_a_topup_counts_as_long_as_the_gateway_is_asked_about_it() -> None:
    """One that was asked about in vain, to the end, blocks its customer no longer."""
    limits = WalletLimits(daily_topup=150)
    topup = started_topup(100)

    refusal = refuse_topup(limits, ASHA, None, [topup], 51, 0)

    assert refusal is not None
    assert refusal.metadata["remaining_minor_units"] == "50"
    given_up = replace(topup, poll_time_ms=None)
    assert refuse_topup(limits, ASHA, None, [given_up], 150, 0) is None


@pytest.mark.parametrize(
    ("limits", "limit"),
    [
        (WalletLimits(max_balance=150), "max_balance"),
        (WalletLimits(daily_topup=150), "daily_topup"),
        (WalletLimits(monthly_topup=150), "monthly_topup"),
        (WalletLimits(hourly_topup_count=1), "hourly_topup_count"),
        (WalletLimits(daily_topup_count=1), "daily_topup_count"),
    ],
)
def test_what_is_open_counts_in_every_limit(limits: WalletLimits, limit: str) -> None:
    """An open top-up may be credited at any time: in none of the limits is it left out."""
    refusal = refuse_topup(limits, ASHA, None, [started_topup(100)], 51, 0)

    assert refusal is not None
    assert refusal.metadata["limit"] == limit
    assert refuse_topup(limits, ASHA, None, [], 51, 0) is None


@pytest.mark.parametrize(
    ("limits", "later"),
    [
        (WalletLimits(hourly_payment_count=1), "2024-02-28T10:59:59"),
        (WalletLimits(daily_spend=50), "2024-02-28T23:59:59"),
        (WalletLimits(daily_payment_count=1), "2024-02-28T23:59:59"),
        (WalletLimits(monthly_spend=50), "2024-02-29T23:59:59"),
    ],
)
def test_each_limit_of_spend_holds_to_the_last_second_of_its_period(
    limits: WalletLimits, later: str
) -> None:
    """What was spent counts in the whole period of the limit, and in no later one."""
    wallet = paying(holding(1_000, ms("2024-02-28T10:00:00")), 50, ms("2024-02-28T10:00:01"))

    assert refuse_payment(limits, ASHA, wallet, 1, ms(later)) is not None
    assert refuse_payment(limits, ASHA, wallet, 1, ms(later) + 1_000) is None


def test_an_unknown_tier_is_the_default_one() -> None:
    """A tier that the settings lost does not lift the limits; an own tier takes none over."""
    default, verified = WalletLimits(daily_spend=1), WalletLimits(daily_spend=2)
    limits = Limits({"default": {"INR": default, "JPY": default}, "verified": {"INR": verified}})

    assert limits.of(None, "INR") == default
    assert limits.of(Standing("asha", "", 1), "INR") == default
    assert limits.of(Standing("asha", "gone", 1), "INR") == default
    assert limits.of(Standing("asha", "verified", 1), "INR") == verified
    assert limits.of(Standing("asha", "verified", 1), "JPY") is None
