"""What is measured: the cases, and the ratios between them that the project promises."""

from dataclasses import dataclass
from typing import Final

ECHO: Final = "echo"
GROUP: Final = "group"
PER_REQUEST: Final = "per-request"
TARGETS: Final = (ECHO, GROUP, PER_REQUEST)
"""The servers that take load; `bench_server` says what each of them is."""

SPREAD: Final = "spread"
HOT: Final = "hot"


@dataclass(frozen=True, slots=True)
class Case:
    """One kind of load on one server."""

    name: str
    target: str
    """One of `TARGETS`."""
    wallets: str
    """`SPREAD`: each payment draws one of 1,000 wallets. `HOT`: all take the same."""
    callers: int
    """How many callers pay one order after another, each as soon as the last one is answered."""


@dataclass(frozen=True, slots=True)
class Ratio:
    """The throughput of one case over that of another, measured in the same run."""

    name: str
    over: str
    under: str
    at_least: float | None
    """The target; None where the figure is only reported."""


CASES: Final = (
    Case("echo", ECHO, SPREAD, 128),
    Case("pay_spread", GROUP, SPREAD, 128),
    Case("pay_hot", GROUP, HOT, 128),
    Case("per_request_spread", PER_REQUEST, SPREAD, 128),
    Case("per_request_hot", PER_REQUEST, HOT, 128),
    Case("one_caller", GROUP, SPREAD, 1),
)
"""In the order of a round: cases that are compared stand side by side."""

RATIOS: Final = (
    Ratio("hot_over_spread", "pay_hot", "pay_spread", 0.8),
    Ratio("group_over_per_request_spread", "pay_spread", "per_request_spread", 4),
    Ratio("group_over_per_request_hot", "pay_hot", "per_request_hot", 30),
    Ratio("pay_over_echo", "pay_spread", "echo", None),
)
