"""The rules of money that a gateway takes back: refunds from its dashboard, disputes, chargebacks.

The wallet is debited by the reversal's own amount as soon as the gateway takes it, also below zero,
and credited again when it comes back. Reports come late, twice and in any order, also before the
payment they belong to: what is noted on the top-up then takes effect with the credit.
"""

from dataclasses import replace
from typing import Final

from server.ledger.commands import ApplyReversal
from server.ledger.decisions import Decision
from server.ledger.events import Effect, apply_report
from server.ledger.money import MAX_BALANCE_MINOR_UNITS
from server.ledger.posting import Cause, empty_wallet, gateway_account, post
from server.ledger.records import (
    EventOutcome,
    GatewayReversal,
    Reversal,
    ReversalState,
    Topup,
    TopupState,
    Transaction,
    TransactionType,
    Wallet,
    WalletKey,
)
from server.ledger.state import Changes, State

MAX_REVERSALS_PER_TOPUP: Final = 200
_CREDITED: Final = frozenset({TopupState.CREDITED, TopupState.REVERSED})


def apply_reversal(state: State, command: ApplyReversal, now_ms: int) -> Decision:
    """Let a refund or dispute take effect once, whatever its reports' order."""
    settled = state.transactions_by_key[command.settlement_key]

    def effect_on(topup: Topup) -> Effect:
        if settled is not None:
            reason = (
                f"The {command.reversal.kind.lower()} {command.reversal.reversal_id} was settled "
                f"by a person, with transaction {settled.transaction_id}."
            )
            return Effect(EventOutcome.NEEDS_REVIEW, topup, Changes(), reason)
        return _effect(state, topup, command.reversal, now_ms)

    return apply_report(state, command, effect_on, now_ms)


def debit_noted(
    wallet: Wallet, topup: Topup, now_ms: int
) -> tuple[Wallet, Topup, tuple[Transaction, ...]]:
    """Debit what was reported to be taken back before the top-up was credited."""
    entries: list[Transaction] = []
    for reversal in topup.reversals:
        is_of_this_payment = reversal.payment_id == topup.gateway_payment_id
        if reversal.state is ReversalState.TAKEN and is_of_this_payment:
            wallet, topup, entry = _move(wallet, topup, reversal, now_ms)
            entries.append(entry)
    return wallet, topup, tuple(entries)


def _effect(state: State, topup: Topup, report: GatewayReversal, now_ms: int) -> Effect:
    known = next((one for one in topup.reversals if one.reversal_id == report.reversal_id), None)
    problem = _problem(topup, known, report)
    if problem:
        return Effect(EventOutcome.NEEDS_REVIEW, topup, Changes(), problem)
    by_hand = _by_hand(topup, report)
    if known is not None and _says_nothing_new(known, report):
        outcome = EventOutcome.NEEDS_REVIEW if by_hand else EventOutcome.DUPLICATE
        return Effect(outcome, topup, Changes(), by_hand)
    noted = Reversal(
        reversal_id=report.reversal_id,
        payment_id=report.payment_id,
        kind=report.kind,
        amount=report.amount.minor_units,
        state=report.state,
        is_final=report.is_final,
        is_debited=known.is_debited if known else False,
    )
    changed = replace(
        _with_reversal(topup, noted), update_time_ms=now_ms, version=topup.version + 1
    )
    if by_hand:
        return Effect(EventOutcome.NEEDS_REVIEW, changed, Changes(topups=(changed,)), by_hand)
    has_to_be_debited = noted.state is ReversalState.TAKEN
    if topup.state not in _CREDITED or noted.is_debited == has_to_be_debited:
        return Effect(EventOutcome.APPLIED, changed, Changes(topups=(changed,)))
    key = WalletKey(topup.customer_id, topup.amount.currency_code)
    wallet = state.wallet(key) or empty_wallet(key, now_ms)
    if not has_to_be_debited and wallet.balance + noted.amount > MAX_BALANCE_MINOR_UNITS:
        problem = "What came back would bring the wallet over what a wallet can hold."
        return Effect(EventOutcome.NEEDS_REVIEW, topup, Changes(), problem)
    wallet, topup, entry = _move(wallet, changed, noted, now_ms)
    changes = Changes(wallets=(wallet,), transactions=(entry,), topups=(topup,))
    return Effect(EventOutcome.APPLIED, topup, changes)


def _problem(topup: Topup, known: Reversal | None, report: GatewayReversal) -> str:
    """Say why a person has to look at the report; empty where it fits."""
    what = f"The {report.kind.lower()} {report.reversal_id}"
    if report.amount.currency_code != topup.amount.currency_code:
        return f"{what} is in {report.amount.currency_code}, the top-up in {topup.amount}."
    if topup.state in _CREDITED and report.payment_id != topup.gateway_payment_id:
        return (
            f"{what} is of payment {report.payment_id}; the top-up was credited for "
            f"{topup.gateway_payment_id}."
        )
    if known is None and len(topup.reversals) >= MAX_REVERSALS_PER_TOPUP:
        return f"The top-up has {MAX_REVERSALS_PER_TOPUP} refunds and disputes already."
    if known is None:
        return ""
    if known.amount != report.amount.minor_units:
        return f"{what} was over {known.amount} minor units and is now over {report.amount}."
    if known.is_final and report.is_final and known.state is not report.state:
        return f"{what} was {known.state} for good and is now {report.state}."
    return ""


def _by_hand(topup: Topup, report: GatewayReversal) -> str:
    """Say that only a person knows whether a wallet has the money; empty where the ledger does.

    The payment of a top-up that waits for review may be put into a wallet by hand, which the top-up
    does not tell. The report is noted all the same, for when the top-up is credited after all.
    """
    if topup.state is not TopupState.NEEDS_REVIEW:
        return ""
    return (
        f"The {report.kind.lower()} {report.reversal_id} is of payment {report.payment_id}, whose "
        "top-up waits for review: if a wallet was given that payment, take this out of it."
    )


def _says_nothing_new(known: Reversal, report: GatewayReversal) -> bool:
    """Tell whether a report is a repeat, or older news than what is known."""
    if known.is_final:
        return True
    return known.state is report.state and not report.is_final


def _move(
    wallet: Wallet, topup: Topup, reversal: Reversal, now_ms: int
) -> tuple[Wallet, Topup, Transaction]:
    """Debit a reversal that was taken, or credit one that came back."""
    is_taken = reversal.state is ReversalState.TAKEN
    wallet, entry = post(
        wallet,
        TransactionType.REVERSAL,
        -reversal.amount if is_taken else reversal.amount,
        gateway_account(topup.gateway, wallet.currency_code),
        Cause(
            topup_id=topup.topup_id,
            gateway=topup.gateway,
            gateway_payment_id=topup.gateway_payment_id,
            gateway_reversal_id=reversal.reversal_id,
        ),
        now_ms,
    )
    topup = _with_reversal(topup, replace(reversal, is_debited=is_taken))
    debited = sum(one.amount for one in topup.reversals if one.is_debited)
    is_all = debited >= topup.amount.minor_units
    state = TopupState.REVERSED if is_all else TopupState.CREDITED
    return wallet, replace(topup, state=state), entry


def _with_reversal(topup: Topup, reversal: Reversal) -> Topup:
    """Return the top-up with a reversal in the place of the one of its id, or as a new one."""
    ids = [one.reversal_id for one in topup.reversals]
    if reversal.reversal_id not in ids:
        return replace(topup, reversals=(*topup.reversals, reversal))
    place = ids.index(reversal.reversal_id)
    others = topup.reversals
    return replace(topup, reversals=(*others[:place], reversal, *others[place + 1 :]))
