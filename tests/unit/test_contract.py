"""The contract and the code that serves it say the same."""

import re
from pathlib import Path

import grpc

from server.ledger.rejection import Reason
from server.rpc.edge import SERVICE, required_scope
from server.rpc.errors import STATUS_CODES
from server.rpc.servicer import WalletPaymentServicer
from wallet_payment.v1 import error_reason_pb2

OPERATORS_ONLY = {
    Reason.EVENT_NOT_FOUND,
    Reason.EVENT_SETTLED,
    Reason.EVENT_MISFIT,
    Reason.WALLET_NOT_FOUND,
}
PROTOS = Path(__file__).parents[2] / "protos" / "wallet_payment" / "v1"


def test_every_reason_of_the_contract_has_a_status_code_and_no_other() -> None:
    """Each value of ErrorReason has its status code, and each status code its value."""
    names = set(error_reason_pb2.ErrorReason.keys()) - {"ERROR_REASON_UNSPECIFIED"}

    assert {f"ERROR_REASON_{reason}" for reason in STATUS_CODES} == names


def test_the_status_codes_are_those_that_the_contract_promises() -> None:
    """The code that stands in each reason's comment is the code that is sent."""
    text = (PROTOS / "error_reason.proto").read_text("utf-8")
    promised = {
        reason: code
        for code, reason in re.findall(
            r"// ([A-Z_]+)[.,][^\n]*\n(?:  //[^\n]*\n)*  ERROR_REASON_([A-Z_]+) = [1-9]", text
        )
    }

    assert promised == {reason: code.name for reason, code in STATUS_CODES.items()}
    assert grpc.StatusCode.UNKNOWN not in STATUS_CODES.values()


def test_every_refusal_of_the_ledger_is_in_the_contract() -> None:
    """The ledger knows no reason that a client could not, but for an operator's own commands."""
    assert {reason.value for reason in set(Reason) - OPERATORS_ONLY} <= STATUS_CODES.keys()


def test_every_method_has_the_scope_that_was_agreed() -> None:
    """The scopes are those of the contract's table, method by method."""
    assert {method.name: required_scope(method) for method in SERVICE.methods} == {
        "InitiateTopup": "topup.write",
        "VerifyTopup": "topup.write",
        "CreateApplePaySession": "topup.write",
        "GetTopup": "status.read",
        "PayWithWallet": "payment.write",
        "RefundToWallet": "refund.write",
        "GetStatus": "status.read",
        "GetOrderPayment": "status.read",
        "ListTransactions": "status.read",
        "WatchEvents": "events.read",
        "ForwardWebhook": "webhook.forward",
    }


def test_every_method_of_the_contract_is_served() -> None:
    """The servicer has each method of the contract; only watching gives more than one message."""
    for method in SERVICE.methods:
        assert callable(getattr(WalletPaymentServicer, method.name))
        assert not method.client_streaming
        assert method.server_streaming == (method.name == "WatchEvents")
