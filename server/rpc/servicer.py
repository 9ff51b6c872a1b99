"""The eleven calls of the contract: each validates, asks the ledger or the records, and answers."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass

from server.apple_sessions import ApplePaySessions
from server.commit.committer import Submitter
from server.commit.errors import Rejected
from server.ledger.decisions import PaymentReply, RefundReply
from server.ledger.events import topup_not_found
from server.ledger.orders import another_customers, customer_not_found
from server.queries import Queries, TransactionFilter
from server.rpc import conversion, validation
from server.rpc.auth import Caller
from server.rpc.errors import RpcError
from server.rpc.page_tokens import PageTokens
from server.rpc.watching import Watching
from server.topups import Topups
from wallet_payment.v1 import wallet_payment_service_pb2 as service

_PENDING_TOPUPS = 20
_RECENT_TRANSACTIONS = 10


@dataclass(frozen=True, slots=True)
class Call:
    """What a call brings besides its request."""

    caller: Caller
    correlation_id: str
    timeout_seconds: float | None
    """How long the caller still waits; None where it set no deadline."""


class WalletPaymentServicer:
    """Implements `wallet_payment.v1.WalletPaymentService`; the edge calls it by method name."""

    def __init__(
        self,
        committer: Submitter,
        queries: Queries,
        topups: Topups,
        apple_pay_sessions: ApplePaySessions,
        page_tokens: PageTokens,
        watching: Watching,
        *,
        topup_lifetime_ms: int,
        first_poll_ms: int,
    ) -> None:
        self._committer = committer
        self._queries = queries
        self._topups = topups
        self._apple_pay_sessions = apple_pay_sessions
        self._page_tokens = page_tokens
        self._watching = watching
        self._topup_lifetime_ms = topup_lifetime_ms
        self._first_poll_ms = first_poll_ms

    async def InitiateTopup(
        self, request: service.InitiateTopupRequest, call: Call
    ) -> service.InitiateTopupResponse:
        """Start a top-up."""
        command = validation.create_topup(
            request, call.caller.name, self._topup_lifetime_ms, self._first_poll_ms
        )
        topup = await self._topups.initiate(command, call.timeout_seconds)
        return service.InitiateTopupResponse(topup=conversion.topup(topup))

    async def VerifyTopup(
        self, request: service.VerifyTopupRequest, call: Call
    ) -> service.VerifyTopupResponse:
        """Bring a top-up up to date at once."""
        customer_id, topup_id = validation.customer_and(request)
        topup = await self._topups.verify(
            customer_id, topup_id, conversion.proof(request), call.timeout_seconds
        )
        response = service.VerifyTopupResponse(topup=conversion.topup(topup))
        for wallet in await self._queries.wallets(customer_id):
            if wallet.currency_code == topup.amount.currency_code:
                response.wallet.CopyFrom(conversion.wallet(wallet))
        return response

    async def CreateApplePaySession(
        self, request: service.CreateApplePaySessionRequest, _: Call
    ) -> service.CreateApplePaySessionResponse:
        """Get a session of Apple Pay's payment sheet."""
        session = await self._apple_pay_sessions.create(*validation.apple_pay_session(request))
        return conversion.apple_pay_session_response(session)

    async def GetTopup(self, request: service.GetTopupRequest, _: Call) -> service.GetTopupResponse:
        """Tell a top-up as recorded."""
        customer_id, topup_id = validation.customer_and(request)
        topup = await self._queries.topup(customer_id, topup_id)
        if topup is None:
            raise Rejected(topup_not_found(customer_id, topup_id))
        return service.GetTopupResponse(topup=conversion.topup(topup))

    async def PayWithWallet(
        self, request: service.PayWithWalletRequest, call: Call
    ) -> service.PayWithWalletResponse:
        """Pay an order."""
        command = validation.pay_order(request, call.caller.name)
        reply = await self._committer.submit(command, call.timeout_seconds)
        assert isinstance(reply, PaymentReply)  # noqa: S101 - what this command replies
        return conversion.payment_response(reply)

    async def RefundToWallet(
        self, request: service.RefundToWalletRequest, call: Call
    ) -> service.RefundToWalletResponse:
        """Refund an order."""
        command = validation.refund_order(request, call.caller.name)
        reply = await self._committer.submit(command, call.timeout_seconds)
        assert isinstance(reply, RefundReply)  # noqa: S101 - what this command replies
        return conversion.refund_response(reply)

    async def GetStatus(
        self, request: service.GetStatusRequest, _: Call
    ) -> service.GetStatusResponse:
        """Tell a customer's wallets, pending top-ups and newest transactions."""
        customer_id = validation.customer(request)
        wallets = await self._queries.wallets(customer_id)
        if not wallets:
            await self._check_customer(customer_id)
        topups = await self._queries.pending_topups(customer_id, _PENDING_TOPUPS)
        wanted = TransactionFilter(customer_id)
        transactions = await self._queries.transactions(wanted, _RECENT_TRANSACTIONS)
        return service.GetStatusResponse(
            wallets=[conversion.wallet(wallet) for wallet in wallets],
            pending_topups=[conversion.topup(topup) for topup in topups],
            recent_transactions=[conversion.transaction(one) for one in transactions],
        )

    async def GetOrderPayment(
        self, request: service.GetOrderPaymentRequest, _: Call
    ) -> service.GetOrderPaymentResponse:
        """Tell the payment of an order."""
        customer_id, order_id = validation.customer_and_order(request)
        ids = {"order_id": order_id, "customer_id": customer_id}
        order = await self._queries.order(order_id)
        if order is None:
            raise RpcError("ORDER_NOT_FOUND", f"There is no order {order_id}.", ids)
        if order.customer_id != customer_id:
            raise Rejected(another_customers(order_id, customer_id))
        if order.payment_state is None:
            raise RpcError("ORDER_NOT_PAID", f"Order {order_id} is not paid.", ids)
        return service.GetOrderPaymentResponse(payment=conversion.order_payment(order))

    async def ListTransactions(
        self, request: service.ListTransactionsRequest, _: Call
    ) -> service.ListTransactionsResponse:
        """List transactions, page by page."""
        wanted, page_size = validation.transaction_filter(request)
        after = self._page_tokens.read(wanted, request.page_token)
        found = await self._queries.transactions(wanted, page_size + 1, after)
        if not found and not after:
            await self._check_customer(wanted.customer_id)
        page = found[:page_size]
        is_last = len(found) <= page_size
        return service.ListTransactionsResponse(
            transactions=[conversion.transaction(one) for one in page],
            next_page_token=(
                "" if is_last else self._page_tokens.make(wanted, page[-1].transaction_id)
            ),
        )

    def WatchEvents(
        self, request: service.WatchEventsRequest, call: Call
    ) -> AsyncGenerator[service.WatchEventsResponse]:
        """Tell what happens to wallets and top-ups."""
        wanted, start = validation.watched_events(request)
        return self._watching.responses(wanted, request.cursor, start, call.caller.customer_id)

    async def ForwardWebhook(
        self, request: service.ForwardWebhookRequest, call: Call
    ) -> service.ForwardWebhookResponse:
        """Take a gateway's webhook."""
        headers, receive_time_ms = validation.webhook(request)
        receipt = await self._topups.take_webhook(
            request.gateway,
            headers,
            request.body,
            receive_time_ms,
            call.timeout_seconds,
        )
        return conversion.webhook_response(receipt)

    async def _check_customer(self, customer_id: str) -> None:
        if not await self._queries.has_customer(customer_id):
            raise Rejected(customer_not_found(customer_id))
