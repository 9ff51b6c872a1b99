"""Razorpay's refunds and disputes in the ledger's terms, as their own status tells them."""

from gateway_adapters.razorpay.wire import WireDispute, WireRefund
from server.ledger.records import GatewayReversal, ReversalKind, ReversalState


def reversal_of_refund(refund: WireRefund, gateway_order_id: str = "") -> GatewayReversal:
    """Return a refund: taken from when it is known, until it fails."""
    has_failed = refund.status == "failed"
    return GatewayReversal(
        reversal_id=refund.refund_id,
        kind=ReversalKind.REFUND,
        payment_id=refund.payment_id,
        gateway_order_id=gateway_order_id,
        amount=refund.amount,
        state=ReversalState.RETURNED if has_failed else ReversalState.TAKEN,
        is_final=refund.status in {"processed", "failed"},
    )


def reversal_of_dispute(dispute: WireDispute) -> GatewayReversal:
    """Return a dispute: taken from when it is known, until it is won or ends without a loss."""
    is_over = dispute.status in {"won", "lost", "closed"}
    is_returned = dispute.status == "won" or (
        dispute.status == "closed" and not dispute.is_deducted
    )
    return GatewayReversal(
        reversal_id=dispute.dispute_id,
        kind=ReversalKind.DISPUTE,
        payment_id=dispute.payment_id,
        gateway_order_id="",
        amount=dispute.amount,
        state=ReversalState.RETURNED if is_returned else ReversalState.TAKEN,
        is_final=is_over,
    )
