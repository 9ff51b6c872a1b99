"""What is measured: the cases, and the ratios between them that the project promises."""

from dataclasses import dataclass
from typing import Final

ECHO: Final = "echo"
GROUP: Final = "group"
MIXED: Final = "mixed"
SECURE: Final = "secure"
UNAUDITED: Final = "unaudited"
UNMETERED: Final = "unmetered"
PER_REQUEST: Final = "per-request"
TWO_WORKERS: Final = "two-workers"
DRIVER: Final = "driver"
MEDICI: Final = "medici"
WEBHOOKS: Final = "webhooks"
ENCRYPTED: Final = "encrypted"
LIMITED: Final = "limited"
EMPTY: Final = "empty"
GROWN: Final = "grown"
"""What takes load; `bench_money` and `bench_growth` say what each of them is."""

HOT: Final = 1
SPREAD: Final = 1_000
CALLERS: Final = 128
WORKERS: Final = 2

PAYMENT: Final = "payment"


@dataclass(frozen=True, slots=True)
class Case:
    """One kind of load on one target."""

    name: str
    target: str
    wallets: int = SPREAD
    """Each payment draws one of so many wallets; `HOT`: all take the same."""
    callers: int = CALLERS
    """Closed loop: how many callers there are, each with a next call once the last is answered."""
    share: float | None = None
    """Open loop: calls come at this share of the rate that `SATURATION` reached in the same run,
    whatever becomes of those before. None: closed loop."""
    has_notes: bool = False
    """Whether each payment brings metadata."""
    request: str = PAYMENT
    """What is called: a payment, or one of the reads that `bench_growth` prepares."""


@dataclass(frozen=True, slots=True)
class Ratio:
    """A figure of one case over a figure of another, measured in the same run."""

    name: str
    over: str
    under: str
    target: float | None
    """At least, unless `is_ceiling`; None where the ratio is only reported."""
    is_ceiling: bool = False
    over_figure: str = "per_second"
    under_figure: str = "per_second"


@dataclass(frozen=True, slots=True)
class Measure:
    """A figure that stands for itself."""

    name: str
    unit: str
    at_most: float | None
    """The target; None where the figure is only reported."""


SATURATION: Final = "pay_spread"
"""The case whose throughput open loops take their shares of."""

SHARES: Final = (0.25, 0.5, 0.75, 0.9)


def open_loop(share: float) -> str:
    """Name the open loop at a share of the saturation rate."""
    return f"open_loop_{share * 100:.0f}"


CASES: Final = (
    Case("echo", ECHO),
    Case("pay_spread", GROUP),
    Case("pay_secure", SECURE),
    Case("pay_unaudited", UNAUDITED),
    Case("pay_unmetered", UNMETERED),
    Case("pay_limited", LIMITED),
    Case("pay_noted", GROUP, has_notes=True),
    Case("pay_encrypted", ENCRYPTED, has_notes=True),
    Case("pay_hot", MIXED, HOT),
    Case("pay_hot_two_workers", TWO_WORKERS, HOT),
    Case("pay_spread_two_workers", TWO_WORKERS),
    Case("per_request_spread", PER_REQUEST),
    Case("per_request_hot", PER_REQUEST, HOT),
    Case("medici_spread", MEDICI),
    Case("medici_hot", MEDICI, HOT),
    Case("one_caller", MIXED, callers=1),
    Case("driver", DRIVER, callers=1),
    *(Case(open_loop(share), MIXED, callers=0, share=share) for share in SHARES),
    Case("webhooks", WEBHOOKS, callers=64),
)
"""In the order of a round: cases that are compared stand close together."""

READS: Final = ("status", "order_payment", "first_page", "hundredth_page")
_GROWTH_READS: Final = (
    ("status", "small"),
    ("status", "large"),
    ("order_payment", "small"),
    ("order_payment", "large"),
    ("first_page", "small"),
    ("first_page", "large"),
    ("hundredth_page", "large"),
)
_READERS: Final = 4


def growth_cases(wallets: int) -> tuple[Case, ...]:
    """Return the cases of a run on a database of so many wallets beside an empty one."""
    return (
        Case("pay_empty", EMPTY),
        Case("pay_million", GROWN),
        Case("pay_million_all_wallets", GROWN, wallets),
        Case("pay_million_large_wallet", GROWN, HOT),
        *(
            Case(f"{read}_{size}", GROWN, callers=_READERS, request=f"{read}_{size}")
            for read, size in _GROWTH_READS
        ),
    )


def _slower(name: str, over: str, under: str) -> Ratio:
    """Return the ratio of two p50 latencies, which is only reported."""
    return Ratio(name, over, under, None, over_figure="p50_ms", under_figure="p50_ms")


RATIOS: Final = (
    Ratio("pay_over_echo", "pay_spread", "echo", 0.70),
    Ratio("secure_over_plaintext", "pay_secure", "pay_spread", None),
    Ratio("metered_over_unmetered", "pay_spread", "pay_unmetered", 0.95),
    Ratio("hot_over_spread", "pay_hot", "pay_spread", 0.95),
    Ratio("audited_over_unaudited", "pay_spread", "pay_unaudited", 0.9),
    Ratio("limited_over_unlimited", "pay_limited", "pay_spread", 0.9),
    Ratio("encrypted_over_plain", "pay_encrypted", "pay_noted", 0.9),
    Ratio("group_over_per_request_spread", "pay_spread", "per_request_spread", 7),
    Ratio("group_over_per_request_hot", "pay_hot", "per_request_hot", 100),
    Ratio("pay_over_medici_spread", "pay_spread", "medici_spread", 10),
    Ratio("pay_over_medici_hot", "pay_hot", "medici_hot", 150),
    Ratio(
        "one_caller_over_driver_p50",
        "one_caller",
        "driver",
        1.5,
        is_ceiling=True,
        over_figure="p50_ms",
        under_figure="p50_ms",
    ),
    Ratio("million_over_empty", "pay_million", "pay_empty", 0.95),
    Ratio("million_all_wallets_over_empty", "pay_million_all_wallets", "pay_empty", None),
    _slower("million_over_empty_p50", "pay_million", "pay_empty"),
    _slower("status_large_over_small_p50", "status_large", "status_small"),
    _slower("order_payment_large_over_small_p50", "order_payment_large", "order_payment_small"),
    _slower("first_page_large_over_small_p50", "first_page_large", "first_page_small"),
    _slower("hundredth_page_over_first_p50", "hundredth_page_large", "first_page_large"),
    Ratio(
        "open_loop_p99_over_p50",
        open_loop(0.5),
        open_loop(0.5),
        8,
        is_ceiling=True,
        over_figure="p99_ms",
        under_figure="p50_ms",
    ),
    Ratio("two_workers_hot_over_one", "pay_hot_two_workers", "pay_hot", 0.9),
    Ratio("two_workers_spread_over_one", "pay_spread_two_workers", "pay_spread", None),
    Ratio("webhooks_over_pay", "webhooks", "pay_spread", None),
)

MEASURES: Final = (
    Measure("startup_seconds", "s", 2),
    Measure("startup_million_seconds", "s", 2),
    Measure("webhook_burst_seconds", "s", None),
    Measure("webhook_burst_per_second", "/s", None),
    Measure("webhook_burst_sent_again", "", None),
    Measure("soak_burst_at_once", "", None),
    Measure("soak_most_at_once", "", None),
    Measure("soak_memory_start_mebibytes", "MiB", None),
    Measure("soak_memory_middle_mebibytes", "MiB", None),
    Measure("soak_memory_end_mebibytes", "MiB", None),
    Measure("soak_memory_end_over_start", "", 1.05),
)
