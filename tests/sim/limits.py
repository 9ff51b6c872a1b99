"""A model of its own of what limits allow: it adds up what is written, and never asks the service.

Every server has its own clock, which may be off, so that near the end of a day two answers may be
right. What was let through is held against the time that is written on it.
"""

from collections.abc import Iterable, Iterator
from typing import Final

from server.ledger.commands import CreateTopup, PayOrder
from server.ledger.limits import Limits, WalletLimits
from server.ledger.records import (
    Topup,
    TopupState,
    Transaction,
    TransactionType,
    Wallet,
    WalletKey,
)

LIMITED: Final = Limits(
    {
        "default": {
            "INR": WalletLimits(
                min_topup=501,
                max_balance=15_000,
                daily_topup=12_000,
                daily_spend=1_500,
                daily_payment_count=12,
            )
        }
    }
)
"""The limits of histories that have some: rupees alone, and tight."""

_DAY_MS: Final = 24 * 3_600_000
_OFFSETS_MS: Final = (-900_000, 0, 900_000)
"""How far the time that counts may be off: a clock's jump, or an entry that a fast clock wrote."""
_OPEN: Final = frozenset({TopupState.CREATED, TopupState.PENDING, TopupState.FAILED})


class LimitModel:
    """What was paid and topped up, wallet by wallet and day by day."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._paid: dict[tuple[WalletKey, int], list[int]] = {}
        self._credited: dict[tuple[WalletKey, int], list[int]] = {}
        self._late: set[str] = set()
        """Top-ups whose time was over once: what is captured of them is credited beyond."""

    def entry(self, entry: Transaction) -> str:
        """Take an entry; say what it passes, empty where it may be."""
        key = WalletKey(entry.customer_id, entry.currency_code)
        place = key, entry.create_time_ms // _DAY_MS
        if entry.type is TransactionType.TOPUP and entry.topup_id not in self._late:
            self._credited.setdefault(place, []).append(entry.amount)
        if entry.type is not TransactionType.PAYMENT:
            return ""
        paid = self._paid.setdefault(place, [])
        paid.append(-entry.amount)
        limits = self._of(key)
        if limits is None:
            return ""
        is_within = sum(paid) <= (limits.daily_spend or 0)
        is_few = len(paid) <= (limits.daily_payment_count or 0)
        return "" if is_within and is_few else f"{place}: {paid}"

    def note(self, topup: Topup) -> None:
        """Take a top-up as it now is."""
        if topup.state is TopupState.EXPIRED:
            self._late.add(topup.topup_id)

    def started(self, topup: Topup, topups: Iterable[Topup], wallets: Iterable[Wallet]) -> str:
        """Say what a new top-up passes with all that are open; empty where it may be.

        `wallets` are its wallet before and after: what is written on it counts as the time, too.
        """
        key = WalletKey(topup.customer_id, topup.amount.currency_code)
        limits = self._of(key)
        if limits is None:
            return ""
        is_open = sum(
            one.amount.minor_units
            for one in _of(key, topups)
            if one.state in _OPEN and one.topup_id not in self._late
        )
        times = [topup.create_time_ms, *(wallet.update_time_ms for wallet in wallets)]
        today = min(self._credited_on(key, time) for time in times)
        is_large = topup.amount.minor_units >= (limits.min_topup or 0)
        is_within = today + is_open <= (limits.daily_topup or 0)
        return "" if is_large and is_within else f"{topup.topup_id}: {today} and {is_open} open"

    def may_refuse(
        self,
        command: CreateTopup | PayOrder,
        wallet: Wallet | None,
        topups: Iterable[Topup],
        now_ms: int,
    ) -> bool:
        """Tell whether a command may be refused for a limit just now, by some server's clock."""
        key = WalletKey(command.customer_id, command.amount.currency_code)
        limits = self._of(key)
        if limits is None:
            return False
        times = [now_ms + offset for offset in _OFFSETS_MS]
        if wallet is not None:
            times += [max(time, wallet.update_time_ms) for time in times]
        amount = command.amount.minor_units
        if isinstance(command, PayOrder):
            return any(self._spends_too_much(limits, key, amount, time) for time in times)
        mine = list(_of(key, topups))
        is_open = sum(one.amount.minor_units for one in mine if one.state in _OPEN)
        late = sum(
            one.amount.minor_units
            for one in mine
            if one.topup_id in self._late and one.transaction_id
        )
        used = max(self._credited_on(key, time) for time in times) + late + is_open
        held = max(wallet.balance, 0) if wallet else 0
        is_refused = (
            amount < (limits.min_topup or 0)
            or used + amount > (limits.daily_topup or 0)
            or held + is_open + amount > (limits.max_balance or 0)
        )
        order = command.pay_order
        return is_refused or (
            order is not None
            and any(
                self._spends_too_much(limits, key, order.amount.minor_units, time) for time in times
            )
        )

    def _credited_on(self, key: WalletKey, time_ms: int) -> int:
        return sum(self._credited.get((key, time_ms // _DAY_MS), ()))

    def _spends_too_much(
        self, limits: WalletLimits, key: WalletKey, amount: int, time_ms: int
    ) -> bool:
        paid = self._paid.get((key, time_ms // _DAY_MS), [])
        is_too_much = sum(paid) + amount > (limits.daily_spend or 0)
        return is_too_much or len(paid) >= (limits.daily_payment_count or 0)

    def _of(self, key: WalletKey) -> WalletLimits | None:
        return self._limits.of(None, key.currency_code)


def _of(key: WalletKey, topups: Iterable[Topup]) -> Iterator[Topup]:
    return (one for one in topups if (one.customer_id, one.amount.currency_code) == key)
