"""The client for asyncio."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, Self

import grpc
from google.protobuf.message import Message

from wallet_payment.client import requests
from wallet_payment.client.channels import Connection, Token
from wallet_payment.client.errors import error_of
from wallet_payment.client.requests import copy_of
from wallet_payment.client.watching import Watch
from wallet_payment.v1 import resources_pb2 as resources
from wallet_payment.v1 import wallet_payment_service_pb2 as service
from wallet_payment.v1.wallet_payment_service_pb2_grpc import WalletPaymentServiceStub


class AsyncClient:
    """Calls the service. Use it as an async context manager: it owns its connections.

    Keys are the caller's: make one by `new_key` for each intended change, keep it with the intent,
    and give the same one again after any error of the group `TryAgain`. Every method raises
    `WalletPaymentError`, as the class of its reason.
    """

    def __init__(
        self,
        targets: Sequence[str],
        token: Token,
        *,
        credentials: grpc.ChannelCredentials | None = None,
        timeout_seconds: float = 10.0,
        attempts: int = 4,
        channel: grpc.aio.Channel | None = None,
    ) -> None:
        """Reach `targets` (see `Connection`), or use a channel that somebody else made."""
        self._connection = Connection(targets, token, credentials, timeout_seconds, attempts)
        self._channel = channel or _channel_to(self._connection)
        self._stub: Any = WalletPaymentServiceStub(self._channel)

    async def __aenter__(self) -> Self:
        """Return the client; it connects with its first call."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the connections."""
        await self._channel.close()

    async def top_up(
        self,
        customer_id: str,
        amount: resources.Money,
        *,
        gateway: str,
        method: str,
        key: str,
        pay_order: resources.PayOrder | None = None,
        return_url: str = "",
        metadata: Mapping[str, str] | None = None,
    ) -> resources.Topup:
        """Start a top-up; its `checkout` is what the customer's app needs."""
        request = requests.topup(
            customer_id,
            amount,
            gateway,
            method,
            key,
            pay_order=pay_order,
            return_url=return_url,
            metadata=metadata,
        )
        response: service.InitiateTopupResponse = await self._call(
            self._stub.InitiateTopup, request
        )
        return response.topup

    async def verify(self, request: service.VerifyTopupRequest) -> service.VerifyTopupResponse:
        """Bring a top-up up to date at once, by a proof or by a lookup."""
        response: service.VerifyTopupResponse = await self._call(self._stub.VerifyTopup, request)
        return response

    async def apple_pay_session(
        self, request: service.CreateApplePaySessionRequest
    ) -> service.CreateApplePaySessionResponse:
        """Get a session of Apple Pay's payment sheet, for the customer's page and nobody else."""
        response: service.CreateApplePaySessionResponse = await self._call(
            self._stub.CreateApplePaySession, request
        )
        return response

    async def topup(self, customer_id: str, topup_id: str) -> resources.Topup:
        """Return a top-up as recorded."""
        request = service.GetTopupRequest(customer_id=customer_id, topup_id=topup_id)
        response: service.GetTopupResponse = await self._call(self._stub.GetTopup, request)
        return response.topup

    async def pay(
        self,
        customer_id: str,
        order_id: str,
        amount: resources.Money,
        *,
        key: str,
        metadata: Mapping[str, str] | None = None,
    ) -> service.PayWithWalletResponse:
        """Pay an order from the wallet."""
        request = requests.payment(customer_id, order_id, amount, key, metadata=metadata)
        response: service.PayWithWalletResponse = await self._call(
            self._stub.PayWithWallet, request
        )
        return response

    async def refund(
        self,
        customer_id: str,
        order_id: str,
        *,
        key: str,
        amount: resources.Money | None = None,
        reason: str = "",
        metadata: Mapping[str, str] | None = None,
    ) -> service.RefundToWalletResponse:
        """Refund an order into the wallet; without an amount all that remains."""
        request = requests.refund(
            customer_id, order_id, key, amount=amount, reason=reason, metadata=metadata
        )
        response: service.RefundToWalletResponse = await self._call(
            self._stub.RefundToWallet, request
        )
        return response

    async def status(self, customer_id: str) -> service.GetStatusResponse:
        """Return a customer's wallets, pending top-ups and newest transactions."""
        request = service.GetStatusRequest(customer_id=customer_id)
        response: service.GetStatusResponse = await self._call(self._stub.GetStatus, request)
        return response

    async def order_payment(self, customer_id: str, order_id: str) -> resources.OrderPayment:
        """Return the payment of an order, with its refunds."""
        request = service.GetOrderPaymentRequest(customer_id=customer_id, order_id=order_id)
        response: service.GetOrderPaymentResponse = await self._call(
            self._stub.GetOrderPayment, request
        )
        return response.payment

    async def transactions(
        self, request: service.ListTransactionsRequest
    ) -> AsyncIterator[resources.WalletTransaction]:
        """Go through a customer's transactions, newest first, page by page."""
        request = copy_of(request)
        while True:
            page: service.ListTransactionsResponse = await self._call(
                self._stub.ListTransactions, request
            )
            for transaction in page.transactions:
                yield transaction
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def watch(
        self,
        *,
        cursor: str = "",
        customer_id: str = "",
        types: Iterable[resources.WalletEventType.ValueType] = (),
        start_time: datetime | None = None,
    ) -> AsyncIterator[service.WatchEventsResponse]:
        """Go through what happens, without an end: after a failure at another server.

        Handle a response's `events`, then keep its `cursor` for the next start.

        Raises:
            WalletPaymentError: coming again would not help, such as `CursorExpired`.
        """
        watch = Watch(requests.watch(customer_id, types, cursor, start_time))
        while True:
            stream = self._stub.WatchEvents(watch.request, metadata=self._connection.metadata())
            try:
                async for response in stream:
                    watch.took(response)
                    yield response
            except grpc.RpcError as error:
                await asyncio.sleep(watch.wait_after(error))
            finally:
                stream.cancel()

    async def _call(self, method: Callable[..., Any], request: Message) -> Any:  # noqa: ANN401 - its response
        try:
            return await method(
                request,
                metadata=self._connection.metadata(),
                timeout=self._connection.timeout_seconds,
            )
        except grpc.RpcError as error:
            raise error_of(error) from error


def _channel_to(connection: Connection) -> grpc.aio.Channel:
    if connection.credentials is None:
        return grpc.aio.insecure_channel(connection.target, connection.options)
    return grpc.aio.secure_channel(connection.target, connection.credentials, connection.options)
