"""What a payment gateway is to the service: the one interface that an adapter implements.

An adapter translates: amounts, states and signatures between the gateway's wire format and the
ledger's terms. It decides nothing about money and stores nothing.

Errors an adapter raises:

    GatewayError
    |-- GatewayUnavailable   cannot be reached, timed out, or answered 429 or 5xx: try again
    |-- GatewayRefused       understood the request and refused it
    |-- InvalidTopup         this amount, currency or method cannot be topped up here
    |-- InvalidSession       a wallet's session cannot be had for this page or from this host
    |-- ProofInvalid         the proof of payment does not hold
    |-- NotImplementedHere   known, and not offered by this adapter
    |-- SignatureInvalid     the webhook was not signed by its sender
    `-- MalformedEvent       signed, and yet not an event of this gateway
"""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import ClassVar, Final, Protocol, runtime_checkable

from server.ledger.money import Money
from server.ledger.records import Checkout, GatewayPayment, GatewayReversal, Topup

NO_CONTENT: Final[Mapping[str, object]] = MappingProxyType({})


class GatewayError(Exception):
    """Base of what an adapter raises; the message is for people and holds no secret."""


class GatewayUnavailable(GatewayError):
    """The gateway cannot be reached or asks to come back later."""

    def __init__(self, message: str, retry_after_seconds: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class GatewayRefused(GatewayError):
    """The gateway understood the request and refused it; the message is its own description."""

    def __init__(
        self, message: str, status: int = 0, content: Mapping[str, object] = NO_CONTENT
    ) -> None:
        super().__init__(message)
        self.status = status
        """The answer's HTTP status; 0 where it is the adapter that refuses."""
        self.content = content
        """The answer's JSON object, for the gateway's own error codes."""


class InvalidTopup(GatewayError):
    """A top-up that this gateway cannot carry out; `field` names what to change."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class InvalidSession(GatewayError):
    """A wallet's session that cannot be asked for so; `field` names what to change."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class ProofInvalid(GatewayError):
    """The proof of payment does not hold for this top-up."""


class NotImplementedHere(GatewayError):
    """A method or a proof that exists and that this adapter does not offer."""


class SignatureInvalid(GatewayError):
    """The webhook's signature does not fit its raw body, or is missing."""


class MalformedEvent(GatewayError):
    """The webhook is signed and still cannot be read as an event."""


@dataclass(frozen=True, slots=True)
class RazorpayProof:
    """What Razorpay Checkout hands to the customer's app."""

    payment_id: str
    signature: str


@dataclass(frozen=True, slots=True)
class PaypalProof:
    """The order that a customer approved at PayPal, as the app names it."""

    order_id: str


@dataclass(frozen=True, slots=True)
class LookupProof:
    """No proof: the gateway is asked what it has."""


@dataclass(frozen=True, slots=True)
class GooglePayProof:
    """A payment token of Google Pay, as the customer's app got it."""

    method: ClassVar[str] = "google_pay"
    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class ApplePayProof:
    """A payment token of Apple Pay: the JSON of its `paymentData`, as the app got it."""

    method: ClassVar[str] = "apple_pay"
    token: str = field(repr=False)


Proof = RazorpayProof | PaypalProof | LookupProof
WalletToken = GooglePayProof | ApplePayProof
"""What pays, and does not only prove: it is verified here, and handed on to the gateway once."""
Fact = GatewayPayment | GatewayReversal


@dataclass(frozen=True, slots=True)
class PaymentReport:
    """A payment as the gateway answered when asked, with the raw answer for the records.

    No secret is in it.
    """

    payment: GatewayPayment
    body: bytes = field(repr=False)
    reversals: tuple[GatewayReversal, ...] = ()
    """What the gateway has taken back of it by now; to be applied after the payment."""


@dataclass(frozen=True, slots=True)
class WebhookEvent:
    """A verified webhook, in the ledger's terms."""

    event_id: str
    event_type: str
    fact: Fact | None
    """What it says of a payment or a reversal; None where it changes nothing here.

    A payment that waits to be captured is AUTHORIZED; its id may still be empty then.
    """
    report_time_ms: int | None = None
    """When the gateway made it, in milliseconds since the epoch; None where it does not say."""
    topup_id: str = ""
    """The top-up that the gateway's order was made for, where the event tells (the receipt)."""
    signed_digest: str = ""
    """SHA-256, hex, of what names the event under the sender's signature; empty where only the
    whole body does. The same event in another envelope is then still the same."""
    kept_body: bytes | None = field(default=None, repr=False)
    """The raw body without the secrets in it, where it has some; None keeps it as it came."""


@dataclass(frozen=True, slots=True)
class Movement:
    """Money that the gateway says it has moved: a line of its own books."""

    fact: Fact
    time_ms: int


class WebhookSource(Protocol):
    """Who sends webhooks: a gateway, or a wallet whose callbacks carry no payment."""

    name: str
    """As in webhook paths: `razorpay`. A gateway's stands in requests and ledger accounts too."""

    async def read_webhook(self, headers: Mapping[str, str], body: bytes) -> WebhookEvent:
        """Verify the signature over the raw `body`, then read the event.

        `headers` have lower-case names.

        Raises:
            SignatureInvalid, MalformedEvent; GatewayUnavailable where a key or a certificate
            cannot be had.
        """


class TokenVerifier(Protocol):
    """Who tells a wallet's good tokens from others: they are verified before they are handed on."""

    method: str
    """The payment method: `google_pay`."""

    async def verify(self, token: str) -> str:
        """Verify a token; return the SHA-256, hex, of what its wallet signed.

        It is the same for the same token, however that is written. What was decrypted is dropped.

        Raises:
            ProofInvalid; GatewayUnavailable where the wallet's keys cannot be had.
        """


class Gateway(WebhookSource, Protocol):
    """A payment gateway. Every method may be called at any time, in any order, and again."""

    tells_client_secret: bool
    """Whether the customer's app needs a `Checkout.client_secret`.

    It is told and never kept, so that whoever repeats InitiateTopup is told it by `open_topup`.
    """

    @property
    def is_cut_off(self) -> bool:
        """Whether it did not answer lately and is left alone for a while."""

    def check_topup(self, amount: Money, method: str) -> None:
        """Refuse what this gateway cannot do, before anything is recorded.

        Raises:
            InvalidTopup: the amount or currency is out of its bounds, or the method unknown.
            NotImplementedHere: the method is known and not offered.
        """

    async def open_topup(self, topup: Topup) -> Checkout:
        """Make sure that the gateway has one usable order for the top-up; return how to pay it.

        A repeat finds the order that was made, also after a lost answer. A top-up whose order is
        recorded keeps it.

        Raises:
            GatewayUnavailable, GatewayRefused.
        """

    async def check_proof(self, topup: Topup, proof: Proof) -> PaymentReport | None:
        """Check the proof against the top-up's stored order, then ask for the payment itself.

        Returns None where the gateway knows of no payment yet. Of several, the one that counts is
        returned: captured before authorized before pending before failed.

        Raises:
            ProofInvalid, NotImplementedHere, GatewayUnavailable, GatewayRefused.
        """

    async def capture(self, topup: Topup, payment: GatewayPayment) -> PaymentReport:
        """Capture an authorized payment of the top-up, whole; return it as it then is.

        A payment that was captured meanwhile, by whomever, is returned as captured.

        Raises:
            GatewayUnavailable, GatewayRefused.
        """

    async def order_of(self, payment_id: str) -> str:
        """Return the gateway's order that a payment belongs to; empty where there is none.

        It is asked for reports that name only the payment, such as a dispute's, or a payment's that
        was made without an order. `payment_id` may be empty.

        Raises:
            GatewayUnavailable, GatewayRefused.
        """

    def movements(self, start_time_ms: int, end_time_ms: int) -> AsyncIterator[Movement]:
        """Go through the captured payments and the refunds that the gateway made in a time.

        From `start_time_ms` on, before `end_time_ms`, in any order. For reconciliation.

        Raises:
            GatewayUnavailable, GatewayRefused.
        """


@runtime_checkable
class TokenGateway(Gateway, Protocol):
    """A gateway that is handed wallets' tokens by this service, to charge the card behind them."""

    def check_token(self, topup: Topup, token: WalletToken) -> None:
        """Refuse a token that does not fit the top-up, before it is looked at.

        Raises:
            ProofInvalid.
        """

    async def pay_with_token(self, topup: Topup, token: WalletToken) -> PaymentReport:
        """Hand on a verified token as the payment of the top-up's order; return the payment.

        It is sent once: after GatewayUnavailable it may or may not have been taken.

        Raises:
            GatewayUnavailable, GatewayRefused.
        """
