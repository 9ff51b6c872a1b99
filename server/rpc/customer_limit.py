"""Tokens that are limited to one customer: another's is refused just as what does not exist.

Both rules hold for every method at once: the edge asks before a call, and about each refusal.
"""

from typing import Final

from google.protobuf.message import Message

from server.ledger.orders import MISMATCH
from server.rpc.auth import Caller
from server.rpc.errors import RpcError

_SAYS_WHETHER_IT_EXISTS: Final = frozenset({"ORDER_NOT_FOUND", "TOPUP_NOT_FOUND"})


def check_customer(caller: Caller, request: Message) -> None:
    """Refuse a request that is not about the caller's one customer; one about none as well.

    Raises:
        RpcError: CUSTOMER_NOT_ALLOWED.
    """
    if caller.customer_id not in {None, getattr(request, "customer_id", None)}:
        raise _not_allowed(caller)


def as_told_to(caller: Caller | None, refusal: RpcError) -> RpcError:
    """Return a refusal that tells a limited caller nothing about other customers."""
    if caller is None or caller.customer_id is None:
        return refusal
    is_anothers = refusal.metadata.get(MISMATCH) == "customer_id"
    if is_anothers or refusal.reason in _SAYS_WHETHER_IT_EXISTS:
        return _not_allowed(caller)
    return refusal


def _not_allowed(caller: Caller) -> RpcError:
    return RpcError(
        "CUSTOMER_NOT_ALLOWED",
        f"The token of {caller.name} is limited to one customer, and this is not that customer's.",
        {"caller": caller.name},
    )
