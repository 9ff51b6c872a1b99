"""The Python client on grpcio-testing's fake channel: what it sends, raises and resumes."""

import inspect
import json
import queue
import threading
from collections.abc import Callable
from typing import Any

import grpc
import grpc_testing
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message_factory import GetMessageClass
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from server.rpc.errors import STATUS_CODES, InvalidArgument, RetryLater, RpcError, Violation
from wallet_payment.client import (
    AsyncClient,
    Client,
    Connection,
    WalletPaymentError,
    errors,
    money,
    new_key,
)
from wallet_payment.v1 import resources_pb2 as resources
from wallet_payment.v1 import wallet_payment_service_pb2 as service

SERVICE = service.DESCRIPTOR.services_by_name["WalletPaymentService"]


class Conversation:
    """A client in a thread of its own, and this side as the server."""

    def __init__(self) -> None:
        time = grpc_testing.strict_real_time()
        self.channel = grpc_testing.channel(service.DESCRIPTOR.services_by_name.values(), time)
        self.tokens = iter(f"token-{number}" for number in range(100))
        self.client = Client(
            ["any"], token=lambda: next(self.tokens), timeout_seconds=3, channel=self.channel
        )

    def start(self, call: Callable[[Client], Any]) -> "Answer":
        """Let the client make a call."""
        return Answer(lambda: call(self.client))

    def take_unary(self, method: str) -> Any:
        """Take the next call of a method: its metadata, its request, and how to answer."""
        return self.channel.take_unary_unary(SERVICE.methods_by_name[method])

    def take_stream(self, method: str) -> Any:
        """Take the next streaming call of a method."""
        return self.channel.take_unary_stream(SERVICE.methods_by_name[method])


class Answer:
    """What a call comes to in its thread."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self._value: Any = None
        self._error: BaseException | None = None

        def run() -> None:
            try:
                self._value = call()
            except BaseException as error:  # noqa: BLE001 - it is raised where it is asked for
                self._error = error

        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()

    def value(self) -> Any:
        """Wait for it."""
        self._thread.join(10)
        assert not self._thread.is_alive()
        if self._error is not None:
            raise self._error
        return self._value


def trailing(error: RpcError) -> tuple[tuple[str, bytes], ...]:
    """Return the metadata by which the server says an error."""
    return (("grpc-status-details-bin", error.status().SerializeToString()),)


def refuse(call: Any, error: RpcError) -> None:
    """Answer a unary call as the server refuses it."""
    call.terminate(None, trailing(error), error.code, error.message)


def test_a_payment_carries_its_key_and_a_fresh_token() -> None:
    """The request is the contract's, with the caller's key; each call asks for its token."""
    conversation = Conversation()
    key = new_key()
    for number in range(2):
        answer = conversation.start(
            lambda client: client.pay("asha", "order-1", money("INR", 25_000), key=key)
        )
        metadata, request, call = conversation.take_unary("PayWithWallet")
        call.terminate(service.PayWithWalletResponse(), (), grpc.StatusCode.OK, "")

        assert answer.value() == service.PayWithWalletResponse()
        assert dict(metadata)["authorization"] == f"Bearer token-{number}"
        assert request == service.PayWithWalletRequest(
            customer_id="asha",
            order_id="order-1",
            amount=resources.Money(currency_code="INR", minor_units=25_000),
            idempotency_key=key,
        )


CALLS: dict[str, Callable[[Client], Any]] = {
    "InitiateTopup": lambda client: client.top_up(
        "asha", money("INR", 1), gateway="razorpay", method="card", key="key"
    ),
    "VerifyTopup": lambda client: client.verify(service.VerifyTopupRequest()),
    "CreateApplePaySession": lambda client: client.apple_pay_session(
        service.CreateApplePaySessionRequest()
    ),
    "GetTopup": lambda client: client.topup("asha", "top_1"),
    "PayWithWallet": lambda client: client.pay("asha", "order-1", money("INR", 1), key="key"),
    "RefundToWallet": lambda client: client.refund("asha", "order-1", key="key"),
    "GetStatus": lambda client: client.status("asha"),
    "GetOrderPayment": lambda client: client.order_payment("asha", "order-1"),
    "ListTransactions": lambda client: list(
        client.transactions(service.ListTransactionsRequest(customer_id="asha"))
    ),
}


def test_every_method_that_a_shop_calls_has_its_own() -> None:
    """The contract's, but for the sidecar's; the stream has tests of its own."""
    assert CALLS.keys() == set(SERVICE.methods_by_name) - {"WatchEvents", "ForwardWebhook"}


@pytest.mark.parametrize("method", CALLS)
def test_each_method_sends_the_request_of_its_rpc(method: str) -> None:
    """Called by the client, and answered with the contract's empty response."""
    conversation = Conversation()
    answer = conversation.start(CALLS[method])

    _, request, call = conversation.take_unary(method)
    described = SERVICE.methods_by_name[method]
    call.terminate(GetMessageClass(described.output_type)(), (), grpc.StatusCode.OK, "")

    assert isinstance(request, GetMessageClass(described.input_type))
    answer.value()


def test_both_clients_offer_the_same() -> None:
    """Method by method: the same parameters, defaults and docstring."""

    def offered(client: type) -> dict[str, tuple[list[inspect.Parameter], str | None]]:
        return {
            name: (list(inspect.signature(method).parameters.values()), method.__doc__)
            for name, method in vars(client).items()
            if inspect.isfunction(method) and not name.startswith("_")
        }

    assert len(offered(Client)) == len(CALLS) + 1
    assert offered(AsyncClient) == offered(Client)


def test_every_reason_of_the_contract_has_its_exception() -> None:
    """Each reason is a class of its own, and there is no class without a reason."""
    assert set(WalletPaymentError.reasons) == set(STATUS_CODES)
    assert len(set(WalletPaymentError.reasons.values())) == len(STATUS_CODES)


@pytest.mark.parametrize("reason", sorted(STATUS_CODES))
def test_a_refusal_is_raised_as_its_reason(reason: str) -> None:
    """What the server says arrives: class, reason, code, message, values."""
    conversation = Conversation()
    answer = conversation.start(lambda client: client.status("asha"))
    *_, call = conversation.take_unary("GetStatus")
    refuse(call, RpcError(reason, "No.", {"customer_id": "asha"}))

    with pytest.raises(WalletPaymentError.reasons[reason]) as raised:
        answer.value()
    error = raised.value
    assert (error.reason, error.code, error.message) == (reason, STATUS_CODES[reason], "No.")
    assert error.metadata == {"customer_id": "asha"}


def test_an_error_tells_fields_and_when_to_repeat() -> None:
    """Field violations and the time to wait come out of the status details."""
    conversation = Conversation()
    answer = conversation.start(lambda client: client.topup("a b", "top_1"))
    *_, call = conversation.take_unary("GetTopup")
    refuse(call, InvalidArgument([Violation("customer_id", "has a space")]))
    with pytest.raises(errors.InvalidArgument) as wrong:
        answer.value()
    answer = conversation.start(lambda client: client.order_payment("asha", "order-1"))
    *_, call = conversation.take_unary("GetOrderPayment")
    refuse(call, RetryLater("RATE_LIMITED", "Too much.", 1.5))
    with pytest.raises(errors.TryAgain) as later:
        answer.value()

    assert wrong.value.fields == ("customer_id",)
    assert later.value.retry_after_seconds == 1.5


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.UNAVAILABLE, errors.ServerUnavailable),
        (grpc.StatusCode.DEADLINE_EXCEEDED, errors.DeadlineExceeded),
        (grpc.StatusCode.UNKNOWN, WalletPaymentError),
    ],
)
def test_what_no_server_said_is_an_error_all_the_same(
    code: grpc.StatusCode, kind: type[WalletPaymentError]
) -> None:
    """An error of the connection has no reason, and its class says whether to repeat."""
    conversation = Conversation()
    answer = conversation.start(lambda client: client.refund("asha", "order-1", key="k"))
    *_, call = conversation.take_unary("RefundToWallet")
    call.terminate(None, (), code, "nobody is there")

    with pytest.raises(kind) as raised:
        answer.value()
    assert type(raised.value) is kind
    assert raised.value.reason == ""


def test_a_reason_of_a_later_release_is_the_general_error() -> None:
    """A reason that this client does not know is raised, with its name."""
    status = Status(code=9, message="New.")
    for detail in (ErrorInfo(domain="wallet_payment.v1", reason="NEW_RULE"), RetryInfo()):
        packed = AnyMessage()
        packed.Pack(detail)
        status.details.append(packed)
    conversation = Conversation()
    answer = conversation.start(lambda client: client.status("asha"))
    *_, call = conversation.take_unary("GetStatus")
    details = (("grpc-status-details-bin", status.SerializeToString()),)
    call.terminate(None, details, grpc.StatusCode.FAILED_PRECONDITION, "New.")

    with pytest.raises(WalletPaymentError) as raised:
        answer.value()
    assert raised.value.reason == "NEW_RULE"


def test_a_list_is_gone_through_page_by_page() -> None:
    """The next page is asked for by the token of the one before, and the caller's request stays."""
    request = service.ListTransactionsRequest(customer_id="asha", page_size=1)
    conversation = Conversation()
    answer = conversation.start(lambda client: list(client.transactions(request)))
    for number, token in ((2, "next"), (1, "")):
        _, asked, call = conversation.take_unary("ListTransactions")
        assert asked.page_token == ("next" if number == 1 else "")
        entry = resources.WalletTransaction(sequence=number)
        page = service.ListTransactionsResponse(transactions=[entry], next_page_token=token)
        call.terminate(page, (), grpc.StatusCode.OK, "")

    assert [entry.sequence for entry in answer.value()] == [2, 1]
    assert request.page_token == ""


def test_watching_goes_on_from_the_newest_cursor() -> None:
    """A stream that ends or breaks is followed by one from the newest cursor; others are raised."""
    conversation = Conversation()
    seen: queue.Queue[str] = queue.Queue()

    def watch(client: Client) -> None:
        for response in client.watch(customer_id="asha", cursor="c0"):
            seen.put(response.cursor)

    answer = conversation.start(watch)
    ends = [
        (grpc.StatusCode.OK, ()),
        (grpc.StatusCode.UNAVAILABLE, ()),
        (grpc.StatusCode.UNAUTHENTICATED, trailing(RpcError("TOKEN_EXPIRED", "Over."))),
        (grpc.StatusCode.OUT_OF_RANGE, trailing(RpcError("CURSOR_EXPIRED", "Too old."))),
    ]
    for number, (code, metadata) in enumerate(ends):
        _, asked, call = conversation.take_stream("WatchEvents")
        assert (asked.customer_id, asked.cursor) == ("asha", f"c{number}")
        call.send_response(service.WatchEventsResponse(cursor=f"c{number + 1}"))
        assert seen.get(timeout=10) == f"c{number + 1}"
        call.terminate(metadata, code, "")

    with pytest.raises(errors.CursorExpired):
        answer.value()


def test_servers_are_balanced_and_calls_repeated_by_the_service_config() -> None:
    """Several servers become one target; the config names the policy and the repeatable codes."""
    connection = Connection(["10.0.0.1:50051", "10.0.0.2:50051"], token=lambda: "secret")
    config = json.loads(str(dict(connection.options)["grpc.service_config"]))

    assert connection.target == "ipv4:10.0.0.1:50051,10.0.0.2:50051"
    assert config["loadBalancingConfig"] == [{"round_robin": {}}]
    (method,) = config["methodConfig"]
    assert method["name"] == [{"service": SERVICE.full_name}]
    assert method["retryPolicy"]["retryableStatusCodes"] == ["UNAVAILABLE", "ABORTED"]
    assert "secret" not in repr(connection)
    assert Connection(["dns:///wallets:50051"], token=str).target == "dns:///wallets:50051"
    assert Connection(["[::1]:1", "[::2]:1"], token=str).target == "ipv6:[::1]:1,[::2]:1"


@pytest.mark.parametrize(
    "targets", [[], ["one:1", "two:1"], ["10.0.0.1:1", "[::1]:1"], ["10.0.0.1:1", "name:1"]]
)
def test_targets_that_cannot_be_balanced_are_named(targets: list[str]) -> None:
    """Names beside each other, two families and nothing at all are refused at once."""
    with pytest.raises(ValueError, match="targets"):
        Client(targets, token=str)
