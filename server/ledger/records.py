"""The records of the ledger, as the core sees them.

All are frozen. Amounts are whole minor units of the record's `currency_code`, times are
milliseconds since the epoch, and an absent text is the empty string.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Final, NamedTuple

from server.ledger.money import Money
from server.ledger.usage import NO_USAGE, Usage

NO_METADATA: Final[Mapping[str, str]] = MappingProxyType({})
"""No notes of the caller."""


class WalletKey(NamedTuple):
    """What names a wallet."""

    customer_id: str
    currency_code: str


class IdempotencyKey(NamedTuple):
    """What names a mutating request: a key is unique for each caller and method."""

    caller: str
    method: str
    key: str


class GatewayPaymentKey(NamedTuple):
    """What names a payment at a gateway."""

    gateway: str
    payment_id: str

    @property
    def credit_key(self) -> IdempotencyKey:
        """What names its credit: of the top-up that it was for, or by a person."""
        return settlement_key(self.gateway, EventMoney.CAPTURED, self.payment_id)


class WalletState(StrEnum):
    """What a wallet may do."""

    ACTIVE = "ACTIVE"
    FROZEN = "FROZEN"


class FreezeCause(StrEnum):
    """Why a wallet is frozen, which says how it is thawed."""

    NONE = ""
    DEBT = "DEBT"
    """It went below zero; it thaws by itself once it no longer is."""
    OPERATOR = "OPERATOR"
    """A person froze it; a person thaws it."""


@dataclass(frozen=True, slots=True)
class Wallet:
    """A customer's prepaid money in one currency: the cached end of its ledger."""

    customer_id: str
    currency_code: str
    balance: int
    """Never below zero but for what a gateway took back."""
    state: WalletState
    freeze_cause: FreezeCause
    sequence: int
    head_hash: str
    create_time_ms: int
    update_time_ms: int
    version: int
    """How often this record was written; 0 where it does not exist yet."""
    usage: Usage = NO_USAGE
    """What went through it in the running hour, day and month."""

    @property
    def key(self) -> WalletKey:
        """The wallet's name."""
        return WalletKey(self.customer_id, self.currency_code)


@dataclass(frozen=True, slots=True)
class Standing:
    """What limits a customer has; written by each start of a top-up that is limited.

    Two of those at once meet here, so that they cannot pass a limit together.
    """

    customer_id: str
    tier: str
    """Empty where none was set: the default one."""
    version: int
    """How often this record was written; 0 where it does not exist yet."""


class OperatorActionKind(StrEnum):
    """What a person may do to a customer's wallets."""

    FREEZE = "FREEZE"
    UNFREEZE = "UNFREEZE"
    SET_TIER = "SET_TIER"


@dataclass(frozen=True, slots=True)
class OperatorAction:
    """The record of what a person did, and why; it never changes once it is written."""

    action_id: str
    kind: OperatorActionKind
    customer_id: str
    currency_code: str
    """Empty where it concerns all wallets of the customer."""
    tier: str
    """The tier that was set; empty otherwise."""
    by: str
    why: str
    time_ms: int
    has_changed_state: bool = False
    """Whether it froze or thawed a wallet: one that owes is frozen whatever a person does."""


class TransactionType(StrEnum):
    """What moved money into or out of a wallet."""

    TOPUP = "TOPUP"
    PAYMENT = "PAYMENT"
    REFUND = "REFUND"
    REVERSAL = "REVERSAL"
    ADJUSTMENT = "ADJUSTMENT"


@dataclass(frozen=True, slots=True)
class Posting:
    """One side of a transaction: `amount` on `account`."""

    account: str
    amount: int


@dataclass(frozen=True, slots=True)
class Idempotency:
    """The request that made a record: its name, and a digest of what it asked for."""

    key: IdempotencyKey
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Transaction:
    """One entry of a wallet's ledger; it never changes once it is written."""

    transaction_id: str
    customer_id: str
    currency_code: str
    type: TransactionType
    amount: int
    """Signed: positive into the wallet."""
    balance_after: int
    sequence: int
    postings: tuple[Posting, ...]
    order_id: str
    topup_id: str
    refund_id: str
    gateway: str
    gateway_payment_id: str
    gateway_reversal_id: str
    """The gateway's refund or dispute, where it took money back or returned it."""
    previous_hash: str
    hash: str
    create_time_ms: int
    metadata: Mapping[str, str]
    wallet_state: WalletState
    """The wallet's state right after this entry, so that a repeat gets the same answer."""
    idempotency: Idempotency | None
    has_changed_state: bool = False
    """Whether this entry froze or thawed the wallet."""


class OrderPaymentState(StrEnum):
    """Where the payment of an order stands."""

    PAID = "PAID"
    PARTIALLY_REFUNDED = "PARTIALLY_REFUNDED"
    REFUNDED = "REFUNDED"


class OrderPaymentMethod(StrEnum):
    """How an order was paid."""

    WALLET = "WALLET"
    GATEWAY = "GATEWAY"


@dataclass(frozen=True, slots=True)
class Refund:
    """Money given back for an order, into the customer's wallet."""

    refund_id: str
    amount: int
    reason: str
    transaction_id: str
    create_time_ms: int


@dataclass(frozen=True, slots=True)
class Order:
    """An order of the order service with its payment, if it is paid.

    The document is shared: `customer_id`, `amount` and `currency_code` are None where the order
    service has not written them or has written something else than their type.
    """

    order_id: str
    customer_id: str | None
    amount: int | None
    currency_code: str | None
    payment_state: OrderPaymentState | None
    """None while it is not paid."""
    payment_method: OrderPaymentMethod | None
    transaction_id: str
    refunded_amount: int
    refunds: tuple[Refund, ...]
    pay_time_ms: int | None


class TopupState(StrEnum):
    """Where a top-up stands."""

    CREATED = "CREATED"
    PENDING = "PENDING"
    CREDITED = "CREDITED"
    FAILED = "FAILED"
    EXPIRED = "EXPIRED"
    REVERSED = "REVERSED"
    NEEDS_REVIEW = "NEEDS_REVIEW"


@dataclass(frozen=True, slots=True)
class OrderToPay:
    """An order to be paid in the same commit that credits a top-up."""

    order_id: str
    amount: Money


@dataclass(frozen=True, slots=True)
class PayOrderOutcome:
    """What became of a top-up's order: paid by a transaction, or not and why."""

    transaction_id: str
    failure_reason: str


@dataclass(frozen=True, slots=True)
class Checkout:
    """What the customer's app needs to pay at the gateway."""

    gateway_order_id: str
    public_key: str
    url: str
    upi_intent_uri: str = ""
    """The gateway's `upi://pay?...`; empty where the top-up is not paid by UPI."""
    client_secret: str = field(default="", repr=False)
    """What lets the customer's app confirm this one payment. It is told and never kept."""
    expire_time_ms: int | None = None
    """When the gateway stops taking the payment, where it says. It becomes the top-up's own."""


class ReversalKind(StrEnum):
    """How a gateway takes back what it had brought in."""

    REFUND = "REFUND"
    """A refund that was started at the gateway, in its dashboard."""
    DISPUTE = "DISPUTE"
    """A chargeback or a claim of the customer."""


class ReversalState(StrEnum):
    """Who has a reversal's money."""

    TAKEN = "TAKEN"
    """The gateway took it, or is about to."""
    RETURNED = "RETURNED"
    """It came back: the refund failed, the dispute was won."""


@dataclass(frozen=True, slots=True)
class Reversal:
    """A reversal of a top-up, and what the ledger has made of it."""

    reversal_id: str
    payment_id: str
    kind: ReversalKind
    amount: int
    state: ReversalState
    is_final: bool
    """Whether the gateway has said its last word on it."""
    is_debited: bool
    """Whether the wallet is short of it just now."""


@dataclass(frozen=True, slots=True)
class Topup:
    """Money on its way into a wallet through a gateway."""

    topup_id: str
    customer_id: str
    amount: Money
    gateway: str
    method: str
    state: TopupState
    gateway_order_id: str
    gateway_payment_id: str
    transaction_id: str
    pay_order: OrderToPay | None
    pay_order_outcome: PayOrderOutcome | None
    failure_reason: str
    checkout: Checkout | None
    reversals: tuple[Reversal, ...]
    return_url: str
    create_time_ms: int
    update_time_ms: int
    expire_time_ms: int
    report_time_ms: int
    """When the gateway made the newest of its reports that count here; 0 before the first."""
    poll_time_ms: int | None
    """When the gateway is to be asked next; None where it need not be asked any more."""
    poll_attempts: int
    """How often it was asked."""
    metadata: Mapping[str, str]
    idempotency: Idempotency
    version: int
    """How often this record was written."""
    token_time_ms: int = 0
    """Since when a wallet's token is on its way to the gateway; 0 while none is."""
    failure_version: int = 0
    """The version that noted the newest failure; 0 where none was."""
    passed_limits: tuple[str, ...] = ()
    """The limits that its credit went beyond: it was captured all the same."""

    @property
    def is_payable(self) -> bool:
        """Whether the customer can pay it just now."""
        return self.state in {TopupState.PENDING, TopupState.FAILED}


class TokenClaim(StrEnum):
    """What may be done with a wallet's token once it was claimed for a top-up."""

    NEW = "NEW"
    """Hand it on, unless a payment is under way."""
    REPEATED = "REPEATED"
    """It was handed on before: hand it on once more only if no payment at all has come of it."""
    WAITING = "WAITING"
    """One is on its way to the gateway, or the top-up is paid: ask, and hand nothing on."""


class GatewayPaymentStatus(StrEnum):
    """What a gateway says of a payment, in the terms that all gateways share."""

    STARTED = "STARTED"
    """The customer was asked, and has not agreed yet: without more news it comes to nothing."""
    PENDING = "PENDING"
    """The customer has agreed, and the gateway does not know yet whether the money comes."""
    AUTHORIZED = "AUTHORIZED"
    CAPTURED = "CAPTURED"
    FAILED = "FAILED"


@dataclass(frozen=True, slots=True)
class GatewayPayment:
    """A payment as its gateway reports it."""

    payment_id: str
    gateway_order_id: str
    status: GatewayPaymentStatus
    amount: Money
    failure_reason: str = ""


@dataclass(frozen=True, slots=True)
class GatewayReversal:
    """A refund or dispute as its gateway reports it."""

    reversal_id: str
    kind: ReversalKind
    payment_id: str
    gateway_order_id: str
    """Empty where the report does not tell."""
    amount: Money
    """Of this refund or dispute, not of the payment."""
    state: ReversalState
    is_final: bool


class EventOutcome(StrEnum):
    """What became of an event from a gateway."""

    APPLIED = "APPLIED"
    DUPLICATE = "DUPLICATE"
    IGNORED = "IGNORED"
    NEEDS_REVIEW = "NEEDS_REVIEW"
    RESOLVED = "RESOLVED"
    """It needed review, and a person has settled it."""


class EventOrigin(StrEnum):
    """How the service came to know an event."""

    WEBHOOK = "WEBHOOK"
    """The gateway sent it."""
    LOOKUP = "LOOKUP"
    """The gateway was asked."""
    PROOF = "PROOF"
    """A customer's app brought it."""


@dataclass(frozen=True, slots=True)
class ReceivedEvent:
    """Something that a gateway told us, with the proof of what exactly it said."""

    gateway: str
    event_id: str
    event_type: str
    body_digest: str
    """SHA-256 of the raw body, hex. An event's id comes in a header that no gateway signs, so that
    the id alone must not be able to mark another event as seen."""
    body: bytes = field(repr=False)
    origin: EventOrigin
    receive_time_ms: int
    report_time_ms: int
    """When the gateway says that it made the report; where it does not say, when it came."""

    @property
    def key(self) -> str:
        """What names the event in the records: the same only for the same id and the same body."""
        return f"{self.gateway}:{self.event_id}:{self.body_digest[:16]}"


@dataclass(frozen=True, slots=True)
class Resolution:
    """How a person has settled an event that needed review."""

    by: str
    why: str
    transaction_id: str
    """The entry that it wrote; empty where none was needed."""
    topup_id: str
    """The top-up that it was tied to; empty where it was not."""
    time_ms: int
    fingerprint: str = ""
    """A digest of the command, so that its repeat is told that it was done."""


class EventMoney(StrEnum):
    """What an event says that a gateway's money did."""

    NONE = "NONE"
    """Nothing: a payment is under way or has failed, or it speaks of something else."""
    CAPTURED = "CAPTURED"
    """A payment came in."""
    TAKEN = "TAKEN"
    """A refund or dispute took it, or is about to."""
    RETURNED = "RETURNED"
    """What was taken came back."""


@dataclass(frozen=True, slots=True)
class GatewayEvent:
    """The record of an event: what came, and what became of it."""

    received: ReceivedEvent
    outcome: EventOutcome
    reason: str
    """Why it was ignored or needs review, for a person."""
    customer_id: str
    topup_id: str
    gateway_order_id: str
    gateway_payment_id: str
    amount: Money | None
    """What it speaks of: the payment's amount, or the reversal's."""
    apply_time_ms: int
    money: EventMoney = EventMoney.NONE
    gateway_reversal_id: str = ""
    """The refund or dispute that it speaks of; empty where it speaks of none."""
    resolution: Resolution | None = None

    @property
    def settlement_key(self) -> IdempotencyKey | None:
        """What can be settled once, by whichever of its events; None where no money moved."""
        if self.money is EventMoney.NONE:
            return None
        is_payment = self.money is EventMoney.CAPTURED
        gateway_id = self.gateway_payment_id if is_payment else self.gateway_reversal_id
        return settlement_key(self.received.gateway, self.money, gateway_id)


def settlement_key(gateway: str, money: EventMoney, gateway_id: str) -> IdempotencyKey:
    """Name what a gateway's money did, so that one entry alone can follow from it."""
    return IdempotencyKey("gateway", money.lower(), f"{gateway}:{gateway_id}")
