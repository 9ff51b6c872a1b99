"""Callers that pay, refund, top up and read without end, and repeat with their keys."""

import asyncio
import random
import time
from typing import Any

import aiohttp
import grpc
from chaos_record import Attempt, Operation, Record

from harness import WORTH_A_REPEAT, bearer, inr, refused, token, unique
from wallet_payment.v1 import wallet_payment_service_pb2 as service

OPENING = 50_000
"""What each customer tops up at first, in paise."""
_HOT = 3
_TIMEOUT_SECONDS = 4.0
_GIVING_UP = 0.05
"""How often a caller leaves an operation that got no answer; it is settled after the run."""


class Callers:
    """Owns nothing but the record: calls go over the stubs, customers pay over HTTP."""

    def __init__(
        self,
        stubs: list[Any],
        http: aiohttp.ClientSession,
        sandbox_url: str,
        customers: list[str],
        seed: int,
    ) -> None:
        self.record = Record()
        self._stubs = stubs
        self._http = http
        self._sandbox_url = sandbox_url
        self._customers = customers
        self._seed = seed
        self._metadata = bearer(token())
        self._is_over = False

    async def open(self) -> None:
        """Give every customer a wallet, by a real top-up."""
        choose = random.Random(self._seed)
        await asyncio.gather(
            *(self._top_up(customer, OPENING, choose) for customer in self._customers)
        )

    async def run(self, count: int) -> None:
        """Go on with `count` callers until `end`."""
        await asyncio.gather(*(self._call(number) for number in range(count)))

    def end(self) -> None:
        """Start no more operations."""
        self._is_over = True

    async def settle(self) -> None:
        """Repeat whatever is not known, until it is."""
        choose = random.Random(self._seed)
        await asyncio.gather(
            *(
                self._until_settled(operation, choose)
                for operation in self.record.operations
                if not operation.is_settled
            )
        )

    async def _call(self, number: int) -> None:
        choose = random.Random(f"{self._seed} {number}")
        paid: list[service.PayWithWalletRequest] = []
        while not self._is_over:
            customers = self._customers[:_HOT] if choose.random() < 0.5 else self._customers
            customer = choose.choice(customers)
            action = choose.random()
            if action < 0.45:
                request = service.PayWithWalletRequest(
                    customer_id=customer,
                    order_id=unique("order"),
                    amount=inr(choose.randint(10, 500)),
                    idempotency_key=unique("key"),
                )
                if (await self._perform("PayWithWallet", request, choose)).answers:
                    paid.append(request)
            elif action < 0.6 and paid:
                await self._refund(choose.choice(paid[-20:]), choose)
            elif action < 0.7:
                await self._top_up(customer, choose.randint(100, 2_000), choose)
            else:
                await self._perform(
                    "GetStatus", service.GetStatusRequest(customer_id=customer), choose
                )
            await asyncio.sleep(choose.uniform(0.01, 0.1))  # as people think

    async def _refund(self, paid: service.PayWithWalletRequest, choose: random.Random) -> None:
        request = service.RefundToWalletRequest(
            customer_id=paid.customer_id,
            order_id=paid.order_id,
            amount=inr(choose.randint(1, paid.amount.minor_units)),
            idempotency_key=unique("key"),
            reason="returned",
        )
        await self._perform("RefundToWallet", request, choose)

    async def _top_up(self, customer: str, amount: int, choose: random.Random) -> None:
        request = service.InitiateTopupRequest(
            customer_id=customer,
            amount=inr(amount),
            gateway="razorpay",
            method="card",
            idempotency_key=unique("key"),
        )
        started = await self._perform("InitiateTopup", request, choose)
        if not started.answers:
            return
        topup = started.answers[0].topup
        content = {"webhook": choose.random() < 0.8, "duplicate": choose.choice([0, 0, 1, 3])}
        url = f"{self._sandbox_url}/sandbox/orders/{topup.gateway_order_id}/pay"
        async with self._http.post(url, json=content) as answer:
            assert answer.status == 200, await answer.text()
        if choose.random() < 0.5:
            lookup = service.VerifyTopupRequest(
                customer_id=customer, topup_id=topup.topup_id, lookup=service.LookupProof()
            )
            await self._perform("VerifyTopup", lookup, choose)

    async def _perform(self, method: str, request: Any, choose: random.Random) -> Operation:
        operation = self.record.begin(method, request)
        while not operation.is_settled:
            await self._attempt(operation, choose.randrange(len(self._stubs)))
            if not operation.is_settled:
                if self._is_over or choose.random() < _GIVING_UP:
                    break
                await asyncio.sleep(choose.uniform(0.05, 0.3))
        # Some repeat although they know: it must change nothing, and tell the same.
        if operation.answers and method != "GetStatus" and choose.random() < 0.05:
            await self._attempt(operation, choose.randrange(len(self._stubs)))
        return operation

    async def _until_settled(self, operation: Operation, choose: random.Random) -> None:
        while not operation.is_settled:
            await self._attempt(operation, choose.randrange(len(self._stubs)))
            if not operation.is_settled:
                await asyncio.sleep(choose.uniform(0.05, 0.3))

    async def _attempt(self, operation: Operation, server: int) -> None:
        attempt = Attempt(server, time.monotonic())
        operation.attempts.append(attempt)
        call = getattr(self._stubs[server], operation.method)
        try:
            answer = await call(
                operation.request, metadata=self._metadata, timeout=_TIMEOUT_SECONDS
            )
        except grpc.aio.AioRpcError as error:
            attempt.answered, attempt.code = time.monotonic(), error.code().name
            if attempt.code in WORTH_A_REPEAT | {"CANCELLED", "RESOURCE_EXHAUSTED"}:
                return
            attempt.reason = operation.refusal = refused(error).reason
        else:
            self.record.answered(operation, attempt, answer)
