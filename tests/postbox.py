"""The service with two gateways whose webhooks end in a postbox: a test delivers them itself.

So it decides what comes when: late, twice, in another order, or never. Everything else is real: the
gateways' API over HTTP, their signatures, the sidecar, the server.
"""

import base64
import json
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from aiohttp import ClientSession, web

from gateway_adapters.paypal.amounts import to_value
from gateway_adapters.sandbox import (
    PaypalSandboxSettings,
    RazorpaySandboxSettings,
    SandboxSettings,
    sandbox_app,
)
from harness import (
    KEY_ID,
    KEY_SECRET,
    WEBHOOK_SECRET,
    Harness,
    eventually,
    running_harness,
    unique,
)
from server.ledger.money import Money
from server.listening import address_of, bind, http_server
from wallet_payment.v1 import resources_pb2 as resources
from wallet_payment.v1 import wallet_payment_service_pb2 as service

CLIENT_ID, CLIENT_SECRET, WEBHOOK_ID = "paypal-client", "paypal-secret", "WH-POSTBOX"
_KEPT_HEADERS = ("content-type", "x-razorpay-", "paypal-")

Json = dict[str, Any]


@dataclass(frozen=True)
class Letter:
    """A webhook as the gateway signed and sent it."""

    gateway: str
    kind: str
    body: bytes
    headers: dict[str, str]


@dataclass(frozen=True)
class Paid:
    """A payment that the gateway has captured."""

    payment_id: str
    proof: Json
    """What the customer's app was handed, as VerifyTopup takes it."""


@dataclass
class Postbox:
    """Takes the gateways' webhooks and keeps them."""

    letters: list[Letter] = field(default_factory=list)

    async def take(self, request: web.Request) -> web.Response:
        """Keep a webhook, and tell the gateway that it has arrived."""
        body = await request.read()
        content = json.loads(body)
        headers = {
            name: value
            for name, value in request.headers.items()
            if name.lower().startswith(_KEPT_HEADERS)
        }
        kind = content.get("event") or content["event_type"]
        self.letters.append(Letter(request.match_info["gateway"], kind, body, headers))
        return web.Response()


class Side(ABC):
    """One gateway: who acts there (the customer, the bank, the merchant), and its letters."""

    name: ClassVar[str]
    method: ClassVar[str]
    currency: ClassVar[str]
    on_hold: ClassVar[str]
    """The event of a payment that waits to be captured."""
    captured: ClassVar[str]
    """The event of a payment that was captured."""
    refunded: ClassVar[str]
    """The event of a refund that was done."""
    disputed: ClassVar[str]
    dispute_won: ClassVar[str]
    letters_of_a_loss: ClassVar[int]
    """How many events tell of a dispute from its beginning until it is lost."""

    def __init__(self, harness: Harness, postbox: Postbox, url: str) -> None:
        self.harness = harness
        self.url = url
        self._postbox = postbox
        self._http: ClientSession = harness.http
        self._payments: dict[str, str] = {}
        """Top-up -> payment: a dispute names no more than that."""

    async def initiate(self, customer_id: str, amount: int, **fields: Any) -> resources.Topup:
        """Start a top-up through this gateway."""
        given = {"gateway": self.name, "method": self.method, "currency": self.currency} | fields
        return await self.harness.initiate(customer_id, amount, **given)

    async def credited(self, amount: int) -> tuple[resources.Topup, str]:
        """Return a new customer's top-up that was credited, and the payment's id."""
        topup = await self.initiate(await self.harness.customer(), amount)
        paid = await self.pay(topup)
        await self.deliver(await self.letter(topup, self.captured))
        current = await self.harness.topup(topup)
        assert current.state == resources.TOPUP_STATE_CREDITED
        return current, paid.payment_id

    async def pay(self, topup: resources.Topup) -> Paid:
        """Have the customer pay, and the money be captured without us."""
        paid = await self._pay(topup)
        self._payments[topup.topup_id] = paid.payment_id
        return paid

    async def balance(self, topup: resources.Topup) -> int:
        """Return what the wallet of the top-up's customer holds."""
        return await self.harness.balance(topup.customer_id, self.currency)

    async def wallet(self, topup: resources.Topup) -> tuple[int, int]:
        """Return balance and state of the wallet of the top-up's customer."""
        request = service.GetStatusRequest(customer_id=topup.customer_id)
        [wallet] = (await self.harness.call("GetStatus", request)).wallets
        return wallet.balance.minor_units, wallet.state

    async def spend(self, topup: resources.Topup, amount: int) -> None:
        """Pay an order from the wallet of the top-up's customer."""
        request = service.PayWithWalletRequest(
            customer_id=topup.customer_id,
            order_id=unique("order"),
            amount=resources.Money(currency_code=self.currency, minor_units=amount),
            idempotency_key=unique("key"),
        )
        await self.harness.call("PayWithWallet", request)

    def letters(self, topup: resources.Topup) -> list[Letter]:
        """Return all letters about a top-up's order, in the order in which they were sent."""
        names = {topup.gateway_order_id, topup.topup_id, self._payments.get(topup.topup_id)}
        return [
            letter
            for letter in self._postbox.letters
            if letter.gateway == self.name
            and any(name.encode() in letter.body for name in names if name)
        ]

    async def letter(self, topup: resources.Topup, kind: str) -> Letter:
        """Wait for the newest letter of a kind about a top-up."""

        async def found() -> Letter | None:
            letters = [letter for letter in self.letters(topup) if letter.kind == kind]
            return letters[-1] if letters else None

        letter: Letter = await eventually(found)
        return letter

    async def deliver(self, letter: Letter, body: bytes | None = None) -> str:
        """Bring a letter to the sidecar, with another body where one is given.

        Returns what became of it, or the reason why it was refused.
        """
        url = f"{self.harness.sidecar_url}/webhooks/{letter.gateway}"
        given = letter.body if body is None else body
        async with self._http.post(url, data=given, headers=letter.headers) as answer:
            content: Json = await answer.json()
            if answer.status == 200:
                return str(content["outcome"])
            return str(content["error"]["reason"])

    async def act(self, path: str, **content: Any) -> Json:
        """Act at the gateway; its letters are in the postbox when this returns."""
        url = f"{self.url}/sandbox/{path}"
        async with self._http.post(url, json={"wait": True} | content) as answer:
            assert answer.status == 200, await answer.text()
            told: Json = await answer.json()
            return told

    async def break_api(self, mode: str, times: int = 1, path: str = "/", **more: Any) -> None:
        """Let the next requests of the service to the gateway suffer."""
        fault = {"mode": mode, "times": times, "path": path} | more
        await self.act("faults", api=fault)

    @abstractmethod
    async def hold(self, topup: resources.Topup) -> None:
        """Have the customer pay so far that the money waits to be captured."""

    @abstractmethod
    async def _pay(self, topup: resources.Topup) -> Paid: ...

    @abstractmethod
    async def refund(self, payment_id: str, amount: int) -> None:
        """Have the merchant refund a part in the gateway's dashboard."""

    @abstractmethod
    async def dispute(self, payment_id: str, amount: int) -> str:
        """Have the customer dispute a part; return the path whose `win` and `lose` end it."""

    @abstractmethod
    async def captures(self, topup: resources.Topup) -> int:
        """Return how many captures the gateway has made of a top-up's order."""


class RazorpaySide(Side):
    """Razorpay: a payment is authorized, then captured; the order is then paid."""

    name = "razorpay"
    method = "card"
    currency = "INR"
    on_hold = "payment.authorized"
    captured = "payment.captured"
    refunded = "refund.processed"
    disputed = "payment.dispute.created"
    dispute_won = "payment.dispute.won"
    letters_of_a_loss = 2

    async def hold(self, topup: resources.Topup) -> None:
        """See Side."""
        await self.authorize(topup)

    async def authorize(self, topup: resources.Topup) -> str:
        """Have the customer's bank hold the money; return the payment's id."""
        told = await self.act(f"orders/{topup.gateway_order_id}/pay", authorize_only=True)
        return str(told["payment_id"])

    async def _pay(self, topup: resources.Topup) -> Paid:
        payment_id = await self.authorize(topup)
        told = await self.act(f"payments/{payment_id}/capture")
        proof = service.RazorpayProof(payment_id=payment_id, signature=told["signature"])
        return Paid(payment_id, {"razorpay": proof})

    async def refund(self, payment_id: str, amount: int) -> None:
        """See Side."""
        await self.act(f"payments/{payment_id}/refund", amount=amount)

    async def dispute(self, payment_id: str, amount: int) -> str:
        """See Side."""
        told = await self.act(f"payments/{payment_id}/dispute", amount=amount)
        return f"payments/{payment_id}/dispute/{told['dispute']['id']}"

    async def captures(self, topup: resources.Topup) -> int:
        """See Side."""
        url = f"{self.url}/v1/orders/{topup.gateway_order_id}/payments"
        async with self._http.get(url, headers=basic(KEY_ID, KEY_SECRET)) as answer:
            payments = (await answer.json())["items"]
        return sum(payment["status"] in {"captured", "refunded"} for payment in payments)


class PaypalSide(Side):
    """PayPal: the customer approves an order, and whoever captures it gets the money."""

    name = "paypal"
    method = "paypal"
    currency = "USD"
    on_hold = "CHECKOUT.ORDER.APPROVED"
    captured = "PAYMENT.CAPTURE.COMPLETED"
    refunded = "PAYMENT.CAPTURE.REFUNDED"
    disputed = "CUSTOMER.DISPUTE.CREATED"
    dispute_won = "CUSTOMER.DISPUTE.RESOLVED"
    letters_of_a_loss = 3

    async def hold(self, topup: resources.Topup) -> None:
        """See Side."""
        await self.approve(topup)

    async def approve(self, topup: resources.Topup, **content: Any) -> None:
        """Have the customer approve the order."""
        await self.act(f"paypal/orders/{topup.gateway_order_id}/approve", **content)

    async def _pay(self, topup: resources.Topup) -> Paid:
        """Approve, and capture as a server of ours would that is gone before it hears of it."""
        await self.approve(topup)
        path = f"v2/checkout/orders/{topup.gateway_order_id}"
        token = await self._token()
        async with self._http.post(
            f"{self.url}/{path}/capture", json={}, headers={"Authorization": f"Bearer {token}"}
        ) as answer:
            assert answer.status == 201, await answer.text()
            [capture] = _captures_in(await answer.json())
        await self.letter(topup, self.captured)
        proof = service.PaypalProof(order_id=topup.gateway_order_id)
        return Paid(str(capture["id"]), {"paypal": proof})

    async def refund(self, payment_id: str, amount: int) -> None:
        """See Side."""
        await self.act(f"paypal/captures/{payment_id}/refund", amount=self._value(amount))

    async def dispute(self, payment_id: str, amount: int) -> str:
        """See Side."""
        value = self._value(amount)
        told = await self.act(f"paypal/captures/{payment_id}/dispute", amount=value)
        return f"paypal/disputes/{told['dispute']['dispute_id']}"

    async def captures(self, topup: resources.Topup) -> int:
        """See Side."""
        token = await self._token()
        async with self._http.get(
            f"{self.url}/v2/checkout/orders/{topup.gateway_order_id}",
            headers={"Authorization": f"Bearer {token}"},
        ) as answer:
            return len(_captures_in(await answer.json()))

    def _value(self, amount: int) -> str:
        return to_value(Money(self.currency, amount))

    async def _token(self) -> str:
        async with self._http.post(
            f"{self.url}/v1/oauth2/token",
            data={"grant_type": "client_credentials"},
            headers=basic(CLIENT_ID, CLIENT_SECRET),
        ) as answer:
            return str((await answer.json())["access_token"])


@dataclass(frozen=True)
class Service:
    """A running service, and both of its gateways."""

    harness: Harness
    razorpay: RazorpaySide
    paypal: PaypalSide

    def side(self, name: str) -> Side:
        """Return a gateway by its name."""
        return self.razorpay if name == "razorpay" else self.paypal


@asynccontextmanager
async def running_service(mongodb_uri: str, folder: Path, **given: Any) -> AsyncIterator[Service]:
    """Run the service on a database; `folder` takes a file, and `given` are further settings."""
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(ClientSession())
        postbox = Postbox()
        app = web.Application()
        app.router.add_post("/{gateway}", postbox.take)
        postbox_socket, sandbox_socket = (bind("127.0.0.1:0", name) for name in ("post", "sandbox"))
        postbox_url = f"http://{address_of(postbox_socket)}"
        url = f"http://{address_of(sandbox_socket)}"
        await stack.enter_async_context(
            http_server(web.AppRunner(app, access_log=None), postbox_socket)
        )
        root = folder / "paypal-root.pem"
        sandbox = sandbox_app(
            SandboxSettings(
                (
                    RazorpaySandboxSettings(
                        KEY_ID, KEY_SECRET, WEBHOOK_SECRET, f"{postbox_url}/razorpay"
                    ),
                    PaypalSandboxSettings(
                        *(CLIENT_ID, CLIENT_SECRET, WEBHOOK_ID, url),
                        webhook_url=f"{postbox_url}/paypal",
                        trust_anchors_file=root,
                    ),
                )
            ),
            http,
        )
        await stack.enter_async_context(
            http_server(web.AppRunner(sandbox, access_log=None), sandbox_socket)
        )
        settings = {
            "razorpay_api_url": url,
            "paypal_client_id": CLIENT_ID,
            "paypal_client_secret": CLIENT_SECRET,
            "paypal_webhook_id": WEBHOOK_ID,
            "paypal_environment": "sandbox",
            "paypal_api_url": url,
            "paypal_trust_anchors": str(root),
            "paypal_certificate_url_prefix": f"{url}/v1/notifications/certs/",
        }
        harness = await stack.enter_async_context(
            running_harness(mongodb_uri, **(settings | given))
        )
        yield Service(
            harness,
            RazorpaySide(harness, postbox, url),
            PaypalSide(harness, postbox, url),
        )


def basic(user: str, secret: str) -> dict[str, str]:
    """Return the header of HTTP's basic authentication."""
    credentials = base64.b64encode(f"{user}:{secret}".encode()).decode()
    return {"Authorization": f"Basic {credentials}"}


def _captures_in(order: Json) -> list[Json]:
    payments = order["purchase_units"][0].get("payments", {})
    captures: list[Json] = payments.get("captures", [])
    return captures
