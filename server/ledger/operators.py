"""The rules of what a person does to a customer's wallets: freeze, unfreeze, set the tier.

Each is recorded with who and why, in the commit that does it. A command that finds it done changes
nothing.
"""

from dataclasses import replace

from server.ledger import chain
from server.ledger.commands import FreezeWallet, SetTier, UnfreezeWallet
from server.ledger.decisions import Accepted, Decision, StandingReply, WalletReply
from server.ledger.orders import customer_not_found
from server.ledger.records import (
    FreezeCause,
    OperatorAction,
    OperatorActionKind,
    Standing,
    Wallet,
    WalletKey,
    WalletState,
)
from server.ledger.rejection import Reason, Rejection
from server.ledger.state import Changes, State


def freeze(state: State, command: FreezeWallet, now_ms: int) -> Decision:
    """Freeze a wallet until a person unfreezes it, also one that is frozen for its debt."""
    wallet = state.wallet(WalletKey(command.customer_id, command.currency_code))
    if wallet is None:
        return _wallet_not_found(command)
    if wallet.freeze_cause is FreezeCause.OPERATOR:
        return Accepted(WalletReply(wallet), Changes())
    return _changed(wallet, WalletState.FROZEN, FreezeCause.OPERATOR, command, now_ms)


def unfreeze(state: State, command: UnfreezeWallet, now_ms: int) -> Decision:
    """Lift a person's freeze. A wallet that owes stays frozen until it no longer does."""
    wallet = state.wallet(WalletKey(command.customer_id, command.currency_code))
    if wallet is None:
        return _wallet_not_found(command)
    if wallet.freeze_cause is not FreezeCause.OPERATOR:
        return Accepted(WalletReply(wallet), Changes())
    if wallet.balance < 0:
        return _changed(wallet, WalletState.FROZEN, FreezeCause.DEBT, command, now_ms)
    return _changed(wallet, WalletState.ACTIVE, FreezeCause.NONE, command, now_ms)


def set_tier(state: State, command: SetTier, now_ms: int) -> Decision:
    """Give a customer a tier.

    All wallets are written with it: whoever remembers one with the tier from before finds out.
    """
    if not state.customers[command.customer_id]:
        return customer_not_found(command.customer_id)
    standing = state.standings[command.customer_id] or Standing(command.customer_id, "", 0)
    if standing.tier == command.tier:
        return Accepted(StandingReply(standing), Changes())
    standing = replace(standing, tier=command.tier, version=standing.version + 1)
    kind = OperatorActionKind.SET_TIER
    action = OperatorAction(
        action_id=chain.action_id(command.customer_id, kind, standing.version, now_ms),
        kind=kind,
        customer_id=command.customer_id,
        currency_code="",
        tier=command.tier,
        by=command.by,
        why=command.why,
        time_ms=now_ms,
    )
    wallets = tuple(
        replace(wallet, version=wallet.version + 1)
        for wallet in state.wallets[command.customer_id].values()
    )
    changes = Changes(wallets=wallets, standings=(standing,), actions=(action,))
    return Accepted(StandingReply(standing), changes)


def _changed(
    wallet: Wallet,
    state: WalletState,
    freeze_cause: FreezeCause,
    command: FreezeWallet | UnfreezeWallet,
    now_ms: int,
) -> Accepted:
    """Change what a wallet may do, and record who did it.

    It is later than all that was done to the wallet before, and what is done next is no earlier: so
    the ids of entries and actions tell in which order they were.
    """
    changed = replace(
        wallet,
        state=state,
        freeze_cause=freeze_cause,
        update_time_ms=max(now_ms, wallet.update_time_ms + 1),
        version=wallet.version + 1,
    )
    is_freeze = isinstance(command, FreezeWallet)
    kind = OperatorActionKind.FREEZE if is_freeze else OperatorActionKind.UNFREEZE
    action = OperatorAction(
        action_id=chain.action_id(
            wallet.customer_id,
            f"{kind} {wallet.currency_code}",
            changed.version,
            changed.update_time_ms,
        ),
        kind=kind,
        customer_id=wallet.customer_id,
        currency_code=wallet.currency_code,
        tier="",
        by=command.by,
        why=command.why,
        time_ms=changed.update_time_ms,
        has_changed_state=state is not wallet.state,
    )
    return Accepted(WalletReply(changed), Changes(wallets=(changed,), actions=(action,)))


def _wallet_not_found(command: FreezeWallet | UnfreezeWallet) -> Rejection:
    return Rejection(
        Reason.WALLET_NOT_FOUND,
        f"Customer {command.customer_id} has no {command.currency_code} wallet: it is made by its "
        "first credit.",
        {"customer_id": command.customer_id, "currency_code": command.currency_code},
    )
