"""The limits of a wallet: how much may go through it, and how much it may hold.

They bind what a customer asks for: the start of a top-up and a payment. Money that a gateway has
really captured is credited whatever the limits say, and a refund is never refused for them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from server.ledger.records import Standing, Topup, TopupState, Wallet, WalletKey
from server.ledger.rejection import Reason, Rejection
from server.ledger.usage import NO_USAGE, Period, Usage, period_end_ms

DEFAULT_TIER: Final = "default"
"""The tier of every customer who was given no other."""

MAX_OPEN_TOPUPS: Final = 100
"""So many top-ups of a limited wallet may be open where its limits name no other number."""

OPEN_TOPUP_STATES: Final = frozenset({TopupState.CREATED, TopupState.PENDING, TopupState.FAILED})
"""A top-up that can still be paid: it counts against the limits as if it had been."""


@dataclass(frozen=True, slots=True)
class WalletLimits:
    """The limits of a wallet of one tier and currency; None where there is none.

    Amounts are minor units. The names are part of the contract: they are the keys of the setting,
    and what a refusal says in `limit`.
    """

    min_topup: int | None = None
    max_topup: int | None = None
    max_balance: int | None = None
    daily_topup: int | None = None
    monthly_topup: int | None = None
    daily_spend: int | None = None
    monthly_spend: int | None = None
    hourly_topup_count: int | None = None
    daily_topup_count: int | None = None
    hourly_payment_count: int | None = None
    daily_payment_count: int | None = None
    max_open_topups: int = MAX_OPEN_TOPUPS


@dataclass(frozen=True, slots=True)
class Limits:
    """Tier -> currency -> the limits of a wallet. Other currencies have none."""

    tiers: Mapping[str, Mapping[str, WalletLimits]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        """Tell whether there is any limit."""
        return bool(self.tiers)

    def of(self, standing: Standing | None, currency_code: str) -> WalletLimits | None:
        """Return the limits of a customer's wallet; None where it has none.

        A tier that the settings do not know any more is the default one.
        """
        tier = standing.tier if standing is not None else ""
        of_tier = self.tiers.get(tier or DEFAULT_TIER)
        if of_tier is None:
            of_tier = self.tiers.get(DEFAULT_TIER, {})
        return of_tier.get(currency_code)


NO_LIMITS: Final = Limits()


@dataclass(frozen=True, slots=True)
class _Bound:
    """A limit with what is used of it."""

    name: str
    most: int | None
    used: int
    asked: int
    period: Period | None = None
    """After which the use of it begins anew; None where it does not by itself."""
    unit: str = "minor_units"

    @property
    def is_passed(self) -> bool:
        """Whether what is asked for is more than is left."""
        return self.most is not None and self.used + self.asked > self.most


def refuse_topup(
    limits: WalletLimits | None,
    key: WalletKey,
    wallet: Wallet | None,
    open_topups: Iterable[Topup],
    amount: int,
    now_ms: int,
) -> Rejection | None:
    """Check a top-up that is to be started, with all that are open, against the limits."""
    if limits is None:
        return None
    if limits.min_topup is not None and amount < limits.min_topup:
        return Rejection(
            Reason.LIMIT_EXCEEDED,
            f"A top-up of {amount} minor units is below the smallest of {limits.min_topup} for the "
            f"{key.currency_code} wallet of customer {key.customer_id}.",
            _names(key)
            | {
                "limit": "min_topup",
                "limit_minor_units": str(limits.min_topup),
                "amount_minor_units": str(amount),
            },
        )
    time_ms, usage = _current(wallet, now_ms)
    amounts = [one.amount.minor_units for one in open_topups if _counts(one, key)]
    is_open, count = sum(amounts), len(amounts)
    balance = wallet.balance if wallet is not None else 0
    # What is open may be credited in any period to come: it counts in each of them.
    daily, monthly = usage.day.topup_amount + is_open, usage.month.topup_amount + is_open
    hourly_count, daily_count = usage.hour.topups + count, usage.day.topups + count
    bounds = (
        _Bound("max_topup", limits.max_topup, 0, amount),
        _Bound("max_open_topups", limits.max_open_topups, count, 1, unit="count"),
        _Bound("max_balance", limits.max_balance, max(balance, 0) + is_open, amount),
        _Bound("daily_topup", limits.daily_topup, daily, amount, Period.DAY),
        _Bound("monthly_topup", limits.monthly_topup, monthly, amount, Period.MONTH),
        _Bound(
            "hourly_topup_count", limits.hourly_topup_count, hourly_count, 1, Period.HOUR, "count"
        ),
        _Bound("daily_topup_count", limits.daily_topup_count, daily_count, 1, Period.DAY, "count"),
    )
    return _refusal("top-up", bounds, key, amount, time_ms)


def refuse_payment(
    limits: WalletLimits | None, key: WalletKey, wallet: Wallet | None, amount: int, now_ms: int
) -> Rejection | None:
    """Check a payment from a wallet against the limits."""
    if limits is None:
        return None
    time_ms, usage = _current(wallet, now_ms)
    hour, day, month = usage.hour, usage.day, usage.month
    bounds = (
        _Bound("daily_spend", limits.daily_spend, day.payment_amount, amount, Period.DAY),
        _Bound("monthly_spend", limits.monthly_spend, month.payment_amount, amount, Period.MONTH),
        _Bound(
            "hourly_payment_count",
            limits.hourly_payment_count,
            hour.payments,
            1,
            Period.HOUR,
            "count",
        ),
        _Bound(
            "daily_payment_count", limits.daily_payment_count, day.payments, 1, Period.DAY, "count"
        ),
    )
    return _refusal("payment", bounds, key, amount, time_ms)


def passed_by_credit(limits: WalletLimits | None, credited: Wallet) -> tuple[str, ...]:
    """Name the limits that a wallet is beyond, right after a captured payment was credited."""
    if limits is None:
        return ()
    usage = credited.usage
    bounds = (
        _Bound("max_balance", limits.max_balance, credited.balance, 0),
        _Bound("daily_topup", limits.daily_topup, usage.day.topup_amount, 0),
        _Bound("monthly_topup", limits.monthly_topup, usage.month.topup_amount, 0),
    )
    return tuple(bound.name for bound in bounds if bound.is_passed)


def _current(wallet: Wallet | None, now_ms: int) -> tuple[int, Usage]:
    """Return the time that counts for a wallet, and what is used of its periods by then.

    A clock behind the one that wrote the last entry does not bring an earlier period back.
    """
    if wallet is None:
        return now_ms, NO_USAGE
    time_ms = max(now_ms, wallet.update_time_ms)
    return time_ms, wallet.usage.at(time_ms)


def _refusal(
    what: str, bounds: Iterable[_Bound], key: WalletKey, amount: int, time_ms: int
) -> Rejection | None:
    """Refuse for the limit that is passed; of several, for the one that stands the longest."""
    passed = [bound for bound in bounds if bound.is_passed]
    if not passed:
        return None
    bound = max(passed, key=lambda one: _reset_ms(one, time_ms) or _NEVER_MS)
    assert bound.most is not None, "only a limit can be passed"
    remaining = max(bound.most - bound.used, 0)
    unit = bound.unit.replace("_", " ") if bound.unit == "minor_units" else "in number"
    metadata = _names(key) | {
        "limit": bound.name,
        f"limit_{bound.unit}": str(bound.most),
        f"remaining_{bound.unit}": str(remaining),
        "amount_minor_units": str(amount),
    }
    message = (
        f"The {what} of {amount} minor units would pass the limit {bound.name} of the "
        f"{key.currency_code} wallet of customer {key.customer_id}: of {bound.most} {unit}, "
        f"{remaining} remain."
    )
    reset_ms = _reset_ms(bound, time_ms)
    if reset_ms is not None:
        reset = datetime.fromtimestamp(reset_ms // 1_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        metadata["reset_time"] = reset
        message += f" It begins anew at {reset}."
    return Rejection(Reason.LIMIT_EXCEEDED, message, metadata)


_NEVER_MS: Final = 2**63


def _reset_ms(bound: _Bound, time_ms: int) -> int | None:
    return None if bound.period is None else period_end_ms(bound.period, time_ms)


def _counts(topup: Topup, key: WalletKey) -> bool:
    """Tell whether an open top-up is the wallet's, and the gateway may still say something of it.

    One that the gateway was asked about in vain, until nothing could come any more, stays open.
    """
    is_of_wallet = (topup.customer_id, topup.amount.currency_code) == key
    return is_of_wallet and topup.poll_time_ms is not None


def _names(key: WalletKey) -> dict[str, str]:
    return {"customer_id": key.customer_id, "currency_code": key.currency_code}
